#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "kernels/check.h"
#include "kernels/expert_ffn/expert_ffn.h"
#include "kernels/expert_ffn/plan.h"
#include "kernels/matmul/interleaved.h"

#define CORVID_BODY "kernels/expert_ffn/cpu.inc"
#include "kernels/simd/for_each_tier.h"

namespace corvid::kernels {
namespace {

using cpu::Chunk;
using cpu::int_panel_bytes;
using cpu::int_row_bytes;
using cpu::kMaxTileRows;
using cpu::kMaxVectors;
using cpu::kPanelRows;

constexpr int64_t kTasksPerThread = 6;             // wanted, so that the threads end together
constexpr int64_t kMostOuts = 4 * cpu::kIntBlock;  // of a task of few rows

void check(const ExpertFfn& a) {
  require(a.rows >= 0 && a.dim >= 1 && a.ffn >= 1, "expert_ffn: want rows >= 0, dim >= 1, ffn >= 1, found ", a.rows,
          ", ", a.dim, ", ", a.ffn);
  require(a.n_experts >= 1 && a.top_k >= 1 && a.top_k <= a.n_experts, "expert_ffn: want top_k from 1 to n_experts ",
          a.n_experts, ", found ", a.top_k);
  for (const Matrix* w : {&a.gate, &a.up})
    require(a.dim % format_block(w->format) == 0, "expert_ffn: want dim a multiple of ", format_block(w->format),
            " for ", format_name(w->format), ", found ", a.dim);
  require(a.ffn % format_block(a.down.format) == 0, "expert_ffn: want ffn a multiple of ", format_block(a.down.format),
          " for ", format_name(a.down.format), ", found ", a.ffn);
  const auto check_rows = [](const Matrix& w, int64_t n, const char* name) {
    require(!is_interleaved(w.format) || n % kInterleavedRows == 0, "expert_ffn: want ", name, " a multiple of ",
            kInterleavedRows, " for ", format_name(w.format), ", found ", n);
  };
  require(a.up.data != nullptr || a.rows == 0 || is_interleaved(a.gate.format),
          "expert_ffn: want up, or gate and up as one in an interleaved format, found ", format_name(a.gate.format),
          " alone");
  check_rows(a.gate, a.ffn, "ffn");
  check_rows(a.up, a.ffn, "ffn");
  check_rows(a.down, a.dim, "dim");
  require(std::max(a.dim, a.ffn) <= cpu::kMaxIntLength, "expert_ffn: want dim, ffn up to ", cpu::kMaxIntLength,
          ", found ", a.dim, ", ", a.ffn);
  if (a.rows == 0) return;  // the arrays may be null
  require((a.ids == nullptr) == (a.weights == nullptr) && (a.ids != nullptr || a.n_experts == 1),
          "expert_ffn: want ids and weights, or neither and one expert; found ", a.n_experts, " experts");
  if (a.ids == nullptr) return;
  for (int64_t i = 0; i < a.rows * a.top_k; ++i) {
    require(a.ids[i] >= 0 && a.ids[i] < a.n_experts, "expert_ffn: want ids below ", a.n_experts, ", found ", a.ids[i]);
    for (int64_t j = i / a.top_k * a.top_k; j < i; ++j)
      require(a.ids[j] != a.ids[i], "expert_ffn: want distinct ids in a row, found ", a.ids[i], " twice");
  }
}

// Layers that write to the same y: two dense ones would add to it at the same time.
void check_sharing(std::span<const ExpertFfn> all) {
  for (size_t i = 0; i < all.size(); ++i)
    for (size_t j = 0; j < i; ++j) {
      const ExpertFfn &a = all[j], &b = all[i];
      if (a.y != b.y || a.rows == 0 || b.rows == 0) continue;
      require(a.add && b.add, "expert_ffn: want layers that share y to add, found ", j, " and ", i,
              ", not both of which do");
      require(a.ids != nullptr || b.ids != nullptr, "expert_ffn: want one dense layer to a y, found ", j, " and ", i);
    }
}

// One of the layers that run together.
struct Job {
  const ExpertFfn* a;
  cpu::Plan plan = {};
  int64_t gate_outs = 0, down_outs = 0;    // of a task
  int64_t first_gate = 0, first_down = 0;  // its tasks among all

