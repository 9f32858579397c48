#include "model/sequence.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <utility>

#include "model/backend.h"
#include "model/error.h"
#include "model/kv_snapshot.h"
#include "model/schedule.h"
#include "model/timeline.h"

namespace corvid::model {

struct Sequence::Impl {
  std::shared_ptr<Engine> engine;
  int64_t max_tokens;
  Timeline timeline;
  std::vector<float> logits = {};  // [rows, vocab], of the last tokens
  std::vector<Token> best = {};    // [rows], instead of logits: the likeliest tokens
  std::vector<float> spare = {};   // memory for the next ones: half a megabyte of fresh pages takes a tenth of a step

  Impl(std::shared_ptr<Engine> engine_in, int64_t max_tokens_in, Timeline timeline_in)
      : engine(std::move(engine_in)), max_tokens(max_tokens_in), timeline(std::move(timeline_in)) {
    engine->enter(timeline);
  }
  Impl(const Impl&) = delete;
  ~Impl() { engine->leave(timeline); }

  const Config& config() const { return engine->model()->config(); }
  const std::vector<Token>& tokens() const { return timeline.tokens; }
  int64_t count() const { return std::ssize(tokens()); }
  int64_t vocab() const { return config().vocab_size; }
  int64_t logit_rows() const { return std::ssize(logits) / vocab(); }
  std::span<const float> logits_row(int64_t i) const {
    return std::span(logits).subspan(static_cast<size_t>(i * vocab()), static_cast<size_t>(vocab()));
  }

  void check(std::span<const Token> more, int64_t total) const {
    if (total > max_tokens) {
      throw std::length_error(concat("sequence: want at most ", max_tokens, " tokens, found ", total));
    }
    for (const Token token : more) {
      if (token < 0 || token >= vocab()) {
        throw std::invalid_argument(concat("token: want an id from 0 to ", vocab() - 1, ", found ", token));
      }
    }
  }

  // Keeps the first `keep` tokens and evaluates `more` behind them. `wanted` are positions, ascending; logits holds
  // their rows then.
  Engine::Evaluated evaluate(int64_t keep, std::span<const Token> more, std::span<const int64_t> wanted,
                             const std::stop_token& stop) {
    std::vector<float> rows = std::move(spare);
    rows.resize(static_cast<size_t>(std::ssize(wanted) * vocab()));
    const int64_t before = count();
    try {
      const Engine::Evaluated result =
          engine->evaluate(timeline, keep, more, {.places = wanted, .logits = rows.data()}, stop);
      if (result.is_complete) {
        best.clear();
        spare = std::exchange(logits, std::move(rows));
        if (std::ssize(spare) > kShortRows * vocab()) spare = {};
      } else {
        forget_logits(before, keep);
      }
      return result;
    } catch (...) {
      forget_logits(before, keep);
      throw;
    }
  }

  bool evaluate_best(std::span<const Token> more, std::span<const int64_t> wanted, const std::stop_token& stop) {
    std::vector<Token> tokens(wanted.size());
    const int64_t before = count();
    try {
      if (engine->evaluate(timeline, before, more, {.places = wanted, .best = tokens.data()}, stop).is_complete) {
        if (spare.empty() && std::ssize(logits) <= kShortRows * vocab()) spare = std::move(logits);
        logits.clear();
        best = std::move(tokens);
        return true;
      }
      forget_logits(before, before);
      return false;
    } catch (...) {
      forget_logits(before, before);
      throw;
    }
  }

  // After a call that did not end: unless nothing changed, the last token's are not known.
  void forget_logits(int64_t before, int64_t keep) {
    if (keep == before && count() == before) return;
    logits.clear();
    best.clear();
  }

  Engine::Evaluated evaluate_to_last(int64_t keep, std::span<const Token> more, const std::stop_token& stop) {
    const int64_t last = keep + std::ssize(more) - 1;
    return evaluate(keep, more, {&last, 1}, stop);
  }

  KvCache empty_cache() const {
    return KvCache(config(), engine->pool(), engine->cache_format(), timeline.cache.has_bounds());
  }

  void replace(std::vector<Token> tokens, KvCache cache, bool is_made_up) {
    engine->locked([&] {
      timeline.is_made_up = is_made_up;
      timeline.held = std::ssize(tokens);
      timeline.cache = std::move(cache);
      timeline.tokens = std::move(tokens);
      timeline.last_use = std::chrono::steady_clock::now();
    });
    logits.clear();
    best.clear();
  }

