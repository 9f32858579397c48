// Block selection and attention on the GPU against the float64 references, over scattered pages full of NaN.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>

#include "tests/support/device_weights.h"
#include "tests/support/guarded.h"
#include "tests/support/paged_case.h"

namespace corvid::test {
namespace {

using kernels::Exec;
using kernels::IndexFormat;
using kernels::PagedAttention;
using kernels::PagedBlockSelect;
using kernels::PagedRows;
using kernels::PrefillRun;

using Result = PagedResult;

enum class How { select, dense, sparse, fused, rounded };

// Runs the case on the GPU; `given`, when not null, are the ids and counts to attend to. Outputs and workspace are
// poisoned before.
Result run(const PagedCase& c, How how, const Result* given = nullptr) {
  Exec exec(kernels::Device::cuda);
  Arrays on(exec);
  const PagedShape& s = c.shape;
  const auto in = [&](const auto& values) { return on.in(values.data(), int64_t(values.size())); };
  const PagedRows rows{in(c.seq), in(c.pos), in(c.pages), c.rows(), c.max_pages, c.decode_rows, c.max_keys, c.runs};
  const std::byte* pool = in(c.pool);
  Result out;
  Guarded<int32_t> ids(c.rows() * s.n_index_heads * s.top_k, 0), counts(c.rows() * s.n_index_heads, 0);
  Guarded<uint16_t> o(c.rows() * s.n_heads * s.head_dim, 0);
  if (given != nullptr) std::copy(given->ids.begin(), given->ids.end(), ids.data());
  if (given != nullptr) std::copy(given->counts.begin(), given->counts.end(), counts.data());
  PagedBlockSelect select =
      c.select(rows, in(c.index_q), pool, on.out(ids.data(), ids.size()), on.out(counts.data(), counts.size()));
  PagedAttention attend = c.attend(rows, in(c.q), pool, select.ids, select.counts, on.out(o.data(), o.size()));
  if (how == How::dense || how == How::rounded) attend.ids = attend.counts = nullptr;
  attend.rounds = how == How::rounded;
  std::vector<std::byte> poison(size_t(block_select_workspace(select)) + 128, std::byte{0x7f});
  select.workspace = on.out(poison.data(), int64_t(poison.size()));
  std::vector<std::byte> more(size_t(attention_workspace(attend, attend.ids != nullptr)) + 128, std::byte{0x7f});
  attend.workspace = on.out(more.data(), int64_t(more.size()));
  if (how == How::select) kernels::cuda::block_select(select, exec.stream());
  if (how == How::dense || how == How::sparse || how == How::rounded) kernels::cuda::attention(attend, exec.stream());
  if (how == How::fused) kernels::cuda::select_and_attend(select, attend, exec.stream());
  on.finish();
  return {ids.values(), counts.values(), o.values()};
}

// How many lists differ from the oracle's, all of them by blocks whose scores tie within rounding.
int64_t expect_right_choice(const PagedCase& c, const Result& found, const std::vector<int64_t>& rows,
                            const std::string& name) {
  const PagedShape& s = c.shape;
  int64_t differing = 0;
  for (const int64_t r : rows) {
    const auto* ids = found.ids.data() + r * s.n_index_heads * s.top_k;
    const auto* counts = found.counts.data() + r * s.n_index_heads;
    if (c.pos[size_t(r)] < 0) {
      for (int64_t h = 0; h < s.n_index_heads; ++h) EXPECT_EQ(counts[h], 0) << name;
      EXPECT_TRUE(std::all_of(ids, ids + s.n_index_heads * s.top_k, [](int32_t id) { return id == -1; })) << name;
      continue;
    }
    const HostSequence& host = *c.sequences[size_t(c.seq[size_t(r)])];
    const std::vector<float> q = c.floats(c.index_q, r, s.n_index_heads * s.index_dim);
    const std::vector<int64_t> pos{c.pos[size_t(r)]};
    const int64_t blocks = (host.n_keys + s.block - 1) / s.block;
    const kernels::BlockSelect a{q.data(), host.index.keys.data(), pos.data(),           nullptr, nullptr,
                                 1,        s.n_index_heads,        s.index_dim,          s.block, host.n_keys,
                                 s.top_k,  s.local_blocks,         kernels::Format::bf16};
    std::vector<int32_t> wanted(size_t(s.n_index_heads * s.top_k)), wanted_counts(size_t(s.n_index_heads));
    std::vector<double> scores(size_t(s.n_index_heads * blocks));
    kernels::ref::block_select(a, wanted.data(), wanted_counts.data(), scores.data());
    for (int64_t h = 0; h < s.n_index_heads; ++h) {
      const std::string at = name + ", row " + std::to_string(r) + ", head " + std::to_string(h);
      EXPECT_EQ(counts[h], wanted_counts[size_t(h)]) << at;
      const std::vector<int32_t> mine(ids + h * s.top_k, ids + (h + 1) * s.top_k);
      const std::vector<int32_t> right(wanted.begin() + h * s.top_k, wanted.begin() + (h + 1) * s.top_k);
      if (mine == right) continue;
      ++differing;
      double lowest = std::numeric_limits<double>::infinity(), highest_left = -lowest;
      std::vector<bool> chosen(static_cast<size_t>(blocks));
      for (int64_t i = 0; i < s.top_k; ++i) {
        if (i >= wanted_counts[size_t(h)]) {
          EXPECT_EQ(mine[size_t(i)], -1) << at;
          continue;
        }
        if (mine[size_t(i)] <= (i == 0 ? -1 : mine[size_t(i - 1)]) || mine[size_t(i)] > pos[0] / s.block) {
          ADD_FAILURE() << at << ": not ascending, or behind the row";
          return differing;
        }
        chosen[size_t(mine[size_t(i)])] = true;
        lowest = std::min(lowest, scores[size_t(h * blocks + mine[size_t(i)])]);
      }
      for (int64_t b = 0; b <= pos[0] / s.block; ++b)
        if (!chosen[size_t(b)]) highest_left = std::max(highest_left, scores[size_t(h * blocks + b)]);
      // Some 1 in size each, so sum_i |q_i key_ji| stays below 2 * dim.
      EXPECT_LE(highest_left - lowest, 2 * kernels::block_select_tolerance(s.index_dim) * 2 * double(s.index_dim))
          << at;
    }
  }
  return differing;
}

void expect_right_output(const PagedCase& c, const Result& found, const Result* lists, const std::vector<int64_t>& rows,
                         const std::string& name) {
  const PagedShape& s = c.shape;
  for (const int64_t r : rows) {
    const int64_t width = s.n_heads * s.head_dim, pos = c.pos[size_t(r)];
    const std::vector<float> o = c.floats(found.o, r, width), q = c.floats(c.q, r, width);
    if (pos < 0) {
      EXPECT_EQ(o, std::vector<float>(size_t(width), 0)) << name;
      continue;
    }
    const HostSequence& host = *c.sequences[size_t(c.seq[size_t(r)])];
    const std::vector<int64_t> one{pos};
    const int64_t list = r * s.n_kv_heads;
    const kernels::SparseAttention a{q.data(),
                                     host.pages.keys.data(),
                                     host.pages.values.data(),
                                     one.data(),
                                     lists == nullptr ? nullptr : lists->ids.data() + list * s.top_k,
                                     lists == nullptr ? nullptr : lists->counts.data() + list,
                                     nullptr,
                                     1,
                                     s.n_heads,
                                     s.n_kv_heads,
                                     s.head_dim,
                                     s.block,
                                     host.n_keys,
                                     s.top_k,
                                     1 / std::sqrt(static_cast<float>(s.head_dim)),
                                     kernels::Format::bf16};
    std::vector<double> wanted(static_cast<size_t>(width));
    kernels::ref::sparse_attention(a, wanted.data());
    // Values of random_floats stay below 3.4, scale * sum |q k| below 2 * sqrt(dim).
    const double allowed =
        3.4 * (kernels::kPagedAttentionRounding +
               kernels::sparse_attention_tolerance(s.head_dim, pos + 1) * (1 + 2 * std::sqrt(double(s.head_dim))));
    double error = 0, size = 0, worst = 0;
    for (size_t i = 0; i < o.size(); ++i) {
      const double d = std::fabs(o[i] - wanted[i]);
      worst = std::isnan(o[i]) ? std::numeric_limits<double>::infinity() : std::max(worst, d);
      error += d * d;
      size += wanted[i] * wanted[i];
    }
    ASSERT_LE(worst, allowed) << name << ", row " << r << " at " << pos;
    ASSERT_LE(std::sqrt(error / size), 8e-3) << name << ", row " << r << " at " << pos;  // what bf16 costs
  }
}

// Names the lists that differ: a message about all ids ends after the first 32.
void expect_the_same_choice(const PagedCase& c, const Result& found, const Result& wanted) {
  EXPECT_EQ(found.counts, wanted.counts);
  const auto lists = static_cast<size_t>(c.rows() * c.shape.n_index_heads), top_k = static_cast<size_t>(c.shape.top_k);
  size_t differing = 0;
  for (size_t list = 0; list < lists; ++list) {
    const auto of = [&](const Result& from) {
      const auto begin = from.ids.begin() + std::ptrdiff_t(list * top_k);
      return std::vector<int32_t>(begin, begin + std::ptrdiff_t(top_k));
    };
    const auto heads = static_cast<size_t>(c.shape.n_index_heads);
    if (of(found) != of(wanted) && ++differing <= 5)
      ADD_FAILURE() << "row " << list / heads << " at " << c.pos[list / heads] << ", head " << list % heads << ": "
                    << testing::PrintToString(of(found)) << ", wanted " << testing::PrintToString(of(wanted));
  }
  EXPECT_EQ(differing, 0) << "of " << lists << " lists";
}

std::vector<int64_t> all_rows(const PagedCase& c) {
  std::vector<int64_t> rows(static_cast<size_t>(c.rows()));
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

struct Named {
  const char* name;
  PagedShape shape;
};
std::ostream& operator<<(std::ostream& out, const Named& named) { return out << named.name; }

const Named kShapes[] = {
    {"M3", {64, 4, 128, 4, 128, 128, 16}},
    {"M3E4m3", {64, 4, 128, 4, 128, 128, 16, 1, IndexFormat::e4m3}},
    {"Shipped", {6, 2, 64, 2, 64, 128, 16}},
    {"Tiny", {4, 2, 32, 2, 16, 16, 3}},
    {"TinyE4m3", {3, 3, 48, 3, 48, 32, 4, 2, IndexFormat::e4m3}},
    {"Wide", {10, 2, 256, 2, 256, 64, 40}},
    {"M2", {48, 8, 128, 8, 128, 128, 16}},
    {"Qwen", {32, 4, 128, 4, 128, 128, 16}},
    {"Deep", {16, 1, 64, 1, 64, 64, 50}},
};

class PagedAttentionTest : public testing::TestWithParam<Named> {
 protected:
  void SetUp() override {
    if (!kernels::cuda::available()) GTEST_SKIP() << "this machine has no GPU";
  }
};
class PagedRunTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!kernels::cuda::available()) GTEST_SKIP() << "this machine has no GPU";
  }
};
INSTANTIATE_TEST_SUITE_P(Kernels, PagedAttentionTest, testing::ValuesIn(kShapes),
                         [](const auto& one) { return std::string(one.param.name); });

