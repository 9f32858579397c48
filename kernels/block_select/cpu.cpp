#include <algorithm>
#include <atomic>
#include <limits>
#include <numeric>
#include <utility>

#include "kernels/block_select/block_select.h"
#include "kernels/block_select/query8.h"
#include "kernels/block_select/top_scores.h"
#include "kernels/check.h"
#include "kernels/simd/arena.h"
#include "kernels/simd/soon.h"

namespace corvid::kernels {
namespace {
constexpr int64_t kDecodedGroups = 4;
}  // namespace
}  // namespace corvid::kernels
#define CORVID_BODY "kernels/block_select/cpu.inc"
#include "kernels/simd/for_each_tier.h"
#define CORVID_BODY "kernels/block_select/scan_bytes.inc"
#include "kernels/simd/for_vnni.h"

namespace corvid::kernels {
namespace {

constexpr int64_t kTileRows = 32;  // rows scored together: a block of keys is read once for all of them
constexpr int64_t kBlocksPerTask = 8;
constexpr int64_t kFloatsAtOnce = int64_t{1} << 20;

void check(const BlockSelect& a) {
  require(a.rows >= 0 && a.n_heads >= 1 && a.dim >= 1 && a.block >= 1,
          "block_select: want rows >= 0 and n_heads, dim, block >= 1, found ", a.rows, ", ", a.n_heads, ", ", a.dim,
          ", ", a.block);
  require(a.local_blocks >= 1 && a.local_blocks <= a.top_k, "block_select: want local_blocks from 1 to top_k ", a.top_k,
          ", found ", a.local_blocks);
  require(is_page_format(a.format), "block_select: want keys in f32, f16, bf16 or q8_0, found ", format_name(a.format));
  for (int64_t r = 0; r < a.rows; ++r)
    require(a.pos[r] >= 0 && a.pos[r] < a.n_keys, "block_select: want positions below n_keys ", a.n_keys, ", found ",
            a.pos[r]);
}

int64_t visible_blocks(const BlockSelect& a, int64_t row) { return a.pos[row] / a.block + 1; }

// Blocks [0, scored_blocks) compete for the slots that the local blocks leave. 0: everything visible is chosen.
int64_t scored_blocks(const BlockSelect& a, int64_t row) {
  const int64_t nb = visible_blocks(a, row);
  return nb <= a.top_k ? 0 : nb - a.local_blocks;
}

// Some rows of one sequence. Its tasks score kBlocksPerTask blocks each; who finishes last chooses.
struct Tile {
  const BlockSelect* a;
  int64_t first, rows;
  int64_t most;    // scored blocks of the row that sees most
  const float* q;  // [rows, n_heads, query_size], as the scorer wants them
  int64_t query_size;
  float* scores;       // [rows, n_heads, most]
  int64_t first_task;  // among those of all tiles
  int32_t unfinished;  // tasks; accessed through std::atomic_ref

  int64_t tasks() const { return std::max<int64_t>(1, (most + kBlocksPerTask - 1) / kBlocksPerTask); }
  int64_t n_queries() const { return rows * a->n_heads; }
  int64_t n_scores() const { return n_queries() * most; }
};

Tile make_tile(const BlockSelect& a, int64_t first) {
  Tile tile{&a, first, std::min(kTileRows, a.rows - first), 0, a.q + first * a.n_heads * a.dim, a.dim, nullptr, 0, 0};
  for (int64_t r = first; r < first + tile.rows; ++r) tile.most = std::max(tile.most, scored_blocks(a, r));
  tile.unfinished = static_cast<int32_t>(tile.tasks());
  return tile;
}

// Tiles of all rows in turn, through several calls.
class Tiles {
 public:
  explicit Tiles(std::span<const BlockSelect> all) : all_(all) {}
  bool at_end() {
    while (!all_.empty() && first_ >= all_.front().rows) {
      all_ = all_.subspan(1);
      first_ = 0;
    }
    return all_.empty();
  }
  Tile here() const { return make_tile(all_.front(), first_); }
  void advance() { first_ += kTileRows; }

 private:
  std::span<const BlockSelect> all_;
  int64_t first_ = 0;
};

// How keys in q8_0 are scored: queries in 8 bits, as bytes where the tier multiplies bytes, as floats elsewhere.
struct Scorer {
  decltype(&scalar::score_block) score;
  bool as_bytes = false;

  Scorer(Isa isa, Format format) : score(CORVID_PICK(isa, score_block)) {
#if defined(__x86_64__)
    if (isa < Isa::vnni || format != Format::q8_0) return;
    score = &avx512::vnni::score_bytes;
    as_bytes = true;
#else
    static_cast<void>(format);
#endif
  }
  // Floats of a query in 8 bits.
  int64_t query_size(int64_t dim) const {
    return as_bytes ? scale_groups(Format::q8_0, dim) * int64_t{sizeof(ByteQuery) / sizeof(float)}
                    : float_query_size(dim);
  }
  void prepare(const float* q, int64_t dim, float* out) const {
    if (as_bytes)
      byte_query(q, dim, reinterpret_cast<ByteQuery*>(out));
    else
      float_query(q, dim, out);
  }
};

// Floats that the tile's queries take when they are prepared; 0: they are used as they are.
int64_t prepared_size(const Tile& tile, Isa isa) {
  const BlockSelect& a = *tile.a;
  return a.format != Format::q8_0 || tile.most == 0 ? 0 : tile.n_queries() * Scorer(isa, a.format).query_size(a.dim);
}
void prepare(Tile& tile, Isa isa, float* out) {
  const Scorer scorer(isa, tile.a->format);
  const float* q = std::exchange(tile.q, out);
  tile.query_size = scorer.query_size(tile.a->dim);
  for (int64_t i = 0; i < tile.n_queries(); ++i)
    scorer.prepare(q + i * tile.a->dim, tile.a->dim, out + i * tile.query_size);
}

// What a task needs besides the scores.
struct Scratch {
  const float** queries;  // [kTileRows, n_heads] of the rows that score the block
  float** score_of;
  float* decoded;  // [kDecodedGroups, dim, kLanes]

