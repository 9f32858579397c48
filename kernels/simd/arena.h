// Carves one workspace into arrays, each on 64 bytes. Run once with no memory to learn the size, then with it.
#pragma once
#include <cstddef>
#include <cstdint>

namespace corvid::kernels {

class Arena {
 public:
  explicit Arena(std::byte* memory = nullptr) : memory_(memory) {}

  template <class T>
  T* take(int64_t count) {
    T* array = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + used_);
    used_ += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return array;
  }
  int64_t bytes() const { return used_; }

 private:
  std::byte* memory_;
  int64_t used_ = 0;
};

}  // namespace corvid::kernels
