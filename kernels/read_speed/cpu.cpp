#include <algorithm>
#include <chrono>
#include <cstring>

#include "kernels/check.h"
#include "kernels/read_speed/read_speed.h"

#define CORVID_BODY "kernels/read_speed/cpu.inc"
#include "kernels/simd/for_each_tier.h"

namespace corvid::kernels {

ReadSpeed::ReadSpeed(int64_t bytes) : memory_(bytes) {
  std::memset(memory_.as<std::byte>(), 0, static_cast<size_t>(bytes));
}

double ReadSpeed::measure(Exec& exec) {
  require_cpu(exec, "the read speed");
  constexpr int64_t kStep = 64;  // floats that the loop takes at a time
  Pool& pool = exec.pool();
  const auto sum = CORVID_PICK(exec.isa(), sum_of);
  const int64_t steps = memory_.bytes() / (kStep * int64_t{sizeof(float)}), threads = pool.threads();
  const Pool::Scratch<float> sums = pool.scratch(threads);  // kept, so that no load can be left out
  const auto begin = std::chrono::steady_clock::now();
  pool.run(threads, [&](int64_t share, int worker) {
    const int64_t first = steps * share / threads, end = steps * (share + 1) / threads;
    sums[worker][share] = sum(memory_.as() + first * kStep, (end - first) * kStep);
  });
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
  return static_cast<double>(steps * kStep * int64_t{sizeof(float)}) / time.count();
}

}  // namespace corvid::kernels
