// Compiles CORVID_BODY, a file of inner loops over V (v16.h), once per tier, each in its namespace. For a kernel's
// cpu.cpp; no include guard: one include per body.
#include "kernels/simd/v16.h"

namespace corvid::kernels::scalar {
#include CORVID_BODY
}  // namespace corvid::kernels::scalar

#if defined(__x86_64__)
CORVID_BEGIN_AVX2
namespace corvid::kernels::avx2 {
#include CORVID_BODY
}  // namespace corvid::kernels::avx2
CORVID_END_TIER

CORVID_BEGIN_AVX512
namespace corvid::kernels::avx512 {
#include CORVID_BODY
}  // namespace corvid::kernels::avx512
CORVID_END_TIER
#elif defined(__aarch64__)
namespace corvid::kernels::neon {
#include CORVID_BODY
}  // namespace corvid::kernels::neon
#endif
#undef CORVID_BODY