// Ragged: one key, exactly a block, one more, unaligned, more blocks than are chosen; several rows of a sequence.
PagedCase decode_case(const PagedShape& s, uint32_t seed = 3) {
  const int64_t b = s.block, long_one = b * (3 * s.top_k + 7) + b / 3;
  return {s,
          {1, b, b + 1, 2 * b - 1, long_one, b * s.top_k},
          {0, 1, 2, 3, 4, 4, 4, 5, 4, 0},
          {0, int32_t(b - 1), int32_t(b), int32_t(2 * b - 2), int32_t(long_one - 1), int32_t(long_one - 2),
           int32_t(long_one - 3), int32_t(b * s.top_k - 1), int32_t(long_one / 2), -1},
          {},
          seed};
}

TEST_P(PagedAttentionTest, DecodeChoosesAsTheOracle) {
  const PagedCase c = decode_case(GetParam().shape);
  const int64_t differing = expect_right_choice(c, run(c, How::select), all_rows(c), GetParam().name);
  std::cout << differing << " of " << (c.rows() - 1) * c.shape.n_index_heads
            << " lists differ from the oracle's, by ties within rounding\n";
}

TEST_P(PagedAttentionTest, DecodeAgreesWithFloat64) {
  const PagedCase c = decode_case(GetParam().shape);
  const Result lists = run(c, How::select);
  expect_right_output(c, run(c, How::sparse, &lists), &lists, all_rows(c), "sparse");
  expect_right_output(c, run(c, How::dense), nullptr, all_rows(c), "dense");
}

