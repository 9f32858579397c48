#include "kernels/feed_forward/feed_forward.h"

#include <gtest/gtest.h>

#include "kernels/gpu.h"
#include "kernels/route/route_rows.h"
#include "tests/support/device_weights.h"
#include "tests/support/expect_close.h"
#include "tests/support/guarded.h"

namespace corvid::test {
namespace {

using kernels::Activation;
using kernels::Buffer;
using kernels::Device;
using kernels::DeviceFormat;
using kernels::Exec;
using kernels::FeedForward;

struct Weights {
  DeviceWeights gate, up, down;

  Weights(DeviceFormat format, DeviceFormat down_format, int64_t dim, int64_t ffn, int64_t n_experts, uint32_t seed)
      : gate(format, ffn, dim, seed, n_experts),
        up(format, ffn, dim, seed + 1, n_experts),
        down(down_format, dim, ffn, seed + 2, n_experts) {}
  FeedForward::Mlp view() const { return {gate.view, up.view, down.view}; }
};

struct Choice {
  std::vector<int32_t> ids;
  std::vector<float> weights;
};
// top_k different experts for each row, ascending; a few experts are popular.
Choice choice(int64_t rows, int64_t top_k, int64_t n_experts, uint32_t seed) {
  std::mt19937 bits(seed);
  Choice c{{}, random_floats(rows * top_k, seed)};
  for (int64_t r = 0; r < rows; ++r) {
    std::vector<int32_t> ids;
    while (std::ssize(ids) < top_k) {
      const auto id = static_cast<int32_t>(bits() % 3 == 0 ? bits() % uint32_t(top_k) : bits() % uint32_t(n_experts));
      if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
    }
    std::sort(ids.begin(), ids.end());
    c.ids.insert(c.ids.end(), ids.begin(), ids.end());
  }
  return c;
}

double activated(double g, double u, const Activation& act) {
  const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  if (act.kind == Activation::Kind::silu) return u * g * sigmoid(g);
  g = std::min(g, double(act.limit));
  return (std::clamp(u, -double(act.limit), double(act.limit)) + 1) * g * sigmoid(double(act.alpha) * g);
}

// The largest of the 32 numbers that number i of n is among.
template <class T>
double largest_near(const T* x, int64_t n, int64_t i) {
  double most = 0;
  for (int64_t j = i - i % 32; j < std::min(n, i - i % 32 + 32); ++j) most = std::max(most, std::fabs(double(x[j])));
  return most;
}

// y += weight * (m Wdown^T) with m rounded to bf16, and size += what an error may be: that of m, `each` of every
// product, which is float32's, or that of weights which are rounded to bf16, and err as luck has it; and products.h's
// rounding of h and of m.
void add_expert(const float* h, const Weights& w, int64_t e, double weight, const Activation& act, int64_t rows,
                double* y, double* size) {
  const int64_t dim = w.gate.k, ffn = w.gate.n;
  const double each = rows > kernels::kStreamRows ? 1e-3 : 1e-5;
  const double of_h = kernels::products_rounding(w.gate.view.format, rows),
               of_m = kernels::products_rounding(w.down.view.format, rows);
  std::vector<double> m(static_cast<size_t>(ffn)), m_size(m.size()), near(static_cast<size_t>(dim));
  for (int64_t i = 0; i < dim; ++i) near[size_t(i)] = largest_near(h, dim, i);
  for (int64_t f = 0; f < ffn; ++f) {
    double g = 0, u = 0, sizes = 0;
    for (int64_t i = 0; i < dim; ++i) {
      const auto at = size_t((e * ffn + f) * dim + i);
      g += double(h[i]) * w.gate.values[at], u += double(h[i]) * w.up.values[at];
      sizes += (each * std::fabs(h[i]) + of_h * near[size_t(i)]) * (w.gate.sizes[at] + w.up.sizes[at]);
    }
    const double exact = activated(g, u, act);
    m[size_t(f)] = kernels::bf16_to_f32(kernels::f32_to_bf16(float(exact)));
    // Another number than the reference's when it is nearly between two: half a unit of bf16, and float32's error.
    m_size[size_t(f)] = std::fabs(exact) * 0x1p-7 + (1 + std::fabs(exact)) * sizes;
  }
  std::vector<double> allowed(m.size());
  for (int64_t f = 0; f < ffn; ++f)
    allowed[size_t(f)] = each * std::fabs(m[size_t(f)]) + of_m * largest_near(m.data(), ffn, f);
  for (int64_t i = 0; i < dim; ++i)
    for (int64_t f = 0; f < ffn; ++f) {
      const auto at = size_t((e * dim + i) * ffn + f);
      y[i] += weight * m[size_t(f)] * w.down.values[at];
      size[i] += std::fabs(weight) * (m_size[size_t(f)] + allowed[size_t(f)]) * w.down.sizes[at];
    }
}

class FeedForwardTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!kernels::cuda::available()) GTEST_SKIP() << "this machine has no GPU";
    exec_ = std::make_unique<Exec>(Device::cuda);
  }
  std::vector<float> run(const std::vector<uint16_t>& h, const std::vector<float>& x, const Weights& experts,
                         const Weights* shared, const Choice* choice, int64_t rows, int64_t top_k,
                         const Activation& act, int64_t first_expert = 0, bool is_rounded = false) {
    Guarded<float> y(x, 0);
    Arrays on(*exec_);
    FeedForward a{.h = on.in(h.data(), std::ssize(h)),
                  .experts = experts.view(),
                  .shared = shared == nullptr ? FeedForward::Mlp{} : shared->view(),
                  .ids = choice == nullptr ? nullptr : on.in(choice->ids.data(), rows * top_k),
                  .weights = choice == nullptr ? nullptr : on.in(choice->weights.data(), rows * top_k),
                  .x = on.out(y.data(), y.size()),
                  .rows = rows,
                  .top_k = top_k,
                  .first_expert = first_expert,
                  .act = act,
                  .is_rounded = is_rounded};
    Buffer workspace(kernels::feed_forward_workspace_bytes(a, rows) + 256, Device::cuda);
    std::vector<char> poison(size_t(workspace.bytes()), char(0xff));  // NaN
    kernels::cuda::to_device(workspace.as<void>(), poison.data(), workspace.bytes(), exec_->stream());
    kernels::cuda::feed_forward(a, workspace.as<void>(), exec_->stream());
    on.finish();
    y.expect_guards_intact("feed_forward");
    return y.values();
  }
  void compare(const Weights& experts, const Weights* shared, bool routed, int64_t rows, int64_t top_k,
               const Activation& act, int64_t first_expert, const std::string& name) {
    const int64_t dim = experts.gate.k;
    const std::vector<uint16_t> h = to_bf16(random_floats(rows * dim, uint32_t(rows + 1)));
    const std::vector<float> hf = from_bf16(h), x = random_floats(rows * dim, 8);
    const Choice c = choice(rows, top_k, experts.gate.n_experts + first_expert, uint32_t(rows));
    std::vector<double> wanted(x.begin(), x.end()), size(x.size());
    for (size_t i = 0; i < x.size(); ++i) size[i] = 1e-6 * std::fabs(x[i]);
    for (int64_t r = 0; r < rows; ++r) {
      double *y = wanted.data() + r * dim, *s = size.data() + r * dim;
      for (int64_t i = 0; i < top_k; ++i) {
        const int64_t id = routed ? c.ids[size_t(r * top_k + i)] - first_expert : 0;
        if (id < 0 || id >= experts.gate.n_experts) continue;
        add_expert(hf.data() + r * dim, experts, id, routed ? c.weights[size_t(r * top_k + i)] : 1, act, rows, y, s);
      }
      if (shared != nullptr) add_expert(hf.data() + r * dim, *shared, 0, 1, act, rows, y, s);
    }
    expect_close(run(h, x, experts, shared, routed ? &c : nullptr, rows, top_k, act, first_expert), wanted, 1, size,
                 name + ", " + std::to_string(rows) + " rows");
  }
  std::unique_ptr<Exec> exec_;
};

