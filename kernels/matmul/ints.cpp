#include "kernels/matmul/ints.h"

#include <algorithm>

#include "kernels/matmul/interleaved.h"
#include "kernels/simd/v16.h"

#define CORVID_BODY "kernels/matmul/unpack.inc"
#include "kernels/simd/for_each_tier.h"

// Outputs of sixteen rows side by side in registers: kWordOuts sums of integers and as many of floats.
namespace corvid::kernels::scalar::ints {
using namespace cpu;
constexpr int64_t kWordOuts = 2;
#include "kernels/matmul/ints_pairs.inc"
#include "kernels/matmul/ints_words.inc"
}  // namespace corvid::kernels::scalar::ints

#if defined(__x86_64__)
CORVID_BEGIN_AVX2
namespace corvid::kernels::avx2::ints {
using namespace cpu;
constexpr int64_t kWordOuts = 3;
#include "kernels/matmul/ints_pairs.inc"
#include "kernels/matmul/ints_words.inc"
}  // namespace corvid::kernels::avx2::ints
CORVID_END_TIER

CORVID_BEGIN_AVX512
namespace corvid::kernels::avx512::ints {
using namespace cpu;
constexpr int64_t kWordOuts = 12;
#include "kernels/matmul/ints_pairs.inc"
#include "kernels/matmul/ints_words.inc"
}  // namespace corvid::kernels::avx512::ints
CORVID_END_TIER

CORVID_BEGIN_VNNI
namespace corvid::kernels::avx512::ints_vnni {
using namespace cpu;
constexpr int64_t kWordOuts = 12;
#include "kernels/matmul/ints_bytes.inc"
#include "kernels/matmul/ints_words.inc"
#include "kernels/matmul/ints_words_interleaved.inc"
}  // namespace corvid::kernels::avx512::ints_vnni
CORVID_END_TIER

CORVID_BEGIN_AMX
namespace corvid::kernels::avx512::ints_amx {
using namespace cpu;
#include "kernels/matmul/ints_amx.inc"
}  // namespace corvid::kernels::avx512::ints_amx
CORVID_END_TIER
#elif defined(__aarch64__)
namespace corvid::kernels::neon::ints {
using namespace cpu;
constexpr int64_t kWordOuts = 3;
#include "kernels/matmul/ints_pairs.inc"
#include "kernels/matmul/ints_words.inc"
}  // namespace corvid::kernels::neon::ints
#endif

namespace corvid::kernels {

const cpu::IntFunctions& cpu::int_functions(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::scalar:
    case Isa::neon:
      break;
    case Isa::avx2:
      return avx2::ints::kIntFunctions;
    case Isa::avx512:
      return avx512::ints::kIntFunctions;
    case Isa::vnni:
      return avx512::ints_vnni::kAllIntFunctions;
    case Isa::amx:
      return avx512::ints_amx::kIntFunctions;
  }
#elif defined(__aarch64__)
  if (isa == Isa::neon) return neon::ints::kIntFunctions;
#else
  static_cast<void>(isa);
#endif
  return scalar::ints::kIntFunctions;
}

}  // namespace corvid::kernels