TEST_P(PagedAttentionTest, OutputsAreRoundedForProducts) {
  const PagedCase c = decode_case(GetParam().shape);
  const PagedShape& s = c.shape;
  if (const auto dim = s.head_dim; (dim != 64 && dim != 128) || s.n_heads / s.n_kv_heads > 16)
    EXPECT_THROW(run(c, How::rounded), std::invalid_argument);
  else
    EXPECT_EQ(run(c, How::rounded).o, on_grid(run(c, How::dense).o));
}

TEST_P(PagedAttentionTest, FusedIsTheTwoCalls) {
  const PagedCase c = decode_case(GetParam().shape);
  const Result lists = run(c, How::select), fused = run(c, How::fused);
  expect_the_same_choice(c, fused, lists);
  EXPECT_EQ(fused.o, run(c, How::sparse, &lists).o);
}

// The last row of a sequence, with its key and value not stored yet: what store_heads() and attention() give, and what
// they leave in the pages. At most 1,536 keys and heads of 128 take one launch, which leaves the turned queries alone.
TEST_P(PagedAttentionTest, StoringAndAttendingIsTheTwoCalls) {
  const PagedShape& s = GetParam().shape;
  struct Keys {
    int64_t n, most;
    bool rounds = false;
  };
  for (const auto& [keys, max_keys, rounds] : std::initializer_list<Keys>{
           {1, 1}, {17, 1536}, {128, 128}, {129, 256}, {1025, 1152}, {1030, 1536, true}, {1536, 1536}, {1537, 1664}}) {
    PagedCase c(s, {keys, 50}, {0}, {int32_t(keys - 1)}, {});
    c.max_keys = max_keys;
    for (int64_t g = 0; g < s.n_kv_heads; ++g)
      for (const int64_t offset : {int64_t{0}, c.value_offset})
        std::fill_n(reinterpret_cast<uint16_t*>(c.slot(0, keys - 1) + offset) +
                        (g * s.block + (keys - 1) % s.block) * s.head_dim,
                    s.head_dim, uint16_t{0x7fc0});
    const auto k = to_bf16(random_floats(s.n_kv_heads * s.head_dim, 3)),
               v = to_bf16(random_floats(s.n_kv_heads * s.head_dim, 4));
    const auto q_norm = random_floats(s.head_dim, 5), k_norm = random_floats(s.head_dim, 6);
    std::vector<uint16_t> o[2];
    std::vector<std::byte> pools[2];
    for (const bool in_one : {false, true}) {
      Exec exec(kernels::Device::cuda);
      Arrays on(exec);
      const auto in = [&](const auto& values) { return on.in(values.data(), int64_t(values.size())); };
      std::vector<std::byte>& pool = pools[in_one ? 1 : 0] = c.pool;
      Guarded<uint16_t> out(s.n_heads * s.head_dim), turned(s.n_heads * s.head_dim);
      std::vector<float> angles(size_t(s.head_dim));
      kernels::StoreHeads heads{};
      heads.q = {in(c.q), s.n_heads * s.head_dim};
      heads.k = {in(k), s.n_kv_heads * s.head_dim};
      heads.v = {in(v), s.n_kv_heads * s.head_dim};
      heads.q_out = on.out(turned.data(), turned.size());
      heads.q_norm = in(q_norm), heads.k_norm = in(k_norm);
      float* const cos_sin = on.out(angles.data(), std::ssize(angles));
      heads.cos_sin = cos_sin;
      heads.seq = in(c.seq), heads.pos = in(c.pos), heads.pages = in(c.pages);
      heads.rows = 1, heads.max_pages = c.max_pages;
      heads.pages_base = on.out(pool.data(), std::ssize(pool));
      heads.page_bytes = c.page_bytes, heads.values_offset = c.value_offset;
      heads.n_heads = s.n_heads, heads.n_kv_heads = s.n_kv_heads;
      heads.head_dim = heads.rotary_dim = s.head_dim, heads.block = s.block;
      heads.eps = 1e-6F;
      PagedAttention attend{};
      attend.rows = {heads.seq, heads.pos, heads.pages, 1, c.max_pages, 1, c.max_keys, {}};
      attend.q = heads.q_out;
      attend.keys = heads.pages_base, attend.values = heads.pages_base + c.value_offset;
      attend.page_bytes = c.page_bytes;
      attend.o = on.out(out.data(), out.size());
      attend.n_heads = s.n_heads, attend.n_kv_heads = s.n_kv_heads, attend.head_dim = s.head_dim;
      attend.block = s.block, attend.top_k = s.top_k;
      attend.scale = 1 / std::sqrt(static_cast<float>(s.head_dim));
      attend.rounds = rounds && kernels::can_round(attend);
      std::vector<std::byte> poison(size_t(attention_workspace(attend, false)) + 128, std::byte{0x7f});
      attend.workspace = on.out(poison.data(), int64_t(poison.size()));
      kernels::cuda::row_angles({heads.pos, cos_sin, 1, s.head_dim, 1e4}, exec.stream());
      if (in_one) {
        kernels::cuda::store_and_attend(heads, attend, exec.stream());
      } else {
        kernels::cuda::store_heads(heads, exec.stream());
        kernels::cuda::attention(attend, exec.stream());
      }
      on.finish();
      out.expect_guards_intact("o");
      o[in_one ? 1 : 0] = out.values();
      const bool is_untouched = turned.values() == Guarded<uint16_t>(turned.size()).values();
      EXPECT_EQ(is_untouched, in_one && s.head_dim == 128 && max_keys <= kernels::cuda::kRowAttentionKeys)
          << keys << " keys of " << max_keys;
    }
    EXPECT_EQ(o[1], o[0]) << keys << " keys of " << max_keys;
    EXPECT_TRUE(pools[1] == pools[0]) << keys << " keys of " << max_keys;
  }
}

