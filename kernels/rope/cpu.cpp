#include <algorithm>
#include <cmath>

#include "kernels/check.h"
#include "kernels/rope/rope.h"

#define CORVID_BODY "kernels/rope/cpu.inc"
#include "kernels/simd/for_each_tier.h"

namespace corvid::kernels {

void rope_angles(const RopeAngles& a, Exec& exec) {
  require(a.rows >= 0, "rope_angles: want rows >= 0, found ", a.rows);
  require(a.rotary_dim >= 2 && a.rotary_dim % 2 == 0, "rope_angles: want rotary_dim even and >= 2, found ",
          a.rotary_dim);
  require(a.theta > 0 && std::isfinite(a.theta), "rope_angles: want theta > 0, found ", a.theta);
  for (int64_t r = 0; r < a.rows; ++r) require(a.pos[r] >= 0, "rope_angles: want positions >= 0, found ", a.pos[r]);
  if (exec.device() == Device::cuda)
    cuda::rope_angles(a, exec.stream());
  else
    cpu::rope_angles(a, exec.pool());
}

void rope(const Rope& a, Exec& exec) {
  require(a.rows >= 0 && a.n_heads >= 1, "rope: want rows >= 0 and n_heads >= 1, found ", a.rows, " and ", a.n_heads);
  require(a.rotary_dim >= 2 && a.rotary_dim % 2 == 0 && a.rotary_dim <= a.head_dim,
          "rope: want rotary_dim even, from 2 to head_dim ", a.head_dim, ", found ", a.rotary_dim);
  if (exec.device() == Device::cuda)
    cuda::rope(a, exec.stream());
  else
    cpu::rope(a, exec.isa(), exec.pool());
}

void cpu::rope_angles(const RopeAngles& a, Pool& pool) {
  const int64_t half = a.rotary_dim / 2, per_task = std::max<int64_t>(1, 512 / half);
  pool.run((a.rows + per_task - 1) / per_task, [&](int64_t task, int) {
    for (int64_t i = 0; i < half; ++i) {
      const double frequency = std::pow(a.theta, -2.0 * double(i) / double(a.rotary_dim));
      for (int64_t r = task * per_task; r < std::min(a.rows, (task + 1) * per_task); ++r) {
        const double angle = double(a.pos[r]) * frequency;
        a.cos_sin[r * a.rotary_dim + i] = static_cast<float>(std::cos(angle));
        a.cos_sin[r * a.rotary_dim + half + i] = static_cast<float>(std::sin(angle));
      }
    }
  });
}

void cpu::rope(const Rope& a, Isa isa, Pool& pool) {
  const auto head = CORVID_PICK(isa, rope_head);
  const int64_t per_task = std::max<int64_t>(1, 8192 / (a.n_heads * a.rotary_dim));
  pool.run((a.rows + per_task - 1) / per_task, [&](int64_t task, int) {
    for (int64_t r = task * per_task; r < std::min(a.rows, (task + 1) * per_task); ++r)
      for (int64_t h = 0; h < a.n_heads; ++h)
        head(a.x + (r * a.n_heads + h) * a.head_dim, a.cos_sin + r * a.rotary_dim, a.rotary_dim / 2);
  });
}

}  // namespace corvid::kernels
