#include <algorithm>

#include "kernels/check.h"
#include "kernels/rms_norm/rms_norm.h"

#define CORVID_BODY "kernels/rms_norm/cpu.inc"
#include "kernels/simd/for_each_tier.h"

namespace corvid::kernels {

void rms_norm(const RmsNorm& a, Exec& exec) {
  require(a.rows >= 0 && a.dim >= 1, "rms_norm: want rows >= 0 and dim >= 1, found ", a.rows, " and ", a.dim);
  require(a.eps > 0, "rms_norm: want eps > 0, found ", a.eps);
  if (exec.device() == Device::cuda)
    cuda::rms_norm(a, exec.stream());
  else
    cpu::rms_norm(a, exec.isa(), exec.pool());
}

void cpu::rms_norm(const RmsNorm& a, Isa isa, Pool& pool) {
  const auto row = CORVID_PICK(isa, rms_norm_row);
  // Tasks of some 8000 elements: below that, waking a thread costs more than the work.
  const int64_t per_task = std::max<int64_t>(1, 8192 / a.dim);
  pool.run((a.rows + per_task - 1) / per_task, [&](int64_t task, int) {
    for (int64_t r = task * per_task; r < std::min(a.rows, (task + 1) * per_task); ++r)
      row(a.x + r * a.dim, a.w, a.y + r * a.dim, a.dim, a.eps);
  });
}

}  // namespace corvid::kernels
