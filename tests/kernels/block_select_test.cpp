#include "kernels/block_select/block_select.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "tests/support/guarded.h"
#include "tests/support/pages.h"

namespace corvid::test {
namespace {

using kernels::BlockSelect;
using kernels::Exec;
using kernels::Format;

using BlockSelectTest = BackendTest;
INSTANTIATE_TEST_SUITE_P(Kernels, BlockSelectTest, testing::ValuesIn(cpu_backends()), backend_name);

struct Chosen {
  std::vector<int32_t> ids, counts;
  bool operator==(const Chosen&) const = default;
};

Chosen run(Exec& exec, BlockSelect a) {
  Guarded<int32_t> ids(a.rows * a.n_heads * a.top_k), counts(a.rows * a.n_heads);
  a.ids = ids.data();
  a.counts = counts.data();
  block_select(a, exec);
  ids.expect_guards_intact("ids");
  counts.expect_guards_intact("counts");
  return {ids.values(), counts.values()};
}

// The choice is right if it has the right size, is ascending, holds the local blocks, and no block left out beats a
// chosen one by more than the tolerance.
void expect_right(const BlockSelect& a, const Chosen& found, const std::string& name) {
  const int64_t blocks = (a.n_keys + a.block - 1) / a.block;
  std::vector<int32_t> ids(found.ids.size()), counts(found.counts.size());
  std::vector<double> scores(size_t(a.rows * a.n_heads * blocks));
  kernels::ref::block_select(a, ids.data(), counts.data(), scores.data());
  ASSERT_EQ(found.counts, counts) << name;
  for (int64_t list = 0; list < a.rows * a.n_heads; ++list) {
    const int32_t* chosen = found.ids.data() + list * a.top_k;
    const int32_t count = counts[size_t(list)];
    const double* score = scores.data() + list * blocks;
    std::vector<bool> is_chosen(static_cast<size_t>(blocks));
    double lowest = std::numeric_limits<double>::infinity();
    for (int64_t i = 0; i < a.top_k; ++i) {
      if (i >= count) {
        ASSERT_EQ(chosen[i], -1) << name;
        continue;
      }
      ASSERT_GT(chosen[i], i == 0 ? -1 : chosen[i - 1]) << name;
      ASSERT_LE(chosen[i], a.pos[list / a.n_heads] / a.block) << name;
      is_chosen[size_t(chosen[i])] = true;
      lowest = std::min(lowest, score[chosen[i]]);
    }
    for (int64_t b = 0; b < blocks; ++b)
      if (!is_chosen[size_t(b)]) {
        // Queries and keys of random_floats are below 4: no product is above 16.
        ASSERT_LE(score[b] - lowest, 2 * kernels::block_select_tolerance(a.dim) * 16 * double(a.dim))
            << name << " block " << b;
      }
  }
}

struct Case {
  Pages pages;
  std::vector<float> q;
  std::vector<int64_t> pos;
  BlockSelect args;

