#include "model/weight_copies.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "kernels/matmul/interleaved.h"

namespace corvid::model {
namespace {

using kernels::Format;
using kernels::kGroupRows;
using kernels::kInterleavedRows;

// Each tensor begins where a register does.
int64_t with_padding(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// Whether one kernel reads the two side by side: a gate and its up.
bool are_paired(const Weights::LayerMatrix& gate, const Weights::LayerMatrix& up) {
  using Layer = Weights::Layer;
  return (gate.place == &Layer::gate && up.place == &Layer::up) ||
         (gate.place == &Layer::expert_gate && up.place == &Layer::expert_up) ||
         (gate.place == &Layer::shared_gate && up.place == &Layer::shared_up);
}

}  // namespace

int64_t WeightCopies::Tensor::bytes() const {
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  return rows * kernels::row_bytes(format, shape.back());
}

std::optional<Format> WeightCopies::interleaved_format(const Tensor& tensor) const {
  return kernels::interleaved_format(tensor.format, tensor.shape.size() < 2 ? 1 : tensor.shape.end()[-2], isa_);
}

WeightCopies::WeightCopies(const Config& config, const Weights& weights, WeightSource source, kernels::Isa isa,
                           int64_t piece)
    : config_(config), weights_(weights), source_(std::move(source)), isa_(isa), piece_(piece) {
  for (const Weights::Layer& layer : weights.layers) layers_.push_back(std::make_shared<const Weights::Layer>(layer));
  end_ = std::make_shared<const Weights::End>(Weights::End{weights.output_norm, weights.output});
}

std::shared_ptr<const Weights::Layer> WeightCopies::layer(int64_t i) const {
  const std::lock_guard lock(mutex_);
  return layers_[static_cast<size_t>(i)];
}

std::shared_ptr<const Weights::End> WeightCopies::end() const {
  const std::lock_guard lock(mutex_);
  return end_;
}

template <class T>
void WeightCopies::publish(std::shared_ptr<const T>& place, const T& value, std::span<const Tensor> copied) {
  auto next = std::make_shared<const T>(value);
  {
    const std::lock_guard lock(mutex_);
    place.swap(next);
  }
  former_.push_back(next);
  for (const Tensor& tensor : copied) {
    copied_.push_back(tensor);
    forget(tensor);
  }
}

void WeightCopies::forget(const Tensor& tensor) {
  source_.forget({static_cast<const std::byte*>(tensor.data), static_cast<size_t>(tensor.bytes())});
}

bool WeightCopies::copy_as_it_lies(const Tensor& tensor, std::byte* to, const std::stop_token& stop) {
  const auto* const from = static_cast<const std::byte*>(tensor.data);
  for (int64_t at = 0; at < tensor.bytes(); at += piece_) {
    if (stop.stop_requested()) return false;
    source_.read(from + at, {to + at, static_cast<size_t>(std::min(piece_, tensor.bytes() - at))});
  }
  return true;
}

bool WeightCopies::copy_interleaved(const Tensor& tensor, const Tensor* up, Format as, std::byte* to,
                                    const std::stop_token& stop) {
  const int64_t k = tensor.shape.back(), row = kernels::row_bytes(tensor.format, k), sixteen = kInterleavedRows * row;
  const int64_t of_matrix = tensor.shape.end()[-2], rows = tensor.bytes() / row;  // an expert's, and of all
  const int64_t step = std::max<int64_t>(1, piece_ / (kGroupRows * row)) * kGroupRows;
  for (int64_t r = 0, n; r < rows; r += n) {
    n = std::min(step, of_matrix - r % of_matrix);
    const auto read = [&](const Tensor& from) {
      if (stop.stop_requested()) return false;
      rows_.resize(static_cast<size_t>(n * row));
      source_.read(static_cast<const std::byte*>(from.data) + r * row, rows_);
      return true;
    };
    if (!read(tensor)) return false;
    if (up == nullptr) {
      kernels::interleave(as, rows_.data(), n, k, to + r * row);
      continue;
    }
    pairs_.resize(static_cast<size_t>(2 * n * row));
    const auto put = [&](std::byte* at) {
      for (int64_t i = 0; i < n * row; i += sixteen) std::copy_n(rows_.data() + i, sixteen, at + 2 * i);
    };
    put(pairs_.data());
    if (!read(*up)) return false;
    put(pairs_.data() + sixteen);
    kernels::interleave(as, pairs_.data(), 2 * n, k, to + 2 * r * row);
  }
  return true;
}

std::optional<Format> WeightCopies::copy_tensor(const Tensor& tensor, std::byte* to, const std::stop_token& stop) {
  const std::optional<Format> as = interleaved_format(tensor);
  if (!(as ? copy_interleaved(tensor, nullptr, *as, to, stop) : copy_as_it_lies(tensor, to, stop))) return std::nullopt;
  return as.value_or(tensor.format);
}

bool WeightCopies::copy_layer(int64_t i, const std::stop_token& stop) {
  Weights::Layer now = weights_.layers[static_cast<size_t>(i)];
  const auto matrices = Weights::matrices_of(config_, i);
  const auto vectors = Weights::vectors_of(config_, i);
  const auto vector = [&](const Weights::LayerVector& v) { return Tensor{now.*v.place, Format::f32, {v.size}}; };
  const auto matrix = [&](const Weights::LayerMatrix& m) {
    return Tensor{(now.*m.place).data, (now.*m.place).format, m.shape};
  };
  int64_t bytes = 0;
  for (const auto& v : vectors) bytes += with_padding(vector(v).bytes());
  for (const auto& m : matrices) bytes += with_padding(matrix(m).bytes());
  std::byte* at = memory_.emplace_back(bytes).as<std::byte>();
  auto& place = layers_[static_cast<size_t>(i)];
  for (const auto& v : vectors) {
    const Tensor from = vector(v);
    if (!copy_tensor(from, at, stop)) return false;
    now.*v.place = reinterpret_cast<const float*>(at);
    publish(place, now, {&from, 1});
    at += with_padding(from.bytes());
  }
  for (size_t m = 0; m < matrices.size(); ++m) {
    const Tensor from = matrix(matrices[m]);
    if (m + 1 < matrices.size() && are_paired(matrices[m], matrices[m + 1])) {
      const Tensor up = matrix(matrices[m + 1]);
      const std::optional<Format> as = interleaved_format(from);
      if (as && up.format == from.format) {
        if (!copy_interleaved(from, &up, *as, at, stop)) return false;
        now.*matrices[m++].place = {at, *as};
        now.*matrices[m].place = {};
        publish(place, now, std::array{from, up});
        at += with_padding(from.bytes()) + with_padding(up.bytes());
        continue;
      }
    }
    const std::optional<Format> format = copy_tensor(from, at, stop);
    if (!format) return false;
    now.*matrices[m].place = {at, *format};
    publish(place, now, {&from, 1});
    at += with_padding(from.bytes());
  }
  return true;
}

bool WeightCopies::copy_end(const std::stop_token& stop) {
  const Tensor norm{weights_.output_norm, Format::f32, {config_.dim}},
      output{weights_.output.data, weights_.output.format, {config_.vocab_size, config_.dim}};
  const int64_t norm_bytes = with_padding(norm.bytes());
  std::byte* const at = memory_.emplace_back(norm_bytes + output.bytes()).as<std::byte>();
  if (!copy_tensor(norm, at, stop)) return false;
  const std::optional<Format> format = copy_tensor(output, at + norm_bytes, stop);
  if (!format) return false;
  publish(end_, {reinterpret_cast<const float*>(at), {at + norm_bytes, *format}}, {&output, 1});
  return true;
}

void WeightCopies::copy(const std::stop_token& stop) {
  for (int64_t i = 0; i < config_.n_layers(); ++i)
    if (!copy_layer(i, stop)) return;
  if (!copy_end(stop)) return;
  // A pass that was in the middle of a layer has looked at some of it again where it is mapped.
  for (const auto& former : former_)
    while (!former.expired()) {
      if (stop.stop_requested()) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  for (const Tensor& tensor : copied_) forget(tensor);
  former_ = {}, copied_ = {}, rows_ = {}, pairs_ = {};
}

}  // namespace corvid::model
