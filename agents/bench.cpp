#include "agents/bench.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>

namespace corvid::agents {

namespace {

using model::Token;

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

template <class Work>
double seconds(Work&& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

class Bench {
 public:
  Bench(std::shared_ptr<const model::Model> model, kernels::Exec& exec, const BenchPlan& plan,
        kernels::ReadSpeed& memory)
      : model_(std::move(model)), exec_(exec), plan_(plan), memory_(memory) {}

  void run(const std::function<void(const BenchResult&)>& report) {
    const int64_t longest = plan_.prompts.empty() ? 0 : *std::max_element(plan_.prompts.begin(), plan_.prompts.end());
    for (const model::Attention attention : plan_.attentions) {
      for (const int64_t depth : plan_.depths) {
        model::Sequence sequence(model_, exec_, depth + std::max(longest, plan_.gen + 1), attention);
        sequence.make_up(depth);
        for (const int64_t tokens : plan_.prompts) report(prefill(sequence, attention, depth, tokens));
        for (const int64_t batch : plan_.batches) {
          if (plan_.gen > 0) report(decode(sequence, attention, depth, batch));
        }
      }
    }
  }

 private:
  BenchResult prefill(model::Sequence& sequence, model::Attention attention, int64_t depth, int64_t tokens) {
    BenchResult result = begun(attention, depth, 1, tokens);
    result.is_prefill = true;
    for (int64_t repeat = 0; repeat < plan_.repeats; ++repeat) {
      const std::vector<Token> prompt = continued(sequence, depth, tokens);
      result.bandwidths.push_back(memory_.measure(exec_));
      const double time = seconds([&] { sequence.sync(prompt); });
      result.speeds.push_back(static_cast<double>(tokens) / time);
    }
    return result;
  }

  BenchResult decode(model::Sequence& sequence, model::Attention attention, int64_t depth, int64_t batch) {
    BenchResult result = begun(attention, depth, batch, plan_.gen);
    for (int64_t repeat = 0; repeat < plan_.repeats; ++repeat) {
      sequence.sync(continued(sequence, depth, 1));  // the first step of a sequence may take memory
      result.bandwidths.push_back(memory_.measure(exec_));
      const double time = seconds([&] {
        for (int64_t i = 0; i < plan_.gen; ++i) sequence.append(random_token());
      });
      result.speeds.push_back(static_cast<double>(plan_.gen) / time);
    }
    return result;
  }

  BenchResult begun(model::Attention attention, int64_t depth, int64_t batch, int64_t tokens) const {
    BenchResult result;
    result.attention = attention;
    result.depth = depth;
    result.batch = batch;
    result.tokens = tokens;
    result.cost = model::token_cost(model_->config(), model_->weights(), depth, tokens, batch,
                                    attention == model::Attention::dense);
    return result;
  }

  // The first `depth` tokens that the sequence holds, and `more` random ones.
  std::vector<Token> continued(const model::Sequence& sequence, int64_t depth, int64_t more) {
    const std::span<const Token> held = sequence.tokens().first(static_cast<size_t>(depth));
    std::vector<Token> tokens(held.begin(), held.end());
    for (int64_t i = 0; i < more; ++i) tokens.push_back(random_token());
    return tokens;
  }

  Token random_token() {
    state_ = state_ * 6364136223846793005U + 1442695040888963407U;
    return static_cast<Token>((state_ >> 33) % static_cast<uint64_t>(model_->config().vocab_size));
  }

  std::shared_ptr<const model::Model> model_;
  kernels::Exec& exec_;
  const BenchPlan& plan_;
  kernels::ReadSpeed& memory_;
  uint64_t state_ = 1;
};

}  // namespace

double BenchResult::speed() const { return median(speeds); }
double BenchResult::bandwidth() const { return median(bandwidths); }

void run_bench(std::shared_ptr<const model::Model> model, kernels::Exec& exec, const BenchPlan& plan,
               kernels::ReadSpeed& memory, const std::function<void(const BenchResult&)>& report) {
  Bench(std::move(model), exec, plan, memory).run(report);
}

int64_t peak_memory() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  return int64_t{usage.ru_maxrss} * 1024;  // Linux counts in KiB
}

}  // namespace corvid::agents
