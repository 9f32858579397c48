// What tests of a GPU's backend share: fixtures that say SKIPPED where there is none, and tolerances.
#pragma once
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "kernels/comm/all_reduce.h"
#include "kernels/gpu.h"
#include "model/engine.h"
#include "model/model.h"
#include "tests/support/logits.h"

namespace corvid::test {

// Between a prompt at once and its tokens one by one: other kernels, other sums, the same roundings in between.
inline constexpr double kCutTolerance = 0.1;

inline const char* const kFamilies[] = {"minimax-m3", "minimax-m2", "qwen3-moe"};

inline std::shared_ptr<const model::Model> golden(const std::string& family) {
  return model::Model::load(std::filesystem::path(CORVID_GOLDEN_DIR) / family);
}

class GpuTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const auto obstacle = kernels::cuda::gpu_obstacle()) GTEST_SKIP() << *obstacle;
  }
  static std::shared_ptr<model::Engine> engine(std::shared_ptr<const model::Model> model,
                                               int64_t cache_bytes = 256 << 20, std::vector<int> gpus = {0}) {
    return model::Engine::create(
        std::move(model), {.device = kernels::Device::cuda, .gpus = std::move(gpus), .cache_bytes = cache_bytes});
  }
};

// Of GPUs that share a model.
class GpuShareTest : public GpuTest, public testing::WithParamInterface<std::vector<int>> {
 protected:
  void SetUp() override {
    if (const auto obstacle = kernels::cuda::gpu_obstacle(GetParam())) GTEST_SKIP() << *obstacle;
    if (const auto obstacle = kernels::AllReduce::obstacle(GetParam())) GTEST_SKIP() << *obstacle;
  }
};

}  // namespace corvid::test