constexpr Activation kSilu{Activation::Kind::silu}, kSwigluOai{};

TEST_F(FeedForwardTest, RoutedExpertsAgreeWithFloat64InEveryFormat) {
  for (const DeviceFormat format : kDeviceFormats) {
    const Weights experts(format, format, 512, 256, 6, 1), shared(format, format, 512, 256, 1, 11);
    for (const int64_t rows : {1, 8, 40, 170})
      compare(experts, rows % 2 == 0 ? &shared : nullptr, true, rows, 3, rows % 2 == 0 ? kSwigluOai : kSilu, 0,
              "format " + std::to_string(int(format)));
  }
}

TEST_F(FeedForwardTest, FormatsAndWidthsMayDiffer) {
  const Weights experts(DeviceFormat::q4_k, DeviceFormat::q6_k, 256, 256, 4, 1);
  const Weights wider(DeviceFormat::q8_0, DeviceFormat::bf16, 256, 416, 1, 5);
  for (const int64_t rows : {1, 30, 150}) compare(experts, &wider, true, rows, 2, kSwigluOai, 0, "mixed");
}

TEST_F(FeedForwardTest, AwkwardSizesAgreeWithFloat64) {
  const Weights experts(DeviceFormat::bf16, DeviceFormat::bf16, 88, 40, 5, 1),
      shared(DeviceFormat::bf16, DeviceFormat::bf16, 88, 40, 1, 5);
  for (const int64_t rows : {1, 7, 19, 129}) compare(experts, &shared, true, rows, 2, kSilu, 0, "awkward");
  const Weights fp8(DeviceFormat::f8_e4m3, DeviceFormat::f8_e4m3, 200, 136, 3, 1);
  for (const int64_t rows : {1, 7, 140}) compare(fp8, nullptr, true, rows, 1, kSilu, 0, "awkward fp8");
}

