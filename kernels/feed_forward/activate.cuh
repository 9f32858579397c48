#pragma once
#include "kernels/expert_ffn/expert_ffn.h"

namespace corvid::kernels {

__device__ inline float activate(float g, float u, const Activation& act) {
  if (act.kind == Activation::Kind::silu) return u * g / (1 + __expf(-g));
  g = fminf(g, act.limit);
  return (fminf(fmaxf(u, -act.limit), act.limit) + 1) * g / (1 + __expf(-act.alpha * g));
}

}  // namespace corvid::kernels
