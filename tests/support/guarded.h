// Arrays with guard bytes on both sides: a kernel that writes outside its output is caught, not lucky.
#pragma once
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace corvid::test {

template <class T>
class Guarded {
 public:
  // `offset` elements away from 64-byte alignment, so that no kernel comes to need it.
  explicit Guarded(int64_t n, int64_t offset = 1)
      : n_(n), bytes_(static_cast<size_t>(n + offset) * sizeof(T) + 3 * kGuard, kFill) {
    const auto at = reinterpret_cast<uintptr_t>(bytes_.data());
    begin_ = kGuard + (64 - at % 64) % 64 + static_cast<size_t>(offset) * sizeof(T);
  }
  Guarded(const std::vector<T>& values, int64_t offset = 1) : Guarded(static_cast<int64_t>(values.size()), offset) {
    if (!values.empty()) std::memcpy(data(), values.data(), values.size() * sizeof(T));
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  T* data() { return reinterpret_cast<T*>(bytes_.data() + begin_); }
  const T* data() const { return reinterpret_cast<const T*>(bytes_.data() + begin_); }
  int64_t size() const { return n_; }
  std::vector<T> values() const { return {data(), data() + n_}; }

  void expect_guards_intact(const std::string& name) const {
    const size_t end = begin_ + static_cast<size_t>(n_) * sizeof(T);
    for (size_t i = 0; i < bytes_.size(); ++i)
      if ((i < begin_ || i >= end) && bytes_[i] != kFill) {
        ADD_FAILURE() << name << ": wrote outside its output, at byte " << static_cast<int64_t>(i - begin_) << " of "
                      << static_cast<int64_t>(end - begin_);
        return;
      }
  }

 private:
  static constexpr size_t kGuard = 128;
  static constexpr uint8_t kFill = 0xa5;
  int64_t n_;
  std::vector<uint8_t> bytes_;
  size_t begin_ = 0;
};

}  // namespace corvid::test
