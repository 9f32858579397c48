// CPU tiers: the same kernels compiled for several instruction sets, chosen at run time.
#pragma once
#include <cstdint>
#include <vector>

namespace corvid::kernels {

enum class Isa : uint8_t {
  scalar,  // plain C++, any processor
  neon,    // Advanced SIMD: every AArch64
  avx2,    // AVX2, FMA, F16C: x86 since 2013
  avx512,  // AVX-512 F, BW, DQ, VL as well
  vnni,    // AVX-512 VNNI as well: sums of 16-bit products in one instruction
  amx,     // AMX-INT8 as well: products of tiles of 8-bit integers
};

const char* isa_name(Isa isa);

// The tiers that this processor and operating system can run, slowest first; scalar is always there.
std::vector<Isa> available_isas();

// The fastest available tier, or the one that the environment variable CORVID_ISA names. Throws std::runtime_error when
// CORVID_ISA names no tier, or one that this machine lacks.
Isa best_isa();

}  // namespace corvid::kernels