  Case(int64_t n_keys, int64_t rows, int64_t n_heads, int64_t dim, int64_t block, int64_t top_k, int64_t local,
       Exec& exec, Format format = Format::f32)
      : pages(n_keys, 1, dim, block, uint32_t(n_keys), exec, format), q(random_floats(rows * n_heads * dim, 77)) {
    for (int64_t r = 0; r < rows; ++r) pos.push_back(n_keys - rows + r);
    args = {q.data(), pages.keys.data(), pos.data(), nullptr, nullptr, rows, n_heads, dim, block, n_keys, top_k, local,
            format};
  }
  std::string name() const {
    return std::string(format_name(args.format)) + ", " + std::to_string(args.n_keys) + " keys, block " +
           std::to_string(args.block) + ", top " + std::to_string(args.top_k);
  }
};

constexpr Format kFormats[] = {Format::f32, Format::f16, Format::bf16, Format::q8_0};

TEST_P(BlockSelectTest, AgreesWithFloat64) {
  const auto exec = GetParam().exec();
  for (const Format format : kFormats)
    for (const int64_t block : {1, 4, 16, 20, 128})
      for (const int64_t top_k : {1, 4, 16})
        for (const int64_t local : {1, 2})
          for (const int64_t blocks : {1, 3, 17, 40}) {
            if (local > top_k) continue;
            const int64_t n_keys = blocks * block - block / 3, rows = std::min<int64_t>(n_keys, 21);
            const int64_t dim = block == 16 ? 32 : block == 128 ? 40 : 13;
            const Case c(n_keys, rows, 2, dim, block, top_k, local, *exec, format);
            expect_right(c.args, run(*exec, c.args), c.name());
          }
}

TEST_P(BlockSelectTest, ChoosesEverythingWhileItFits) {
  const auto exec = GetParam().exec();
  const Case c(50, 50, 1, 8, 10, 6, 1, *exec);
  const Chosen found = run(*exec, c.args);
  for (int64_t r = 0; r < 50; ++r)
    for (int64_t i = 0; i < 6; ++i) EXPECT_EQ(found.ids[size_t(r * 6 + i)], i <= r / 10 ? i : -1);
}

// Keys of one block all alike, so that scores are exactly equal: the lower id wins.
TEST_P(BlockSelectTest, TiesGoToTheLowerBlockAndTheLocalBlockIsAlwaysIn) {
  const auto exec = GetParam().exec();
  Case c(64, 1, 1, 4, 8, 3, 1, *exec);
  std::vector<float> rows(64 * 4, 0.5F);
  for (int64_t j = 0; j < 64; ++j)
    for (int64_t i = 0; i < 4; ++i) rows[size_t(j * 4 + i)] = j / 8 == 5 ? 2.0F : j / 8 == 7 ? -9.0F : 0.5F;
  std::vector<int64_t> pos(64);
  std::iota(pos.begin(), pos.end(), 0);
  store_keys({rows.data(), pos.data(), c.pages.keys.data(), 64, 1, 4, 8}, *exec);
  c.q = {1, 1, 1, 1};
  c.args.q = c.q.data();
  EXPECT_EQ(run(*exec, c.args), (Chosen{{0, 5, 7}, {3}}));
  c.args.local_blocks = 2;
  EXPECT_EQ(run(*exec, c.args), (Chosen{{5, 6, 7}, {3}}));
  c.args.top_k = 2;
  EXPECT_EQ(run(*exec, c.args), (Chosen{{6, 7}, {2}}));
}

TEST_P(BlockSelectTest, NaNScoresLoseAndNothingBreaks) {
  const auto exec = GetParam().exec();
  for (const Format format : kFormats) {
    Case c(80, 3, 2, 4, 8, 3, 1, *exec, format);
    std::fill(c.q.begin(), c.q.begin() + 4, std::numeric_limits<float>::quiet_NaN());
    const Chosen found = run(*exec, c.args);
    EXPECT_EQ(std::vector<int32_t>(found.ids.begin(), found.ids.begin() + 3), (std::vector<int32_t>{0, 1, 9}))
        << c.name();
  }
}

// Keys in q8_0 meet queries in 8 bits, and the sums are exact.
TEST_P(BlockSelectTest, ChoosesTheSameInEveryTierWithKeysOfEightBits) {
  const auto exec = GetParam().exec();
  Exec scalar(1, kernels::Isa::scalar);
  for (const int64_t dim : {3, 32, 70, 128})
    for (const int64_t rows : {1, 5, 40}) {
      const Case c(1500, rows, 2, dim, 16, 8, 1, *exec, Format::q8_0);
      EXPECT_EQ(run(*exec, c.args), run(scalar, c.args)) << c.name() << ", dim " << dim << ", rows " << rows;
    }
  const Case many(1500, 40, 9, 70, 16, 8, 1, *exec, Format::q8_0);  // more queries than are scored at once
  EXPECT_EQ(run(*exec, many.args), run(scalar, many.args));
}

TEST_P(BlockSelectTest, GivesARowTheSameChoiceInAnyCompany) {
  const auto exec = GetParam().exec();
  for (const Format format : kFormats) {
    const Case c(1000, 150, 2, 24, 16, 4, 1, *exec, format);
    const Chosen all = run(*exec, c.args);
    EXPECT_EQ(all, run(*GetParam().exec(1), c.args));
    EXPECT_EQ(all, run(*GetParam().exec(3), c.args));
    for (const int64_t rows : {1, 4, 7})
      for (int64_t r = 0; r + rows <= 150; r += rows) {
        BlockSelect some = c.args;
        some.rows = rows;
        some.q += r * 2 * 24;
        some.pos += r;
        ASSERT_EQ(run(*exec, some).ids, std::vector<int32_t>(all.ids.begin() + r * 8, all.ids.begin() + (r + rows) * 8))
            << c.name() << ", row " << r;
      }
  }
}

// Sequences of several lengths and numbers of rows, some that see little, one without rows.
TEST_P(BlockSelectTest, GivesASequenceTheSameChoiceAmongOthers) {
  const auto exec = GetParam().exec();
  std::vector<std::unique_ptr<Case>> cases;
  for (const auto& [n_keys, rows] : {std::pair{700, 1}, {30, 3}, {1500, 40}, {200, 0}, {901, 2}, {16, 16}})
    cases.push_back(std::make_unique<Case>(n_keys, rows, 2, 24, 16, 4, 1, *exec));
  std::vector<BlockSelect> all;
  std::vector<Chosen> found;
  for (const auto& c : cases)
    found.push_back({std::vector<int32_t>(c->pos.size() * 8), std::vector<int32_t>(c->pos.size() * 2)});
  for (size_t i = 0; i < cases.size(); ++i) {
    all.push_back(cases[i]->args);
    all[i].ids = found[i].ids.data();
    all[i].counts = found[i].counts.data();
  }
  block_select(all, *exec);
  for (size_t i = 0; i < cases.size(); ++i) EXPECT_EQ(found[i], run(*exec, cases[i]->args)) << cases[i]->name();
}

// More scores than are in memory at once.
TEST_P(BlockSelectTest, ChoosesForRowsInSeveralGoes) {
  const auto exec = GetParam().exec();
  const Case c(4000, 3000, 3, 4, 1, 5, 1, *exec);
  const Chosen all = run(*exec, c.args);
  for (const int64_t r : {0, 1, 40, 1600, 1601, 2999}) {
    BlockSelect one = c.args;
    one.rows = 1;
    one.q += r * 3 * 4;
    one.pos += r;
    ASSERT_EQ(run(*exec, one).ids, std::vector<int32_t>(all.ids.begin() + r * 15, all.ids.begin() + (r + 1) * 15)) << r;
  }
}

TEST(BlockSelectContract, NamesWhatIsWrong) {
  Exec exec(1);
  const auto throws = [&](auto change) {
    Case c(20, 2, 1, 4, 8, 2, 1, exec);
    change(c);
    EXPECT_THROW(block_select(c.args, exec), std::invalid_argument);
  };
  throws([](Case& c) { c.args.local_blocks = 0; });
  throws([](Case& c) { c.args.local_blocks = 3; });
  throws([](Case& c) { c.args.block = 0; });
  throws([](Case& c) { c.args.format = Format::q4_0; });
  throws([](Case& c) { c.pos[0] = -1; });
  throws([](Case& c) { c.pos[1] = 20; });
}

}  // namespace
}  // namespace corvid::test
