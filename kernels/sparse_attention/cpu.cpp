#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/check.h"
#include "kernels/simd/arena.h"
#include "kernels/sparse_attention/sparse_attention.h"

namespace corvid::kernels {
namespace {
struct SoftmaxState {
  float max, sum;
};
}  // namespace
}  // namespace corvid::kernels
#define CORVID_BODY "kernels/sparse_attention/cpu.inc"
#include "kernels/simd/for_each_tier.h"

namespace corvid::kernels {
namespace {

constexpr int64_t kTileQueries = 48;  // queries that share the reading of a block

void check(const SparseAttention& a) {
  require(a.rows >= 0 && a.n_kv_heads >= 1 && a.n_heads >= 1 && a.head_dim >= 1 && a.block >= 1,
          "sparse_attention: want rows >= 0 and n_heads, n_kv_heads, head_dim, block >= 1, found ", a.rows, ", ",
          a.n_heads, ", ", a.n_kv_heads, ", ", a.head_dim, ", ", a.block);
  require(a.n_heads % a.n_kv_heads == 0, "sparse_attention: want n_heads a multiple of n_kv_heads ", a.n_kv_heads,
          ", found ", a.n_heads);
  require((a.ids == nullptr) == (a.counts == nullptr), "sparse_attention: want ids and counts, or neither");
  for (int64_t r = 0; r < a.rows; ++r) {
    require(a.pos[r] >= 0 && a.pos[r] < a.n_keys, "sparse_attention: want positions below n_keys ", a.n_keys,
            ", found ", a.pos[r]);
    if (a.ids == nullptr) continue;
    for (int64_t g = 0; g < a.n_kv_heads; ++g) {
      const int32_t count = a.counts[r * a.n_kv_heads + g];
      require(count >= 1 && count <= a.top_k, "sparse_attention: want counts from 1 to top_k ", a.top_k, ", found ",
              count);
      const int32_t* ids = a.ids + (r * a.n_kv_heads + g) * a.top_k;
      for (int32_t i = 0; i < count; ++i)
        require(ids[i] > (i == 0 ? -1 : ids[i - 1]) && ids[i] <= a.pos[r] / a.block,
                "sparse_attention: want block ids ascending up to ", a.pos[r] / a.block, ", found ", ids[i]);
    }
  }
}

// The functions of one tier.
struct Tier {
  void (*score_keys)(const float* const*, float* const*, int64_t, const float*, int64_t, int64_t, int64_t) noexcept;
  void (*add_values)(const float* const*, float* const*, int64_t, const float*, int64_t, int64_t) noexcept;
  void (*softmax_step)(float*, int64_t, float, SoftmaxState*, float*, int64_t) noexcept;
  void (*finish)(const float*, float, float*, int64_t) noexcept;
};

// The work of one task: a tile of rows at one kv head. A query is one head of one row; a tile has rows * group of them.
class RowTile {
 public:
  static int64_t scratch_bytes(const SparseAttention& a, int64_t tile_rows) {
    RowTile tile(a);
    Arena size;
    tile.lay_out(size, tile_rows);
    return size.bytes();
  }

  RowTile(const SparseAttention& a, const Tier& tier, int64_t first, int64_t rows, int64_t kv_head, int64_t tile_rows,
          std::byte* scratch)
      : RowTile(a) {
    tier_ = &tier;
    first_ = first;
    rows_ = rows;
    kv_head_ = kv_head;
    Arena arena(scratch);
    lay_out(arena, tile_rows);
  }

  void run() {
    const int64_t queries = rows_ * group_;
    std::fill(o_, o_ + queries * o_width_, 0.0F);
    std::fill(state_, state_ + queries, SoftmaxState{-std::numeric_limits<float>::infinity(), 0.0F});
    std::fill(cursor_, cursor_ + rows_, 0);
    for (int64_t b = next_block(); b >= 0; b = next_block()) attend(b);
    for (int64_t r = 0; r < rows_; ++r)
      for (int64_t h = 0; h < group_; ++h)
        tier_->finish(o_ + (r * group_ + h) * o_width_, state_[r * group_ + h].sum,
                      a_.o + ((first_ + r) * a_.n_heads + kv_head_ * group_ + h) * a_.head_dim, a_.head_dim);
  }

 private:
  explicit RowTile(const SparseAttention& a)
      : a_(a), group_(a.n_heads / a.n_kv_heads), s_width_(padded(a.block)), o_width_(padded(a.head_dim)) {}

  void lay_out(Arena& arena, int64_t tile_rows) {
    const int64_t queries = tile_rows * group_;
    cursor_ = arena.take<int64_t>(tile_rows);
    state_ = arena.take<SoftmaxState>(queries);
    active_q_ = arena.take<const float*>(queries);
    active_s_ = arena.take<float*>(queries);
    active_p_ = arena.take<const float*>(queries);
    active_o_ = arena.take<float*>(queries);
    s_ = arena.take<float>(queries * s_width_);
    o_ = arena.take<float>(queries * o_width_);
  }

  // The next block of a row's list; -1 at its end.
  int64_t block_of(int64_t r) const {
    const int64_t row = first_ + r, at = cursor_[r];
    if (a_.ids == nullptr) return at <= a_.pos[row] / a_.block ? at : -1;
    const int64_t list = row * a_.n_kv_heads + kv_head_;
    return at < a_.counts[list] ? a_.ids[list * a_.top_k + at] : -1;
  }
  // The lowest next block of all rows; -1 when every list is at its end.
  int64_t next_block() const {
    int64_t next = -1;
    for (int64_t r = 0; r < rows_; ++r)
      if (const int64_t b = block_of(r); b >= 0 && (next < 0 || b < next)) next = b;
    return next;
  }

