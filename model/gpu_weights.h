// The tensors of a model in a GPU's memory, or its share of them (gpu_share.h), in the layout of its kernels
// (kernels/device_matrix/device_matrix.h).
#pragma once
#include <cstdint>
#include <vector>

#include "kernels/device_matrix/device_matrix.h"
#include "kernels/exec.h"
#include "model/config.h"
#include "model/gpu_share.h"
#include "model/weights.h"

namespace corvid::model {

struct GpuWeights {
  using Matrix = kernels::DeviceMatrix;  // data == nullptr where a layer has none
  struct Layer {                         // as Weights::Layer
    const float* attn_norm = nullptr;
    Matrix q, k, v, attn_output;
    const float *q_norm = nullptr, *k_norm = nullptr;
    Matrix index_q, index_k;
    const float *index_q_norm = nullptr, *index_k_norm = nullptr;
    const float* ffn_norm = nullptr;
    Matrix gate, up, down;
    Matrix router;  // repack_router()
    const float* router_bias = nullptr;
    Matrix expert_gate, expert_up, expert_down;
    int64_t first_expert = 0;  // of those that this GPU has
    Matrix shared_gate, shared_up, shared_down;
  };

  Matrix embedding;
  std::vector<Layer> layers;
  const float* output_norm = nullptr;
  Matrix output;

  // Copies the share to the current GPU, on one of its streams, a few megabytes at a time, repacked by all processors.
  // `config` is the whole model's. Throws std::runtime_error when the GPU has not so much memory.
  static GpuWeights upload(const Config& config, const Weights& weights, const GpuShare& share, CUstream_st* stream);
  // What upload() would give, with the host's data in place of the GPU's: shapes and formats, and what there is.
  static GpuWeights shapes(const Config& config, const Weights& weights, const GpuShare& share = {});
  // What upload() takes.
  static int64_t bytes(const Config& config, const Weights& weights, const GpuShare& share = {});

 private:
  std::vector<kernels::Buffer> memory_;
};

}  // namespace corvid::model
