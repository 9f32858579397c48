#include "model/gpu_share.h"

#include <algorithm>

#include "model/error.h"

namespace corvid::model {
namespace {

// What a GPU's part of a matrix's columns must be a multiple of: whole blocks, and what the kernels take. Of f8_e4m3 a
// part that cuts blocks becomes bf16 (kernels/device_matrix/part.h).
int64_t unit(const kernels::Matrix& matrix, bool whole_f8) {
  if (matrix.format == kernels::Format::f8_e4m3 && !whole_f8) return 8;
  return std::max<int64_t>(8, kernels::format_block(matrix.format));
}

bool cuts(const kernels::Matrix& matrix, int64_t width, int64_t gpus, bool whole_f8 = false) {
  return matrix.data == nullptr || (width % gpus == 0 && width / gpus % unit(matrix, whole_f8) == 0);
}

bool experts_cut(const Config& c, const Weights& w, int64_t gpus, bool whole_f8) {
  for (const Weights::Layer& layer : w.layers) {
    if (!cuts(layer.expert_down, c.expert_ffn, gpus, whole_f8)) return false;
  }
  return true;
}

}  // namespace

int64_t GpuShare::first_logit(int64_t vocab) const {
  return index == count ? vocab : kernels::panels_of(vocab) * index / count * kernels::kPanelRows;
}

int64_t GpuShare::logits(int64_t vocab) const {
  const GpuShare next{index + 1, count};
  return next.first_logit(vocab) - first_logit(vocab);
}

Config GpuShare::config(const Config& whole) const {
  Config c = whole;
  if (count == 1) return c;
  for (int64_t* size : {&c.n_heads, &c.n_kv_heads, &c.n_index_heads, &c.dense_ffn, &c.shared_ffn}) *size /= count;
  if (!whole_experts) c.expert_ffn /= count;
  c.vocab_size = logits(whole.vocab_size);
  return c;
}

std::optional<std::string> share_obstacle(const Config& c, const Weights& w, int64_t gpus) {
  if (gpus == 1) return std::nullopt;
  if (c.n_kv_heads % gpus != 0)
    return concat("want key-value heads that ", gpus, " GPUs can share evenly, found ", c.n_kv_heads);
  if (kernels::panels_of(c.vocab_size) < gpus)
    return concat("want a vocabulary of at least ", gpus * kernels::kPanelRows, ", found ", c.vocab_size);
  for (const Weights::Layer& layer : w.layers) {
    const struct {
      const kernels::Matrix& matrix;
      int64_t width;
      const char* name;
    } columns[] = {{layer.attn_output, c.n_heads * c.head_dim, "attention heads"},
                   {layer.down, c.dense_ffn, "dense feed-forward"},
                   {layer.shared_down, c.shared_ffn, "shared expert"}};
    for (const auto& [matrix, width, name] : columns) {
      if (cuts(matrix, width, gpus)) continue;
      return concat("want a width of the ", name, " that ", gpus, " GPUs can share in multiples of ",
                    unit(matrix, false), ", found ", width);
    }
  }
  if (!experts_cut(c, w, gpus, false) && c.n_experts % gpus != 0)
    return concat("want experts, or widths of experts, that ", gpus, " GPUs can share evenly, found ", c.n_experts,
                  " of ", c.expert_ffn);
  return std::nullopt;
}

std::vector<GpuShare> shares_of(const Config& c, const Weights& w, int64_t gpus) {
  if (const auto obstacle = share_obstacle(c, w, gpus)) fail(*obstacle);
  const bool whole_experts = gpus > 1 && !experts_cut(c, w, gpus, true) && c.n_experts % gpus == 0;
  std::vector<GpuShare> shares;
  for (int64_t i = 0; i < gpus; ++i) shares.push_back({i, gpus, whole_experts});
  return shares;
}

kernels::MatrixPart part_of(const GpuShare& share, Cut cut, int64_t n, int64_t k, int64_t n_experts) {
  kernels::MatrixPart part{n, k, 0, n_experts, 0, n, 0, k};
  switch (cut) {
    case Cut::whole:
      break;
    case Cut::rows:
      part.first_row = share.first(n), part.rows = share.size(n);
      break;
    case Cut::columns:
      part.first_column = share.first(k), part.columns = share.size(k);
      break;
    case Cut::experts:
      part.first_expert = share.first(n_experts), part.n_experts = share.size(n_experts);
      break;
    case Cut::logits:
      part.first_row = share.first_logit(n), part.rows = share.logits(n);
      break;
  }
  return part;
}

}  // namespace corvid::model
