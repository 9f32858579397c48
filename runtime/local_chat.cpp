#include "runtime/local_chat.h"

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "model/prompt_lookup.h"
#include "model/stop_strings.h"
#include "model/tool_names.h"

namespace corvid::runtime {

namespace {

using model::Message;
using model::Token;

double ms_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

int64_t checked_context(int64_t wanted, const model::Model& model) {
  const int64_t most = model.config().context_length;
  if (wanted < 0 || wanted > most)
    throw std::invalid_argument("context: want 1 to " + std::to_string(most) + " tokens (what " + model.name() +
                                " was made for), found " + std::to_string(wanted));
  return wanted == 0 ? most : wanted;
}

// A seed of its own for each reply: splitmix64's finaliser, so that neighbouring positions share nothing.
uint64_t seed_at(uint64_t seed, size_t position) {
  uint64_t z = seed + 0x9e3779b97f4a7c15u * (uint64_t(position) + 1);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

int64_t count_calls(std::span<const Message> messages) {
  int64_t n = 0;
  for (const Message& message : messages) n += int64_t(message.calls.size());
  return n;
}

}  // namespace

struct LocalChat::Impl {
  Impl(std::shared_ptr<model::Engine> engine, LocalChatOptions options_in)
      : model(engine->model()),
        options(std::move(options_in)),
        context(checked_context(options.context, *model)),
        format(model->tokenizer()),
        is_on_gpu(engine->device() == kernels::Device::cuda),
        sequence(std::move(engine), context, options.attention),
        room(sequence.fitting_tokens()) {
    model::Sampler(options.sampler,
                   &model->tokenizer());  // a parameter out of range is said now, not at the first reply
  }

  // False when a stop came first. `cached`: the tokens found in the cache.
  bool prefill(std::span<const Token> prompt, const std::stop_token& stop, int64_t& cached) {
    cached = sequence.sync(prompt, stop);
    return sequence.tokens().size() == prompt.size();
  }

  std::optional<TokenLogprobs> logprobs(std::span<const float> logits, Token token) const {
    if (!options.logprobs) return std::nullopt;
    const auto named = [&](const model::Logprobs::Entry& entry) -> TokenLogprob {
      return {entry.token, std::string(model->tokenizer().piece(entry.token)), entry.logprob};
    };
    const model::Logprobs found = model::logprobs(logits, token, *options.logprobs);
    TokenLogprobs result{named(found.chosen), {}};
    for (const model::Logprobs::Entry& entry : found.top) result.top.push_back(named(entry));
    return result;
  }

