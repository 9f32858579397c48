// The places where a kernel runs (CPU tiers, CUDA), as a test parameter; and arrays on the right device for it.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/exec.h"

namespace corvid::test {

struct Backend {
  kernels::Device device;
  kernels::Isa isa;

  std::string name() const { return device == kernels::Device::cuda ? "cuda" : kernels::isa_name(isa); }
  bool is_available() const {
    if (device == kernels::Device::cuda) return kernels::cuda::available();
    const std::vector<kernels::Isa> found = kernels::available_isas();
    return std::find(found.begin(), found.end(), isa) != found.end();
  }
  std::unique_ptr<kernels::Exec> exec(int threads = 2) const {
    if (device == kernels::Device::cuda) return std::make_unique<kernels::Exec>(device);
    return std::make_unique<kernels::Exec>(threads, isa);
  }
};

inline std::vector<Backend> cpu_backends() {
  return {{kernels::Device::cpu, kernels::Isa::scalar}, {kernels::Device::cpu, kernels::Isa::neon},
          {kernels::Device::cpu, kernels::Isa::avx2},   {kernels::Device::cpu, kernels::Isa::avx512},
          {kernels::Device::cpu, kernels::Isa::vnni},   {kernels::Device::cpu, kernels::Isa::amx}};
}
inline std::vector<Backend> all_backends() {
  std::vector<Backend> all = cpu_backends();
  all.push_back({kernels::Device::cuda, kernels::Isa::scalar});
  return all;
}
inline std::string backend_name(const testing::TestParamInfo<Backend>& info) { return info.param.name(); }
inline void PrintTo(const Backend& backend, std::ostream* out) { *out << backend.name(); }

// A suite with one instance per backend; an absent one says SKIPPED.
class BackendTest : public testing::TestWithParam<Backend> {
 protected:
  void SetUp() override {
    if (!GetParam().is_available()) GTEST_SKIP() << "this machine has no " << GetParam().name();
  }
};

// Arguments of a kernel on the Exec's device: in() and out() give pointers for it, finish() waits and brings outputs
// home. On the CPU these are the host's own arrays.
class Arrays {
 public:
  explicit Arrays(kernels::Exec& exec) : exec_(exec) {}

  template <class T>
  const T* in(const T* host, int64_t n) {
    return n == 0 ? host : upload(const_cast<T*>(host), n, false);
  }
  template <class T>
  T* out(T* host, int64_t n) {
    return n == 0 ? host : upload(host, n, true);
  }
  void finish() {
    exec_.wait();
    for (const Copy& copy : copies_)
      if (copy.is_output)
        kernels::cuda::to_host(copy.host, copy.device.as<void>(), copy.device.bytes(), exec_.stream());
  }

 private:
  struct Copy {
    void* host;
    kernels::Buffer device;
    bool is_output;
  };
  template <class T>
  T* upload(T* host, int64_t n, bool is_output) {
    if (exec_.device() == kernels::Device::cpu) return host;
    copies_.push_back({host, kernels::Buffer(n * int64_t{sizeof(T)}, kernels::Device::cuda), is_output});
    kernels::cuda::to_device(copies_.back().device.template as<void>(), host, n * int64_t{sizeof(T)}, exec_.stream());
    return copies_.back().device.template as<T>();
  }
  kernels::Exec& exec_;
  std::vector<Copy> copies_;
};

// n floats of about the given size; the same seed gives the same numbers everywhere.
inline std::vector<float> random_floats(int64_t n, uint32_t seed, float size = 1) {
  std::mt19937 bits(seed);
  std::vector<float> values(static_cast<size_t>(n));
  for (float& value : values) {
    // A sum of uniforms: bell-shaped, and unlike std::normal_distribution the same in every library.
    float sum = -2;
    for (int i = 0; i < 4; ++i) sum += static_cast<float>(bits() >> 8) * 0x1p-24F;
    value = sum * 1.7F * size;
  }
  return values;
}

}  // namespace corvid::test
