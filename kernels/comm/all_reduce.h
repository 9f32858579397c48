// The GPUs that share a model add up what each of them has computed of some rows, and normalise the sum.
//
//   x[r]      += partial_0[r] + partial_1[r] + ...                  in the order of the GPUs
//   h[r]       = bf16(w * x[r] / sqrt(mean(x[r]^2) + eps))          as rms_norm_rows.h; the same bits on each GPU
//
//   Few      up to kStreamRows rows, or as many as one says: partials are float32, and x is the sum on each GPU. The
//            partials are 0 afterwards, ready for the next.
//   Many     above that: partials are bf16, which halves what crosses the wires, and lie where partials() says. x[r] is
//            the sum on the GPU that has been dealt r (dealt_rows.h) and what it was elsewhere; through NCCL on all.
//   Shapes   on each GPU: x: [rows, dim] float32; w: [dim]; h: [rows, dim] bf16, 16-byte aligned all of them.
//   Needs    0 <= rows <= most_rows, dim a multiple of 8 and at most kMostReducedDim. The x of few rows has the same
//            bits on all GPUs.
//   Numbers  float32 sums; of many rows through NCCL bf16.
//   Order    a row's bits depend on that row alone, but of many rows through NCCL, where they depend on its place too.
//
// Through the peers' memory, where GPUs reach it:
//
// Few rows by one kernel, a block for a row: each GPU writes its partial into its peers' memory and adds what they
// wrote into its own. Nothing but the numbers themselves goes over the wire: a word of memory that is -0 has not
// arrived yet (a sender says 0 instead), and who has read it makes it -0 again. So there is no fence, no flag and no
// second trip. Two buffers take turns: a GPU begins call n + 2 only when it has what its peers sent in call n + 1,
// which they did when they had done with call n.
//
// Many rows are sent by the kernels that compute them, as their blocks end: what crosses the wires does so while other
// blocks multiply. Then each GPU adds up the rows that it has been dealt, and sends their norms (many_rows.h).
//
// Where a peer has failed its numbers don't come, and after a minute or two that is this GPU's error.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/comm/dealt_rows.h"
#include "kernels/products/products.h"

struct CUstream_st;

namespace corvid::kernels {

constexpr int64_t kMostReducedDim = 16384;

class AllReduce {
 public:
  // automatic: by the peers' memory where GPUs reach it, but with CORVID_SUMS=nccl in the environment through NCCL all
  // the same, so that a whole model can be tried on it.
  enum class Way : uint8_t { automatic, peers, nccl };

  // Why these GPUs can't; nothing when they can. One named twice is two of them, for tests; NCCL knows no such.
  static std::optional<std::string> obstacle(std::span<const int> gpus);
  // Takes memory on all of them. Throws std::runtime_error where obstacle() has something to say.
  AllReduce(std::span<const int> gpus, int64_t most_rows, int64_t dim, Way way = Way::automatic,
            int64_t few = kStreamRows);
  ~AllReduce();

  struct Share {
    float* partial;  // of few rows
    float* x;
    const float* w;  // null: no norm
    uint16_t* h;
    CUstream_st* stream;
  };
  // Of many rows: where a GPU's partials go, [rows, dim], for the next queue(). What writes them comes behind the
  // queue() before.
  DealtRows<void> partials(int gpu) const;
  bool are_dealt(int64_t rows) const;  // x, behind queue()
  // Queues on all GPUs' streams. What they did before must have been queued on all of them, as a GPU waits for the
  // others.
  void queue(std::span<const Share> shares, int64_t rows, float eps);

  // Bytes on one GPU.
  static int64_t bytes(int64_t gpus, int64_t most_rows, int64_t dim);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace corvid::kernels
