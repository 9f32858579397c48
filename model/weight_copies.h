// Weights out of a model file in memory of this process's own: in large pages, which are read faster
// (kernels::kLargePage), and in the order that the kernels like (kernels/matmul/interleaved.h). A thread makes them
// while passes run.
#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <vector>

#include "kernels/exec.h"
#include "kernels/isa.h"
#include "model/config.h"
#include "model/weights.h"

namespace corvid::model {

// Where weights lie that are copied.
struct WeightSource {
  // Reads the bytes at `from` without looking at them where they are mapped: so they do not count as this process's
  // memory. Throws when they can't be read.
  std::function<void(const std::byte* from, std::span<std::byte> to)> read;
  // The pages behind these bytes may leave memory: nobody looks at them there any more, or only for a moment.
  std::function<void(std::span<const std::byte> bytes)> forget;
};

// layer() and end() are for any thread, copy() for one, once.
class WeightCopies {
 public:
  // `source` has all of `weights`, which must outlive this, as the config's. It is read some `piece` bytes at a time,
  // which stay in a cache until they are put in order.
  WeightCopies(const Config& config, const Weights& weights, WeightSource source,
               kernels::Isa isa = kernels::best_isa(), int64_t piece = int64_t{1} << 20);

  // Copies all but the embedding, of which a token reads one row; tied, it is copied as the output matrix. Passes use
  // each tensor's copy from their next layer on, and what was mapped of it is forgotten, so that memory holds but few
  // of them twice. Returns early after a stop. Throws what `source` and allocations throw: the rest then stays where it
  // is.
  void copy(const std::stop_token& stop);

  std::shared_ptr<const Weights::Layer> layer(int64_t i) const;
  std::shared_ptr<const Weights::End> end() const;

 private:
  struct Tensor {
    const void* data;
    kernels::Format format;
    std::vector<int64_t> shape;
    int64_t bytes() const;
  };
  std::optional<kernels::Format> interleaved_format(const Tensor& tensor) const;
  // False after a stop.
  bool copy_as_it_lies(const Tensor& tensor, std::byte* to, const std::stop_token& stop);
  // Interleaved; `up`: of the same shape and format, sixteen rows of each in turns (kernels/expert_ffn/expert_ffn.h).
  bool copy_interleaved(const Tensor& tensor, const Tensor* up, kernels::Format as, std::byte* to,
                        const std::stop_token& stop);
  // The format that the copy is in; nothing after a stop.
  std::optional<kernels::Format> copy_tensor(const Tensor& tensor, std::byte* to, const std::stop_token& stop);
  bool copy_layer(int64_t i, const std::stop_token& stop);  // false after a stop
  bool copy_end(const std::stop_token& stop);
  template <class T>
  void publish(std::shared_ptr<const T>& place, const T& value, std::span<const Tensor> copied);
  void forget(const Tensor& tensor);

  const Config& config_;
  const Weights& weights_;
  WeightSource source_;
  kernels::Isa isa_;
  int64_t piece_;
  std::vector<kernels::Buffer> memory_;            // one for each layer, and for the end
  std::vector<std::byte> rows_, pairs_;            // as they come from the file, and those of gate and up in turns
  std::vector<std::weak_ptr<const void>> former_;  // layers that passes may be in still
  std::vector<Tensor> copied_;
  mutable std::mutex mutex_;  // of the following
  std::vector<std::shared_ptr<const Weights::Layer>> layers_;
  std::shared_ptr<const Weights::End> end_;
};

}  // namespace corvid::model