  std::shared_ptr<const model::Model> model;
  LocalChatOptions options;
  int64_t context;
  model::ChatFormat format;
  bool is_on_gpu;
  model::Sequence sequence;
  int64_t room;  // tokens: the context, or what the engine's memory is for when that is less
  model::PromptLookup lookup;
};

LocalChat::LocalChat(std::shared_ptr<model::Engine> engine, LocalChatOptions options)
    : impl_(std::make_unique<Impl>(std::move(engine), std::move(options))) {}
LocalChat::LocalChat(std::shared_ptr<const model::Model> model, kernels::Exec& exec, LocalChatOptions options)
    : LocalChat(model::Engine::create(std::move(model), exec, nullptr, options.cache_format), std::move(options)) {}
LocalChat::~LocalChat() = default;
int64_t LocalChat::context() const noexcept { return impl_->context; }

void LocalChat::restore(const SessionCache& cache, std::string_view session) {
  cache.restore(session, impl_->sequence);
}
void LocalChat::store(const SessionCache& cache, std::string_view session) const {
  cache.store(session, impl_->sequence);
}

Reply LocalChat::reply(std::span<const Message> messages, int64_t max_tokens, const OnPiece& on_piece,
                       std::stop_token stop) {
  using Clock = std::chrono::steady_clock;
  Impl& s = *impl_;
  Reply reply;
  reply.message.role = model::Role::assistant;

  const Clock::time_point begin = Clock::now();
  const std::vector<Token> prompt = s.format.render(s.options.prompt, messages);
  reply.usage.prompt_tokens = int64_t(prompt.size());
  if (int64_t(prompt.size()) >= s.room)  // one is left for the reply's first token
    throw std::length_error(std::string("the transcript does not fit ") +
                            (s.room < s.context ? "the memory for keys and values" : "the model's context") +
                            " any more: want at most " + std::to_string(s.room - 1) + " tokens, found " +
                            std::to_string(prompt.size()));
  // What every conversation begins with need not be evaluated in every process.
  const std::span<const Token> fixed = std::span(prompt).first(size_t(s.format.fixed_tokens(s.options.prompt, prompt)));
  const bool is_first = s.options.prefixes && s.sequence.tokens().empty();
  if (is_first) s.options.prefixes->restore(fixed, s.sequence);
  const bool is_prefilled = s.prefill(prompt, stop, reply.usage.cached_tokens);
  reply.usage.prefill_ms = ms_since(begin);
  if (!is_prefilled) return reply;

  const Clock::time_point decode_begin = Clock::now();
  model::SamplerParams params = s.options.sampler;
  params.seed = seed_at(params.seed, messages.size());
  model::Sampler sampler(params, &s.model->tokenizer());
  model::StopStrings stops(params.stop);
  model::ReplyParser parser(s.format, s.options.prompt, "call_", count_calls(messages) + 1);
  model::ToolNames names(s.format, s.options.prompt.tools);
  std::vector<Token> timeline = prompt;  // and behind it the reply
  std::string answer;                    // what of the reply's text was shown
  const auto show = [&](Piece piece) {
    answer += piece.text;
    if (on_piece && (!piece.text.empty() || piece.logprobs)) on_piece(std::move(piece));
  };
  // Guesses are rows of the last pass, verified one after the other: row i is what follows when those before it are
  // right. The sampler draws once for each token of the reply, as it would without guesses, from the same logits.
  std::vector<Token> guess;
  int64_t row = 0;
  // On a GPU greedy decoding needs the likeliest tokens alone, and leaves the logits where they are.
  const bool wants_best = s.is_on_gpu && sampler.is_greedy() && !s.options.logprobs;
  bool are_best = false;
  int64_t first_row = 0;  // whose logits the sequence has
  if (s.options.speculate > 0) s.lookup.sync(timeline);
  while (!parser.is_done() && !stops.is_stopped() && !stop.stop_requested()) {
    const int64_t n_generated = int64_t(timeline.size() - prompt.size());
    if (int64_t(timeline.size()) >= s.room || n_generated >= max_tokens) {
      reply.is_cut = true;
      break;
    }
    if (row > std::ssize(guess)) {
      // One pass evaluates the last token and, behind it, what may follow.
      const int64_t room = std::min(max_tokens - n_generated, s.room - int64_t(timeline.size())) - 1;
      guess = s.options.speculate > 0 ? s.lookup.draft(std::min(s.options.speculate, room), s.sequence.company())
                                      : std::vector<Token>();
      std::vector<Token> pass{timeline.back()};
      pass.insert(pass.end(), guess.begin(), guess.end());
      s.sequence.truncate(std::ssize(timeline) - 1);
      are_best = wants_best && names.is_anything_possible();
      if (!(are_best ? s.sequence.extend_best(pass, stop) : s.sequence.extend(pass, stop))) break;
      reply.usage.drafted_tokens += std::ssize(guess);
      row = first_row = 0;
    }
    if (are_best && !names.is_anything_possible()) {
      // A guess that was right leads to where a name stands: the logits of this row and those behind it are wanted.
      const std::vector<Token> again(s.sequence.tokens().end() - (std::ssize(guess) + 1 - row),
                                     s.sequence.tokens().end());
      s.sequence.truncate(std::ssize(s.sequence.tokens()) - std::ssize(again));
      are_best = false;
      if (!s.sequence.extend(again, stop)) break;
      first_row = row;
    }
    const std::span<const float> logits = are_best ? std::span<const float>() : s.sequence.logits(row - first_row);
    const Token token = are_best ? s.sequence.best(row) : sampler.sample(names.possible(logits), timeline);
    timeline.push_back(token);
    names.push(token);
    if (s.options.speculate > 0) s.lookup.push(token);
    if (row < std::ssize(guess) && guess[size_t(row)] == token)
      ++reply.usage.accepted_tokens;
    else
      guess.resize(size_t(row));  // the rows behind a wrong guess say nothing
    ++row;
    show({stops.push(parser.push(token)), s.logprobs(logits, token)});
    if (const auto begun = std::exchange(s.options.on_first_token, nullptr)) begun();
  }
  show({stops.finish(), std::nullopt});
  // As without guesses: all is held but the last token.
  s.sequence.truncate(
      std::max(std::ssize(prompt), std::min(std::ssize(s.sequence.tokens()), std::ssize(timeline) - 1)));
  s.sequence.rest();  // a tool's turn, or nobody's
  reply.usage.completion_tokens = int64_t(timeline.size() - prompt.size());
  reply.usage.decode_ms = ms_since(decode_begin);
  if (is_first) s.options.prefixes->store(fixed, s.sequence);
  const bool is_whole = parser.is_done() && !stops.is_stopped();
  model::ReplyParser::Result result = parser.finish();
  reply.message = std::move(result.message);
  reply.error = std::move(result.error);
  if (stops.is_stopped()) {
    // What the model did behind it, with the same token or before it was seen, was not said.
    reply.is_stopped = true;
    reply.message.text = std::move(answer);
    reply.message.calls.clear();
    reply.error.clear();
  }
  if (is_whole)
    reply.message.tokens.assign(timeline.begin() + std::ssize(prompt), timeline.end());
  else
    reply.message.tokens.clear();
  return reply;
}

}  // namespace corvid::runtime
