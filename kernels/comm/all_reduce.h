// The GPUs that share a model add up what each of them has computed of some rows, and normalise the sum.
//
//   x[r]      += partial_0[r] + partial_1[r] + ...                  on each GPU, the same bits on all
//   h[r]       = bf16(w * x[r] / sqrt(mean(x[r]^2) + eps))          as rms_norm_rows.h
//   partial_g  = 0                                                  ready for the next sum
//
//   Shapes   on each GPU: partial, x: [rows, dim] float32; w: [dim]; h: [rows, dim] bf16, 16-byte aligned all of them.
//   Needs    rows >= 0, dim a multiple of 8 and at most kMostReducedDim. x has the same bits on all GPUs.
//   Numbers  up to kStreamRows rows the partials are added in float32, in the order of the GPUs; above that each is
//            rounded to bf16 first, which halves what crosses the wires, and (through NCCL alone) so is their sum.
//   Order    a row's bits depend on that row alone, but above kStreamRows rows through NCCL among three GPUs and more,
//            where they depend on its place too.
//
// Two ways. Through the peers' memory, by one kernel, a block for a row: each GPU writes its partial into its peers'
// memory, in float32 or bf16, and adds what they wrote into its own. Nothing but the numbers themselves goes over the
// wire: a word of memory that is -0 has not arrived yet (a sender says 0 instead), and who has read it makes it -0
// again. So there is no fence, no flag and no second trip. Two buffers take turns: a GPU begins call n + 2 only when it
// has what its peers sent in call n + 1, which they did when they had done with call n. Where a peer has failed its
// numbers don't come, and after a minute or two that is this GPU's error. Through NCCL: where GPUs don't reach each
// other's memory, and for many rows of more than two GPUs, of whose sums a ring sends less.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

struct CUstream_st;

namespace corvid::kernels {

constexpr int64_t kMostGpus = 8, kMostReducedDim = 16384;

class AllReduce {
 public:
  enum class Way : uint8_t { automatic, peers, nccl };

  // Why these GPUs can't; nothing when they can. One named twice is two of them, for tests; NCCL knows no such.
  static std::optional<std::string> obstacle(std::span<const int> gpus);
  // Takes memory on all of them. Throws std::runtime_error where obstacle() has something to say.
  AllReduce(std::span<const int> gpus, int64_t most_rows, int64_t dim, Way way = Way::automatic);
  ~AllReduce();

  struct Share {
    float* partial;
    float* x;
    const float* w;  // null: no norm
    uint16_t* h;
    CUstream_st* stream;
  };
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