TEST_F(FeedForwardTest, DenseLayersAgreeWithFloat64) {
  for (const DeviceFormat format : kDeviceFormats) {
    const Weights dense(format, format, 256, 768, 1, 3);
    for (const int64_t rows : {1, 9, 33, 140}) compare(dense, nullptr, false, rows, 1, kSwigluOai, 0, "dense");
  }
}

TEST_F(FeedForwardTest, OtherGpusExpertsAddNothing) {
  const Weights experts(DeviceFormat::bf16, DeviceFormat::bf16, 64, 64, 4, 1);
  for (const int64_t rows : {1, 12, 150}) compare(experts, nullptr, true, rows, 3, kSilu, 4, "second half");
}

TEST_F(FeedForwardTest, ManyRowsOfManyExperts) {
  const Weights experts(DeviceFormat::q8_0, DeviceFormat::q8_0, 128, 64, 70, 1),
      shared(DeviceFormat::q8_0, DeviceFormat::q8_0, 128, 64, 1, 5);
  compare(experts, &shared, true, 1000, 8, kSilu, 0, "many");
}

TEST_F(FeedForwardTest, ManyRowsOfAnExpert) {
  // More than one tile for an expert.
  const Weights experts(DeviceFormat::bf16, DeviceFormat::bf16, 192, 320, 7, 1);
  for (const int64_t rows : {300, 700}) compare(experts, nullptr, true, rows, 2, kSilu, 0, "many of one");
}

TEST_F(FeedForwardTest, GivesARowTheSameBitsInAnyCompany) {
  for (const DeviceFormat format : kDeviceFormats) {
    const int64_t dim = 512, top_k = 3;
    const Weights experts(format, format, dim, 256, 9, 1), shared(format, format, dim, 256, 1, 11);
    const auto same_as_in = [&](int64_t rows, std::initializer_list<int64_t> steps) {
      const std::vector<uint16_t> h = to_bf16(random_floats(rows * dim, 3));
      const std::vector<float> x = random_floats(rows * dim, 4);
      const Choice c = choice(rows, top_k, 9, 5);
      const std::vector<float> all = run(h, x, experts, &shared, &c, rows, top_k, kSilu);
      for (const int64_t step : steps)
        for (int64_t r = 0; r + step <= rows; r += step) {
          const Choice part{{c.ids.begin() + r * top_k, c.ids.begin() + (r + step) * top_k},
                            {c.weights.begin() + r * top_k, c.weights.begin() + (r + step) * top_k}};
          ASSERT_EQ(
              run({h.begin() + r * dim, h.begin() + (r + step) * dim},
                  {x.begin() + r * dim, x.begin() + (r + step) * dim}, experts, &shared, &part, step, top_k, kSilu),
              std::vector<float>(all.begin() + r * dim, all.begin() + (r + step) * dim))
              << "format " << int(format) << ", " << step << " rows at " << r;
        }
    };
    same_as_in(kernels::kStreamRows, {1, 5, 31, 64});
    same_as_in(600, {140, 300});
  }
}

