#include "kernels/matmul/q8.h"

#include <algorithm>

#include "kernels/simd/v16.h"

// Outputs of sixteen rows side by side in registers: kWordOuts sums of integers and as many of floats.
namespace corvid::kernels::scalar::q8 {
using namespace cpu;
constexpr int64_t kWordOuts = 2;
CORVID_INLINE I dot(I sum, I x, I y) { return add_products(sum, x, y); }
#include "kernels/matmul/q8_words.inc"
}  // namespace corvid::kernels::scalar::q8

#if defined(__x86_64__)
CORVID_BEGIN_AVX2
namespace corvid::kernels::avx2::q8 {
using namespace cpu;
constexpr int64_t kWordOuts = 3;
CORVID_INLINE I dot(I sum, I x, I y) { return add_products(sum, x, y); }
#include "kernels/matmul/q8_words.inc"
}  // namespace corvid::kernels::avx2::q8
CORVID_END_TIER

CORVID_BEGIN_AVX512
namespace corvid::kernels::avx512::q8 {
using namespace cpu;
constexpr int64_t kWordOuts = 12;
CORVID_INLINE I dot(I sum, I x, I y) { return add_products(sum, x, y); }
#include "kernels/matmul/q8_words.inc"
}  // namespace corvid::kernels::avx512::q8
CORVID_END_TIER

CORVID_BEGIN_VNNI
namespace corvid::kernels::avx512::q8_vnni {
using namespace cpu;
constexpr int64_t kWordOuts = 12;
CORVID_INLINE I dot(I sum, I x, I y) { return {_mm512_dpwssd_epi32(sum.v, x.v, y.v)}; }
#include "kernels/matmul/q8_words.inc"
}  // namespace corvid::kernels::avx512::q8_vnni
CORVID_END_TIER

CORVID_BEGIN_AMX
namespace corvid::kernels::avx512::q8_amx {
using namespace cpu;
CORVID_INLINE I dot(I sum, I x, I y) { return {_mm512_dpwssd_epi32(sum.v, x.v, y.v)}; }
#include "kernels/matmul/q8_amx.inc"
}  // namespace corvid::kernels::avx512::q8_amx
CORVID_END_TIER
#endif

namespace corvid::kernels {

const cpu::Q8Functions& cpu::q8_functions(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::scalar:
      break;
    case Isa::avx2:
      return avx2::q8::kQ8Functions;
    case Isa::avx512:
      return avx512::q8::kQ8Functions;
    case Isa::vnni:
      return avx512::q8_vnni::kQ8Functions;
    case Isa::amx:
      return avx512::q8_amx::kQ8Functions;
  }
#else
  static_cast<void>(isa);
#endif
  return scalar::q8::kQ8Functions;
}

}  // namespace corvid::kernels
