// V: sixteen floats, and I: sixteen 32-bit integers, with the same few operations in each CPU tier, in the namespaces
// scalar, avx2, avx512 and neon. A kernel's inner loops are written once, over V, and compiled once per tier
// (for_each_tier.h). The tiers above avx512 build on its V and I.
//
// A tier's code gets its instructions from a target pragma, not from a file with its own -m flags: the linker may keep
// that file's copy of an inline function for everyone, and machines without the tier then crash.
//
// The order of horizontal sums is part of every kernel's contract ("a row's bits depend on that row alone"): lanes l
// and l + 8 are added first, then l and l + 4, l and l + 2, l and l + 1. All tiers do that.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#if defined(__x86_64__)
#if !defined(__clang__)
// GCC 12 takes its own AVX-512 intrinsics' "any value" operand for an uninitialised variable (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "kernels/format.h"
#include "kernels/isa.h"

#define CORVID_INLINE [[gnu::always_inline]] inline

// Unrolls the next loop fully: its arrays of V then live in registers.
#if defined(__clang__)
#define CORVID_UNROLL _Pragma("unroll")
#else
#define CORVID_UNROLL _Pragma("GCC unroll 16")
#endif

#if defined(__x86_64__)
#define CORVID_PRAGMA(...) _Pragma(#__VA_ARGS__)
#if defined(__clang__)
#define CORVID_BEGIN_TIER(features) \
  CORVID_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define CORVID_END_TIER _Pragma("clang attribute pop")
#else
#define CORVID_BEGIN_TIER(features) _Pragma("GCC push_options") CORVID_PRAGMA(GCC target(features))
#define CORVID_END_TIER _Pragma("GCC pop_options")
#endif
#define CORVID_BEGIN_AVX2 CORVID_BEGIN_TIER("avx2,fma,f16c")
#define CORVID_BEGIN_AVX512 CORVID_BEGIN_TIER("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")
#define CORVID_BEGIN_VNNI CORVID_BEGIN_TIER("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#define CORVID_BEGIN_AMX \
  CORVID_BEGIN_TIER("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,amx-tile,amx-int8")
// The function `name` of the tier `isa`, for kernels that have nothing better above avx512.
#define CORVID_PICK(isa, name) ((isa) >= Isa::avx512 ? &avx512::name : (isa) == Isa::avx2 ? &avx2::name : &scalar::name)
#elif defined(__aarch64__)
#define CORVID_PICK(isa, name) ((isa) == Isa::neon ? &neon::name : &scalar::name)
#else
#define CORVID_PICK(isa, name) (static_cast<void>(isa), &scalar::name)
#endif

namespace corvid::kernels {

// A block of 32 floats as 16-bit integers: x = q * d to within d / 2, d = max|x| / kMaxWord.
constexpr float kMaxWord = 32512.0F;    // 127 * 256: both bytes of a word, low one taken as signed, fit 8 bits
constexpr float kMinBlock = 0x1p-100F;  // a block whose largest number is below becomes zeros: 1 / d would overflow

constexpr float kExpLow = -87.33F;  // below, exp() is 0: the result would leave the normal floats
constexpr float kExpHigh = 88.0F;   // above, exp() stays at exp(88)

namespace scalar {
#include "kernels/simd/v16_scalar.inc"
#include "kernels/simd/v16_scalar_ints.inc"
}  // namespace scalar

#if defined(__x86_64__)
CORVID_BEGIN_AVX2
namespace avx2 {
#include "kernels/simd/v16_avx2.inc"
#include "kernels/simd/v16_avx2_ints.inc"
}  // namespace avx2
CORVID_END_TIER

CORVID_BEGIN_AVX512
namespace avx512 {
#include "kernels/simd/v16_avx512.inc"
#include "kernels/simd/v16_avx512_ints.inc"
}  // namespace avx512
CORVID_END_TIER
#elif defined(__aarch64__)
namespace neon {
#include "kernels/simd/v16_neon.inc"
#include "kernels/simd/v16_neon_ints.inc"
}  // namespace neon
#endif

}  // namespace corvid::kernels