TEST_P(PagedAttentionTest, GivesARowTheSameBitsInAnyCompany) {
  const PagedCase c = decode_case(GetParam().shape);
  const Result all = run(c, How::fused), dense = run(c, How::dense);
  const PagedShape& s = c.shape;
  for (const int64_t r : {4, 6, 8}) {
    PagedCase one = c;
    one.seq = {c.seq[size_t(r)]};
    one.pos = {c.pos[size_t(r)]};
    one.decode_rows = 1;
    one.max_keys = one.pos[0] + 1;
    const auto part = [&](const auto& values, int64_t width) {
      return std::vector(values.begin() + r * width, values.begin() + (r + 1) * width);
    };
    one.q = part(c.q, s.n_heads * s.head_dim);
    one.index_q = part(c.index_q, s.n_index_heads * s.index_dim);
    const Result alone = run(one, How::fused);
    EXPECT_EQ(alone.ids, part(all.ids, s.n_index_heads * s.top_k)) << r;
    EXPECT_EQ(alone.o, part(all.o, s.n_heads * s.head_dim)) << r;
    EXPECT_EQ(run(one, How::dense).o, part(dense.o, s.n_heads * s.head_dim)) << r;
  }
}

// More rows than the scan takes at a time, of long and short sequences, one or two rows of a sequence beside each
// other.
TEST_P(PagedAttentionTest, ManyRowsAgreeWithFloat64) {
  const PagedShape& s = GetParam().shape;
  if (s.head_dim * s.block < 4096) GTEST_SKIP() << "the large shapes will do";
  const std::vector<int64_t> lengths{s.block * (2 * s.top_k + 3) + 7, 3, s.block * (s.top_k + 1),
                                     s.block * s.top_k - 1};
  std::vector<int32_t> seq, pos;
  for (int32_t r = 0; r < 300; ++r) {
    seq.push_back(r / 3 % 4);
    pos.push_back(static_cast<int32_t>(std::max<int64_t>(0, lengths[size_t(r / 3 % 4)] - 1 - r % 3)));
    if (r % 3 == 2) seq.back() = 0, pos.back() = r % 2 == 0 ? -1 : static_cast<int32_t>(lengths[0] - 1 - r);
  }
  const PagedCase c(s, lengths, seq, pos, {}, 13);
  const std::vector<int64_t> some{0, 1, 2, 5, 6, 7, 125, 126, 127, 128, 129, 130, 131, 200, 255, 256, 257, 298, 299};
  const Result lists = run(c, How::select), fused = run(c, How::fused);
  expect_the_same_choice(c, fused, lists);
  expect_right_choice(c, lists, some, "many rows");
  expect_right_output(c, fused, &lists, some, "many rows");
}