  // The rows that chose block b attend to it. A row that sees the whole block shares the reading of its values with the
  // others; one that sees only its beginning is on its own there, so that no later key can touch it.
  void attend(int64_t b) {
    const float* keys = a_.key_pages[b] + kv_head_ * a_.head_dim * s_width_;
    const float* values = a_.value_pages[b] + kv_head_ * a_.block * o_width_;
    int64_t n = 0, most = 0;
    for (int64_t r = 0; r < rows_; ++r) {
      if (block_of(r) != b) continue;
      most = std::max(most, visible(r, b));
      for (int64_t h = 0; h < group_; ++h, ++n) {
        active_q_[n] = a_.q + ((first_ + r) * a_.n_heads + kv_head_ * group_ + h) * a_.head_dim;
        active_s_[n] = s_ + (r * group_ + h) * s_width_;
      }
    }
    tier_->score_keys(active_q_, active_s_, n, keys, a_.head_dim, s_width_, most);
    n = 0;
    for (int64_t r = 0; r < rows_; ++r) {
      if (block_of(r) != b) continue;
      const int64_t seen = visible(r, b), before = n;
      for (int64_t h = 0; h < group_; ++h, ++n) {
        const int64_t query = r * group_ + h;
        active_p_[n] = s_ + query * s_width_;
        active_o_[n] = o_ + query * o_width_;
        tier_->softmax_step(s_ + query * s_width_, seen, a_.scale, state_ + query, active_o_[n], o_width_);
      }
      if (seen < a_.block) {
        tier_->add_values(active_p_ + before, active_o_ + before, group_, values, o_width_, seen);
        n = before;
      }
      ++cursor_[r];
    }
    tier_->add_values(active_p_, active_o_, n, values, o_width_, a_.block);
  }

  int64_t visible(int64_t r, int64_t b) const { return std::min(a_.block, a_.pos[first_ + r] - b * a_.block + 1); }

  const SparseAttention& a_;
  const Tier* tier_ = nullptr;
  int64_t group_, s_width_, o_width_;
  int64_t first_ = 0, rows_ = 0, kv_head_ = 0;
  int64_t* cursor_ = nullptr;         // [rows] into the row's list of blocks
  SoftmaxState* state_ = nullptr;     // [queries]
  const float** active_q_ = nullptr;  // [queries] of the rows that chose the current block
  float** active_s_ = nullptr;
  const float** active_p_ = nullptr;
  float** active_o_ = nullptr;
  float* s_ = nullptr;  // [queries, s_width] scores, then weights, of the current block
  float* o_ = nullptr;  // [queries, o_width] sums of weighted values so far
};

// One job's tasks: tiles of rows at each kv head.
struct Cut {
  const SparseAttention* a;
  int64_t tile_rows, tiles;
  int64_t first_task;
};

// An estimate of a job's longest task: queries times blocks.
int64_t longest(const Cut& cut) {
  const SparseAttention& a = *cut.a;
  if (a.rows == 0) return 0;
  const int64_t blocks = a.ids == nullptr ? a.pos[a.rows - 1] / a.block + 1 : a.top_k;
  return std::min(cut.tile_rows, a.rows) * (a.n_heads / a.n_kv_heads) * blocks * a.block * a.head_dim;
}

}  // namespace

void sparse_attention(const SparseAttention& a, Exec& exec) {
  sparse_attention(std::span<const SparseAttention>(&a, 1), exec);
}

void sparse_attention(std::span<const SparseAttention> all, Exec& exec) {
  require_cpu(exec, "sparse_attention");
  for (const SparseAttention& a : all) check(a);
  cpu::sparse_attention(all, exec.isa(), exec.pool());
}

void cpu::sparse_attention(std::span<const SparseAttention> all, Isa isa, Pool& pool) {
  const Tier tier{CORVID_PICK(isa, score_keys), CORVID_PICK(isa, add_values), CORVID_PICK(isa, softmax_step),
                  CORVID_PICK(isa, finish)};
  std::vector<Cut> cuts;
  int64_t scratch_bytes = 0;
  for (const SparseAttention& a : all) {
    const int64_t tile_rows = std::clamp<int64_t>(kTileQueries / (a.n_heads / a.n_kv_heads), 1, 16);
    const int64_t tiles = (a.rows + tile_rows - 1) / tile_rows;
    cuts.push_back({&a, tile_rows, tiles, 0});
    scratch_bytes = std::max(scratch_bytes, RowTile::scratch_bytes(a, tile_rows));
  }
  // The jobs with the longest tasks go first, and of each the late rows, which see the most keys: so that the threads
  // end together.
  std::stable_sort(cuts.begin(), cuts.end(), [](const Cut& x, const Cut& y) { return longest(x) > longest(y); });
  int64_t tasks = 0;
  for (Cut& cut : cuts) {
    cut.first_task = tasks;
    tasks += cut.tiles * cut.a->n_kv_heads;
  }
  const auto scratch = pool.scratch<std::byte>(scratch_bytes);
  pool.run(tasks, [&](int64_t task, int worker) {
    const Cut& cut = *(
        std::upper_bound(cuts.begin(), cuts.end(), task, [](int64_t t, const Cut& c) { return t < c.first_task; }) - 1);
    const SparseAttention& a = *cut.a;
    const int64_t mine = task - cut.first_task;
    const int64_t first = (cut.tiles - 1 - mine / a.n_kv_heads) * cut.tile_rows;
    RowTile(a, tier, first, std::min(cut.tile_rows, a.rows - first), mine % a.n_kv_heads, cut.tile_rows,
            scratch[worker])
        .run();
  });
}

}  // namespace corvid::kernels
