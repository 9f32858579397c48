// Norm, turn and store on the GPU against float64, and the positions' angles against rope_angles.
#include "kernels/store_heads/store_heads.h"

#include <gtest/gtest.h>

#include "kernels/format.h"
#include "kernels/rope/rope.h"
#include "tests/support/backends.h"
#include "tests/support/expect_close.h"

namespace corvid::test {
namespace {

using kernels::bf16_to_f32;
using kernels::f32_to_bf16;

struct Shape {
  int64_t n_heads, n_kv_heads, head_dim, n_index_heads, index_dim, rotary, block;
  bool whole_norms, e4m3, has_squares = false;
};

std::vector<uint16_t> random_halves(int64_t n, uint32_t seed) {
  std::vector<uint16_t> halves;
  for (const float value : random_floats(n, seed)) halves.push_back(f32_to_bf16(value));
  return halves;
}

// Heads of one row in float64: normalised over `all` of them or one by one, then turned.
std::vector<double> wanted_heads(const uint16_t* row, const std::vector<float>& weight, int64_t heads, int64_t dim,
                                 bool whole, const float* cos_sin, int64_t rotary, float eps) {
  std::vector<double> out(static_cast<size_t>(heads * dim));
  const auto at = [&](int64_t i) { return double(bf16_to_f32(row[i])); };
  for (int64_t h = 0; h < heads; ++h) {
    double sum = 0;
    for (int64_t i = 0; i < (whole ? heads * dim : dim); ++i) sum += std::pow(at(whole ? i : h * dim + i), 2);
    const double scale = 1 / std::sqrt(sum / double(whole ? heads * dim : dim) + double(eps));
    double* head = out.data() + h * dim;
    for (int64_t i = 0; i < dim; ++i)
      head[i] = at(h * dim + i) * scale * double(weight[size_t(whole ? h * dim + i : i)]);
    for (int64_t i = 0, half = rotary / 2; i < half; ++i) {
      const double a = head[i], b = head[half + i], c = double(cos_sin[i]), s = double(cos_sin[half + i]);
      head[i] = a * c - b * s;
      head[half + i] = b * c + a * s;
    }
  }
  return out;
}

class StoreHeadsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!kernels::cuda::available()) GTEST_SKIP() << "this machine has no cuda";
  }
};

