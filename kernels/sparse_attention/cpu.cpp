#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/check.h"
#include "kernels/simd/arena.h"
#include "kernels/simd/soon.h"
#include "kernels/sparse_attention/sparse_attention.h"

namespace corvid::kernels {
namespace {

// Of the scores so far, unscaled: the largest, and the sum of exp(scale * (score - largest)).
struct SoftmaxState {
  float max = -std::numeric_limits<float>::infinity(), sum = 0;
};

struct HeadShape {
  int64_t dim, block;
  bool are_values;
};

// Memory that will be read next, to be fetched meanwhile.
struct Upcoming {
  const std::byte* at = nullptr;
  int64_t bytes = 0;
};

// Where the keys and values of a block and kv head lie; nowhere if there is no such block.
struct BlockAt {
  const std::byte *keys = nullptr, *values = nullptr;
  bool operator==(const BlockAt&) const = default;
};

// What depends on the format of the pages.
struct PageFunctions {
  using Multiply = void(const float* const* a, float* const* c, int64_t queries, const std::byte* head,
                        const HeadShape& shape, int64_t count, int64_t groups, Upcoming next) noexcept;
  using Decode = void(const std::byte* head, const HeadShape& shape, float* out) noexcept;
  Multiply *score_keys, *add_values;
  // For many queries, which then go on with `decoded`; null: there is nothing to decode.
  Decode *decode_keys = nullptr, *decode_values = nullptr;
  const PageFunctions* decoded = nullptr;
  // Makes of queries that follow each other what score_keys takes, `query_bytes` each; null: it takes them as they are.
  int64_t (*query_bytes)(int64_t dim) noexcept = nullptr;
  void (*prepare_queries)(const float* q, int64_t n, int64_t dim, std::byte* out) noexcept = nullptr;
};

}  // namespace
}  // namespace corvid::kernels
#define CORVID_BODY "kernels/sparse_attention/cpu.inc"
#include "kernels/simd/for_each_tier.h"
#define CORVID_BODY "kernels/sparse_attention/bytes.inc"
#include "kernels/simd/for_vnni.h"

