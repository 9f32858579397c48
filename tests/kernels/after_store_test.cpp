// Keys and values of rows are stored by the kernel just before their blocks are chosen and attended to: what reads them
// begins while it runs, and must not read those too early. Here that kernel lets the next one begin and stores 100 us
// later, by which time whoever reads without waiting has read huge numbers (NaN in e4m3).
#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/feed_forward/feed_forward.h"
#include "kernels/gpu.h"
#include "kernels/store_heads/store_heads.h"
#include "tests/support/backends.h"
#include "tests/support/device_weights.h"
#include "tests/support/late_copy.h"
#include "tests/support/paged_case.h"

namespace corvid::test {
namespace {

using kernels::IndexFormat;

enum class Reader { select_and_attend, attention, store_and_attend };
enum class Late {
  nothing,     // the GPU is idle between storing and reading
  projection,  // late are the rows of q, k, v and the index branch, which store_heads() or store_and_attend() reads
  storing      // late is what store_heads() has stored
};

struct Outcome {
  PagedResult result;
  std::vector<std::byte> pool;       // as it is in the end
  std::vector<uint16_t> q, index_q;  // as store_heads() gives them
};

// The last `rows` of a sequence of n keys, whose places hold huge numbers.
struct Rows {
  PagedCase paged;
  int64_t n, rows;

  Rows(const PagedShape& s, int64_t n_, int64_t rows_)
      : paged(s, {n_}, std::vector<int32_t>(size_t(rows_), 0), positions(n_, rows_), {}, 21), n(n_), rows(rows_) {
    for (int64_t j = n - rows; j < n; ++j) {
      std::byte* const page = paged.slot(0, j);
      const int64_t head = s.head_dim * 2, index = s.index_dim * (s.format == IndexFormat::bf16 ? 2 : 1);
      std::fill_n(page + paged.index_offset + j % s.block * index, index, std::byte{0x7f});
      for (int64_t g = 0; g < s.n_kv_heads; ++g)
        for (const int64_t part : {int64_t{0}, paged.value_offset})
          std::fill_n(page + part + (g * s.block + j % s.block) * head, head, std::byte{0x7f});
    }
  }
  static std::vector<int32_t> positions(int64_t n, int64_t rows) {
    std::vector<int32_t> pos;
    for (int64_t j = n - rows; j < n; ++j) pos.push_back(int32_t(j));
    return pos;
  }