TEST_F(StoreHeadsTest, AgreesWithFloat64AndWritesNothingElse) {
  const Shape shapes[] = {{64, 4, 128, 4, 128, 64, 128, false, false},   {6, 2, 64, 2, 64, 32, 128, false, true},
                          {8, 2, 32, 2, 32, 16, 16, false, false},       {6, 1, 128, 0, 0, 64, 128, true, false},
                          {6, 1, 128, 0, 0, 64, 128, true, false, true}, {32, 4, 128, 0, 0, 128, 64, false, false}};
  for (const Shape& s : shapes) {
    // Three sequences with pages all over the pool; row 2 is idle.
    const std::vector<int32_t> seq{0, 0, 0, 2, 1}, pos{0, 1, -1, int32_t(2 * s.block - 1), int32_t(s.block)};
    const std::vector<int32_t> pages{3, 1, 5, 2, 6, 4};  // [3 sequences, 2 pages]
    const auto rows = std::ssize(seq);
    const int64_t q_width = s.n_heads * s.head_dim, kv_width = s.n_kv_heads * s.head_dim,
                  iq_width = s.n_index_heads * s.index_dim;
    const auto q = random_halves(rows * q_width, 1), k = random_halves(rows * kv_width, 2),
               v = random_halves(rows * kv_width, 3), iq = random_halves(rows * iq_width, 4),
               ik = random_halves(rows * s.index_dim, 5);
    const auto q_norm = random_floats(s.whole_norms ? q_width : s.head_dim, 6),
               k_norm = random_floats(s.whole_norms ? kv_width : s.head_dim, 7),
               iq_norm = random_floats(s.index_dim, 8), ik_norm = random_floats(s.index_dim, 9);
    const int64_t kv_bytes = kv_width * s.block * 2, index_bytes = s.block * s.index_dim * (s.e4m3 ? 1 : 2);
    const int64_t page_bytes = 2 * kv_bytes + index_bytes, before = 128;  // of another layer
    constexpr std::byte kFill{0xa5};
    std::vector<std::byte> pool(static_cast<size_t>(before + 7 * page_bytes), kFill);
    std::vector<uint16_t> q_out(q.size()), iq_out(iq.size());
    std::vector<float> cos_sin(static_cast<size_t>(rows * s.rotary));

    kernels::Exec exec(kernels::Device::cuda);
    Arrays on(exec);
    const int32_t* const pos_on = on.in(pos.data(), rows);
    float* const cos_sin_on = on.out(cos_sin.data(), std::ssize(cos_sin));
    kernels::cuda::row_angles({pos_on, cos_sin_on, rows, s.rotary, 5e6}, exec.stream());
    kernels::StoreHeads a{};
    a.q = {on.in(q.data(), std::ssize(q)), q_width};
    a.k = {on.in(k.data(), std::ssize(k)), kv_width};
    a.v = {on.in(v.data(), std::ssize(v)), kv_width};
    if (s.n_index_heads > 0) {
      a.index_q = {on.in(iq.data(), std::ssize(iq)), iq_width};
      a.index_k = {on.in(ik.data(), std::ssize(ik)), s.index_dim};
    }
    a.q_out = on.out(q_out.data(), std::ssize(q_out));
    a.index_q_out = on.out(iq_out.data(), std::ssize(iq_out));
    a.q_norm = on.in(q_norm.data(), std::ssize(q_norm));
    a.k_norm = on.in(k_norm.data(), std::ssize(k_norm));
    a.index_q_norm = on.in(iq_norm.data(), std::ssize(iq_norm));
    a.index_k_norm = on.in(ik_norm.data(), std::ssize(ik_norm));
    a.cos_sin = cos_sin_on;
    a.seq = on.in(seq.data(), rows);
    a.pos = pos_on;
    a.pages = on.in(pages.data(), std::ssize(pages));
    a.rows = rows;
    a.max_pages = 2;
    a.pages_base = on.out(pool.data(), std::ssize(pool)) + before;
    a.page_bytes = page_bytes;
    a.values_offset = kv_bytes;
    a.index_offset = 2 * kv_bytes;
    a.n_heads = s.n_heads, a.n_kv_heads = s.n_kv_heads, a.head_dim = s.head_dim, a.n_index_heads = s.n_index_heads;
    a.index_dim = s.index_dim, a.rotary_dim = s.rotary, a.block = s.block, a.eps = 1e-6F;
    a.whole_norms = s.whole_norms, a.index_e4m3 = s.e4m3;
    kernels::Buffer parts(rows * kernels::kHeadSquares * 4, kernels::Device::cuda),
        sums(parts.bytes(), kernels::Device::cuda);
    if (s.has_squares) {
      kernels::cuda::head_squares({a.q, a.k, q_width, kv_width, parts.as(), sums.as(), rows}, exec.stream());
      a.squares = parts.as();
    }
    kernels::cuda::store_heads(a, exec.stream());
    on.finish();

    std::vector<int64_t> host_pos(pos.begin(), pos.end());
    std::ranges::replace(host_pos, -1, 0);
    std::vector<double> angles(cos_sin.size());
    kernels::ref::rope_angles({host_pos.data(), nullptr, rows, s.rotary, 5e6}, angles.data());
    expect_close(cos_sin, angles, kernels::rope_angles_tolerance(), std::vector<double>(angles.size(), 1), "angles");

    const auto close = [&](const std::vector<float>& found, const std::vector<double>& wanted, double relative,
                           const std::string& name, double least = 0) {
      std::vector<double> scale;
      for (const double value : wanted)
        scale.push_back(std::fabs(value) * relative + kernels::store_heads_tolerance() * 10 + least);
      expect_close(found, wanted, 1, scale, name);
    };
    size_t written = 0;
    for (int64_t r = 0; r < rows; ++r) {
      const float* turn = cos_sin.data() + r * s.rotary;
      const auto row_of = [&](const std::vector<uint16_t>& halves, int64_t width) {
        std::vector<float> values;
        for (int64_t i = 0; i < width; ++i) values.push_back(bf16_to_f32(halves[size_t(r * width + i)]));
        return values;
      };
      const auto heads = [&](const std::vector<uint16_t>& from, const std::vector<float>& norm, int64_t n, int64_t dim,
                             bool whole) {
        return wanted_heads(from.data() + r * n * dim, norm, n, dim, whole, turn, s.rotary, 1e-6F);
      };
      close(row_of(q_out, q_width), heads(q, q_norm, s.n_heads, s.head_dim, s.whole_norms), 0x1p-8, "q");
      if (s.n_index_heads > 0)
        close(row_of(iq_out, iq_width), heads(iq, iq_norm, s.n_index_heads, s.index_dim, false), 0x1p-8, "index q");
      if (pos[size_t(r)] < 0) continue;
      const int32_t slot = pages[size_t(seq[size_t(r)] * 2 + pos[size_t(r)] / s.block)];
      const int64_t at = pos[size_t(r)] % s.block;
      const std::byte* page = pool.data() + before + slot * page_bytes;
      const auto stored = [&](int64_t offset, int64_t n, int64_t dim) {
        std::vector<float> values;
        for (int64_t h = 0; h < n; ++h)
          for (int64_t i = 0; i < dim; ++i)
            values.push_back(
                bf16_to_f32(reinterpret_cast<const uint16_t*>(page + offset)[(h * s.block + at) * dim + i]));
        return values;
      };
      close(stored(0, s.n_kv_heads, s.head_dim), heads(k, k_norm, s.n_kv_heads, s.head_dim, s.whole_norms), 0x1p-8,
            "k");
      EXPECT_EQ(stored(kv_bytes, s.n_kv_heads, s.head_dim), row_of(v, kv_width));
      written += size_t(2 * kv_width * 2);
      if (s.n_index_heads == 0) continue;
      std::vector<float> index = s.e4m3 ? std::vector<float>() : stored(2 * kv_bytes, 1, s.index_dim);
      for (int64_t i = 0; s.e4m3 && i < s.index_dim; ++i)
        index.push_back(kernels::f8_e4m3_to_f32(uint8_t(page[2 * kv_bytes + at * s.index_dim + i])));
      close(index, heads(ik, ik_norm, 1, s.index_dim, false), s.e4m3 ? 0x1p-4 : 0x1p-8, "index k",
            s.e4m3 ? 0x1p-10 : 0);  // half of e4m3's least number
      written += size_t(s.index_dim * (s.e4m3 ? 1 : 2));
    }
    // As many bytes changed as were to be written, but for those that happen to be as before.
    const auto changed = size_t(std::ranges::count_if(pool, [](std::byte b) { return b != kFill; }));
    EXPECT_LE(changed, written);
    EXPECT_GE(changed, written * 9 / 10);
  }
}