// A dense layer so wide that several warps have parts of an output, in one row and in more.
TEST_F(FeedForwardTest, ADenseLayersRowHasTheSameBitsInAnyCompany) {
  for (const DeviceFormat format : kDeviceFormats) {
    const int64_t dim = 2048, rows = 31;
    const Weights dense(format, format, dim, 2048, 1, 3);
    const std::vector<uint16_t> h = to_bf16(random_floats(rows * dim, 3));
    const std::vector<float> x = random_floats(rows * dim, 4);
    const std::vector<float> all = run(h, x, dense, nullptr, nullptr, rows, 1, kSwigluOai);
    for (const int64_t step : {1, 5})
      for (int64_t r = 0; r + step <= rows; r += step)
        ASSERT_EQ(
            run({h.begin() + r * dim, h.begin() + (r + step) * dim},
                {x.begin() + r * dim, x.begin() + (r + step) * dim}, dense, nullptr, nullptr, step, 1, kSwigluOai),
            std::vector<float>(all.begin() + r * dim, all.begin() + (r + step) * dim))
            << "format " << int(format) << ", " << step << " rows at " << r;
  }
}

TEST_F(FeedForwardTest, WhatIsRoundedBeforehandGivesTheSameBits) {
  const int64_t dim = 512, top_k = 3;
  const Weights experts(DeviceFormat::q8_0, DeviceFormat::q8_0, dim, 256, 9, 1);
  for (const int64_t rows : {1, 7, 50}) {
    const std::vector<uint16_t> h = to_bf16(random_floats(rows * dim, 3)), rounded = on_grid(h);
    const std::vector<float> x = random_floats(rows * dim, 4);
    const Choice c = choice(rows, top_k, 9, 5);
    const std::vector<float> wanted = run(h, x, experts, nullptr, &c, rows, top_k, kSilu);
    EXPECT_EQ(run(rounded, x, experts, nullptr, &c, rows, top_k, kSilu, 0, true), wanted) << rows;
  }
}

// `rounds`: of one row, as rows that were rounded before.
TEST_F(FeedForwardTest, RoutersChooseAsInFloat64) {
  for (const kernels::Gating gating : {kernels::Gating::sigmoid, kernels::Gating::softmax})
    for (const auto& [rows, rounds] :
         std::initializer_list<std::pair<int64_t, bool>>{{1, false}, {1, true}, {30, false}, {200, false}}) {
      const int64_t dim = rounds ? 512 : 520, n = 33, top_k = 4;
      const TestWeights router(kernels::Format::f32, n, dim, 6);
      const std::vector<uint16_t> h = to_bf16(random_floats(rows * dim, 7));
      const std::vector<float> bias = random_floats(n, 3, 0.1F), hf = from_bf16(rounds ? on_grid(h) : h),
                               w = router.decoded();
      std::vector<float> logits(size_t(rows * n));
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t e = 0; e < n; ++e) {
          double sum = 0;
          for (int64_t i = 0; i < dim; ++i) sum += double(hf[size_t(r * dim + i)]) * w[size_t(e * dim + i)];
          logits[size_t(r * n + e)] = float(sum);
        }
      std::vector<int32_t> wanted_ids(size_t(rows * top_k));
      std::vector<double> wanted(wanted_ids.size());
      kernels::ref::route({logits.data(), bias.data(), nullptr, nullptr, rows, n, top_k, 2, gating}, wanted_ids.data(),
                          wanted.data());

      std::vector<char> packed(size_t(kernels::device_bytes(DeviceFormat::bf16, 3 * n, dim)));
      repack_router(router.view(), n, dim, 0, kernels::panels_of(3 * n), packed.data());
      Guarded<int32_t> ids(rows * top_k);
      Guarded<float> weights(rows * top_k);
      Arrays on(*exec_);
      Buffer workspace(kernels::route_rows_workspace_bytes(rows, n, dim), Device::cuda);
      kernels::cuda::route_rows({on.in(h.data(), std::ssize(h)),
                                 {on.in(packed.data(), std::ssize(packed)), DeviceFormat::bf16, 3 * n, dim},
                                 on.in(bias.data(), n),
                                 on.out(ids.data(), ids.size()),
                                 on.out(weights.data(), weights.size()),
                                 rows,
                                 n,
                                 top_k,
                                 2,
                                 gating,
                                 true,
                                 rounds},
                                workspace.as<void>(), exec_->stream());
      on.finish();
      ids.expect_guards_intact("ids");
      weights.expect_guards_intact("weights");
      EXPECT_EQ(ids.values(), wanted_ids) << rows << " rows";  // these seeds hold no pair closer than float32's error
      expect_close(weights.values(), wanted, 1e-5, std::vector<double>(wanted.size(), 2), "weights");
    }
}

