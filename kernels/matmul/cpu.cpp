#include <algorithm>
#include <array>
#include <cstddef>

#include "kernels/check.h"
#include "kernels/matmul/interleaved.h"
#include "kernels/matmul/ints.h"
#include "kernels/matmul/matmul.h"
#include "kernels/matmul/tile.h"

namespace corvid::kernels {
using cpu::is_direct;
using cpu::kMaxTileRows;
using cpu::Tile;
using cpu::tile_outs;
}  // namespace corvid::kernels
#define CORVID_BODY "kernels/matmul/cpu.inc"
#include "kernels/simd/for_each_tier.h"

namespace corvid::kernels {
namespace {

constexpr size_t kMaxTogether = 16;      // products per meeting of the threads
constexpr int64_t kIntRows = 256;        // of a task's products in integers; a multiple of kPanelRows
constexpr int64_t kSerialWork = 20'000;  // multiply-adds below which waking a thread costs more than the work

// How one product is cut into tasks.
struct Cut {
  const Matmul* a;
  int64_t rows, outs, out_tiles, first_task;
  bool in_panels;
  const std::byte* x;  // a.x in integers, if they are multiplied as such

  int64_t first_out(int64_t task) const { return (task - first_task) % out_tiles * outs; }
  const char* weights(int64_t task) const {
    return static_cast<const char*>(a->w.data) + first_out(task) * row_bytes(a->w.format, a->k);
  }
};

// An x that has to be in integers, once for all products that share it.
struct Quantised {
  const float* x;
  int64_t rows, k;
  bool in_panels;  // or as rows
  int64_t offset = 0;

