// Keys of rows are stored by the kernel just before their blocks are chosen: the scan of index keys begins while it
// runs, and must not read those too early.
#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/gpu.h"
#include "kernels/store_heads/store_heads.h"
#include "tests/support/backends.h"
#include "tests/support/paged_case.h"

namespace corvid::test {
namespace {

// Stores the last rows of a sequence, whose places hold NaN, and lets them choose and attend; `waits`: with the GPU
// idle in between.
PagedResult store_and_choose(const PagedCase& c, bool waits) {
  const PagedShape& s = c.shape;
  kernels::Exec exec(kernels::Device::cuda);
  Arrays on(exec);
  const auto in = [&](const auto& values) { return on.in(values.data(), std::ssize(values)); };
  const int64_t rows = c.rows(), kv_width = s.n_kv_heads * s.head_dim;
  std::vector<std::byte> pool = c.pool;
  const std::vector<float> norm(size_t(s.head_dim), 1), index_norm(size_t(s.index_dim), 8);
  const auto bf16 = [](const std::vector<float>& values) {
    std::vector<uint16_t> out;
    for (const float value : values) out.push_back(kernels::f32_to_bf16(value));
    return out;
  };
  // Index keys along the queries: blocks that hold a row's own keys score higher than all others.
  const std::vector<uint16_t> k = bf16(random_floats(rows * kv_width, 3)), v = bf16(random_floats(rows * kv_width, 4)),
                              index_q(size_t(rows * s.n_index_heads * s.index_dim), kernels::f32_to_bf16(1)),
                              index_k(size_t(rows * s.index_dim), kernels::f32_to_bf16(1));
  std::vector<uint16_t> q_out(c.q.size()), index_q_out(index_q.size());
  std::vector<float> angles(size_t(rows * s.head_dim));
  PagedResult out{std::vector<int32_t>(size_t(rows * s.n_index_heads * s.top_k)),
                  std::vector<int32_t>(size_t(rows * s.n_index_heads)), std::vector<uint16_t>(c.q.size())};

  kernels::StoreHeads heads{};
  heads.q = {in(c.q), s.n_heads * s.head_dim};
  heads.k = {in(k), kv_width};
  heads.v = {in(v), kv_width};
  heads.index_q = {in(index_q), s.n_index_heads * s.index_dim};
  heads.index_k = {in(index_k), s.index_dim};
  heads.q_out = on.out(q_out.data(), std::ssize(q_out));
  heads.index_q_out = on.out(index_q_out.data(), std::ssize(index_q_out));
  heads.q_norm = heads.k_norm = in(norm);
  heads.index_q_norm = heads.index_k_norm = in(index_norm);
  float* const cos_sin = on.out(angles.data(), std::ssize(angles));
  heads.cos_sin = cos_sin;
  heads.seq = in(c.seq), heads.pos = in(c.pos), heads.pages = in(c.pages);
  heads.rows = rows, heads.max_pages = c.max_pages;
  heads.pages_base = on.out(pool.data(), std::ssize(pool));
  heads.page_bytes = c.page_bytes, heads.values_offset = c.value_offset, heads.index_offset = c.index_offset;
  heads.n_heads = s.n_heads, heads.n_kv_heads = s.n_kv_heads, heads.head_dim = heads.rotary_dim = s.head_dim;
  heads.n_index_heads = s.n_index_heads, heads.index_dim = s.index_dim, heads.block = s.block;
  heads.eps = 1e-6F;
  heads.index_e4m3 = s.format == kernels::IndexFormat::e4m3;

  const kernels::PagedRows batch{heads.seq, heads.pos, heads.pages, rows, c.max_pages, rows, c.max_keys, {}};
  kernels::PagedBlockSelect select =
      c.select(batch, heads.index_q_out, heads.pages_base, on.out(out.ids.data(), std::ssize(out.ids)),
               on.out(out.counts.data(), std::ssize(out.counts)));
  kernels::PagedAttention attend = c.attend(batch, heads.q_out, heads.pages_base, select.ids, select.counts,
                                            on.out(out.o.data(), std::ssize(out.o)));
  kernels::Buffer choosing(block_select_workspace(select), kernels::Device::cuda),
      attending(attention_workspace(attend, true) + 128, kernels::Device::cuda);
  select.workspace = choosing.as<std::byte>();
  attend.workspace = attending.as<std::byte>();
  kernels::cuda::row_angles({heads.pos, cos_sin, rows, s.head_dim, 1e6}, exec.stream());
  // Each lets the next kernel in at once, and then waits for the one before: so the rows are stored late. From a graph,
  // as queueing one by one is slower than the kernels are.
  constexpr int64_t kSlow = 256, kSlowWidth = 128;
  const std::vector<int32_t> far(size_t(kSlow), 2'000'000'003);
  kernels::Buffer slow(kSlow * kSlowWidth * 4, kernels::Device::cuda);
  const int32_t* const far_on = in(far);
  const auto store = [&] {
    for (int i = 0; i < 12; ++i)
      kernels::cuda::row_angles({far_on, slow.as<float>(), kSlow, kSlowWidth, 1e6}, exec.stream());
    kernels::cuda::store_heads(heads, exec.stream());
  };
  const auto choose = [&] { kernels::cuda::select_and_attend(select, attend, exec.stream()); };
  if (waits) {
    store();
    kernels::cuda::wait(exec.stream());
    choose();
  } else {
    kernels::Graph(exec.stream(), [&] { store(), choose(); }).launch(exec.stream());
    kernels::cuda::wait(exec.stream());
  }
  on.finish();
  return out;
}

TEST(SelectAfterStoreTest, KeysStoredJustBeforeAreSeen) {
  if (!kernels::cuda::available()) GTEST_SKIP() << "this machine has no GPU";
  for (const kernels::IndexFormat format : {kernels::IndexFormat::bf16, kernels::IndexFormat::e4m3})
    for (const int64_t rows : {1, 2, 9}) {
      const PagedShape s{64, 4, 128, 4, 128, 128, 16, 1, format};
      // The rows begin in the last block but one, which isn't local for the later ones.
      const int64_t n = 128 * 60 + std::max<int64_t>(1, rows - 4);
      std::vector<int32_t> pos;
      for (int64_t j = n - rows; j < n; ++j) pos.push_back(int32_t(j));
      PagedCase c(s, {n}, std::vector<int32_t>(size_t(rows), 0), pos, {}, 21);
      for (int64_t j = n - rows; j < n; ++j)
        std::fill_n(c.slot(0, j) + c.index_offset + j % 128 * 128 * (format == kernels::IndexFormat::bf16 ? 2 : 1),
                    128 * (format == kernels::IndexFormat::bf16 ? 2 : 1), std::byte{0x7f});
      const PagedResult wanted = store_and_choose(c, true);
      for (int i = 0; i < 20; ++i) ASSERT_EQ(store_and_choose(c, false), wanted) << rows << " rows, time " << i;
      if (rows == 1) continue;
      for (int64_t h = 0; h < s.n_index_heads; ++h) {
        const auto last = wanted.ids.end() - h * s.top_k;
        EXPECT_EQ(*(last - 2), 59) << "the block of the first rows is chosen by the last";
      }
    }
}

}  // namespace
}  // namespace corvid::test
