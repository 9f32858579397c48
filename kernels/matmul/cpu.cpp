#include <algorithm>
#include <array>

#include "kernels/check.h"
#include "kernels/matmul/matmul.h"
#include "kernels/matmul/tile.h"

namespace corvid::kernels {
using cpu::kMaxTileRows;
using cpu::Tile;
using cpu::tile_outs;
}  // namespace corvid::kernels
#define CORVID_BODY "kernels/matmul/cpu.inc"
#include "kernels/simd/for_each_tier.h"

namespace corvid::kernels {
namespace {

constexpr size_t kMaxTogether = 16;      // products per meeting of the threads
constexpr int64_t kSerialWork = 20'000;  // multiply-adds below which waking a thread costs more than the work

// How one product is cut into tasks.
struct Cut {
  const Matmul* a;
  int64_t outs, out_tiles, first_task;
};

void check(const Matmul& a) {
  require(a.rows >= 0 && a.n >= 0 && a.k >= 1, "matmul: want rows >= 0, n >= 0, k >= 1, found ", a.rows, ", ", a.n,
          ", ", a.k);
  require(a.k % format_block(a.w.format) == 0, "matmul: want k a multiple of ", format_block(a.w.format), " for ",
          format_name(a.w.format), ", found ", a.k);
}

}  // namespace

cpu::TileFn cpu::tile_function(Isa isa) { return CORVID_PICK(isa, product); }

void matmul(const Matmul& a, Exec& exec) { matmul(std::span<const Matmul>(&a, 1), exec); }

void matmul(std::span<const Matmul> all, Exec& exec) {
  for (const Matmul& a : all) check(a);
  if (exec.device() == Device::cuda)
    for (const Matmul& a : all) cuda::matmul(a, exec.stream());
  else
    for (; !all.empty(); all = all.subspan(std::min(all.size(), kMaxTogether)))
      cpu::matmul(all.first(std::min(all.size(), kMaxTogether)), exec.isa(), exec.pool());
}

void cpu::matmul(std::span<const Matmul> all, Isa isa, Pool& pool) {
  std::array<Cut, kMaxTogether> cuts;
  int64_t tasks = 0, work = 0, scratch_floats = 0;
  size_t n_cuts = 0;
  for (const Matmul& a : all) {
    if (a.rows == 0 || a.n == 0) continue;
    // With few rows a task should read some 30 KB of weights, and there should be tasks for everyone.
    const int64_t few = std::max<int64_t>(12, (32768 / a.k + 11) / 12 * 12);
    const int64_t outs = a.rows <= 2 && few < tile_outs(a.k) ? few : tile_outs(a.k);
    const int64_t out_tiles = (a.n + outs - 1) / outs;
    cuts[n_cuts++] = {&a, outs, out_tiles, tasks};
    tasks += out_tiles * ((a.rows + kMaxTileRows - 1) / kMaxTileRows);
    work += a.rows * a.n * a.k;
    scratch_floats = std::max(scratch_floats, tile_scratch(a.k));
  }
  const auto tile = tile_function(isa);
  const auto scratch = pool.scratch(scratch_floats);
  const auto run = [&](int64_t task, int worker) {
    size_t c = n_cuts - 1;
    while (cuts[c].first_task > task) --c;
    const Cut& cut = cuts[c];
    const Matmul& a = *cut.a;
    const int64_t local = task - cut.first_task;
    const int64_t j = local % cut.out_tiles * cut.outs, r = local / cut.out_tiles * kMaxTileRows;
    const float* x[kMaxTileRows];
    const int64_t rows = std::min(kMaxTileRows, a.rows - r);
    for (int64_t i = 0; i < rows; ++i) x[i] = a.x + (r + i) * a.k;
    tile({x, static_cast<const char*>(a.w.data) + j * row_bytes(a.w.format, a.k), a.y + r * a.n + j, rows,
          std::min(cut.outs, a.n - j), a.k, a.n, a.w.format, a.add},
         scratch[worker]);
  };
  if (work < kSerialWork)
    for (int64_t task = 0; task < tasks; ++task) run(task, 0);
  else
    pool.run(tasks, run);
}

}  // namespace corvid::kernels
