// Rows of a matrix that are dealt out to GPUs, kDealtRows at a time and in turns: of two, GPU 0 has rows [0, 128),
// [256, 384) and so on, GPU 1 the others, each its own ones behind each other. A kernel of one GPU may write, or read,
// the rows of all of them. Rows that lie together are dealt to one.
#pragma once
#include <cstdint>

#include "kernels/format.h"

namespace corvid::kernels {

constexpr int kMostGpus = 8;
constexpr int kDealtRows = 128;

template <class T>
struct DealtRows {
  T* of[kMostGpus] = {};
  int gpus = 1;

  DealtRows() = default;
  CORVID_HOST_DEVICE DealtRows(T* together) : of{together} {}  // NOLINT(google-explicit-constructor)

  // Which row of its GPU's row r is, and whose.
  CORVID_HOST_DEVICE static constexpr int64_t place(int64_t r, int gpus) {
    return r / (kDealtRows * gpus) * kDealtRows + r % kDealtRows;
  }
  CORVID_HOST_DEVICE static constexpr int owner(int64_t r, int gpus) { return static_cast<int>(r / kDealtRows % gpus); }
  // How many of `rows` rows a GPU has, and the r of its row i.
  CORVID_HOST_DEVICE static constexpr int64_t count(int64_t rows, int gpu, int gpus) {
    const int64_t rest = rows % (kDealtRows * gpus) - int64_t{gpu} * kDealtRows;
    return rows / (kDealtRows * gpus) * kDealtRows + (rest < 0 ? 0 : rest < kDealtRows ? rest : kDealtRows);
  }
  CORVID_HOST_DEVICE static constexpr int64_t row(int64_t i, int gpu, int gpus) {
    return (i / kDealtRows * gpus + gpu) * kDealtRows + i % kDealtRows;
  }
};

}  // namespace corvid::kernels
