// The forward pass on a GPU.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "model/backend.h"

namespace corvid::model {

// On these GPUs, the first of them that of `exec`. e4m3_index: index keys in e4m3, else bf16. `budget_bytes`: of the
// caches, at most; less when the GPU has not so much left beside the weights, and without a limit no more than 16
// contexts. Throws std::runtime_error when the weights do not fit, or for sizes that the kernels do not take.
std::unique_ptr<Backend> make_gpu_backend(std::shared_ptr<const Model> model, kernels::Exec& exec,
                                          std::span<const int> gpus, int64_t budget_bytes, bool e4m3_index);

// Why these GPUs can't run a model together with this attention; nothing when they can.
std::optional<std::string> gpu_obstacle(const Model& model, std::span<const int> gpus, bool selects_untrained = false);

}  // namespace corvid::model
