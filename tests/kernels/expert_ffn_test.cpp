#include "kernels/expert_ffn/expert_ffn.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/support/backends.h"
#include "tests/support/expect_close.h"
#include "tests/support/guarded.h"
#include "tests/support/weights.h"

namespace corvid::test {
namespace {

using kernels::Activation;
using kernels::Exec;
using kernels::ExpertFfn;
using kernels::Format;

using ExpertFfnTest = BackendTest;
INSTANTIATE_TEST_SUITE_P(Kernels, ExpertFfnTest, testing::ValuesIn(cpu_backends()), backend_name);

// A layer with random weights, and rows that chose random experts.
struct Layer {
  int64_t dim, ffn, n_experts, top_k, rows;
  TestWeights gate, up, down;
  std::vector<float> x, weights;
  std::vector<int32_t> ids;

  Layer(int64_t dim_, int64_t ffn_, int64_t n_experts_, int64_t top_k_, int64_t rows_, Format format)
      : dim(dim_),
        ffn(ffn_),
        n_experts(n_experts_),
        top_k(top_k_),
        rows(rows_),
        gate(format, n_experts * ffn, dim, 1),
        up(format, n_experts * ffn, dim, 2),
        down(format, n_experts * dim, ffn, 3),
        x(random_floats(rows * dim, 4, 3)),
        weights(random_floats(rows * top_k, 5)) {
    std::mt19937 bits(6);
    std::vector<int32_t> order(static_cast<size_t>(n_experts));
    std::iota(order.begin(), order.end(), 0);
    for (int64_t r = 0; r < rows; ++r) {
      for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[bits() % i]);
      ids.insert(ids.end(), order.begin(), order.begin() + top_k);
    }
  }
  std::string name() const {
    return std::to_string(rows) + " rows, " + std::to_string(top_k) + " of " + std::to_string(n_experts) +
           " experts, " + std::to_string(dim) + " x " + std::to_string(ffn) + " " + kernels::format_name(gate.format);
  }
  ExpertFfn args(float* y) const {
    return {x.data(), gate.view(), up.view(), down.view(), ids.data(), weights.data(), y, rows,
            dim,      ffn,         n_experts, top_k,       {}};
  }
};

std::vector<float> run(Exec& exec, ExpertFfn a, const std::vector<float>* added_to = nullptr) {
  Guarded<float> y(added_to == nullptr ? std::vector<float>(size_t(a.rows * a.dim), 99.0F) : *added_to);
  a.y = y.data();
  a.add = added_to != nullptr;
  expert_ffn(a, exec);
  y.expect_guards_intact("expert_ffn");
  return y.values();
}

void expect_exact(Exec& exec, ExpertFfn a, const std::string& name) {
  const auto n = size_t(a.rows * a.dim);
  std::vector<double> wanted(n), bound(n);
  kernels::ref::expert_ffn(a, wanted.data(), bound.data());
  expect_close(run(exec, a), wanted, kernels::expert_ffn_tolerance(a.dim, a.ffn, a.gate.format), bound, name);
}

TEST_P(ExpertFfnTest, AgreesWithFloat64) {
  const auto exec = GetParam().exec();
  for (const Format format : {Format::f32, Format::bf16, Format::q8_0})
    for (const int64_t rows : {0, 1, 2, 3, 150})
      for (const auto& [n_experts, top_k] : {std::pair<int64_t, int64_t>{1, 1}, {5, 1}, {6, 3}, {4, 4}}) {
        const Layer layer(64, 96, n_experts, top_k, rows, format);
        expect_exact(*exec, layer.args(nullptr), layer.name());
      }
}

TEST_P(ExpertFfnTest, AgreesWithFloat64InBlockFormats) {
  const auto exec = GetParam().exec();
  for (const Format format : {Format::q4_0, Format::mxfp4, Format::q4_k, Format::q5_k, Format::q6_k, Format::f8_e4m3}) {
    const Layer layer(256, 256, 3, 2, 5, format);
    expect_exact(*exec, layer.args(nullptr), layer.name());
  }
}

TEST_P(ExpertFfnTest, InterleavedWeightsGiveTheSameBits) {
  const auto exec = GetParam().exec(2);
  for (const Format format : kInterleavedFormats)
    for (const auto& [rows, n_experts] :
         {std::pair{1, 6}, {2, 6}, {5, 6}, {7, 6}, {15, 2}, {16, 2}, {17, 2}, {32, 2}, {33, 2}, {79, 2}, {150, 6}}) {
      const Layer layer(160, 224, n_experts, std::min(n_experts, 3), rows, plain_format(format));
      const std::vector<char> gate = interleaved(layer.gate, format, layer.ffn),
                              up = interleaved(layer.up, format, layer.ffn),
                              down = interleaved(layer.down, format, layer.dim);
      const TestWeights float_down(Format::f16, layer.down.n, layer.down.k, 5);
      ExpertFfn a = layer.args(nullptr);
      const std::vector<float> wanted = run(*exec, a);
      a.gate = {gate.data(), format}, a.up = {up.data(), format}, a.down = {down.data(), format};
      EXPECT_EQ(run(*exec, a), wanted) << layer.name();
      a.up = layer.up.view();  // formats may differ
      EXPECT_EQ(run(*exec, a), wanted) << layer.name();
      const std::vector<char> both = paired(layer.gate, layer.up, format, layer.ffn);
      a.gate = {both.data(), format}, a.up = {};
      EXPECT_EQ(run(*exec, a), wanted) << layer.name();
      ExpertFfn floats = layer.args(nullptr);
      floats.down = float_down.view();  // what comes between is not quantised then
      const std::vector<float> wanted_floats = run(*exec, floats);
      floats.gate = a.gate, floats.up = {};
      EXPECT_EQ(run(*exec, floats), wanted_floats) << layer.name();
    }
}

TEST_P(ExpertFfnTest, AgreesWithFloat64OnAwkwardSizes) {
  const auto exec = GetParam().exec();
  for (const int64_t dim : {1, 17, 50})
    for (const int64_t ffn : {1, 7, 33, 130})
      for (const int64_t rows : {1, 5}) {
        const Layer layer(dim, ffn, 3, 2, rows, Format::f32);
        expect_exact(*exec, layer.args(nullptr), layer.name());
      }
}

TEST_P(ExpertFfnTest, ClampsAsSwigluoaiDoesAndNotAsSiluDoes) {
  const auto exec = GetParam().exec();
  Layer layer(32, 64, 2, 1, 9, Format::f32);
  for (float& x : layer.x) x *= 20;  // gates and ups far beyond the limit
  ExpertFfn a = layer.args(nullptr);
  expect_exact(*exec, a, "swigluoai");
  a.act.limit = 1000;
  expect_exact(*exec, a, "swigluoai with a high limit");
  a.act.kind = Activation::Kind::silu;
  expect_exact(*exec, a, "silu");
}

TEST_P(ExpertFfnTest, DenseIsOneExpertOfWeightOne) {
  const auto exec = GetParam().exec();
  Layer layer(64, 96, 1, 1, 70, Format::q8_0);
  std::fill(layer.weights.begin(), layer.weights.end(), 1.0F);
  ExpertFfn dense = layer.args(nullptr);
  dense.ids = nullptr;
  dense.weights = nullptr;
  EXPECT_EQ(run(*exec, dense), run(*exec, layer.args(nullptr)));
  const std::vector<float> before = random_floats(layer.rows * layer.dim, 8);
  EXPECT_EQ(run(*exec, dense, &before), run(*exec, layer.args(nullptr), &before));
}

TEST_P(ExpertFfnTest, AddsToWhatIsThere) {
  const auto exec = GetParam().exec();
  const Layer layer(48, 40, 4, 2, 11, Format::f32);
  const std::vector<float> before = random_floats(layer.rows * layer.dim, 8);
  std::vector<float> wanted = run(*exec, layer.args(nullptr));
  for (size_t i = 0; i < wanted.size(); ++i) wanted[i] += before[i];
  EXPECT_EQ(run(*exec, layer.args(nullptr), &before), wanted);
}

TEST_P(ExpertFfnTest, GivesARowTheSameBitsInAnyCompany) {
  for (const Layer& layer : {Layer(64, 96, 5, 2, 170, Format::q8_0), Layer(256, 256, 5, 2, 100, Format::q4_k)}) {
    const std::vector<float> all = run(*GetParam().exec(2), layer.args(nullptr));
    EXPECT_EQ(all, run(*GetParam().exec(1), layer.args(nullptr)));
    EXPECT_EQ(all, run(*GetParam().exec(3), layer.args(nullptr)));
    const auto exec = GetParam().exec();
    for (const int64_t step : {1, 3, 64})
      for (int64_t r = 0; r < layer.rows; r += step) {
        ExpertFfn part = layer.args(nullptr);
        part.rows = std::min(step, layer.rows - r);
        part.x += r * layer.dim;
        part.ids += r * layer.top_k;
        part.weights += r * layer.top_k;
        ASSERT_EQ(run(*exec, part),
                  std::vector<float>(all.begin() + r * layer.dim, all.begin() + (r + part.rows) * layer.dim))
            << r << " by " << step;
      }
  }
}

TEST_P(ExpertFfnTest, TheOrderOfARowsExpertsDoesNotMatter) {
  const auto exec = GetParam().exec();
  Layer layer(64, 32, 6, 3, 20, Format::f32);
  const std::vector<float> wanted = run(*exec, layer.args(nullptr));
  for (size_t r = 0; r < 20; ++r) {
    std::reverse(layer.ids.begin() + ptrdiff_t(r * 3), layer.ids.begin() + ptrdiff_t(r * 3 + 3));
    std::reverse(layer.weights.begin() + ptrdiff_t(r * 3), layer.weights.begin() + ptrdiff_t(r * 3 + 3));
  }
  EXPECT_EQ(run(*exec, layer.args(nullptr)), wanted);
}

TEST_P(ExpertFfnTest, SideBySideGivesTheBitsOfOneAfterTheOther) {
  const std::pair<Format, Format> formats[] = {
      {Format::q8_0, Format::q8_0}, {Format::q4_0, Format::f32}, {Format::f32, Format::q8_0}};
  for (const int threads : {1, 3})
    for (const int64_t rows : {1, 5, 70})
      for (const auto& [of_routed, of_dense] : formats) {
        const auto exec = GetParam().exec(threads);
        const Layer routed(64, 96, 5, 2, rows, of_routed), shared(64, 160, 1, 1, rows, of_dense);
        const Layer other(64, 33, 4, 3, rows, Format::f32), apart(96, 128, 3, 2, 9, Format::q8_0);
        ExpertFfn dense = shared.args(nullptr), nothing = routed.args(nullptr);
        dense.ids = nullptr;
        dense.weights = nullptr;
        nothing.rows = 0;
        const std::vector<float> before = random_floats(rows * 64, 8);
        std::vector<float> wanted = run(*exec, dense, &before);
        wanted = run(*exec, routed.args(nullptr), &wanted);
        wanted = run(*exec, other.args(nullptr), &wanted);

        Guarded<float> y(before), y_apart(int64_t{9} * 96);
        dense.y = y.data();
        ExpertFfn all[] = {routed.args(y.data()), apart.args(y_apart.data()), nothing, dense, other.args(y.data())};
        all[0].add = all[3].add = all[4].add = true;
        kernels::expert_ffn(all, *exec);
        const std::string name = routed.name() + " and " + shared.name() + ", " + std::to_string(threads) + " threads";
        y.expect_guards_intact(name);
        y_apart.expect_guards_intact(name);
        EXPECT_EQ(y.values(), wanted) << name;
        EXPECT_EQ(y_apart.values(), run(*exec, apart.args(nullptr))) << name;
      }
}

TEST(ExpertFfnContract, LayersThatShareAnOutputAddToItAndOneIsDense) {
  Exec exec(1);
  std::vector<float> y(32, 0.0F);
  const Layer layer(32, 32, 1, 1, 1, Format::f32);
  ExpertFfn routed = layer.args(y.data()), dense = routed;
  dense.ids = nullptr;
  dense.weights = nullptr;
  routed.add = dense.add = true;
  const auto throws = [&](const ExpertFfn& a, const ExpertFfn& b) {
    const ExpertFfn both[] = {a, b};
    EXPECT_THROW(kernels::expert_ffn(both, exec), std::invalid_argument);
  };
  throws(dense, dense);
  ExpertFfn writes = routed;
  writes.add = false;
  throws(writes, dense);
  throws(routed, writes);
  ExpertFfn nothing = dense;
  nothing.rows = 0;
  const ExpertFfn fine[] = {routed, routed, dense, nothing};
  EXPECT_NO_THROW(kernels::expert_ffn(fine, exec));
}

TEST(ExpertFfnContract, NamesWhatIsWrong) {
  Exec exec(1);
  std::vector<float> y(64);
  const auto throws = [&](auto change) {
    Layer layer(32, 32, 2, 2, 1, Format::q8_0);
    ExpertFfn a = layer.args(y.data());
    change(layer, a);
    EXPECT_THROW(expert_ffn(a, exec), std::invalid_argument);
  };
  throws([](Layer& layer, ExpertFfn&) { layer.ids[0] = 2; });
  throws([](Layer& layer, ExpertFfn&) { layer.ids[0] = -1; });
  throws([](Layer& layer, ExpertFfn&) { layer.ids[0] = layer.ids[1]; });
  throws([](Layer&, ExpertFfn& a) { a.ids = nullptr; });
  throws([](Layer&, ExpertFfn& a) { a.top_k = 3; });
  throws([](Layer&, ExpertFfn& a) { a.up = {}; });
  throws([](Layer&, ExpertFfn& a) { a.ffn = 31; });
  throws([](Layer&, ExpertFfn& a) { a.dim = 31; });
}

}  // namespace
}  // namespace corvid::test
