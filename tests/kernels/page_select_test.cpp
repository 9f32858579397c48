#include "kernels/page_select/page_select.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/support/guarded.h"
#include "tests/support/pages.h"

namespace corvid::test {
namespace {

using kernels::Exec;
using kernels::Format;
using kernels::PageSelect;

using PageSelectTest = BackendTest;
INSTANTIATE_TEST_SUITE_P(Kernels, PageSelectTest, testing::ValuesIn(cpu_backends()), backend_name);

struct Chosen {
  std::vector<int32_t> ids, counts;
  bool operator==(const Chosen&) const = default;
};

Chosen run(Exec& exec, PageSelect a) {
  Guarded<int32_t> ids(a.rows * a.n_kv_heads * a.top_k), counts(a.rows * a.n_kv_heads);
  a.ids = ids.data();
  a.counts = counts.data();
  page_select({&a, 1}, exec);
  ids.expect_guards_intact("ids");
  counts.expect_guards_intact("counts");
  return {ids.values(), counts.values()};
}

struct Case {
  Pages pages;
  std::vector<float> memory;
  std::vector<float*> bounds;
  std::vector<float> q;
  std::vector<int64_t> pos;
  PageSelect args;

  // The bounds of an incomplete block are NaN.
  Case(int64_t n_keys, int64_t rows, int64_t n_heads, int64_t n_kv_heads, int64_t dim, int64_t block, int64_t top_k,
       Exec& exec, Format format = Format::f32)
      : pages(n_keys, n_kv_heads, dim, block, uint32_t(n_keys), exec, format),
        q(random_floats(rows * n_heads * dim, 77)) {
    const int64_t floats = kernels::bounds_bytes(n_kv_heads, dim) / 4;
    memory.assign(pages.keys.size() * size_t(floats), std::numeric_limits<float>::quiet_NaN());
    for (size_t p = 0; p < pages.keys.size(); ++p) bounds.push_back(memory.data() + int64_t(p) * floats);
    const kernels::KeyBounds made{pages.keys.data(), bounds.data(), 0, n_keys / block, n_kv_heads, dim, block, format};
    key_bounds({&made, 1}, exec);
    for (int64_t r = 0; r < rows; ++r) pos.push_back(n_keys - rows + r);
    args = {q.data(), bounds.data(), pos.data(), nullptr, nullptr, rows,
            n_heads,  n_kv_heads,    dim,        block,   n_keys,  top_k};
  }
};

TEST_P(PageSelectTest, BoundsAreTheLeastAndGreatestKeys) {
  const auto exec = GetParam().exec();
  for (const Format format : {Format::f32, Format::f16, Format::bf16, Format::q8_0})
    for (const int64_t block : {1, 4, 16, 20, 128}) {
      const int64_t dim = 40;
      const Case c(3 * block, 1, 2, 2, dim, block, 4, *exec, format);
      for (int64_t b = 0; b < 3; ++b)
        for (int64_t g = 0; g < 2; ++g)
          for (int64_t i = 0; i < dim; ++i) {
            float low = std::numeric_limits<float>::infinity(), high = -low;
            for (int64_t slot = 0; slot < block; ++slot) {
              const float key = kernels::key_at(c.pages.keys[size_t(b)], g, slot, i, dim, block, format);
              low = std::min(low, key);
              high = std::max(high, key);
            }
            ASSERT_EQ(c.bounds[size_t(b)][g * 2 * 48 + i], low) << block;
            ASSERT_EQ(c.bounds[size_t(b)][(g * 2 + 1) * 48 + i], high) << block;
          }
    }
}

TEST_P(PageSelectTest, AgreesWithFloat64) {
  const auto exec = GetParam().exec();
  for (const int64_t dim : {16, 40})
    for (const int64_t top_k : {3, 4, 9})
      for (const int64_t blocks : {1, 3, 5, 60}) {
        const int64_t block = 8, n_keys = blocks * block - 3, rows = std::min<int64_t>(n_keys, 21);
        const Case c(n_keys, rows, 6, 2, dim, block, top_k, *exec);
        const Chosen found = run(*exec, c.args);
        std::vector<int32_t> ids(found.ids.size()), counts(found.counts.size());
        std::vector<double> scores(size_t(rows * 2 * blocks));
        kernels::ref::page_select(c.args, ids.data(), counts.data(), scores.data());
        ASSERT_EQ(found.counts, counts);
        for (int64_t list = 0; list < rows * 2; ++list) {
          const double* score = scores.data() + list * blocks;
          std::vector<bool> is_chosen(static_cast<size_t>(blocks));
          double lowest = std::numeric_limits<double>::infinity();
          for (int64_t i = 0; i < top_k; ++i) {
            const int32_t id = found.ids[size_t(list * top_k + i)];
            if (i >= counts[size_t(list)]) {
              ASSERT_EQ(id, -1);
              continue;
            }
            ASSERT_GT(id, i == 0 ? -1 : found.ids[size_t(list * top_k + i - 1)]);
            is_chosen[size_t(id)] = true;
            lowest = std::min(lowest, score[id]);
          }
          for (int64_t b = 0; b < blocks; ++b)
            if (!is_chosen[size_t(b)]) {
              // Queries and keys of random_floats are below 4.
              ASSERT_LE(score[b] - lowest, 2 * kernels::page_select_tolerance(dim, 3) * 16 * 3 * double(dim))
                  << blocks << " blocks, block " << b;
            }
        }
      }
}

TEST_P(PageSelectTest, GivesARowTheSameChoiceInAnyCompany) {
  const auto exec = GetParam().exec();
  const Case c(1000, 150, 4, 2, 24, 16, 7, *exec);
  const Chosen all = run(*exec, c.args);
  EXPECT_EQ(all, run(*GetParam().exec(1), c.args));
  for (int64_t r = 0; r < 150; ++r) {
    PageSelect one = c.args;
    one.rows = 1;
    one.q += r * 4 * 24;
    one.pos += r;
    ASSERT_EQ(run(*exec, one).ids, std::vector<int32_t>(all.ids.begin() + r * 14, all.ids.begin() + (r + 1) * 14)) << r;
  }
}

TEST(PageSelectContract, NamesWhatIsWrong) {
  Exec exec(1);
  const auto throws = [&](auto change) {
    Case c(20, 2, 2, 1, 8, 4, 3, exec);
    change(c);
    EXPECT_THROW(page_select({&c.args, 1}, exec), std::invalid_argument);
  };
  throws([](Case& c) { c.args.top_k = 2; });
  throws([](Case& c) { c.args.n_kv_heads = 3; });
  throws([](Case& c) { c.pos[1] = 20; });
}

}  // namespace
}  // namespace corvid::test
