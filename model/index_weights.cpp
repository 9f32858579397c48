#include "model/index_weights.h"

#include "kernels/matmul/interleaved.h"

namespace corvid::model {

using kernels::Format;

Format index_matrix_format(Format stored, Format index_keys, int64_t dim) {
  const bool is_rounded = stored == Format::f32 && index_keys == Format::q8_0 && dim % format_block(Format::q8_0) == 0;
  return is_rounded ? Format::q8_0 : stored;
}

IndexWeights::IndexWeights(const Config& config, const Weights& weights, Format index_keys, kernels::Exec& exec) {
  if (!config.has_sparse_attention()) return;
  const int64_t dim = config.dim;
  const auto round = [&](const kernels::Matrix& stored, int64_t rows) -> Rounded {
    if (stored.data == nullptr) return {};
    const Format format = index_matrix_format(stored.format, index_keys, dim);
    if (format == stored.format) return {};
    const int64_t row_bytes = kernels::row_bytes(format, dim);
    kernels::Buffer plain(rows * row_bytes);
    exec.pool().run(rows, [&](int64_t row, int) {
      kernels::encode_row(format, static_cast<const float*>(stored.data) + row * dim, dim,
                          plain.as<char>() + row * row_bytes);
    });
    const auto interleaved = kernels::interleaved_format(format, rows, exec.isa());
    if (!interleaved) return {std::move(plain), format};
    kernels::Buffer in_order(plain.bytes());
    kernels::interleave(*interleaved, plain.as<void>(), rows, dim, in_order.as<void>());
    return {std::move(in_order), *interleaved};
  };
  for (int64_t i = 0; i < config.n_layers(); ++i) {
    const auto layer = weights.layer(i);
    rounded_.push_back(round(layer->index_q, config.n_index_heads * config.index_dim));
    rounded_.push_back(round(layer->index_k, config.index_dim));
  }
}

kernels::Matrix IndexWeights::of(int64_t i, const kernels::Matrix& stored) const {
  const auto at = static_cast<size_t>(i);
  if (at >= rounded_.size() || rounded_[at].data.bytes() == 0) return stored;
  return {rounded_[at].data.as<void>(), rounded_[at].format};
}

}  // namespace corvid::model
