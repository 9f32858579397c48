#include "model/kv_pool.h"

#include <stdexcept>

#include "kernels/exec.h"
#include "model/error.h"

namespace corvid::model {
namespace {

// Takes `bytes` from the budget for as long as it lives.
class Share {
 public:
  Share(std::shared_ptr<KvPool> pool, std::atomic<int64_t>& used, int64_t bytes)
      : pool_(std::move(pool)), used_(used), bytes_(bytes) {
    int64_t before = used_.load(std::memory_order_relaxed);
    do {
      if (bytes_ > pool_->budget_bytes() - before) {
        throw std::length_error(concat("KV cache: want a page of ", bytes, " bytes more, found ",
                                       pool_->budget_bytes() - before, " left of ", pool_->budget_bytes()));
      }
    } while (!used_.compare_exchange_weak(before, before + bytes_, std::memory_order_relaxed));
  }
  Share(const Share&) = delete;
  Share& operator=(const Share&) = delete;
  ~Share() { used_.fetch_sub(bytes_, std::memory_order_relaxed); }

 private:
  std::shared_ptr<KvPool> pool_;  // who owns `used_`
  std::atomic<int64_t>& used_;
  int64_t bytes_;
};

struct Memory {
  Share share;
  kernels::Buffer buffer;
};

}  // namespace

std::shared_ptr<KvPool> KvPool::create(int64_t budget_bytes) {
  if (budget_bytes < 0) throw std::invalid_argument(concat("KV cache: want a budget >= 0, found ", budget_bytes));
  return std::shared_ptr<KvPool>(new KvPool(budget_bytes));
}

KvPage KvPool::allocate(int64_t bytes) {
  const auto memory = std::shared_ptr<Memory>(new Memory{{shared_from_this(), used_, bytes}, kernels::Buffer(bytes)});
  return {std::shared_ptr<std::byte>(memory, memory->buffer.as<std::byte>())};
}

}  // namespace corvid::model