  bool is_of(const Quantised& b) const { return x == b.x && rows == b.rows && k == b.k && in_panels == b.in_panels; }
  int64_t groups() const { return (rows + cpu::kPanelRows - 1) / cpu::kPanelRows; }
  int64_t bytes() const { return in_panels ? groups() * cpu::int_panel_bytes(k) : rows * cpu::int_row_bytes(k); }
};

// Group g of a's rows: a panel, or as many rows as they are. `scratch` holds the rows of a panel.
void quantise(const Quantised& a, int64_t g, const cpu::IntFunctions& ints, std::byte* out, std::byte* scratch) {
  const int64_t first = g * cpu::kPanelRows, rows = std::min(cpu::kPanelRows, a.rows - first);
  const int64_t bytes = cpu::int_row_bytes(a.k);
  std::byte* to = a.in_panels ? scratch : out + first * bytes;
  const std::byte* row[cpu::kPanelRows];
  for (int64_t r = 0; r < rows; ++r) {
    std::byte* at = to + r * bytes;
    ints.quantize(a.x + (first + r) * a.k, 0, a.k / cpu::kIntBlock, at, a.k);
    row[r] = at;
  }
  if (a.in_panels) ints.pack(row, rows, a.k, out + g * cpu::int_panel_bytes(a.k));
}

void check(const Matmul& a) {
  require(a.rows >= 0 && a.n >= 0 && a.k >= 1, "matmul: want rows >= 0, n >= 0, k >= 1, found ", a.rows, ", ", a.n,
          ", ", a.k);
  require(a.k % format_block(a.w.format) == 0, "matmul: want k a multiple of ", format_block(a.w.format), " for ",
          format_name(a.w.format), ", found ", a.k);
  require(!is_interleaved(a.w.format) || a.n % kInterleavedRows == 0, "matmul: want n a multiple of ", kInterleavedRows,
          " for ", format_name(a.w.format), ", found ", a.n);
  require(!in_integers(a.w.format) || a.k <= cpu::kMaxIntLength, "matmul: want k up to ", cpu::kMaxIntLength, " for ",
          format_name(a.w.format), ", found ", a.k);
}

// Waking a thread costs more than a little work.
template <class Fn>
void run_tasks(int64_t n, bool serial, Pool& pool, const Fn& fn) {
  if (serial)
    for (int64_t task = 0; task < n; ++task) fn(task, 0);
  else
    pool.run(n, fn);
}

}  // namespace

cpu::TileFn cpu::tile_function(Isa isa) { return CORVID_PICK(isa, product); }

void matmul(const Matmul& a, Exec& exec) { matmul(std::span<const Matmul>(&a, 1), exec); }

void matmul(std::span<const Matmul> all, Exec& exec) {
  for (const Matmul& a : all) check(a);
  if (exec.device() == Device::cuda)
    for (const Matmul& a : all) {
      require(!is_interleaved(a.w.format), "matmul: ", format_name(a.w.format), " is for the CPU alone");
      cuda::matmul(a, exec.stream());
    }
  else
    for (; !all.empty(); all = all.subspan(std::min(all.size(), kMaxTogether)))
      cpu::matmul(all.first(std::min(all.size(), kMaxTogether)), exec.isa(), exec.pool());
}

void cpu::matmul(std::span<const Matmul> all, Isa isa, Pool& pool) {
  std::array<Cut, kMaxTogether> cuts;
  std::array<Quantised, kMaxTogether> inputs;
  std::array<size_t, kMaxTogether> input_of;
  int64_t tasks = 0, work = 0, scratch_floats = 0, bytes = 0;
  size_t n_cuts = 0, n_inputs = 0;
  for (const Matmul& a : all) {
    if (a.rows == 0 || a.n == 0) continue;
    const bool integers = in_integers(a.w.format);
    // With few rows a task should read some 30 KB of weights, and there should be tasks for everyone. With many, the
    // weights that it unpacks should serve a good number of them.
    const int64_t few = std::min(kIntOuts, (32768 / row_bytes(a.w.format, a.k) + 16) / 16 * 16);
    const int64_t outs = is_interleaved(a.w.format) ? kGroupRows
                         : integers                 ? (a.rows <= kMaxVectors ? few : kIntOuts / 2)
                         : is_direct(a.rows, a.k)   ? few
                                                    : tile_outs(a.k);
    const int64_t rows = integers ? kIntRows : kMaxTileRows;
    const int64_t out_tiles = (a.n + outs - 1) / outs;
    const bool in_panels = a.rows > max_vectors(a.w.format, isa);
    if (integers) {
      Quantised input{a.x, a.rows, a.k, in_panels};
      size_t i = 0;
      while (i < n_inputs && !inputs[i].is_of(input)) ++i;
      if (i == n_inputs) {
        input.offset = bytes;
        inputs[n_inputs++] = input;
        bytes += input.bytes();
        scratch_floats = std::max(scratch_floats, kPanelRows * int_row_bytes(a.k) / int64_t{sizeof(float)});
      }
      input_of[n_cuts] = i;
    }
    cuts[n_cuts++] = {&a, rows, outs, out_tiles, tasks, in_panels, nullptr};
    tasks += out_tiles * ((a.rows + rows - 1) / rows);
    work += a.rows * a.n * a.k;
    scratch_floats = std::max(scratch_floats, integers ? int_scratch(a.k) : tile_scratch(a.k));
  }
  const bool serial = work < kSerialWork;
  const auto scratch = pool.scratch(scratch_floats);
  const IntFunctions& ints = int_functions(isa);
  auto* integers = pool.workspace<std::byte>(bytes);
  for (size_t c = 0; c < n_cuts; ++c)
    if (in_integers(cuts[c].a->w.format)) cuts[c].x = integers + inputs[input_of[c]].offset;
  for (size_t i = 0; i < n_inputs; ++i) {
    const auto run = [&](int64_t group, int worker) {
      quantise(inputs[i], group, ints, integers + inputs[i].offset, reinterpret_cast<std::byte*>(scratch[worker]));
    };
    run_tasks(inputs[i].groups(), serial, pool, run);
  }

  const auto cut_of = [&](int64_t task) -> const Cut& {
    size_t c = n_cuts - 1;
    while (cuts[c].first_task > task) --c;
    return cuts[c];
  };
  const auto tile = tile_function(isa);
  run_tasks(tasks, serial, pool, [&](int64_t task, int worker) {
    const Cut& cut = cut_of(task);
    const Matmul& a = *cut.a;
    const int64_t j = cut.first_out(task), r = (task - cut.first_task) / cut.out_tiles * cut.rows;
    const int64_t rows = std::min(cut.rows, a.rows - r), outs = std::min(cut.outs, a.n - j);
    const char* w = cut.weights(task);
    float* y = a.y + r * a.n + j;
    if (cut.x == nullptr) {
      const float* x[kMaxTileRows];
      for (int64_t i = 0; i < rows; ++i) x[i] = a.x + (r + i) * a.k;
      tile({x, w, y, rows, outs, a.k, a.n, a.w.format, a.add}, scratch[worker]);
    } else if (cut.in_panels) {
      const std::byte* panels = cut.x + r / kPanelRows * int_panel_bytes(a.k);
      int_product({nullptr, panels, w, y, rows, outs, a.k, a.n, a.w.format, a.add}, isa, scratch[worker]);
    } else {
      const char* next = task + 1 < tasks ? cut_of(task + 1).weights(task + 1) : nullptr;
      static_assert(kMostVectors <= kIntRows);
      const std::byte* x[kMostVectors];
      for (int64_t i = 0; i < rows; ++i) x[i] = cut.x + (r + i) * int_row_bytes(a.k);
      int_product({x, nullptr, w, y, rows, outs, a.k, a.n, a.w.format, a.add, next}, isa, scratch[worker]);
    }
  });
}

}  // namespace corvid::kernels