namespace corvid::kernels {
namespace {

constexpr int64_t kTileQueries = 512;   // that share the reading of a block
constexpr int64_t kBatchQueries = 48;   // whose scores of a block are in the cache at once
constexpr int64_t kDirectQueries = 8;   // up to so many, a block is decoded in registers, else once for all of them
constexpr int64_t kSplitRows = 16;      // up to so many rows may be split by spans
constexpr int64_t kSpanKeys = 512;      // keys of a span, at least
constexpr int64_t kMaxSpans = 64;       // of a row
constexpr int64_t kTasksPerThread = 4;  // wanted, so that the threads end together
constexpr int32_t kNone = std::numeric_limits<int32_t>::max();

void check(const SparseAttention& a) {
  require(a.rows >= 0 && a.n_kv_heads >= 1 && a.n_heads >= 1 && a.head_dim >= 1 && a.block >= 1,
          "sparse_attention: want rows >= 0 and n_heads, n_kv_heads, head_dim, block >= 1, found ", a.rows, ", ",
          a.n_heads, ", ", a.n_kv_heads, ", ", a.head_dim, ", ", a.block);
  require(a.n_heads % a.n_kv_heads == 0, "sparse_attention: want n_heads a multiple of n_kv_heads ", a.n_kv_heads,
          ", found ", a.n_heads);
  require(a.scale > 0, "sparse_attention: want scale > 0, found ", a.scale);
  require(is_page_format(a.format), "sparse_attention: want pages of f32, f16, bf16 or q8_0, found ",
          format_name(a.format));
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

// The blocks that a row attends to at one kv head, ascending, in spans: each is summed by itself, and the sums are
// merged in order. Where spans begin depends on the number of blocks alone, so bits do not depend on who sums what.
struct BlockList {
  const int32_t* ids;  // null: 0, 1, 2, ...
  int64_t count, span;

  BlockList(const SparseAttention& a, int64_t row, int64_t kv_head) {
    const int64_t list = row * a.n_kv_heads + kv_head;
    ids = a.ids == nullptr ? nullptr : a.ids + list * a.top_k;
    count = a.ids == nullptr ? a.pos[row] / a.block + 1 : a.counts[list];
    span = std::max({int64_t{1}, kSpanKeys / a.block, (count + kMaxSpans - 1) / kMaxSpans});
  }
  int64_t spans() const { return (count + span - 1) / span; }
  int32_t at(int64_t i) const { return ids == nullptr ? static_cast<int32_t>(i) : ids[i]; }
};

// The functions of one tier.
struct Tier {
  const PageFunctions* pages;
  void (*softmax_step)(float*, int64_t, float, SoftmaxState*, float*, int64_t) noexcept;
  void (*merge)(const float*, SoftmaxState, float, SoftmaxState*, float*, int64_t) noexcept;
  void (*finish)(const float*, float, float*, int64_t) noexcept;

  Tier(Isa isa, const SparseAttention& a)
      : pages(&CORVID_PICK(isa, page_functions)(a.format)),
        softmax_step(CORVID_PICK(isa, softmax_step)),
        merge(CORVID_PICK(isa, merge)),
        finish(CORVID_PICK(isa, finish)) {
#if defined(__x86_64__)
    const bool is_whole = a.head_dim % kQ8Block == 0 && a.block % kQ8Block == 0;
    if (isa >= Isa::vnni && a.format == Format::q8_0 && is_whole) pages = &avx512::vnni::kBytes;
#endif
  }
};

struct RowOf {
  const SparseAttention* a;
  int64_t row;
};

// Some rows, of one job or of several of one shape, at one kv head. A query is one head of one row.
struct Tile {
  const RowOf* rows;
  int64_t n_rows, kv_head;

  const SparseAttention& shape() const { return *rows[0].a; }
  int64_t group() const { return shape().n_heads / shape().n_kv_heads; }
  int64_t queries() const { return n_rows * group(); }
  int64_t o_width() const { return padded(shape().head_dim); }
  int64_t pos(int64_t r) const { return rows[r].a->pos[rows[r].row]; }
  // Of its first query, in its job's q and o.
  int64_t query_at(int64_t r) const { return (rows[r].row * shape().n_heads + kv_head * group()) * shape().head_dim; }
  const float* query(int64_t r, int64_t h) const { return rows[r].a->q + query_at(r) + h * shape().head_dim; }
  BlockList blocks(int64_t r) const { return {*rows[r].a, rows[r].row, kv_head}; }
  BlockAt block_at(int64_t r, int32_t block) const {
    return {rows[r].a->key_pages[block].head(kv_head), rows[r].a->value_pages[block].head(kv_head)};
  }
};

// Sums over keys for the queries of a tile.
struct Sums {
  SoftmaxState* state;  // [queries]
  float* o;             // [queries, o_width]: weighted values

  Sums(Arena& arena, int64_t queries, int64_t o_width)
      : state(arena.take<SoftmaxState>(queries)), o(arena.take<float>(queries * o_width)) {}
  void clear(int64_t queries, int64_t o_width) const {
    std::fill_n(state, queries, SoftmaxState{});
    std::fill_n(o, queries * o_width, 0.0F);
  }
};

// Walks through the blocks of a tile; what one thread needs for that.
class Walk {
 public:
  Walk(Arena& arena, const SparseAttention& a, const Tier& tier, int64_t tile_rows) : tier_(&tier) {
    const int64_t group = a.n_heads / a.n_kv_heads, width = padded(a.block);
    batch_rows_ = std::max<int64_t>(1, std::min(tile_rows, kBatchQueries / group));
    lists_ = arena.take<BlockList>(tile_rows);
    cursor_ = arena.take<int64_t>(tile_rows);
    stop_ = arena.take<int64_t>(tile_rows);
    next_ = arena.take<int32_t>(tile_rows);
    active_ = arena.take<int32_t>(tile_rows);
    in_ = arena.take<const float*>(batch_rows_ * group);
    out_ = arena.take<float*>(batch_rows_ * group);
    s_ = arena.take<float>(batch_rows_ * group * width);
    if (tier.pages->query_bytes != nullptr) query_bytes_ = tier.pages->query_bytes(a.head_dim);
    queries_ = arena.take<std::byte>(tile_rows * group * query_bytes_);
    if (tier.pages->decoded == nullptr) return;
    keys_ = arena.take<float>(width * a.head_dim);
    values_ = arena.take<float>(a.block * padded(a.head_dim));
  }

  // Sums over the spans [first, end) of every row's list, each by itself; with `total` they are merged into it, without
  // there must be one of them. Both must be clear; with `total`, `part` is clear again afterwards.
  // `after` is what is read next.
  void run(const Tile& tile, int64_t first, int64_t end, const Sums& part, const Sums* total, BlockAt after) {
    tile_ = &tile;
    for (int64_t r = 0; r < tile.n_rows; ++r) {
      if (query_bytes_ > 0)
        tier_->pages->prepare_queries(tile.query(r, 0), tile.group(), tile.shape().head_dim, prepared(r, 0));
      const BlockList list = lists_[r] = tile.blocks(r);
      cursor_[r] = std::min(first * list.span, list.count);
      stop_[r] = std::min(end * list.span, list.count);
      next_[r] = cursor_[r] < stop_[r] ? list.at(cursor_[r]) : kNone;
    }
    for (int64_t row = lowest(), next; row >= 0; row = next) {
      const int32_t block = next_[row];
      const int64_t n = choose(row);
      next = lowest();
      attend(tile.block_at(row, block), block, next >= 0 ? tile.block_at(next, next_[next]) : after, n, part);
      for (int64_t i = 0; total != nullptr && i < n; ++i) {
        const int64_t r = active_[i];
        if (cursor_[r] % lists_[r].span == 0 || cursor_[r] == stop_[r]) merge_row(tile, *tier_, r, part, *total);
      }
    }
  }

  static void merge_row(const Tile& tile, const Tier& tier, int64_t r, const Sums& part, const Sums& total) {
    const int64_t width = tile.o_width();
    for (int64_t q = r * tile.group(); q < (r + 1) * tile.group(); ++q) {
      tier.merge(part.o + q * width, part.state[q], tile.shape().scale, total.state + q, total.o + q * width, width);
      part.state[q] = {};
      std::fill_n(part.o + q * width, width, 0.0F);
    }
  }

 private:
  // The row whose next block is the first of all; -1 at the end.
  int64_t lowest() const {
    const int64_t row = std::min_element(next_, next_ + tile_->n_rows) - next_;
    return next_[row] == kNone ? -1 : row;
  }

  // The rows that attend to what is this row's next block become active and move on in their lists; returns how many.
  int64_t choose(int64_t row) {
    const int32_t block = next_[row];
    const BlockAt at = tile_->block_at(row, block);
    int64_t n = 0;
    for (int64_t r = row; r < tile_->n_rows; ++r) {
      if (next_[r] != block || tile_->block_at(r, block) != at) continue;
      active_[n++] = static_cast<int32_t>(r);
      next_[r] = ++cursor_[r] < stop_[r] ? lists_[r].at(cursor_[r]) : kNone;
    }
    return n;
  }

  std::byte* prepared(int64_t r, int64_t h) const { return queries_ + (r * tile_->group() + h) * query_bytes_; }
  // As score_keys takes it.
  const float* query(int64_t r, int64_t h) const {
    return query_bytes_ > 0 ? reinterpret_cast<const float*>(prepared(r, h)) : tile_->query(r, h);
  }

  // How many keys of the block a row sees.
  int64_t visible(int64_t r, int64_t block) const {
    const int64_t size = tile_->shape().block;
    return std::min(size, tile_->pos(r) - block * size + 1);
  }

  // The active rows to a block; `next` is the one that is read next.
  void attend(BlockAt at, int32_t block, BlockAt next, int64_t n, const Sums& part) {
    const SparseAttention& a = tile_->shape();
    const HeadShape key_shape{a.head_dim, a.block, false}, value_shape{a.head_dim, a.block, true};
    const int64_t key_bytes = key_head_bytes(a.format, a.head_dim, a.block);
    const int64_t value_bytes = value_head_bytes(a.format, a.head_dim, a.block);
    Upcoming next_keys, next_values;
    if (next.keys != nullptr) {
      next_keys = {next.keys, key_bytes};
      next_values = {next.values, value_bytes};
      fetch_soon(next.keys, key_bytes);
      fetch_soon(next.values, value_bytes);
    }
    const PageFunctions* f = tier_->pages;
    // What is read next is fetched while this is multiplied: in registers the values follow the keys, else the next
    // block follows this one.
    Upcoming after_scores{at.values, value_bytes}, after_values = next_keys;
    if (f->decoded != nullptr && n * tile_->group() > kDirectQueries) {
      f->decode_keys(at.keys, key_shape, keys_);
      f->decode_values(at.values, value_shape, values_);
      at = {reinterpret_cast<const std::byte*>(keys_), reinterpret_cast<const std::byte*>(values_)};
      f = f->decoded;
      after_scores = next_keys;
      after_values = next_values;
    }
    for (int64_t i = 0; i < n; i += batch_rows_) {
      const int32_t* rows = active_ + i;
      const int64_t n_rows = std::min(batch_rows_, n - i);
      score(rows, n_rows, block, *f, at.keys, key_shape, i == 0 ? after_scores : Upcoming{});
      weigh(rows, n_rows, block, *f, at.values, value_shape, i == 0 ? after_values : Upcoming{}, part);
    }
  }

  void score(const int32_t* rows, int64_t n_rows, int64_t block, const PageFunctions& f, const std::byte* keys,
             const HeadShape& shape, Upcoming after) {
    const SparseAttention& a = tile_->shape();
    int64_t n = 0, most = 0;
    for (int64_t i = 0; i < n_rows; ++i) {
      most = std::max(most, visible(rows[i], block));
      for (int64_t h = 0; h < tile_->group(); ++h, ++n) {
        in_[n] = query(rows[i], h);
        out_[n] = s_ + n * padded(a.block);
      }
    }
    f.score_keys(in_, out_, n, keys, shape, a.head_dim, padded(most) / kLanes, after);
  }

  // Scores become weights, and the values are added with them. Rows that see the whole block share the reading of its
  // values; one that sees only its beginning is on its own, so that no later key can touch it.
  void weigh(const int32_t* rows, int64_t n_rows, int64_t block, const PageFunctions& f, const std::byte* values,
             const HeadShape& shape, Upcoming after, const Sums& part) {
    const SparseAttention& a = tile_->shape();
    const int64_t group = tile_->group(), width = tile_->o_width(), groups = width / kLanes;
    int64_t n = 0;
    for (int64_t i = 0; i < n_rows; ++i) {
      const int64_t seen = visible(rows[i], block), before = n;
      for (int64_t h = 0; h < group; ++h, ++n) {
        const int64_t query = rows[i] * group + h;
        float* s = s_ + (i * group + h) * padded(a.block);
        in_[n] = s;
        out_[n] = part.o + query * width;
        tier_->softmax_step(s, seen, a.scale, part.state + query, out_[n], width);
      }
      if (seen < a.block) {
        f.add_values(in_ + before, out_ + before, group, values, shape, seen, groups, std::exchange(after, {}));
        n = before;
      }
    }
    if (n > 0) f.add_values(in_, out_, n, values, shape, a.block, groups, after);
  }

  const Tile* tile_ = nullptr;
  const Tier* tier_;
  int64_t batch_rows_, query_bytes_ = 0;
  std::byte* queries_;                         // [rows, group, query_bytes], prepared
  BlockList* lists_;                           // [rows]
  int64_t *cursor_, *stop_;                    // [rows]: places in the list, of the next block and of the end
  int32_t* next_;                              // [rows]: the block at the cursor; kNone at the end
  int32_t* active_;                            // [rows]: those that attend to the current block
  const float** in_;                           // [batch] queries, then their weights
  float** out_;                                // [batch] their scores, then their sums of values
  float* s_;                                   // [batch, padded(block)]: scores, then weights
  float *keys_ = nullptr, *values_ = nullptr;  // the current block, decoded
};

void finish(const Tile& tile, const Tier& tier, const Sums& total) {
  const int64_t dim = tile.shape().head_dim, width = tile.o_width();
  for (int64_t r = 0; r < tile.n_rows; ++r)
    for (int64_t h = 0; h < tile.group(); ++h) {
      const int64_t q = r * tile.group() + h;
      tier.finish(total.o + q * width, total.state[q].sum, tile.rows[r].a->o + tile.query_at(r) + h * dim, dim);
    }
}

// How the rows of a job, or of several that begin with the same page, are cut into tasks: tiles of rows at each kv
// head; few rows at many keys also by span.
struct Cut {
  const SparseAttention* a;  // of the first row
  const RowOf* rows;
  int64_t n_rows;
  Tier tier;
  int64_t tile_rows, tiles, spans;  // spans 1: a task sums over everything
  int64_t first_task = 0;
  std::byte* parts = nullptr;  // with spans: [n_kv_heads, spans] Sums, then [n_kv_heads] spans not done

  int64_t tasks() const { return tiles * a->n_kv_heads * spans; }
  int64_t group() const { return a->n_heads / a->n_kv_heads; }
  Tile tile_of(int64_t task) const {
    // Late rows see the most keys: they go first, so that what is left to help with is short.
    const int64_t at = tiles - 1 - task / spans / a->n_kv_heads;
    return {rows + at * tile_rows, std::min(tile_rows, n_rows - at * tile_rows), task / spans % a->n_kv_heads};
  }
  // An estimate of the work of the last `count` rows, of which the very last sees most, at one kv head.
  double work(int64_t count) const {
    const RowOf& last = rows[n_rows - 1];
    const int64_t blocks = a->ids == nullptr ? last.a->pos[last.row] / a->block + 1 : a->top_k;
    return double(count * group()) * double(blocks * a->block * a->head_dim);
  }
  double longest() const { return work(std::min(tile_rows, n_rows)) / double(spans); }

  int64_t queries() const { return std::min(tile_rows, n_rows) * group(); }
  static int64_t bytes(int64_t queries, int64_t o_width) {
    Arena size;
    Sums(size, queries, o_width);
    return size.bytes();
  }
  int64_t sums_bytes() const { return bytes(queries(), padded(a->head_dim)); }
  int64_t parts_bytes() const {
    return spans == 1 ? 0 : a->n_kv_heads * (spans * sums_bytes() + int64_t{sizeof(int32_t)});
  }
  Sums part(int64_t kv_head, int64_t span) const {
    Arena arena(parts + (kv_head * spans + span) * sums_bytes());
    return Sums(arena, queries(), padded(a->head_dim));
  }
  int32_t& unfinished(int64_t kv_head) const {
    return reinterpret_cast<int32_t*>(parts + a->n_kv_heads * spans * sums_bytes())[kv_head];
  }
  int64_t scratch_bytes() const {
    Arena size;
    Sums(size, queries(), padded(a->head_dim));
    Sums(size, queries(), padded(a->head_dim));
    Walk(size, *a, tier, tile_rows);
    return size.bytes();
  }
};

Cut cut_rows(std::span<const RowOf> rows_in, Isa isa, int threads) {
  const SparseAttention& a = *rows_in[0].a;
  const int64_t n_rows = std::ssize(rows_in);
  const int64_t group = a.n_heads / a.n_kv_heads, tasks = kTasksPerThread * threads;
  const int64_t per_head = (tasks + a.n_kv_heads - 1) / a.n_kv_heads;  // tiles wanted
  const int64_t most = std::clamp<int64_t>(kTileQueries / group, 1, n_rows);
  const int64_t rows = std::clamp<int64_t>((n_rows + per_head - 1) / per_head, std::min(kSplitRows, most), most);
  return {&a, rows_in.data(), n_rows, Tier(isa, a), rows, (n_rows + rows - 1) / rows, 1};
}

// Few rows whose sequences begin with the same page, agents with the same instructions, read what they share together.
bool goes_with(const SparseAttention& a, const SparseAttention& b) {
  return a.rows <= kSplitRows && b.rows <= kSplitRows && a.key_pages[0].first == b.key_pages[0].first &&
         a.n_heads == b.n_heads && a.n_kv_heads == b.n_kv_heads && a.head_dim == b.head_dim && a.block == b.block &&
         a.scale == b.scale && a.format == b.format && (a.ids == nullptr) == (b.ids == nullptr);
}

// All rows, those of jobs that go together one after the other.
struct Groups {
  std::vector<RowOf> rows;
  std::vector<std::pair<int64_t, int64_t>> of = {};  // [first, end) in rows

  explicit Groups(std::span<const SparseAttention> all) {
    int64_t n = 0;
    for (const SparseAttention& a : all) n += a.rows;
    rows.reserve(static_cast<size_t>(n));
    std::vector<bool> is_taken(all.size());
    for (size_t i = 0; i < all.size(); ++i) {
      if (is_taken[i] || all[i].rows == 0) continue;
      const int64_t first = std::ssize(rows);
      for (size_t j = i; j < all.size(); ++j) {
        if (is_taken[j] || all[j].rows == 0 || (j != i && !goes_with(all[i], all[j]))) continue;
        is_taken[j] = true;
        for (int64_t r = 0; r < all[j].rows; ++r) rows.push_back({&all[j], r});
      }
      of.emplace_back(first, std::ssize(rows));
    }
  }
};

// What a task reads first, by its first row.
BlockAt first_block(const Cut& cut, int64_t task) {
  const Tile tile = cut.tile_of(task);
  const BlockList list = tile.blocks(0);
  const int64_t first = task % cut.spans * list.span;
  return first < list.count ? tile.block_at(0, list.at(first)) : BlockAt{};
}

void run_task(const Cut& cut, int64_t task, std::byte* scratch, BlockAt after) {
  const int64_t span = task % cut.spans;
  const Tile tile = cut.tile_of(task);
  const int64_t queries = tile.queries(), width = tile.o_width();
  Arena arena(scratch);
  const Sums part(arena, cut.queries(), width), total(arena, cut.queries(), width);
  Walk walk(arena, *cut.a, cut.tier, cut.tile_rows);
  if (cut.spans == 1) {
    part.clear(queries, width);
    total.clear(queries, width);
    walk.run(tile, 0, kMaxSpans, part, &total, after);
    return finish(tile, cut.tier, total);
  }
  // Summed up here, where it is in the cache, and then put where the last one finds it.
  part.clear(queries, width);
  walk.run(tile, span, span + 1, part, nullptr, after);
  const Sums kept = cut.part(tile.kv_head, span);
  std::copy_n(part.state, queries, kept.state);
  std::copy_n(part.o, queries * width, kept.o);
  if (std::atomic_ref(cut.unfinished(tile.kv_head)).fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  // The last one merges all, in order.
  total.clear(queries, width);
  for (int64_t r = 0; r < tile.n_rows; ++r)
    for (int64_t s = 0; s < tile.blocks(r).spans(); ++s)
      Walk::merge_row(tile, cut.tier, r, cut.part(tile.kv_head, s), total);
  finish(tile, cut.tier, total);
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
  const Groups groups(all);
  std::vector<Cut> cuts;
  double work = 0;
  for (const auto& [first, end] : groups.of) {
    const auto rows = std::span(groups.rows).subspan(static_cast<size_t>(first), static_cast<size_t>(end - first));
    cuts.push_back(cut_rows(rows, isa, pool.threads()));
    work += cuts.back().work(std::ssize(rows)) * double(rows[0].a->n_kv_heads);
  }
  int64_t scratch_bytes = 0, parts_bytes = 0;
  for (Cut& cut : cuts) {
    const double share = work / double(kTasksPerThread * pool.threads());
    if (pool.threads() > 1 && cut.tiles == 1 && cut.n_rows <= kSplitRows && cut.longest() > share)
      for (int64_t r = 0; r < cut.n_rows; ++r)
        for (int64_t g = 0; g < cut.a->n_kv_heads; ++g)
          cut.spans = std::max(cut.spans, BlockList(*cut.rows[r].a, cut.rows[r].row, g).spans());
    scratch_bytes = std::max(scratch_bytes, cut.scratch_bytes());
    parts_bytes += (cut.parts_bytes() + 63) / 64 * 64;
  }
  // The jobs with the longest tasks go first, so that the threads end together: they help each other task by task.
  std::stable_sort(cuts.begin(), cuts.end(), [](const Cut& x, const Cut& y) { return x.longest() > y.longest(); });
  const auto scratch = pool.scratch<std::byte>(scratch_bytes);
  auto* parts = pool.workspace<std::byte>(parts_bytes);
  int64_t tasks = 0;
  for (Cut& cut : cuts) {
    cut.first_task = tasks;
    tasks += cut.tasks();
    cut.parts = parts;
    parts += (cut.parts_bytes() + 63) / 64 * 64;
    for (int64_t g = 0; cut.spans > 1 && g < cut.a->n_kv_heads; ++g)
      cut.unfinished(g) = static_cast<int32_t>(cut.spans);
  }
  const auto cut_of = [&](int64_t task) -> const Cut& {
    const auto is_before = [](int64_t t, const Cut& c) { return t < c.first_task; };
    return *(std::upper_bound(cuts.begin(), cuts.end(), task, is_before) - 1);
  };
  pool.run(tasks, [&](int64_t task, int worker) {
    const Cut& cut = cut_of(task);
    BlockAt after;  // a thread mostly runs the next task after this one
    if (task + 1 < tasks) {
      const Cut& next = cut_of(task + 1);
      after = first_block(next, task + 1 - next.first_task);
    }
    run_task(cut, task - cut.first_task, scratch[worker], after);
  });
}

}  // namespace corvid::kernels
