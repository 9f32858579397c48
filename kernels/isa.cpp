#include "kernels/isa.h"

#include <cstdlib>
#include <stdexcept>
#include <string>
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace corvid::kernels {

namespace {

// The kernel gives a process AMX's eight kilobytes of state per thread only when it asks. Threads that run already get
// them too, and asking again is harmless.
[[maybe_unused]] bool may_use_amx() {
#if defined(__x86_64__) && defined(__linux__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kTileAndInt8 = 1U << 24 | 1U << 25;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kTileAndInt8) != kTileAndInt8) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::scalar:
      return "scalar";
    case Isa::neon:
      return "neon";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::vnni:
      return "vnni";
    case Isa::amx:
      return "amx";
  }
  return "?";
}

std::vector<Isa> available_isas() {
  std::vector<Isa> found{Isa::scalar};
#if defined(__aarch64__)
  found.push_back(Isa::neon);
#endif
#if defined(__x86_64__)
  // These ask the operating system's side (XGETBV) as well.
  bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#if !defined(__clang__)  // cannot ask; every processor with AVX2 so far has F16C
  has_avx2 = has_avx2 && __builtin_cpu_supports("f16c");
#endif
  if (has_avx2) {
    found.push_back(Isa::avx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
      found.push_back(Isa::avx512);
      if (__builtin_cpu_supports("avx512vnni")) {
        found.push_back(Isa::vnni);
        if (may_use_amx()) found.push_back(Isa::amx);
      }
    }
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