  // A copy of the cache with all tokens, whatever was evicted.
  KvCache whole_cache() {
    for (;;) {
      std::optional<KvCache> copy;
      engine->locked([&] {
        if (timeline.held == count()) copy = timeline.cache;
      });
      if (copy) return *std::move(copy);
      engine->evaluate(timeline, count(), {}, {}, {});
    }
  }
};

Sequence::Sequence(std::shared_ptr<Engine> engine, int64_t max_tokens, Attention attention) {
  if (max_tokens < 1) throw std::invalid_argument(concat("sequence: want at least 1 token, found ", max_tokens));
  KvCache cache(engine->model()->config(), engine->pool(), engine->cache_format(), attention == Attention::sparse);
  impl_ =
      std::make_unique<Impl>(std::move(engine), max_tokens, Timeline{attention == Attention::dense, std::move(cache)});
}
Sequence::Sequence(std::shared_ptr<const Model> model, kernels::Exec& exec, int64_t max_tokens, Attention attention,
                   std::shared_ptr<KvPool> pool, CacheFormat cache_format)
    : Sequence(Engine::create(std::move(model), exec, std::move(pool), cache_format), max_tokens, attention) {}
Sequence::Sequence(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Sequence::Sequence(Sequence&&) noexcept = default;
Sequence& Sequence::operator=(Sequence&&) noexcept = default;
Sequence::~Sequence() = default;

int64_t Sequence::sync(std::span<const Token> prompt, const std::stop_token& stop) {
  Impl& s = *impl_;
  if (prompt.empty()) throw std::invalid_argument("sequence: want a prompt of at least one token, found none");
  s.check(prompt, std::ssize(prompt));
  const auto differ = std::mismatch(prompt.begin(), prompt.end() - 1, s.tokens().begin(), s.tokens().end()).first;
  const int64_t kept = differ - prompt.begin();
  return s.evaluate_to_last(kept, prompt.subspan(static_cast<size_t>(kept)), stop).reused;
}

bool Sequence::append(Token token, const std::stop_token& stop) {
  impl_->check({&token, 1}, impl_->count() + 1);
  return impl_->evaluate_to_last(impl_->count(), {&token, 1}, stop).is_complete;
}

bool Sequence::extend(std::span<const Token> tokens, const std::stop_token& stop) {
  Impl& s = *impl_;
  s.check(tokens, s.count() + std::ssize(tokens));
  std::vector<int64_t> all(tokens.size());
  std::iota(all.begin(), all.end(), s.count());
  return tokens.empty() || s.evaluate(s.count(), tokens, all, stop).is_complete;
}

bool Sequence::extend_best(std::span<const Token> tokens, const std::stop_token& stop) {
  Impl& s = *impl_;
  s.check(tokens, s.count() + std::ssize(tokens));
  std::vector<int64_t> all(tokens.size());
  std::iota(all.begin(), all.end(), s.count());
  return tokens.empty() || s.evaluate_best(tokens, all, stop);
}

Token Sequence::best(int64_t i) const {
  const auto rows = std::ssize(impl_->best);
  if (i < 0 || i >= rows) throw std::invalid_argument(concat("best: want a row below ", rows, ", found ", i));
  return impl_->best[static_cast<size_t>(i)];
}

void Sequence::truncate(int64_t n_tokens) {
  Impl& s = *impl_;
  if (n_tokens < 0 || n_tokens > s.count()) {
    throw std::invalid_argument(concat("truncate: want 0 to ", s.count(), " tokens, found ", n_tokens));
  }
  s.best.resize(s.best.size() - static_cast<size_t>(std::min(s.count() - n_tokens, std::ssize(s.best))));
  const int64_t dropped = std::min(s.count() - n_tokens, s.logit_rows());
  s.logits.resize(s.logits.size() - static_cast<size_t>(dropped * s.vocab()));
  s.engine->truncate(s.timeline, n_tokens);
}

bool Sequence::adopt(std::span<const Token> prefix) {
  return tokens().empty() && !prefix.empty() && std::ssize(prefix) <= max_tokens() &&
         impl_->engine->adopt(impl_->timeline, prefix);
}
void Sequence::rest() { impl_->engine->rest(impl_->timeline); }
int64_t Sequence::company() const { return impl_->engine->company(); }

std::span<const float> Sequence::logits() const {
  const int64_t rows = impl_->logit_rows();
  return rows > 0 ? impl_->logits_row(rows - 1) : std::span<const float>();
}

std::span<const float> Sequence::logits(int64_t i) const {
  const int64_t rows = impl_->logit_rows();
  if (i < 0 || i >= rows) throw std::invalid_argument(concat("logits: want a row below ", rows, ", found ", i));
  return impl_->logits_row(i);
}

std::span<const Token> Sequence::tokens() const { return impl_->tokens(); }
int64_t Sequence::max_tokens() const { return impl_->max_tokens; }
int64_t Sequence::fitting_tokens() const {
  return std::min(impl_->max_tokens, impl_->engine->most_tokens(impl_->timeline.cache));
}

Sequence Sequence::fork() const {
  const Impl& s = *impl_;
  std::optional<Timeline> copy;
  s.engine->locked([&] {
    copy = Timeline{s.timeline.dense, s.timeline.cache, s.timeline.tokens, s.timeline.held};
    copy->is_made_up = s.timeline.is_made_up;
  });
  auto impl = std::make_unique<Impl>(s.engine, s.max_tokens, *std::move(copy));
  impl->logits = s.logits;
  impl->best = s.best;
  return Sequence(std::move(impl));
}

std::string Sequence::identity() const {
  const CacheFormat format = impl_->engine->cache_format();
  return concat(impl_->engine->model()->fingerprint(), " ", kernels::format_name(format.kv), " ", format.index_name(),
                " ",
                impl_->engine->device() == kernels::Device::cuda ? "cuda" : kernels::isa_name(impl_->engine->isa()),
                impl_->timeline.dense                ? " dense"
                : impl_->timeline.cache.has_bounds() ? " by bounds"
                                                     : " sparse");
}

int64_t Sequence::cache_bytes(int64_t n_tokens) const {
  return impl_->timeline.cache.pages_for(n_tokens) * impl_->timeline.cache.page_bytes();
}

void Sequence::save(const std::filesystem::path& file, int64_t n_tokens) const {
  const Impl& s = *impl_;
  if (n_tokens < 0 || n_tokens > s.count()) {
    throw std::invalid_argument(concat("snapshot: want 0 to ", s.count(), " tokens, found ", n_tokens));
  }
  write_snapshot(file, identity(), std::span(s.tokens()).first(static_cast<size_t>(n_tokens)), impl_->whole_cache(),
                 !s.timeline.dense);
}

void Sequence::restore(const std::filesystem::path& file) {
  Impl& s = *impl_;
  KvCache cache = s.empty_cache();
  std::vector<Token> tokens;
  s.engine->between_passes([&](Backend&, kernels::Exec& exec) {
    tokens = read_snapshot(file, identity(), s.config(), s.max_tokens, cache, exec,
                           [&] { return s.engine->make_room(s.timeline); });
  });
  s.replace(std::move(tokens), std::move(cache), false);
}

void Sequence::make_up(int64_t n_tokens) {
  Impl& s = *impl_;
  s.check({}, n_tokens);
  KvCache cache = s.empty_cache();
  s.engine->between_passes([&](Backend& backend, kernels::Exec&) { backend.fill(n_tokens, cache); });
  std::vector<Token> tokens;
  for (int64_t i = 0; i < n_tokens; ++i) tokens.push_back(static_cast<Token>(i % s.vocab()));
  s.replace(std::move(tokens), std::move(cache), true);
}

std::optional<StepProfile> Sequence::profile_step(std::span<Sequence> sequences) {
  if (sequences.empty()) return std::nullopt;
  std::vector<Timeline*> timelines;
  for (Sequence& sequence : sequences) timelines.push_back(&sequence.impl_->timeline);
  return sequences.front().impl_->engine->profile_step(timelines);
}

std::vector<std::vector<float>> Sequence::logits_at(std::span<const Token> prompt, std::span<const int64_t> positions) {
  Impl& s = *impl_;
  if (prompt.empty()) throw std::invalid_argument("sequence: want a prompt of at least one token, found none");
  s.check(prompt, std::ssize(prompt));
  const int64_t last = std::ssize(prompt) - 1;
  std::vector<int64_t> places(positions.begin(), positions.end());
  for (const int64_t place : places) {
    if (place < 0 || place > last) {
      throw std::invalid_argument(concat("position: want 0 to ", last, ", found ", place));
    }
  }
  places.push_back(last);
  std::sort(places.begin(), places.end());
  places.erase(std::unique(places.begin(), places.end()), places.end());
  s.evaluate(0, prompt, places, {});
  std::vector<std::vector<float>> rows;
  for (const int64_t position : positions) {
    const std::span<const float> row =
        s.logits_row(std::lower_bound(places.begin(), places.end(), position) - places.begin());
    rows.emplace_back(row.begin(), row.end());
  }
  s.logits.erase(s.logits.begin(), s.logits.end() - s.vocab());
  return rows;
}

}  // namespace corvid::model
