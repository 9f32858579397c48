// Measures a model: tokens per second, and how near that is to what memory allows.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "kernels/exec.h"
#include "model/model.h"
#include "model/sequence.h"
#include "model/token_cost.h"

namespace corvid::agents {

struct BenchPlan {
  std::vector<int64_t> prompts;  // tokens to prefill, each from every depth; empty: no prefill
  int64_t gen = 0;               // tokens to decode at every depth; 0: no decode
  std::vector<int64_t> depths;   // tokens that are there before
  std::vector<int64_t> batches;  // sequences that decode at once
  std::vector<model::Attention> attentions;
  int64_t repeats = 1;
};

struct BenchResult {
  bool is_prefill = false;
  model::Attention attention = model::Attention::automatic;
  int64_t depth = 0, batch = 1;
  int64_t tokens = 0;              // per sequence and repeat
  double rows_per_pass = 0;        // of decode: how many of the sequences really shared their passes
  std::vector<double> speeds;      // tokens per second of all sequences together, one for each repeat
  std::vector<double> bandwidths;  // bytes per second that memory gave just before each repeat
  model::TokenCost cost;
  std::optional<model::StepProfile> profile;  // of a decode step on a GPU

  double speed() const;  // medians
  double bandwidth() const;
};

// Sequences that decode at once share an engine and have a thread each, as sessions do. Tokens are random and nothing
// is sampled, so that the model's step alone is measured. `bandwidth` measures the memory, in bytes per second. What
// lies before a depth is made up (Sequence::make_up). Calls back with each result as it comes.
void run_bench(std::shared_ptr<model::Engine> engine, const BenchPlan& plan, const std::function<double()>& bandwidth,
               const std::function<void(const BenchResult&)>& report);

// The most memory that this process has had at once; 0 where the system does not tell.
int64_t peak_memory();

}  // namespace corvid::agents
