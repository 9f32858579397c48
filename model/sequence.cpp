#include "model/sequence.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "kernels/check.h"
#include "model/error.h"
#include "model/forward.h"
#include "model/kv_cache.h"
#include "model/kv_snapshot.h"
#include "model/random_model.h"

namespace corvid::model {

struct Sequence::Impl {
  std::shared_ptr<const Model> model;
  kernels::Exec* exec;
  int64_t max_tokens;
  bool dense;
  KvCache cache;
  Activations activations;
  std::vector<Token> tokens;  // those whose keys and values are in the cache
  std::vector<float> logits;  // [rows, vocab], of the last tokens

  int64_t count() const { return std::ssize(tokens); }
  int64_t vocab() const { return model->config().vocab_size; }
  int64_t logit_rows() const { return std::ssize(logits) / vocab(); }
  std::span<const float> logits_row(int64_t i) const {
    return std::span(logits).subspan(static_cast<size_t>(i * vocab()), static_cast<size_t>(vocab()));
  }

  void check(std::span<const Token> more, int64_t total) const {
    if (total > max_tokens) {
      throw std::length_error(concat("sequence: want at most ", max_tokens, " tokens, found ", total));
    }
    for (const Token token : more) {
      if (token < 0 || token >= model->config().vocab_size) {
        throw std::invalid_argument(
            concat("token: want an id from 0 to ", model->config().vocab_size - 1, ", found ", token));
      }
    }
  }

  void keep(int64_t n_tokens) {
    const int64_t dropped = std::min(count() - n_tokens, logit_rows());
    logits.resize(logits.size() - static_cast<size_t>(dropped * vocab()));
    tokens.resize(static_cast<size_t>(n_tokens));
    cache.truncate(n_tokens);
  }

  // Evaluates `more` behind what is held. `wanted` are places in `more`, ascending; logits holds their rows then. A
  // pass that fails leaves the tokens before it in place.
  void evaluate(std::span<const Token> more, std::span<const int64_t> wanted) {
    const Config& config = model->config();
    cache.prepare(count(), count() + std::ssize(more));
    logits.clear();
    std::vector<float> rows_wanted(static_cast<size_t>(std::ssize(wanted) * vocab()));
    float* out = rows_wanted.data();
    for (int64_t done = 0; done < std::ssize(more);) {
      const int64_t rows = std::min(kChunkRows, std::ssize(more) - done);
      if (rows > activations.rows) activations = Activations(config, rows);
      const std::span<const Token> chunk = more.subspan(static_cast<size_t>(done), static_cast<size_t>(rows));
      std::vector<int64_t> here;
      for (const int64_t place : wanted) {
        if (place >= done && place < done + rows) here.push_back(place - done);
      }
      const Segment segment{chunk, count(), &cache, dense, here, out};
      forward(config, model->weights(), {&segment, 1}, activations, *exec);
      tokens.insert(tokens.end(), chunk.begin(), chunk.end());
      out += std::ssize(here) * vocab();
      done += rows;
    }
    logits = std::move(rows_wanted);
  }

