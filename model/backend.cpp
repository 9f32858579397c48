#include "model/backend.h"

#include <algorithm>
#include <vector>

#include "model/gpu_backend.h"
#include "model/random_model.h"
#include "model/sampler.h"

namespace corvid::model {
namespace {

class CpuBackend final : public Backend {
 public:
  CpuBackend(std::shared_ptr<const Model> model, kernels::Exec& exec, std::shared_ptr<KvPool> pool, CacheFormat format)
      : Backend(pool ? std::move(pool) : KvPool::create(), format),
        model_(std::move(model)),
        exec_(exec),
        index_weights_(model_->config(), model_->weights(), format.index, exec) {}

  int64_t most_rows() const override { return kChunkRows; }

  void forward(std::span<const Segment> batch) override {
    int64_t rows = 0;
    for (const Segment& segment : batch) rows += std::ssize(segment.tokens);
    if (rows > activations_.rows) activations_ = Activations(model_->config(), rows);
    if (std::ranges::none_of(batch, &Segment::best))
      return model::forward(model_->config(), model_->weights(), batch, activations_, exec_, index_weights_);

    const auto vocab = static_cast<size_t>(model_->config().vocab_size);
    std::vector<Segment> with_logits(batch.begin(), batch.end());
    size_t n_best = 0;
    for (const Segment& segment : batch) n_best += segment.best != nullptr ? segment.wanted.size() : 0;
    logits_.resize(n_best * vocab);
    float* next = logits_.data();
    for (Segment& segment : with_logits) {
      if (segment.best == nullptr) continue;
      segment.logits = next;
      next += segment.wanted.size() * vocab;
    }
    model::forward(model_->config(), model_->weights(), with_logits, activations_, exec_, index_weights_);
    for (const Segment& segment : with_logits) {
      for (size_t i = 0; segment.best != nullptr && i < segment.wanted.size(); ++i)
        segment.best[i] = best_of(std::span<const float>(segment.logits + i * vocab, vocab));
    }
  }

  void fill(int64_t n_tokens, KvCache& cache) override { fill_cache(model_->config(), n_tokens, cache, exec_); }

 private:
  std::shared_ptr<const Model> model_;
  kernels::Exec& exec_;
  IndexWeights index_weights_;
  Activations activations_;
  std::vector<float> logits_;  // of segments that want the likeliest tokens
};

}  // namespace

std::unique_ptr<Backend> Backend::create(std::shared_ptr<const Model> model, kernels::Exec& exec,
                                         std::shared_ptr<KvPool> pool, CacheFormat format, std::span<const int> gpus) {
  if (exec.device() == kernels::Device::cuda) {
    return make_gpu_backend(std::move(model), exec, gpus, pool ? pool->budget_bytes() : KvPool::kNoLimit,
                            format.e4m3_index);
  }
  return std::make_unique<CpuBackend>(std::move(model), exec, std::move(pool), format);
}

}  // namespace corvid::model
