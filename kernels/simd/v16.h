// V: sixteen floats, with the same few operations in each CPU tier, in the namespaces scalar, avx2 and avx512. A
// kernel's inner loops are written once, over V, and compiled once per tier (for_each_tier.h).
//
// A tier's code gets its instructions from a target pragma, not from a file with its own -m flags: the linker may keep
// that file's copy of an inline function for everyone, and machines without the tier then crash.
//
// The order of horizontal sums is part of every kernel's contract ("a row's bits depend on that row alone"): lanes l
// and l + 8 are added first, then l and l + 4, l and l + 2, l and l + 1. All three tiers do that.
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
#if defined(__clang__)
#define CORVID_BEGIN_AVX2 \
  _Pragma("clang attribute push(__attribute__((target(\"avx2,fma,f16c\"))), apply_to = function)")
// clang-format off
#define CORVID_BEGIN_AVX512 \
  _Pragma("clang attribute push(__attribute__((target(\"avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl\"))), apply_to = function)")
// clang-format on
#define CORVID_END_TIER _Pragma("clang attribute pop")
#else
#define CORVID_BEGIN_AVX2 _Pragma("GCC push_options") _Pragma("GCC target(\"avx2,fma,f16c\")")
#define CORVID_BEGIN_AVX512 \
  _Pragma("GCC push_options") _Pragma("GCC target(\"avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl\")")
#define CORVID_END_TIER _Pragma("GCC pop_options")
#endif
// The function `name` of the tier `isa`.
#define CORVID_PICK(isa, name) ((isa) == Isa::avx512 ? &avx512::name : (isa) == Isa::avx2 ? &avx2::name : &scalar::name)
#else
#define CORVID_PICK(isa, name) (static_cast<void>(isa), &scalar::name)
#endif

namespace corvid::kernels {

constexpr float kExpLow = -87.33F;  // below, exp() is 0: the result would leave the normal floats
constexpr float kExpHigh = 88.0F;   // above, exp() stays at exp(88)

namespace scalar {
#include "kernels/simd/v16_scalar.inc"
}  // namespace scalar

#if defined(__x86_64__)
CORVID_BEGIN_AVX2
namespace avx2 {
#include "kernels/simd/v16_avx2.inc"
}  // namespace avx2
CORVID_END_TIER

CORVID_BEGIN_AVX512
namespace avx512 {
#include "kernels/simd/v16_avx512.inc"
}  // namespace avx512
CORVID_END_TIER
#endif

}  // namespace corvid::kernels