  bool is_paired() const { return a->up.data == nullptr; }  // gate and up are one matrix
  bool is_dense() const { return a->ids == nullptr; }  // what down gives is the result: weight 1, nothing to add up
  int64_t chunks() const { return plan.first_chunk[a->n_experts]; }
  int64_t gate_tiles() const { return (a->ffn + gate_outs - 1) / gate_outs; }
  int64_t down_tiles() const { return (a->dim + down_outs - 1) / down_outs; }
};

// A task: one chunk of an expert's pairs and n of the outputs.
struct Piece {
  const Job* job;
  Chunk chunk;
  int64_t first, n;

  // The outputs' rows of a matrix [n_experts, outs, k].
  const char* weights(const Matrix& m, int64_t outs, int64_t k) const {
    return static_cast<const char*>(m.data) + (chunk.expert * outs + first) * row_bytes(m.format, k);
  }
  // Of gate and up as one.
  Piece doubled() const { return {job, chunk, 2 * first, 2 * n}; }
  // What is read first for outputs of gate, and of up.
  const char* gate_weights() const {
    const ExpertFfn& a = *job->a;
    return job->is_paired() ? doubled().weights(a.gate, 2 * a.ffn, a.dim) : weights(a.gate, a.ffn, a.dim);
  }
};

// What multiplies: the rows of a chunk.
struct Rows {
  const float* const* floats;
  const std::byte* const* vectors;
  const std::byte* panels;
};

// Layers side by side, a phase of all at a time: for few rows, of which one thread quantises x, the threads meet as
// often as for one.
class Phases {
 public:
  Phases(std::span<const ExpertFfn> all, Isa isa, Pool& pool);
  void run() {
    quantise();
    pool_.run(n_gate_, [&](int64_t task, int worker) { gate_and_up(task, worker); });
    pool_.run(n_down_, [&](int64_t task, int worker) { down(task, worker); });
    for (const Job& job : jobs_)
      if (!job.is_dense()) add_up(job);
  }

 private:
  const Job& job_of(int64_t task, int64_t Job::*first) const {
    size_t i = jobs_.size() - 1;
    while (jobs_[i].*first > task) --i;
    return jobs_[i];
  }
  Piece gate_piece(int64_t task) const {
    const Job& job = job_of(task, &Job::first_gate);
    const int64_t local = task - job.first_gate, tiles = job.gate_tiles(), first = local % tiles * job.gate_outs;
    return {&job, job.plan.chunk(*job.a, local / tiles), first, std::min(job.gate_outs, job.a->ffn - first)};
  }
  Piece down_piece(int64_t task) const {
    const Job& job = job_of(task, &Job::first_down);
    const int64_t local = task - job.first_down, tiles = job.down_tiles(), first = local % tiles * job.down_outs;
    return {&job, job.plan.chunk(*job.a, local / tiles), first, std::min(job.down_outs, job.a->dim - first)};
  }

  void quantise();
  void gate_and_up(int64_t task, int worker);
  void down(int64_t task, int worker);
  void add_up(const Job& job);
  // y [chunk's rows, n] (+)= the rows times the piece's outputs of m, [n_experts, outs, k]; `next` is read after it.
  void product(const Piece& p, const Rows& rows, const Matrix& m, int64_t outs, int64_t k, float* y, int64_t y_stride,
               bool add, const char* next, float* rest);

