#include "model/backend.h"

#include "model/gpu_backend.h"
#include "model/random_model.h"

namespace corvid::model {
namespace {

class CpuBackend final : public Backend {
 public:
  CpuBackend(std::shared_ptr<const Model> model, kernels::Exec& exec, std::shared_ptr<KvPool> pool, CacheFormat format)
      : Backend(pool ? std::move(pool) : KvPool::create(), format), model_(std::move(model)), exec_(exec) {}

  int64_t most_rows() const override { return kChunkRows; }

  void forward(std::span<const Segment> batch) override {
    int64_t rows = 0;
    for (const Segment& segment : batch) rows += std::ssize(segment.tokens);
    if (rows > activations_.rows) activations_ = Activations(model_->config(), rows);
    model::forward(model_->config(), model_->weights(), batch, activations_, exec_);
  }

  void fill(int64_t n_tokens, KvCache& cache) override { fill_cache(model_->config(), n_tokens, cache, exec_); }

 private:
  std::shared_ptr<const Model> model_;
  kernels::Exec& exec_;
  Activations activations_;
};

}  // namespace

std::unique_ptr<Backend> Backend::create(std::shared_ptr<const Model> model, kernels::Exec& exec,
                                         std::shared_ptr<KvPool> pool, CacheFormat format, std::span<const int> gpus) {
  if (exec.device() == kernels::Device::cuda) {
    return make_gpu_backend(std::move(model), exec, gpus, pool ? pool->budget_bytes() : KvPool::kNoLimit);
  }
  return std::make_unique<CpuBackend>(std::move(model), exec, std::move(pool), format);
}

}  // namespace corvid::model
