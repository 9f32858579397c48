// Many sequences, one forward pass: whatever is queued is evaluated together.
//
//   threads of sessions        queue                  a pass, at most 512 rows
//     a: append(t)      --->   a: 1 token             | a | c | b b b b b b b ... |
//     b: sync(prompt)   --->   b: 9,000 tokens  --->    all that wait for a few    a chunk of each prompt,
//     c: extend(...)    --->   c: 4 tokens              tokens come first          in turns
//
// Weights are read once for all rows of a pass, and an expert's rows are multiplied together. A token's logits depend
// on its sequence alone, bit for bit: on neither what shares its passes, nor how its prompt is cut, nor the threads.
// (On a GPU the few tokens of a decode step and the chunks of a prompt go through different kernels, so there the cut
// shows.)
//
// There is no thread for it: of the callers that wait, one runs the next pass for all, so that a single session pays
// for no switch of threads. While somebody waits for a few tokens, prompts get chunks that take about a tenth of a
// second.
//
// Memory: sequences take cache pages under the engine's budget. What does not fit waits, oldest first. Sequences that
// nobody has used for a moment lose their pages, the least recently used first, and the youngest in the queue loses its
// pages to an older one: they are evaluated again when their turn comes, to the same bits. A prompt that begins like
// the tokens of another sequence shares its pages up to there, also when both are evaluated at the moment, and also
// when the other one has ended: such pages are kept in up to a quarter of the budget and are the first to be given up
// (prefix_index.h). Without a budget none are.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <vector>

#include "kernels/exec.h"
#include "model/kv_cache.h"
#include "model/kv_pool.h"
#include "model/model.h"
#include "model/step_profile.h"

namespace corvid::model {

class Backend;
class KvCache;
struct Timeline;

inline constexpr int kFirstGpu[] = {0};

struct EngineOptions {
  kernels::Device device = kernels::Device::cpu;
  std::vector<int> gpus = {0};             // on cuda: those that share the model
  int threads = 0;                         // 0: one for each core that this process may use
  int64_t cache_bytes = KvPool::kNoLimit;  // of all sequences together
  CacheFormat cache_format = {};           // of keys and values, and of index keys; a GPU keeps bf16, and e4m3 if asked
};

// What has happened so far.
struct EngineStats {
  int64_t passes = 0;
  int64_t rows = 0;            // tokens evaluated
  int64_t most_sequences = 0;  // in one pass
  int64_t evictions = 0;       // of sequences that lost pages
  int64_t kept_tokens = 0;     // found in pages of sequences that had ended
  int64_t longest_wait = 0;    // passes from when work was queued, or last had rows, to the end of one that has some
};

// Used by any number of threads at once, through sequences (sequence.h), which share it.
class Engine {
 public:
  // Owns threads, memory and queue of one model. Throws std::invalid_argument for numbers out of range,
  // std::runtime_error when there is no GPU or the model does not fit its memory, std::bad_alloc when the CPU's is
  // short.
  static std::shared_ptr<Engine> create(std::shared_ptr<const Model> model, const EngineOptions& options = {});
  // On threads, or a GPU, that the caller lends: `exec` must outlive the engine and be used by nobody else while it
  // works. `pool` null: memory without a limit.
  static std::shared_ptr<Engine> create(std::shared_ptr<const Model> model, kernels::Exec& exec,
                                        std::shared_ptr<KvPool> pool = nullptr, CacheFormat cache_format = {},
                                        std::span<const int> gpus = kFirstGpu);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const std::shared_ptr<const Model>& model() const noexcept;
  kernels::Device device() const noexcept;
  kernels::Isa isa() const noexcept;
  CacheFormat cache_format() const noexcept;
  EngineStats stats() const;

 private:
  friend class Sequence;
  struct Impl;
  struct Order;
  explicit Engine(std::unique_ptr<Impl> impl);

  std::shared_ptr<KvPool> pool() const;
  void enter(Timeline& timeline);
  void leave(Timeline& timeline) noexcept;
  // What is wanted of the positions `places`, ascending: their logits, [places, vocab], or (logits null) the likeliest
  // token of each.
  struct Wanted {
    std::span<const int64_t> places = {};
    float* logits = nullptr;
    Token* best = nullptr;
  };
  // Makes the timeline hold its first `keep` tokens and `more` behind them, and writes what is wanted. Not complete
  // when a stop came first: then it holds `keep` tokens and those evaluated so far. Throws std::length_error, and
  // changes nothing, when the pages of so many tokens are more than the budget.
  struct Evaluated {
    bool is_complete;
    int64_t reused;  // tokens at the beginning that were in a cache already
  };
  Evaluated evaluate(Timeline& timeline, int64_t keep, std::span<const Token> more, const Wanted& wanted,
                     const std::stop_token& stop);
  void truncate(Timeline& timeline, int64_t n_tokens);
  bool adopt(Timeline& timeline, std::span<const Token> prefix);
  void rest(Timeline& timeline);
  int64_t company() const noexcept;
  // How many tokens' pages the budget holds.
  int64_t most_tokens(const KvCache& cache) const;
  // Runs `look` while no pass evicts or evaluates anything; for copies of a timeline's cache.
  void locked(const std::function<void()>& look) const;
  // Takes pages from a sequence that nobody uses, or that were kept, for this one; for a job. False when there are
  // none.
  bool make_room(const Timeline& timeline);
  // On a GPU: a step of these sequences' last tokens, once more, and where its time goes.
  std::optional<StepProfile> profile_step(std::span<Timeline* const> timelines);
  // Runs `job` between two passes.
  void between_passes(const std::function<void(Backend&, kernels::Exec&)>& job);

  std::unique_ptr<Impl> impl_;
};

}  // namespace corvid::model