  // Stores them and lets them read; `stored` is what Late::nothing gave.
  Outcome run(Reader reader, Late late, const Outcome* stored = nullptr) const {
    const PagedCase& c = paged;
    const PagedShape& s = c.shape;
    kernels::Exec exec(kernels::Device::cuda);
    Arrays on(exec);
    const auto in = [&](const auto& values) { return on.in(values.data(), std::ssize(values)); };
    const int64_t q_width = s.n_heads * s.head_dim, kv_width = s.n_kv_heads * s.head_dim,
                  index_q_width = s.n_index_heads * s.index_dim;
    std::vector<DeviceCopy> copies;
    std::vector<std::vector<uint16_t>> nans;
    // What a kernel under test reads: `values`, from the beginning or late.
    const auto projected = [&](const std::vector<uint16_t>& values) -> const uint16_t* {
      if (late != Late::projection) return in(values);
      nans.emplace_back(values.size(), uint16_t{0x7fc0});
      uint16_t* const to = on.out(nans.back().data(), std::ssize(values));
      copies.push_back({to, in(values), std::ssize(values) * 2});
      return to;
    };
    const std::vector<float> norm(size_t(s.head_dim), 1), index_norm(size_t(s.index_dim), 8);
    // Index keys along the queries: blocks that hold a row's own keys score higher than all others.
    const std::vector<uint16_t> k = to_bf16(random_floats(rows * kv_width, 3)),
                                v = to_bf16(random_floats(rows * kv_width, 4)),
                                index_q(size_t(rows * index_q_width), kernels::f32_to_bf16(1)),
                                index_k(size_t(rows * s.index_dim), kernels::f32_to_bf16(1));
    Outcome out{{std::vector<int32_t>(size_t(rows * s.n_index_heads * s.top_k)),
                 std::vector<int32_t>(size_t(rows * s.n_index_heads)), std::vector<uint16_t>(c.q.size())},
                c.pool,
                std::vector<uint16_t>(c.q.size(), 0x7fc0),
                std::vector<uint16_t>(index_q.size(), 0x7fc0)};
    std::vector<float> angles(size_t(rows * s.head_dim));

    kernels::StoreHeads heads{};
    heads.q = {projected(c.q), q_width};
    heads.k = {projected(k), kv_width};
    heads.v = {projected(v), kv_width};
    if (reader == Reader::select_and_attend) {
      heads.index_q = {projected(index_q), index_q_width};
      heads.index_k = {projected(index_k), s.index_dim};
    }
    heads.q_out = on.out(out.q.data(), std::ssize(out.q));
    heads.index_q_out = on.out(out.index_q.data(), std::ssize(out.index_q));
    heads.q_norm = heads.k_norm = in(norm);
    heads.index_q_norm = heads.index_k_norm = in(index_norm);
    float* const cos_sin = on.out(angles.data(), std::ssize(angles));
    heads.cos_sin = cos_sin;
    heads.seq = in(c.seq), heads.pos = in(c.pos), heads.pages = in(c.pages);
    heads.rows = rows, heads.max_pages = c.max_pages;
    heads.pages_base = on.out(out.pool.data(), std::ssize(out.pool));
    heads.page_bytes = c.page_bytes, heads.values_offset = c.value_offset, heads.index_offset = c.index_offset;
    heads.n_heads = s.n_heads, heads.n_kv_heads = s.n_kv_heads, heads.head_dim = heads.rotary_dim = s.head_dim;
    heads.n_index_heads = s.n_index_heads, heads.index_dim = s.index_dim, heads.block = s.block;
    heads.eps = 1e-6F;
    heads.index_e4m3 = s.format == IndexFormat::e4m3;
    if (late == Late::storing) {
      copies.push_back({heads.q_out, in(stored->q), std::ssize(stored->q) * 2});
      copies.push_back({heads.index_q_out, in(stored->index_q), std::ssize(stored->index_q) * 2});
      const std::byte* const pool = in(stored->pool);
      for (int64_t b = (n - rows) / s.block; b <= (n - 1) / s.block; ++b) {
        const int64_t at = c.pages[size_t(b)] * c.page_bytes;
        copies.push_back({heads.pages_base + at, pool + at, c.page_bytes});
      }
    }

    const kernels::PagedRows batch{heads.seq, heads.pos, heads.pages, rows, c.max_pages, rows, c.max_keys, {}};
    kernels::PagedBlockSelect select =
        c.select(batch, heads.index_q_out, heads.pages_base, on.out(out.result.ids.data(), std::ssize(out.result.ids)),
                 on.out(out.result.counts.data(), std::ssize(out.result.counts)));
    kernels::PagedAttention attend = c.attend(batch, heads.q_out, heads.pages_base, select.ids, select.counts,
                                              on.out(out.result.o.data(), std::ssize(out.result.o)));
    if (reader != Reader::select_and_attend) attend.ids = attend.counts = nullptr;
    kernels::Buffer choosing(block_select_workspace(select), kernels::Device::cuda),
        attending(attention_workspace(attend, attend.ids != nullptr) + 128, kernels::Device::cuda);
    select.workspace = choosing.as<std::byte>();
    attend.workspace = attending.as<std::byte>();
    kernels::cuda::row_angles({heads.pos, cos_sin, rows, s.head_dim, 1e6}, exec.stream());
    const auto read = [&] {
      if (reader == Reader::select_and_attend)
        kernels::cuda::select_and_attend(select, attend, exec.stream());
      else
        kernels::cuda::attention(attend, exec.stream());
    };
    if (late == Late::nothing) {
      kernels::cuda::store_heads(heads, exec.stream());
      kernels::cuda::wait(exec.stream());
      read();
    } else {
      // From a graph, as queueing one by one takes as long as the kernels.
      const kernels::Graph graph(exec.stream(), [&] {
        copy_late(copies, exec.stream());
        if (reader == Reader::store_and_attend) return kernels::cuda::store_and_attend(heads, attend, exec.stream());
        if (late == Late::projection) kernels::cuda::store_heads(heads, exec.stream());
        read();
      });
      kernels::cuda::wait(exec.stream());
      graph.launch(exec.stream());
      kernels::cuda::wait(exec.stream());
    }
    on.finish();
    return out;
  }

