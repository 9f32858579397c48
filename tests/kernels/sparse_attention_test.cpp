#include "kernels/sparse_attention/sparse_attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <tuple>

#include "tests/support/expect_close.h"
#include "tests/support/guarded.h"
#include "tests/support/pages.h"

namespace corvid::test {
namespace {

using kernels::Exec;
using kernels::Format;
using kernels::SparseAttention;

using SparseAttentionTest = BackendTest;
INSTANTIATE_TEST_SUITE_P(Kernels, SparseAttentionTest, testing::ValuesIn(cpu_backends()), backend_name);

std::vector<float> run(Exec& exec, SparseAttention a) {
  Guarded<float> o(a.rows * a.n_heads * a.head_dim);
  a.o = o.data();
  sparse_attention(a, exec);
  o.expect_guards_intact("sparse_attention");
  return o.values();
}

// The last `rows` of n_keys positions, each with a random choice of at most top_k blocks that holds the local one.
struct Case {
  Pages pages;
  std::vector<float> q;
  std::vector<int64_t> pos;
  std::vector<int32_t> ids, counts;
  SparseAttention args;

  Case(int64_t n_keys, int64_t rows, int64_t n_heads, int64_t n_kv_heads, int64_t head_dim, int64_t block,
       int64_t top_k, Exec& exec, Format format = Format::f32)
      : pages(n_keys, n_kv_heads, head_dim, block, uint32_t(n_keys + head_dim), exec, format),
        q(random_floats(rows * n_heads * head_dim, 78)) {
    std::mt19937 bits(79);
    for (int64_t r = 0; r < rows; ++r) {
      pos.push_back(n_keys - rows + r);
      for (int64_t g = 0; g < n_kv_heads; ++g) {
        const auto local = static_cast<int32_t>(pos.back() / block);
        std::vector<int32_t> chosen{local};
        for (int32_t b = 0; b < local; ++b)
          if (int64_t(chosen.size()) < top_k && bits() % 2 == 0) chosen.push_back(b);
        std::sort(chosen.begin(), chosen.end());
        counts.push_back(static_cast<int32_t>(chosen.size()));
        chosen.resize(static_cast<size_t>(top_k), -1);
        ids.insert(ids.end(), chosen.begin(), chosen.end());
      }
    }
    args = {q.data(),
            pages.keys.data(),
            pages.values.data(),
            pos.data(),
            ids.data(),
            counts.data(),
            nullptr,
            rows,
            n_heads,
            n_kv_heads,
            head_dim,
            block,
            n_keys,
            top_k,
            1 / std::sqrt(static_cast<float>(head_dim)),
            format};
  }
  SparseAttention dense() const {
    SparseAttention a = args;
    a.ids = nullptr;
    a.counts = nullptr;
    return a;
  }
  void expect_right(Exec& exec, const SparseAttention& a, const std::string& name) const {
    std::vector<double> wanted(size_t(a.rows * a.n_heads * a.head_dim));
    kernels::ref::sparse_attention(a, wanted.data());
    // Values and products of random_floats are below 4 and 16.
    const double scale = 4 * (1 + 16 * std::sqrt(double(a.head_dim)));
    expect_close(run(exec, a), wanted, kernels::sparse_attention_tolerance(a.head_dim, a.n_keys),
                 std::vector<double>(wanted.size(), scale), name);
  }
};

TEST_P(SparseAttentionTest, AgreesWithFloat64) {
  const auto exec = GetParam().exec();
  for (const auto& [n_heads, n_kv_heads] : {std::pair<int64_t, int64_t>{1, 1}, {6, 2}, {4, 1}, {3, 3}, {50, 1}})
    for (const int64_t head_dim : {1, 16, 24, 64})
      for (const int64_t block : {1, 7, 16, 64})
        for (const int64_t n_keys : {1, 40, 129}) {
          const int64_t rows = std::min<int64_t>(n_keys, n_heads > 10 ? 3 : 25);
          const Case c(n_keys, rows, n_heads, n_kv_heads, head_dim, block, 4, *exec);
          const std::string name = std::to_string(n_heads) + "/" + std::to_string(n_kv_heads) + " heads of " +
                                   std::to_string(head_dim) + ", " + std::to_string(n_keys) + " keys in blocks of " +
                                   std::to_string(block);
          c.expect_right(*exec, c.args, name + ", sparse");
          c.expect_right(*exec, c.dense(), name + ", dense");
        }
}

TEST_P(SparseAttentionTest, AgreesWithFloat64OnAModelsSizes) {
  const auto exec = GetParam().exec();
  const Case c(700, 40, 6, 2, 64, 128, 4, *exec);
  c.expect_right(*exec, c.args, "sparse");
  c.expect_right(*exec, c.dense(), "dense");
}

// In registers, and decoded for many rows at once: of what the pages hold, no format costs accuracy.
TEST_P(SparseAttentionTest, AgreesWithFloat64InEveryFormat) {
  const auto exec = GetParam().exec();
  for (const Format format : {Format::f16, Format::bf16, Format::q8_0})
    for (const auto& [head_dim, block] :
         {std::pair<int64_t, int64_t>{64, 128}, {128, 16}, {24, 20}, {70, 64}, {96, 100}, {32, 32}, {160, 96}})
      for (const int64_t rows : {1, 2, 40}) {
        const Case c(300, rows, 6, 2, head_dim, block, 4, *exec, format);
        const std::string name = std::to_string(rows) + " rows, heads of " + std::to_string(head_dim) + ", blocks of " +
                                 std::to_string(block) + ", " + kernels::format_name(format);
        c.expect_right(*exec, c.args, name + ", sparse");
        c.expect_right(*exec, c.dense(), name + ", dense");
      }
}

// Where pages of q8_0 are multiplied in integers, each query and weight is off by a 65,024th of the largest about it,
// at random, and an output averages over hundreds of keys: far below a 32,512th. With one byte of the two it would be a
// hundred times as much. Scales of any sign mean what they say.
TEST_P(SparseAttentionTest, BytesAreMultipliedWithSixteenBits) {
  const auto exec = GetParam().exec();
  for (const auto& [n_heads, head_dim, block] :
       {std::tuple<int64_t, int64_t, int64_t>{32, 128, 128}, {8, 64, 32}, {8, 96, 160}})
    for (const int64_t rows : {1, 3, 40}) {
      const Case c(780, rows, n_heads, 2, head_dim, block, 4, *exec, Format::q8_0);
      for (const bool are_turned : {false, true}) {
        if (are_turned) {
          const int64_t key_scales = block * head_dim, value_bytes = key_head_bytes(Format::q8_0, head_dim, block);
          for (int64_t i = 0; i < 2 * std::ssize(c.pages.keys); ++i) {
            std::byte* head = c.pages.keys[size_t(i / 2)].head(i % 2);
            for (int64_t scale = i % 3; scale < head_dim / 32 * block; scale += 5)
              for (std::byte* at : {head + key_scales, head + value_bytes + key_scales})
                at[2 * scale + 1] ^= std::byte{0x80};
          }
        }
        for (const SparseAttention& a : {c.args, c.dense()}) {
          std::vector<double> wanted(size_t(a.rows * a.n_heads * a.head_dim));
          kernels::ref::sparse_attention(a, wanted.data());
          const std::vector<float> found = run(*exec, a);
          double squares = 0;
          for (size_t i = 0; i < wanted.size(); ++i) squares += std::pow(found[i] - wanted[i], 2);
          EXPECT_LE(std::sqrt(squares / double(wanted.size())), 1.0 / 32512)
              << rows << " rows, heads of " << head_dim << ", blocks of " << block << ", turned " << are_turned;
        }
      }
    }
}

// One kv head and enough keys for many spans, which the threads share.
TEST_P(SparseAttentionTest, OneRowIsSharedByTheThreads) {
  for (const auto& [format, dim] :
       {std::pair<Format, int64_t>{Format::f32, 16}, {Format::q8_0, 16}, {Format::q8_0, 32}}) {
    const auto exec = GetParam().exec(3), alone = GetParam().exec(1);
    const Case c(5000, 600, 4, 1, dim, 64, 60, *exec, format);
    for (SparseAttention a : {c.args, c.dense()}) {
      const std::vector<float> all = run(*alone, a);
      for (const int64_t first : {0, 299, 590}) {
        SparseAttention part = a;
        part.rows = first == 590 ? 10 : 1;
        part.q += first * 4 * dim;
        part.pos += first;
        if (part.ids != nullptr) part.ids += first * 60, part.counts += first;
        const std::vector<float> shared = run(*exec, part);
        EXPECT_EQ(shared,
                  std::vector<float>(all.begin() + first * 4 * dim, all.begin() + (first + part.rows) * 4 * dim));
        if (format == Format::f32) c.expect_right(*exec, part, "row " + std::to_string(first));
      }
    }
  }
}

TEST_P(SparseAttentionTest, OneKeyGivesItsValue) {
  const auto exec = GetParam().exec();
  const Case c(1, 1, 2, 1, 16, 128, 2, *exec);
  std::vector<float> wanted = c.pages.value_rows;
  wanted.insert(wanted.end(), c.pages.value_rows.begin(), c.pages.value_rows.end());
  EXPECT_EQ(run(*exec, c.args), wanted);
}

TEST_P(SparseAttentionTest, HugeScoresDoNotOverflow) {
  const auto exec = GetParam().exec();
  Case c(60, 5, 2, 1, 16, 16, 4, *exec);
  c.args.scale = 1000;
  std::vector<double> wanted(5 * 2 * 16);
  kernels::ref::sparse_attention(c.args, wanted.data());
  expect_close(run(*exec, c.args), wanted, 1e-2, std::vector<double>(wanted.size(), 4.0), "huge scores");
}

TEST_P(SparseAttentionTest, EveryBlockChosenEqualsDenseBitForBit) {
  const auto exec = GetParam().exec();
  for (const auto& [format, block] : {std::pair<Format, int64_t>{Format::f32, 16}, {Format::q8_0, 32}}) {
    Case c(100, 30, 4, 2, 32, block, 7, *exec, format);
    for (size_t list = 0; list < c.counts.size(); ++list) {
      c.counts[list] = static_cast<int32_t>(c.pos[list / 2] / block + 1);
      for (int32_t i = 0; i < 7; ++i) c.ids[list * 7 + size_t(i)] = i < c.counts[list] ? i : -1;
    }
    EXPECT_EQ(run(*exec, c.args), run(*exec, c.dense()));
  }
}

TEST_P(SparseAttentionTest, GivesARowTheSameBitsInAnyCompany) {
  const auto exec = GetParam().exec();
  const Case floats(300, 200, 6, 2, 40, 16, 5, *exec), halves(300, 200, 6, 2, 40, 16, 5, *exec, Format::f16),
      bytes(300, 200, 6, 2, 40, 16, 5, *exec, Format::q8_0), integers(300, 200, 6, 2, 32, 32, 5, *exec, Format::q8_0);
  for (const SparseAttention& whole : {floats.args, floats.dense(), halves.args, halves.dense(), bytes.args,
                                       bytes.dense(), integers.args, integers.dense()}) {
    const std::vector<float> all = run(*exec, whole);
    const int64_t width = 6 * whole.head_dim;
    EXPECT_EQ(all, run(*GetParam().exec(1), whole));
    EXPECT_EQ(all, run(*GetParam().exec(3), whole));
    for (const int64_t step : {1, 3, 17})
      for (int64_t r = 0; r < whole.rows; r += step) {
        SparseAttention part = whole;
        part.rows = std::min(step, whole.rows - r);
        part.q += r * width;
        part.pos += r;
        if (part.ids != nullptr) {
          part.ids += r * 2 * 5;
          part.counts += r * 2;
        }
        ASSERT_EQ(run(*exec, part), std::vector<float>(all.begin() + r * width, all.begin() + (r + part.rows) * width))
            << r << " by " << step;
      }
  }
}

// Sequences with pages, shapes and choices of their own in one call, one of them without rows.
TEST_P(SparseAttentionTest, JobsOfOneCallDoNotTouchEachOther) {
  for (const int threads : {1, 2, 3}) {
    const auto exec = GetParam().exec(threads);
    const Case long_one(300, 40, 6, 2, 40, 16, 5, *exec), one_row(200, 1, 6, 2, 40, 16, 5, *exec),
        other(33, 33, 4, 1, 16, 7, 3, *exec);
    std::vector<SparseAttention> jobs = {one_row.dense(), other.args,       long_one.args,
                                         one_row.args,    long_one.dense(), other.args};
    jobs.back().rows = 0;
    std::vector<std::vector<float>> alone;
    std::deque<Guarded<float>> together;
    for (const SparseAttention& job : jobs) {
      alone.push_back(run(*exec, job));
      together.emplace_back(job.rows * job.n_heads * job.head_dim);
    }
    for (size_t i = 0; i < jobs.size(); ++i) jobs[i].o = together[i].data();
    sparse_attention(jobs, *exec);
    for (size_t i = 0; i < jobs.size(); ++i) {
      EXPECT_EQ(together[i].values(), alone[i]) << "job " << i << ", " << threads << " threads";
      together[i].expect_guards_intact("job " + std::to_string(i));
    }
  }
  sparse_attention(std::span<const SparseAttention>{}, *GetParam().exec());
}

// Sequences that begin with the same pages, as agents with the same instructions do, and go on with pages of their own:
// what they read together gives each the bits that it gets alone.
TEST_P(SparseAttentionTest, RowsThatShareTheirFirstPagesGetTheBitsThatTheyGetAlone) {
  for (const int threads : {1, 3}) {
    const auto exec = GetParam().exec(threads);
    for (const auto& [format, dim, block] : {std::tuple<Format, int64_t, int64_t>{Format::f32, 40, 16},
                                             {Format::f16, 40, 16},
                                             {Format::q8_0, 40, 16},
                                             {Format::q8_0, 64, 32}}) {
      std::deque<Case> cases;
      for (int64_t i = 0; i < 7; ++i) {
        const int64_t n_keys = 150 + 31 * i, rows = i == 6 ? 30 : 1 + i % 3;
        Case& c = cases.emplace_back(n_keys, rows, 6, 2, dim, block, 5, *exec, format);
        const size_t shared = i == 5 ? 0 : static_cast<size_t>(80 / block + i % 2);  // one has nothing in common
        std::copy_n(cases[0].pages.keys.begin(), shared, c.pages.keys.begin());
        std::copy_n(cases[0].pages.values.begin(), shared, c.pages.values.begin());
      }
      for (const bool dense : {false, true}) {
        std::vector<SparseAttention> jobs;
        std::vector<std::vector<float>> alone;
        std::deque<Guarded<float>> together;
        for (const Case& c : cases) {
          jobs.push_back(dense ? c.dense() : c.args);
          alone.push_back(run(*exec, jobs.back()));
          together.emplace_back(c.args.rows * 6 * dim);
        }
        for (size_t i = 0; i < jobs.size(); ++i) jobs[i].o = together[i].data();
        sparse_attention(jobs, *exec);
        for (size_t i = 0; i < jobs.size(); ++i) {
          EXPECT_EQ(together[i].values(), alone[i]) << "job " << i << ", " << threads << " threads, dense " << dense;
          together[i].expect_guards_intact("job " + std::to_string(i));
        }
      }
    }
  }
}

// What is stored behind a row's position can not reach it, not even NaN.
TEST_P(SparseAttentionTest, LaterKeysCannotTouchARow) {
  const auto exec = GetParam().exec();
  for (const auto& [format, dim, block] :
       {std::tuple<Format, int64_t, int64_t>{Format::f32, 16, 16}, {Format::q8_0, 16, 16}, {Format::q8_0, 32, 32}}) {
    const Case c(40, 30, 2, 1, dim, block, 3, *exec, format);
    const std::vector<float> before = run(*exec, c.dense());
    const std::vector<float> nan(size_t(20 * dim), std::numeric_limits<float>::quiet_NaN());
    std::vector<int64_t> later(20);
    std::iota(later.begin(), later.end(), 20);
    store_keys({nan.data(), later.data(), c.pages.keys.data(), 20, 1, dim, block, format}, *exec);
    store_values({nan.data(), later.data(), c.pages.values.data(), 20, 1, dim, block, format}, *exec);
    const std::vector<float> after = run(*exec, c.dense());
    EXPECT_EQ(std::vector<float>(after.begin(), after.begin() + 10 * 2 * dim),
              std::vector<float>(before.begin(), before.begin() + 10 * 2 * dim));
    EXPECT_TRUE(std::isnan(after[size_t(10 * 2 * dim)]));
  }
}

// A NaN in a query stays with it.
TEST_P(SparseAttentionTest, NanStaysInItsRow) {
  const auto exec = GetParam().exec();
  for (const Format format : {Format::f32, Format::q8_0}) {
    Case c(100, 3, 4, 1, 64, 32, 3, *exec, format);
    const std::vector<float> before = run(*exec, c.dense());
    c.q[64 * 5 + 7] = std::numeric_limits<float>::quiet_NaN();  // row 1, head 1
    const std::vector<float> after = run(*exec, c.dense());
    for (size_t i = 0; i < after.size(); ++i)
      if (i / 64 == 5)
        EXPECT_TRUE(std::isnan(after[i])) << i;
      else
        EXPECT_EQ(after[i], before[i]) << i;
  }
}

TEST(SparseAttentionContract, NamesWhatIsWrong) {
  Exec exec(1);
  std::vector<float> o(1000);
  const auto throws = [&](auto change) {
    Case c(40, 2, 4, 2, 8, 16, 3, exec);
    c.args.o = o.data();
    change(c);
    EXPECT_THROW(sparse_attention(c.args, exec), std::invalid_argument);
  };
  throws([](Case& c) { c.args.n_heads = 3; });
  throws([](Case& c) { c.args.n_kv_heads = 0; });
  throws([](Case& c) { c.pos[0] = 40; });
  throws([](Case& c) { c.args.scale = 0; });
  throws([](Case& c) { c.args.format = Format::q4_0; });
  throws([](Case& c) { c.counts[0] = 0; });
  throws([](Case& c) { c.counts[0] = 4; });
  throws([](Case& c) { c.args.ids = nullptr; });
  throws([](Case& c) { c.counts[0] = 2, c.ids[0] = 1, c.ids[1] = 1; });
  throws([](Case& c) { c.ids[0] = 3; });
  throws([](Case& c) { c.ids[0] = -1; });
}

}  // namespace
}  // namespace corvid::test