// Rows of several chunks, the first of which see so little that they choose it all.
TEST_F(PagedRunTest, SeveralChunksAgreeWithFloat64) {
  const PagedShape s{8, 2, 128, 2, 128, 128, 4};
  const int64_t n = int64_t{128} * 40, first = 300;
  std::vector<int32_t> seq, pos;
  for (int64_t j = first; j < n; ++j) seq.push_back(0), pos.push_back(int32_t(j));
  const PagedCase c(s, {n}, seq, pos, {{0, n - first, n}}, 17);
  const std::vector<int64_t> some{0,    1,    511 - first, 512 - first, 513 - first, 639 - first,  640 - first,
                                  2047, 2048, 2049,        4095,        4096,        n - first - 1};
  const Result lists = run(c, How::select);
  expect_right_choice(c, lists, some, "chunks");
  expect_right_output(c, run(c, How::sparse, &lists), &lists, some, "chunks");
}

// A batch of decode rows and two runs, one that begins in the middle of a block and ends a sequence.
TEST_P(PagedAttentionTest, MixedBatchAgreesWithFloat64) {
  const PagedShape& s = GetParam().shape;
  const int64_t b = s.block, n = b * (2 * s.top_k + 3) + b / 2 + 1, short_n = b + 5;
  const int64_t first = n - 5 * b / 2 - 3;
  std::vector<int32_t> seq{1, 0, 1}, pos{int32_t(short_n - 1), 7, -1};
  std::vector<PrefillRun> runs{{3, n - first, n}};
  for (int64_t j = first; j < n; ++j) seq.push_back(0), pos.push_back(int32_t(j));
  runs.push_back({int64_t(seq.size()), short_n, n});  // a bound larger than it need be
  for (int64_t j = 0; j < short_n; ++j) seq.push_back(1), pos.push_back(int32_t(j));
  const PagedCase c(s, {n, short_n}, seq, pos, runs, 11);
  std::vector<int64_t> some{0,
                            1,
                            2,
                            3,
                            4,
                            18,
                            66,
                            67,
                            130,
                            c.rows() - short_n - 1,
                            c.rows() - short_n,
                            c.rows() - short_n + 1,
                            c.rows() - short_n + b,
                            c.rows() - 1};
  std::erase_if(some, [&](int64_t r) { return r >= c.rows(); });
  const Result lists = run(c, How::select);
  const int64_t differing = expect_right_choice(c, lists, s.index_dim * s.block > 4096 ? some : all_rows(c), "mixed");
  std::cout << differing << " lists differ from the oracle's, by ties within rounding\n";
  expect_right_output(c, run(c, How::sparse, &lists), &lists, some, "sparse");
  expect_right_output(c, run(c, How::dense), nullptr, some, "dense");
  const Result fused = run(c, How::fused);
  expect_the_same_choice(c, fused, lists);
  EXPECT_EQ(fused.o, run(c, How::sparse, &lists).o);
}

