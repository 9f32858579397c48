#include "kernels/isa.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace corvid::kernels {

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::scalar:
      return "scalar";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
  }
  return "?";
}

std::vector<Isa> available_isas() {
  std::vector<Isa> found{Isa::scalar};
#if defined(__x86_64__)
  // These ask the operating system's side (XGETBV) as well.
  bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#if !defined(__clang__)  // cannot ask; every processor with AVX2 so far has F16C
  has_avx2 = has_avx2 && __builtin_cpu_supports("f16c");
#endif
  if (has_avx2) {
    found.push_back(Isa::avx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
      found.push_back(Isa::avx512);
  }
#endif
  return found;
}

Isa best_isa() {
  const std::vector<Isa> found = available_isas();
  const char* wanted = std::getenv("CORVID_ISA");
  if (wanted == nullptr || *wanted == '\0') return found.back();
  std::string names;
  for (const Isa isa : found) {
    if (wanted == std::string(isa_name(isa))) return isa;
    names += (names.empty() ? "" : ", ") + std::string(isa_name(isa));
  }
  throw std::runtime_error("CORVID_ISA: want one of " + names + " on this machine, found \"" + wanted + "\"");
}

}  // namespace corvid::kernels