  void expect_the_same(Reader reader, std::initializer_list<Late> lates, const std::string& name) const {
    const Outcome wanted = run(reader == Reader::store_and_attend ? Reader::attention : reader, Late::nothing);
    for (const Late late : lates)
      for (int i = 0; i < 3; ++i) {
        const Outcome found = run(reader, late, &wanted);
        const std::string at = name + (late == Late::storing ? ", stored late" : ", projected late");
        EXPECT_EQ(found.result.ids, wanted.result.ids) << at;
        EXPECT_EQ(found.result.counts, wanted.result.counts) << at;
        EXPECT_TRUE(found.result.o == wanted.result.o) << at;
        EXPECT_TRUE(found.pool == wanted.pool) << at;
      }
  }
};

class AfterStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!kernels::cuda::available()) GTEST_SKIP() << "this machine has no GPU";
  }
};

// Without it the others say nothing.
TEST_F(AfterStoreTest, TheNextKernelBeginsBeforeTheStore) {
  const std::vector<int32_t> stored(1024, 1);
  std::vector<int32_t> place(stored.size(), 2), early(stored.size(), 3);
  kernels::Exec exec(kernels::Device::cuda);
  Arrays on(exec);
  const auto bytes = std::ssize(stored) * 4;
  int32_t* const place_on = on.out(place.data(), std::ssize(place));
  const DeviceCopy late{place_on, on.in(stored.data(), std::ssize(stored)), bytes};
  const DeviceCopy before{on.out(early.data(), std::ssize(early)), place_on, bytes};
  const kernels::Graph graph(exec.stream(), [&] {
    copy_late({&late, 1}, exec.stream());
    copy_early({&before, 1}, exec.stream());
  });
  graph.launch(exec.stream());
  on.finish();
  EXPECT_EQ(place, stored);
  if (early == stored) GTEST_SKIP() << "kernels run one after the other here, as a sanitizer makes them";
  EXPECT_EQ(early, std::vector<int32_t>(stored.size(), 2));
}

TEST_F(AfterStoreTest, ChoosingSeesKeysStoredJustBefore) {
  for (const IndexFormat format : {IndexFormat::bf16, IndexFormat::e4m3})
    for (const int64_t rows : {1, 2, 9}) {
      // The rows begin in the last block but one, which isn't local for the later ones.
      const Rows case_of({64, 4, 128, 4, 128, 128, 16, 1, format}, int64_t{128} * 60 + std::max<int64_t>(1, rows - 4),
                         rows);
      case_of.expect_the_same(Reader::select_and_attend, {Late::projection, Late::storing},
                              std::to_string(rows) + " rows");
      if (rows == 1) continue;
      const PagedResult found = case_of.run(Reader::select_and_attend, Late::nothing).result;
      for (int64_t h = 0; h < 4; ++h)
        EXPECT_EQ(*(found.ids.end() - h * 16 - 2), 59) << "the block of the first rows is chosen by the last";
    }
}