  Isa isa_;
  Pool& pool_;
  const cpu::IntFunctions& ints_;
  std::vector<Job> jobs_;
  int64_t n_gate_ = 0, n_down_ = 0;  // tasks
  int64_t piece_floats_ = 0;
  Pool::Scratch<float> scratch_{nullptr, 0};
};

Phases::Phases(std::span<const ExpertFfn> all, Isa isa, Pool& pool)
    : isa_(isa), pool_(pool), ints_(cpu::int_functions(isa)) {
  for (const ExpertFfn& a : all)
    if (a.rows > 0) jobs_.push_back({&a});
  Arena size;
  for (Job& job : jobs_) job.plan.lay_out(*job.a, isa, size);
  Arena arena(pool.workspace<std::byte>(size.bytes()));
  int64_t gate_work = 0, down_work = 0;
  for (Job& job : jobs_) {
    job.plan.lay_out(*job.a, isa, arena);
    job.plan.sort_pairs(*job.a);
    gate_work += job.chunks() * job.a->ffn;
    down_work += job.chunks() * job.a->dim;
  }
  // A task's outputs are whole blocks, as hidden's are quantised where they are made, and whole groups of interleaved
  // weights. Few rows are bound by memory, which is read faster in long pieces, but every thread should have some
  // tasks.
  const auto outs_of = [&](const Job& job, int64_t work, std::initializer_list<Matrix> matrices) {
    for (const Matrix& m : matrices)
      if (is_interleaved(m.format)) return kGroupRows;
    if (job.a->rows > kMaxVectors) return cpu::kIntOuts;
    const int64_t wanted = work / (kTasksPerThread * pool.threads()) / cpu::kIntBlock * cpu::kIntBlock;
    return std::clamp(wanted, cpu::kIntBlock, kMostOuts);
  };
  int64_t rest = 0;
  for (Job& job : jobs_) {
    job.gate_outs = outs_of(job, gate_work, {job.a->gate, job.a->up});
    job.down_outs = outs_of(job, down_work, {job.a->down});
    job.first_gate = n_gate_;
    job.first_down = n_down_;
    n_gate_ += job.chunks() * job.gate_tiles();
    n_down_ += job.chunks() * job.down_tiles();
    piece_floats_ = std::max(piece_floats_, kMaxTileRows * std::max(job.gate_outs, job.down_outs));
    for (const int64_t k : {job.a->dim, job.a->ffn})
      rest = std::max({rest, k, cpu::tile_scratch(k), cpu::int_scratch(k)});
  }
  scratch_ = pool.scratch(3 * piece_floats_ + rest);
}

void Phases::quantise() {
  for (const Job& job : jobs_) {
    const ExpertFfn& a = *job.a;
    const cpu::Plan& plan = job.plan;
    if (!plan.integer_x) continue;
    pool_.run((a.rows + kPanelRows - 1) / kPanelRows, [&](int64_t task, int) {
      for (int64_t r = task * kPanelRows; r < std::min(a.rows, (task + 1) * kPanelRows); ++r) {
        std::byte* row = plan.x_rows + r * int_row_bytes(a.dim);
        ints_.quantize(a.x + r * a.dim, 0, a.dim / cpu::kIntBlock, row, a.dim);
      }
    });
    if (!plan.has_panels(a)) continue;
    pool_.run(job.chunks(), [&](int64_t task, int) {
      const Chunk c = plan.chunk(a, task);
      for (int64_t r = 0; c.in_panels && r < c.rows; r += kPanelRows)
        ints_.pack(plan.x_words + c.first + r, std::min(kPanelRows, c.rows - r), a.dim,
                   plan.x_panels + (c.first_panel + r / kPanelRows) * int_panel_bytes(a.dim));
    });
  }
}

void Phases::product(const Piece& p, const Rows& rows, const Matrix& m, int64_t outs, int64_t k, float* y,
                     int64_t y_stride, bool add, const char* next, float* rest) {
  const Chunk& c = p.chunk;
  const char* w = p.weights(m, outs, k);
  if (in_integers(m.format))
    return cpu::int_product(
        {c.in_panels ? nullptr : rows.vectors, rows.panels, w, y, c.rows, p.n, k, y_stride, m.format, add, next}, isa_,
        rest);
  const cpu::TileFn tile = cpu::tile_function(isa_);
  for (int64_t i = 0, step = cpu::is_direct(c.rows, k) ? p.n : cpu::tile_outs(k); i < p.n; i += step)
    tile({rows.floats, w + i * row_bytes(m.format, k), y + i, c.rows, std::min(step, p.n - i), k, y_stride, m.format,
          add},
         rest);
}

void Phases::gate_and_up(int64_t task, int worker) {
  const Piece p = gate_piece(task);
  const ExpertFfn& a = *p.job->a;
  const cpu::Plan& plan = p.job->plan;
  const Chunk& c = p.chunk;
  const int64_t outs = p.job->gate_outs;
  float *gate = scratch_[worker], *up = gate + piece_floats_, *rest = gate + 3 * piece_floats_;
  auto* words = reinterpret_cast<std::byte*>(gate + 2 * piece_floats_);
  const Rows rows{plan.x + c.first, plan.x_words + c.first,
                  c.in_panels ? plan.x_panels + c.first_panel * int_panel_bytes(a.dim) : nullptr};
  const char* next = nullptr;
  if (task + 1 < n_gate_) next = gate_piece(task + 1).gate_weights();
  int64_t stride = outs, step = 16;
  if (p.job->is_paired()) {
    stride = 2 * outs, step = 2 * kInterleavedRows;
    product(p.doubled(), rows, a.gate, 2 * a.ffn, a.dim, gate, stride, false, next, rest);
    up = gate + kInterleavedRows;
  } else {
    product(p, rows, a.gate, a.ffn, a.dim, gate, stride, false, p.weights(a.up, a.ffn, a.dim), rest);
    product(p, rows, a.up, a.ffn, a.dim, up, stride, false, next, rest);
  }
  float* const hidden_x = plan.integer_hidden ? gate : plan.hidden + c.first * a.ffn + p.first;
  const int64_t hidden_stride = plan.integer_hidden ? outs : a.ffn;
  const auto act = CORVID_PICK(isa_, activate);
  for (int64_t r = 0; r < c.rows; ++r)
    act(hidden_x + r * hidden_stride, gate + r * stride, up + r * stride, p.n, step, a.act);
  if (!plan.integer_hidden) return;
  const int64_t first = p.first / cpu::kIntBlock, blocks = p.n / cpu::kIntBlock, row_bytes = int_row_bytes(p.n);
  std::byte* hidden = plan.hidden_panels + c.first_panel * plan.hidden_panel_bytes(a);
  const std::byte* row[kPanelRows];
  for (int64_t r = 0; r < c.rows; ++r) {
    if (!c.in_panels) {
      ints_.quantize(gate + r * outs, first, blocks, hidden + r * int_row_bytes(a.ffn), a.ffn);
      continue;
    }
    std::byte* at = words + r % kPanelRows * row_bytes;
    ints_.quantize(gate + r * outs, 0, blocks, at, p.n);
    row[r % kPanelRows] = at;
    if (r + 1 == c.rows || r % kPanelRows == kPanelRows - 1)
      ints_.pack(row, r % kPanelRows + 1, p.n,
                 hidden + r / kPanelRows * int_panel_bytes(a.ffn) + first * cpu::kPanelBlockBytes);
  }
}

void Phases::down(int64_t task, int worker) {
  const Piece p = down_piece(task);
  const ExpertFfn& a = *p.job->a;
  const cpu::Plan& plan = p.job->plan;
  const Chunk& c = p.chunk;
  const std::byte* hidden = plan.hidden_panels + c.first_panel * plan.hidden_panel_bytes(a);
  const std::byte* vectors[cpu::kMostVectors];
  for (int64_t r = 0; r < c.rows && !c.in_panels; ++r) vectors[r] = hidden + r * int_row_bytes(a.ffn);
  const char* next = nullptr;
  if (task + 1 < n_down_) {
    const Piece after = down_piece(task + 1);
    next = after.weights(after.job->a->down, after.job->a->dim, after.job->a->ffn);
  }
  float* y = (p.job->is_dense() ? a.y : plan.out) + c.first * a.dim + p.first;
  product(p, {plan.hidden_x + c.first, vectors, hidden}, a.down, a.dim, a.ffn, y, a.dim, p.job->is_dense() && a.add,
          next, scratch_[worker]);
}

void Phases::add_up(const Job& job) {
  const ExpertFfn& a = *job.a;
  const auto add = CORVID_PICK(isa_, accumulate);
  const int64_t rows_per_task = std::max<int64_t>(1, 8192 / (a.dim * a.top_k));
  pool_.run((a.rows + rows_per_task - 1) / rows_per_task, [&](int64_t task, int worker) {
    float* sum = scratch_[worker];
    for (int64_t r = task * rows_per_task; r < std::min(a.rows, (task + 1) * rows_per_task); ++r) {
      for (int64_t i = 0; i < a.top_k; ++i) {
        const int64_t pair = job.plan.pair_of[r * a.top_k + i];
        add(sum, job.plan.out + pair * a.dim, job.plan.weight_of[pair], a.dim, i == 0);
      }
      float* y = a.y + r * a.dim;
      if (a.add)
        add(y, sum, 1.0F, a.dim, false);
      else
        std::memcpy(y, sum, static_cast<size_t>(a.dim) * sizeof(float));
    }
  });
}

}  // namespace

void expert_ffn(const ExpertFfn& a, Exec& exec) { expert_ffn(std::span<const ExpertFfn>(&a, 1), exec); }

void expert_ffn(std::span<const ExpertFfn> all, Exec& exec) {
  require_cpu(exec, "expert_ffn");
  for (const ExpertFfn& a : all) check(a);
  check_sharing(all);
  cpu::expert_ffn(all, exec.isa(), exec.pool());
}

void cpu::expert_ffn(std::span<const ExpertFfn> all, Isa isa, Pool& pool) { Phases(all, isa, pool).run(); }

}  // namespace corvid::kernels
