// Compiles CORVID_BODY, inner loops for the tiers with VNNI alone, in their namespace, behind the same kernel's
// for_each_tier.h; no include guard: one include per body.
#if defined(__x86_64__)
CORVID_BEGIN_VNNI
namespace corvid::kernels::avx512::vnni {
#include CORVID_BODY
}  // namespace corvid::kernels::avx512::vnni
CORVID_END_TIER
#endif
#undef CORVID_BODY
