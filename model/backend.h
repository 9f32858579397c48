// What computes an engine's passes, and where its caches lie: the CPU, or a GPU.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "kernels/exec.h"
#include "model/engine.h"
#include "model/forward.h"
#include "model/kv_cache.h"
#include "model/kv_pool.h"
#include "model/model.h"
#include "model/step_profile.h"

namespace corvid::model {

// Used by one thread at a time, the one that runs passes.
class Backend {
 public:
  // For the device of `exec`, which must outlive it. On the CPU `pool` gives the cache's memory (null: without a
  // limit) and `format` says how it is kept. `gpus`: those that share the model, the first of them that of `exec`. A
  // GPU has a pool of its own, of at most the pool's budget and what memory is left, and keeps bf16 whatever `format`
  // says, but for index keys in e4m3; the weights are copied to it. Throws std::runtime_error when they do not fit.
  static std::unique_ptr<Backend> create(std::shared_ptr<const Model> model, kernels::Exec& exec,
                                         std::shared_ptr<KvPool> pool, CacheFormat format,
                                         std::span<const int> gpus = kFirstGpu);
  virtual ~Backend() = default;

  const std::shared_ptr<KvPool>& pool() const { return pool_; }
  CacheFormat cache_format() const { return format_; }

  virtual int64_t most_rows() const = 0;  // of one pass
  // As model/forward.h says. What the caches' bits depend on besides: on a GPU, whether a row came with a few others or
  // in a chunk of a prompt.
  virtual void forward(std::span<const Segment> batch) = 0;
  // Fills the first `n_tokens` positions of an empty cache with numbers that mean nothing (random_model.h).
  virtual void fill(int64_t n_tokens, KvCache& cache) = 0;
  // The last decode step again, a few times over; nothing where there was none, and on the CPU.
  virtual std::optional<StepProfile> profile_last_step() { return std::nullopt; }

 protected:
  Backend(std::shared_ptr<KvPool> pool, CacheFormat format) : pool_(std::move(pool)), format_(format) {}

 private:
  std::shared_ptr<KvPool> pool_;
  CacheFormat format_;
};

}  // namespace corvid::model