// Pieces of 16 keys are read before the wait where they are whole, and their last keys not the rows' own.
TEST_F(AfterStoreTest, DenseAttentionSeesKeysStoredJustBefore) {
  for (const int64_t head_dim : {64, 128})
    for (const auto& [n, rows] : std::initializer_list<std::pair<int64_t, int64_t>>{{96, 1}, {97, 2}, {101, 9}})
      Rows({16, 2, head_dim, 2, 64, 64, 4}, n, rows)
          .expect_the_same(Reader::attention, {Late::projection, Late::storing}, std::to_string(n) + " keys");
}

// In one launch, and of more keys than that serves.
TEST_F(AfterStoreTest, ARowThatStoresAndAttendsSeesWhatWasProjectedJustBefore) {
  for (const int64_t n : {96, 97, 1025, 1664})
    Rows({32, 4, 128, 4, 64, 128, 4}, n, 1)
        .expect_the_same(Reader::store_and_attend, {Late::projection}, std::to_string(n) + " keys");
}

// One row's experts begin while they are still being chosen, a dense layer while its row is being made.
TEST_F(AfterStoreTest, ExpertsSeeWhatIsMadeJustBefore) {
  constexpr int64_t kDim = 2048, kFfn = 768, kExperts = 4, kTopK = 2;
  for (const kernels::DeviceFormat format : {kernels::DeviceFormat::bf16, kernels::DeviceFormat::q8_0})
    for (const bool is_routed : {true, false}) {
      const int64_t n = is_routed ? kExperts : 1;
      const DeviceWeights gate(format, kFfn, kDim, 1, n), up(format, kFfn, kDim, 2, n), down(format, kDim, kFfn, 3, n);
      const std::vector<uint16_t> h = to_bf16(random_floats(kDim, 4));
      const std::vector<int32_t> ids{1, 3, 0, 0};  // kTopK, and what fills 16 bytes up
      const std::vector<float> weights{0.25F, 0.75F, 0, 0};
      std::vector<float> found[2];
      for (const bool is_late : {false, true}) {
        std::vector<uint16_t> early_h = h;
        std::vector<int32_t> early_ids{0, 2, 0, 0};
        std::vector<float> early_weights{1, 1, 0, 0};
        if (!is_routed) std::ranges::fill(early_h, uint16_t{0x7fc0});
        kernels::Exec exec(kernels::Device::cuda);
        Arrays on(exec);
        std::vector<float>& x = found[is_late ? 1 : 0] = std::vector<float>(size_t(kDim), 1);
        std::vector<DeviceCopy> copies;
        const auto made = [&](auto& early, const auto& late) {
          auto* const to = on.out(early.data(), std::ssize(early));
          copies.push_back({to, on.in(late.data(), std::ssize(late)), std::ssize(late) * int64_t{sizeof(late[0])}});
          return to;
        };
        kernels::FeedForward a{};
        a.h = made(early_h, h);
        const int32_t* const chosen = made(early_ids, ids);
        const float* const weighed = made(early_weights, weights);
        a.experts = {gate.view, up.view, down.view};
        a.x = on.out(x.data(), std::ssize(x));
        a.rows = 1, a.top_k = is_routed ? kTopK : 1;
        if (is_routed) a.ids = chosen, a.weights = weighed;
        kernels::Buffer workspace(feed_forward_workspace_bytes(a, 1), kernels::Device::cuda);
        const kernels::Graph graph(exec.stream(), [&] {
          copy_late(copies, exec.stream());
          if (is_late) kernels::cuda::feed_forward(a, workspace.as<void>(), exec.stream());
        });
        graph.launch(exec.stream());
        exec.wait();
        if (!is_late) kernels::cuda::feed_forward(a, workspace.as<void>(), exec.stream());
        on.finish();
      }
      EXPECT_TRUE(found[1] == found[0]) << int(format) << (is_routed ? ", routed" : ", dense");
    }
}

}  // namespace
}  // namespace corvid::test
