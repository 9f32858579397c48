// A checkpoint's block fp8 on a GPU, and on two that share a model. SKIPPED where there is none.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

#include "model/gpu_weights.h"
#include "model/sequence.h"
#include "tests/support/fp8_checkpoint.h"
#include "tests/support/gpu_model.h"
#include "tests/support/sequences.h"

namespace corvid::model {
namespace {

using test::difference;
using test::kCutTolerance;
using test::kFamilies;
using test::prompt_of;
using test::TempDir;

using GpuFp8Test = test::GpuTest;
using GpuFp8ShareTest = test::GpuShareTest;

// Block fp8 of a checkpoint, one byte a weight here as there: rows of whole blocks, and the golden checkpoints, of
// which the experts' `down` is bf16. As of the bf16 ones (allowed() in gpu_test.cpp) a close choice of experts may fall
// out otherwise at one of a golden checkpoint's positions: measured at most 0.19 at one, 0.11 at the others.
TEST_F(GpuFp8Test, BlockFp8ComesCloseToTheCpu) {
  for (const std::string family : {"", kFamilies[0], kFamilies[1], kFamilies[2]}) {
    const TempDir dir;
    if (family.empty()) test::fp8_shape().write(dir);
    test::write_fp8(family.empty() ? dir.path() : std::filesystem::path(CORVID_GOLDEN_DIR) / family, dir);
    const auto model = Model::load(dir.path());
    const GpuWeights shapes = GpuWeights::shapes(model->config(), model->weights());
    EXPECT_EQ(shapes.layers[1].expert_up.format, kernels::DeviceFormat::f8_e4m3);
    kernels::Exec exec(2);
    Sequence on_cpu(model, exec, 300), on_gpu(engine(model), 300);
    // The last of the prompt's 200, which is more than small products take, where no block is left out.
    const std::vector<Token> prompt = prompt_of(200, 3, 250);
    std::vector<int64_t> positions = {0, 1, 7, 31, 63};
    if (family.empty()) positions.push_back(199);
    const auto a = on_cpu.logits_at(prompt, positions), b = on_gpu.logits_at(prompt, positions);
    int far = 0;
    std::printf("%s:", family.c_str());
    for (size_t i = 0; i < positions.size(); ++i) {
      const double apart = difference(a[i], b[i]);
      far += apart < 0.15 ? 0 : 1;
      EXPECT_LT(apart, family.empty() ? 0.15 : 0.4) << family << " position " << positions[i];
      EXPECT_GT(apart, 1e-5) << "the CPU's numbers, not a GPU's";
      std::printf(" %.4f", apart);
    }
    EXPECT_LE(far, family.empty() ? 0 : 1) << family;
    on_cpu.truncate(60), on_gpu.truncate(60);  // and a step of one token
    for (Sequence* s : {&on_cpu, &on_gpu}) s->append(5);
    EXPECT_LT(difference(on_cpu.logits(), on_gpu.logits()), 0.15) << family;
    std::printf(" %.4f\n", difference(on_cpu.logits(), on_gpu.logits()));
  }
}

INSTANTIATE_TEST_SUITE_P(Gpus, GpuFp8ShareTest, testing::Values(std::vector{0, 0}, std::vector{0, 1}),
                         [](const auto& instance) { return instance.param[1] == 0 ? "in_two_shares" : "on_two"; });

TEST_P(GpuFp8ShareTest, BlockFp8ComesCloseToOneGpus) {
  for (const int64_t ffn : {256, 384}) {  // in halves; whole experts, and bf16 of the attention's output
    const TempDir dir;
    test::TinyCheckpoint shape = test::fp8_shape();
    shape.expert_ffn = ffn;
    if (ffn == 384) shape.head_dim = 32;
    shape.write(dir);
    test::write_fp8(dir.path(), dir);
    const auto model = Model::load(dir.path());
    Sequence alone(engine(model), 300), shared(engine(model, 256 << 20, GetParam()), 300);
    const std::vector<Token> prompt = prompt_of(200, 3, 250);
    for (Sequence* s : {&alone, &shared}) s->sync(prompt);
    double apart = difference(alone.logits(), shared.logits());
    for (const Token token : {1, 2, 3}) {
      for (Sequence* s : {&alone, &shared}) s->append(token);
      apart = std::max(apart, difference(alone.logits(), shared.logits()));
    }
    EXPECT_LT(apart, kCutTolerance) << ffn;
    EXPECT_GT(apart, 0) << ffn;
  }
}

}  // namespace
}  // namespace corvid::model