TEST_F(StoreHeadsTest, GatheredRowsAreThoseAskedFor) {
  const std::vector<float> in = random_floats(10 * 37, 1);
  const std::vector<int32_t> rows{9, 0, 4};
  std::vector<float> out(3 * 37);
  kernels::Exec exec(kernels::Device::cuda);
  Arrays on(exec);
  kernels::cuda::gather_rows({on.in(in.data(), 370), on.in(rows.data(), 3), on.out(out.data(), 111), 3, 37 * 4},
                             exec.stream());
  on.finish();
  for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(out[i], in[size_t(rows[i / 37]) * 37 + i % 37]);
}

TEST_F(StoreHeadsTest, MadeUpNumbersHaveTheDeviationAskedFor) {
  constexpr int64_t kCount = 100'000;
  std::vector<float> out(2 * kCount);
  kernels::Exec exec(kernels::Device::cuda);
  Arrays on(exec);
  kernels::cuda::make_up({reinterpret_cast<std::byte*>(on.out(out.data(), 2 * kCount)), nullptr, 2, kCount * 4, kCount,
                          3, 7, kernels::MadeUp::Kind::f32},
                         exec.stream());
  on.finish();
  double sum = 0, squares = 0;
  for (const float value : out) sum += double(value), squares += double(value) * double(value);
  EXPECT_NEAR(sum / double(out.size()), 0, 0.05);
  EXPECT_NEAR(std::sqrt(squares / double(out.size())), 3, 0.05);
  EXPECT_NE(out[0], out[kCount]);
}

}  // namespace
}  // namespace corvid::test