  Scratch(Arena& arena, const BlockSelect& a) {
    queries = arena.take<const float*>(kTileRows * a.n_heads);
    score_of = arena.take<float*>(kTileRows * a.n_heads);
    decoded = arena.take<float>(kDecodedGroups * a.dim * kLanes);
  }
};

void score_blocks(const Tile& tile, int64_t b0, int64_t b1, const Scorer& scorer, const Scratch& s) {
  const BlockSelect& a = *tile.a;
  for (int64_t b = b0; b < b1; ++b) {
    int64_t n = 0;
    for (int64_t r = 0; r < tile.rows; ++r) {
      if (b >= scored_blocks(a, tile.first + r)) continue;
      for (int64_t h = 0; h < a.n_heads; ++h, ++n) {
        s.queries[n] = tile.q + (r * a.n_heads + h) * tile.query_size;
        s.score_of[n] = tile.scores + (r * a.n_heads + h) * tile.most + b;
      }
    }
    const std::byte* ahead = b + 1 < tile.most ? a.key_pages[b + 1].first : nullptr;
    if (b + 2 < tile.most) fetch_soon(a.key_pages[b + 2].first, key_head_bytes(a.format, a.dim, a.block));
    if (n > 0) scorer.score(s.queries, n, a.key_pages[b].first, a.format, a.dim, a.block, s.decoded, s.score_of, ahead);
  }
}

void choose(const Tile& tile, int64_t r, int64_t head) {
  const BlockSelect& a = *tile.a;
  const int64_t row = tile.first + r, nb = visible_blocks(a, row), scored = scored_blocks(a, row);
  int32_t* ids = a.ids + (row * a.n_heads + head) * a.top_k;
  const int64_t count = std::min(nb, a.top_k), free_slots = a.top_k - a.local_blocks;
  a.counts[row * a.n_heads + head] = static_cast<int32_t>(count);
  std::fill(ids + count, ids + a.top_k, -1);
  if (scored == 0) return std::iota(ids, ids + count, 0);
  top_scores(tile.scores + (r * a.n_heads + head) * tile.most, scored, free_slots, ids);
  std::iota(ids + free_slots, ids + a.top_k, static_cast<int32_t>(scored));
}

}  // namespace

void block_select(const BlockSelect& a, Exec& exec) { block_select(std::span<const BlockSelect>(&a, 1), exec); }

void block_select(std::span<const BlockSelect> all, Exec& exec) {
  require_cpu(exec, "block_select");
  for (const BlockSelect& a : all) check(a);
  cpu::block_select(all, exec.isa(), exec.pool());
}

void cpu::block_select(std::span<const BlockSelect> all, Isa isa, Pool& pool) {
  int64_t scratch_bytes = 0;
  for (const BlockSelect& a : all) {
    Arena size;
    Scratch(size, a);
    scratch_bytes = std::max(scratch_bytes, size.bytes());
  }
  const auto scratch = pool.scratch<std::byte>(scratch_bytes);

  for (Tiles next(all); !next.at_end();) {
    // As many tiles as may have scores in memory at once.
    int64_t n_tiles = 0, n_floats = 0;
    for (Tiles ahead = next; !ahead.at_end(); ahead.advance(), ++n_tiles) {
      const Tile tile = ahead.here();
      const int64_t more = tile.n_scores() + prepared_size(tile, isa);
      if (n_tiles > 0 && n_floats + more > kFloatsAtOnce) break;
      n_floats += more;
    }
    Arena size;
    size.take<Tile>(n_tiles);
    size.take<float>(n_floats);
    Arena arena(pool.workspace<std::byte>(size.bytes()));
    Tile* tiles = arena.take<Tile>(n_tiles);
    float* floats = arena.take<float>(n_floats);
    int64_t tasks = 0;
    for (int64_t i = 0; i < n_tiles && !next.at_end(); ++i, next.advance()) {
      Tile& tile = tiles[i] = next.here();
      tile.first_task = tasks;
      tasks += tile.tasks();
      tile.scores = std::exchange(floats, floats + tile.n_scores());
      if (const int64_t prepared = prepared_size(tile, isa); prepared > 0) {
        prepare(tile, isa, floats);
        floats += prepared;
      }
    }
    pool.run(tasks, [&](int64_t task, int worker) {
      Tile& tile = *(std::upper_bound(tiles, tiles + n_tiles, task,
                                      [](int64_t t, const Tile& after) { return t < after.first_task; }) -
                     1);
      Arena own(scratch[worker]);
      const int64_t b0 = (task - tile.first_task) * kBlocksPerTask;
      score_blocks(tile, b0, std::min(tile.most, b0 + kBlocksPerTask), Scorer(isa, tile.a->format),
                   Scratch(own, *tile.a));
      if (std::atomic_ref(tile.unfinished).fetch_sub(1, std::memory_order_acq_rel) > 1) return;
      for (int64_t r = 0; r < tile.rows; ++r)
        for (int64_t h = 0; h < tile.a->n_heads; ++h) choose(tile, r, h);
    });
  }
}

}  // namespace corvid::kernels