  void evaluate_to_last(std::span<const Token> more) {
    const int64_t last = std::ssize(more) - 1;
    evaluate(more, {&last, 1});
  }
};

Sequence::Sequence(std::shared_ptr<const Model> model, kernels::Exec& exec, int64_t max_tokens, Attention attention,
                   std::shared_ptr<KvPool> pool, kernels::Format cache_format) {
  if (max_tokens < 1) throw std::invalid_argument(concat("sequence: want at least 1 token, found ", max_tokens));
  kernels::require_cpu(exec, "the forward pass");
  KvCache cache(model->config(), std::move(pool), cache_format);
  impl_ = std::make_unique<Impl>(
      Impl{std::move(model), &exec, max_tokens, attention == Attention::dense, std::move(cache), {}, {}, {}});
}
Sequence::Sequence(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Sequence::Sequence(Sequence&&) noexcept = default;
Sequence& Sequence::operator=(Sequence&&) noexcept = default;
Sequence::~Sequence() = default;

int64_t Sequence::sync(std::span<const Token> prompt) {
  Impl& s = *impl_;
  if (prompt.empty()) throw std::invalid_argument("sequence: want a prompt of at least one token, found none");
  s.check(prompt, std::ssize(prompt));
  const auto differ = std::mismatch(prompt.begin(), prompt.end() - 1, s.tokens.begin(), s.tokens.end()).first;
  const int64_t kept = differ - prompt.begin();
  s.keep(kept);
  s.evaluate_to_last(prompt.subspan(static_cast<size_t>(kept)));
  return kept;
}

void Sequence::append(Token token) {
  impl_->check({&token, 1}, impl_->count() + 1);
  impl_->evaluate_to_last({&token, 1});
}

void Sequence::extend(std::span<const Token> tokens) {
  Impl& s = *impl_;
  s.check(tokens, s.count() + std::ssize(tokens));
  std::vector<int64_t> all(tokens.size());
  std::iota(all.begin(), all.end(), 0);
  if (!tokens.empty()) s.evaluate(tokens, all);
}

void Sequence::truncate(int64_t n_tokens) {
  Impl& s = *impl_;
  if (n_tokens < 0 || n_tokens > s.count()) {
    throw std::invalid_argument(concat("truncate: want 0 to ", s.count(), " tokens, found ", n_tokens));
  }
  s.keep(n_tokens);
}

void Sequence::reserve(int64_t n_tokens) {
  impl_->check({}, n_tokens);
  if (n_tokens > impl_->count()) impl_->cache.prepare(impl_->count(), n_tokens);
}

std::span<const float> Sequence::logits() const {
  const int64_t rows = impl_->logit_rows();
  return rows > 0 ? impl_->logits_row(rows - 1) : std::span<const float>();
}

std::span<const float> Sequence::logits(int64_t i) const {
  const int64_t rows = impl_->logit_rows();
  if (i < 0 || i >= rows) throw std::invalid_argument(concat("logits: want a row below ", rows, ", found ", i));
  return impl_->logits_row(i);
}

std::span<const Token> Sequence::tokens() const { return impl_->tokens; }
int64_t Sequence::max_tokens() const { return impl_->max_tokens; }

Sequence Sequence::fork() const {
  const Impl& s = *impl_;
  return Sequence(
      std::make_unique<Impl>(Impl{s.model, s.exec, s.max_tokens, s.dense, s.cache, {}, s.tokens, s.logits}));
}

std::string Sequence::identity() const {
  return concat(impl_->model->fingerprint(), " ", kernels::format_name(impl_->cache.format()), " ",
                kernels::isa_name(impl_->exec->isa()), impl_->dense ? " dense" : " sparse");
}

int64_t Sequence::cache_bytes(int64_t n_tokens) const {
  return impl_->cache.pages_for(n_tokens) * impl_->cache.page_bytes();
}

void Sequence::save(const std::filesystem::path& file, int64_t n_tokens) const {
  const Impl& s = *impl_;
  if (n_tokens < 0 || n_tokens > s.count()) {
    throw std::invalid_argument(concat("snapshot: want 0 to ", s.count(), " tokens, found ", n_tokens));
  }
  write_snapshot(file, identity(), std::span(s.tokens).first(static_cast<size_t>(n_tokens)), s.cache, !s.dense);
}

void Sequence::restore(const std::filesystem::path& file) {
  Impl& s = *impl_;
  s.tokens = read_snapshot(file, identity(), s.model->config(), s.max_tokens, s.cache, *s.exec);
  s.logits.clear();
}

void Sequence::make_up(int64_t n_tokens) {
  Impl& s = *impl_;
  s.check({}, n_tokens);
  s.keep(0);
  s.logits.clear();
  fill_cache(s.model->config(), n_tokens, s.cache, *s.exec);
  for (int64_t i = 0; i < n_tokens; ++i) s.tokens.push_back(static_cast<Token>(i % s.model->config().vocab_size));
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
  s.keep(0);
  s.evaluate(prompt, places);
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
