// NVIDIA's collective library, loaded when it is first wanted: a program that runs on one GPU needs none.
//
// Found as libnccl.so.2 where the loader looks (Debian and Ubuntu: package libnccl2; Python: the wheel
// nvidia-nccl-cu13, whose folder LD_LIBRARY_PATH must name), or at $CORVID_NCCL. Its few functions that are used are
// declared here, as nccl.h of 2.x has them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

struct CUstream_st;

namespace corvid::kernels {

// One communicator for each of some GPUs of this process. Movable.
class Nccl {
 public:
  // Why several GPUs can't talk through NCCL here; nothing when they can.
  static std::optional<std::string> obstacle();

  Nccl() = default;
  explicit Nccl(std::span<const int> gpus);  // throws std::runtime_error
  Nccl(Nccl&& other) noexcept { comms_.swap(other.comms_); }
  Nccl& operator=(Nccl&& other) noexcept {
    comms_.swap(other.comms_);
    return *this;
  }
  ~Nccl();

  enum class Type : int { f32 = 7, bf16 = 9 };  // ncclDataType_t
  // The sum of all GPUs' data[i][0, count), in place, on stream i of GPU i. The order of a sum is NCCL's own choice, by
  // count and place; it is the same on all GPUs.
  void queue_all_reduce(std::span<void* const> data, int64_t count, Type type, std::span<CUstream_st* const> streams);

 private:
  std::vector<void*> comms_;
};

}  // namespace corvid::kernels
