// Rows of a matrix that are dealt out to GPUs, kDealtRows at a time and in turns: of two, GPU 0 has rows [0, 128),
// [256, 384) and so on, GPU 1 the others, each its own ones behind each other. A kernel of one GPU may write, or read,
// the rows of all of them. Rows that lie together are dealt to one.
#pragma once
#include <cstdint>

#include "kernels/format.h"

namespace corvid::kernels {

constexpr int kMostGpus = 8;
constexpr int kDealtRows = 128;

struct Deal {
  int gpus = 1;

  // Whose row r is, and which of its rows.
  CORVID_HOST_DEVICE constexpr int owner(int64_t r) const { return static_cast<int>(r / kDealtRows % gpus); }
  CORVID_HOST_DEVICE constexpr int64_t place(int64_t r) const {
    return r / (int64_t{kDealtRows} * gpus) * kDealtRows + r % kDealtRows;
  }
  // The r of a GPU's row i, and how many of `rows` rows it has.
  CORVID_HOST_DEVICE constexpr int64_t row(int64_t i, int gpu) const {
    return (i / kDealtRows * gpus + gpu) * kDealtRows + i % kDealtRows;
  }
  CORVID_HOST_DEVICE constexpr int64_t count(int64_t rows, int gpu) const {
    const int64_t rest = rows % (int64_t{kDealtRows} * gpus) - int64_t{gpu} * kDealtRows;
    return rows / (int64_t{kDealtRows} * gpus) * kDealtRows + (rest < 0 ? 0 : rest < kDealtRows ? rest : kDealtRows);
  }
};

template <class T>
struct DealtRows : Deal {
  T* of[kMostGpus] = {};

  DealtRows() = default;
  CORVID_HOST_DEVICE DealtRows(T* together) : of{together} {}  // NOLINT(google-explicit-constructor)
};

}  // namespace corvid::kernels