// Keys of one block all alike, so that scores are exactly equal: the lower id wins, and the local block is always in.
TEST_P(PagedAttentionTest, TiesGoToTheLowerBlock) {
  const PagedShape& s = GetParam().shape;
  const int64_t blocks = 4 * s.top_k + 9, n = blocks * s.block - 3;
  PagedCase c(s, {n}, {0}, {int32_t(n - 1)}, {}, 5);
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t i = 0; i < s.index_dim; ++i)
      c.sequences[0]->index.key_rows[size_t(j * s.index_dim + i)] = j / s.block == blocks - 3   ? 2.0F
                                                                    : j / s.block == blocks - 1 ? -8.0F
                                                                                                : 0.5F;
    c.store_index_key(0, j);
  }
  std::fill(c.index_q.begin(), c.index_q.end(), kernels::f32_to_bf16(1));
  std::vector<int32_t> wanted;
  std::vector<int64_t> in{blocks - 3};
  for (int64_t b = blocks - s.local_blocks; b < blocks; ++b) in.push_back(b);
  for (int64_t b = 0; int64_t(in.size()) < s.top_k; ++b) in.push_back(b);
  std::sort(in.begin(), in.end());
  for (int64_t h = 0; h < s.n_index_heads; ++h) wanted.insert(wanted.end(), in.begin(), in.end());
  EXPECT_EQ(run(c, How::select).ids, wanted);
}

}  // namespace
}  // namespace corvid::test