// The norm of a row inside the router's launch where the row is short, and of any in a launch of its own: the same
// bits.
TEST_F(FeedForwardTest, ARoutersNormMayBeItsOwn) {
  for (const auto& [rows, dim, rounds] : std::initializer_list<std::tuple<int64_t, int64_t, bool>>{
           {1, 2048, false}, {1, 2048, true}, {1, 520, false}, {1, 2080, true}, {3, 512, false}, {200, 512, false}}) {
    const int64_t n = 33, top_k = 4;
    const TestWeights router(kernels::Format::f32, n, dim, 6);
    std::vector<char> packed(size_t(kernels::device_bytes(DeviceFormat::bf16, 3 * n, dim)));
    repack_router(router.view(), n, dim, 0, kernels::panels_of(3 * n), packed.data());
    const std::vector<float> x = random_floats(rows * dim, 7, 2), w = random_floats(dim, 8);
    struct Found {
      std::vector<uint16_t> h;
      std::vector<int32_t> ids;
      std::vector<float> weights;
      bool operator==(const Found&) const = default;
    } found[2];
    for (const bool in_one : {false, true}) {
      Guarded<uint16_t> h(rows * dim, 0);
      Guarded<int32_t> ids(rows * top_k);
      Guarded<float> weights(rows * top_k);
      Arrays on(*exec_);
      Buffer workspace(kernels::route_rows_workspace_bytes(rows, n, dim), Device::cuda);
      const kernels::RmsNormRows norm{
          on.in(x.data(), std::ssize(x)), on.in(w.data(), dim), on.out(h.data(), h.size()), rows, dim, 1e-6F};
      const kernels::RouteRows route{norm.h,
                                     {on.in(packed.data(), std::ssize(packed)), DeviceFormat::bf16, 3 * n, dim},
                                     nullptr,
                                     on.out(ids.data(), ids.size()),
                                     on.out(weights.data(), weights.size()),
                                     rows,
                                     n,
                                     top_k,
                                     1,
                                     kernels::Gating::softmax,
                                     true,
                                     rounds};
      const kernels::Graph queued(exec_->stream(), [&] {
        if (in_one) {
          kernels::cuda::norm_route_rows(norm, route, workspace.as<void>(), exec_->stream());
        } else {
          kernels::cuda::rms_norm_rows(norm, exec_->stream());
          kernels::cuda::route_rows(route, workspace.as<void>(), exec_->stream());
        }
      });
      EXPECT_EQ(queued.size(), in_one && rows == 1 && dim <= 2048 ? 2 : 3) << rows << " rows of " << dim;
      queued.launch(exec_->stream());
      on.finish();
      h.expect_guards_intact("h"), ids.expect_guards_intact("ids"), weights.expect_guards_intact("weights");
      found[in_one ? 1 : 0] = {h.values(), ids.values(), weights.values()};
    }
    EXPECT_TRUE(found[1] == found[0]) << rows << " rows of " << dim;
  }
}

}  // namespace
}  // namespace corvid::test
