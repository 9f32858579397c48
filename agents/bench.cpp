#include "agents/bench.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <future>

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
  Bench(std::shared_ptr<model::Engine> engine, const BenchPlan& plan, const std::function<double()>& bandwidth)
      : engine_(std::move(engine)), model_(engine_->model()), plan_(plan), bandwidth_(bandwidth) {}

  void run(const std::function<void(const BenchResult&)>& report) {
    const int64_t longest = plan_.prompts.empty() ? 0 : *std::max_element(plan_.prompts.begin(), plan_.prompts.end());
    for (const model::Attention attention : plan_.attentions) {
      for (const int64_t depth : plan_.depths) {
        std::vector<model::Sequence> sequences;
        const auto grow = [&](int64_t count) {
          while (std::ssize(sequences) < count) {
            sequences.emplace_back(engine_, depth + std::max(longest, plan_.gen + 1), attention).make_up(depth);
          }
        };
        grow(1);
        for (const int64_t tokens : plan_.prompts) report(prefill(sequences[0], attention, depth, tokens));
        if (plan_.gen == 0) continue;
        for (const int64_t batch : plan_.batches) {
          grow(batch);
          report(decode(std::span(sequences).first(static_cast<size_t>(batch)), attention, depth));
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
      result.bandwidths.push_back(bandwidth_());
      const double time = seconds([&] { sequence.sync(prompt); });
      result.speeds.push_back(static_cast<double>(tokens) / time);
    }
    return result;
  }

  BenchResult decode(std::span<model::Sequence> sequences, model::Attention attention, int64_t depth) {
    const model::Engine& engine = *engine_;
    BenchResult result = begun(attention, depth, std::ssize(sequences), plan_.gen);
    model::EngineStats total;
    for (int64_t repeat = 0; repeat < plan_.repeats; ++repeat) {
      for (model::Sequence& sequence : sequences) sequence.sync(continued(sequence, depth, 1));  // takes memory
      std::vector<std::vector<Token>> tokens(sequences.size());
      for (std::vector<Token>& list : tokens) {
        for (int64_t i = 0; i < plan_.gen; ++i) list.push_back(random_token());
      }
      result.bandwidths.push_back(bandwidth_());
      const model::EngineStats before = engine.stats();
      const double time = seconds([&] { append_all(sequences, tokens); });
      total.passes += engine.stats().passes - before.passes;
      total.rows += engine.stats().rows - before.rows;
      result.speeds.push_back(static_cast<double>(plan_.gen * std::ssize(sequences)) / time);
    }
    result.rows_per_pass = static_cast<double>(total.rows) / static_cast<double>(total.passes);
    result.profile = model::Sequence::profile_step(sequences);
    return result;
  }

  // Each sequence its own tokens, one after the other; the first on this thread.
  static void append_all(std::span<model::Sequence> sequences, const std::vector<std::vector<Token>>& tokens) {
    std::vector<std::future<void>> others;
    const auto append = [&](size_t i) {
      for (const Token token : tokens[i]) sequences[i].append(token);
    };
    for (size_t i = 1; i < sequences.size(); ++i) others.push_back(std::async(std::launch::async, append, i));
    append(0);
    for (std::future<void>& other : others) other.get();
  }

  BenchResult begun(model::Attention attention, int64_t depth, int64_t batch, int64_t tokens) const {
    BenchResult result;
    result.attention = attention;
    result.depth = depth;
    result.batch = batch;
    result.tokens = tokens;
    result.cost = model::token_cost(model_->config(), model_->weights(), depth, tokens, batch,
                                    attention == model::Attention::dense, engine_->cache_format());
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

  std::shared_ptr<model::Engine> engine_;
  std::shared_ptr<const model::Model> model_;
  const BenchPlan& plan_;
  const std::function<double()>& bandwidth_;
  uint64_t state_ = 1;
};

}  // namespace

double BenchResult::speed() const { return median(speeds); }
double BenchResult::bandwidth() const { return median(bandwidths); }

void run_bench(std::shared_ptr<model::Engine> engine, const BenchPlan& plan, const std::function<double()>& bandwidth,
               const std::function<void(const BenchResult&)>& report) {
  Bench(std::move(engine), plan, bandwidth).run(report);
}

int64_t peak_memory() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  return int64_t{usage.ru_maxrss} * 1024;  // Linux counts in KiB
}

}  // namespace corvid::agents
