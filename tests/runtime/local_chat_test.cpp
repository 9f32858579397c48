#include "runtime/local_chat.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>

#include "model/kv_cache.h"
#include "runtime/store.h"
#include "runtime/transcript.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace corvid::runtime {
namespace {

using model::Message;
using ::testing::HasSubstr;

constexpr const char* kAnswer = "There are 3 files.";

// Two real models of a few KB: one that always gives kAnswer, one that never stops.
class LocalChatTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = std::make_unique<test::TempDir>();
    answering_ = model::Model::load(test::write_tiny_model(*dir_ / "answering", kAnswer));
    endless_ = model::Model::load(test::write_tiny_model(*dir_ / "endless", kAnswer, /*loops=*/true));
  }
  static void TearDownTestSuite() {
    answering_.reset();
    endless_.reset();
    dir_.reset();
  }

  LocalChat answering(LocalChatOptions options = {}) { return {answering_, exec_, std::move(options)}; }
  LocalChat endless(LocalChatOptions options = {}) { return {endless_, exec_, std::move(options)}; }
  static const model::Model& answering_model() { return *answering_; }
  static const std::shared_ptr<const model::Model>& endless_model() { return endless_; }
  static LocalChatOptions with_context(int64_t tokens) {
    LocalChatOptions options;
    options.context = tokens;
    return options;
  }
  Reply ask(LocalChat& chat, int64_t max_tokens = 1000) { return chat.reply(messages_, max_tokens, {}, {}); }

  std::vector<Message> messages_{user_entry("how many files?").message};
  kernels::Exec exec_{1};

 private:
  static inline std::unique_ptr<test::TempDir> dir_;
  static inline std::shared_ptr<const model::Model> answering_, endless_;
};

TEST_F(LocalChatTest, RepliesUntilTheEndOfTheTurnAndStreamsTheText) {
  LocalChat chat = answering();
  std::string streamed;
  const Reply reply = chat.reply(messages_, 1000, [&](const Piece& piece) { streamed += piece.text; }, {});
  EXPECT_EQ(reply.message.role, model::Role::assistant);
  EXPECT_EQ(reply.message.text, kAnswer);
  EXPECT_EQ(streamed, kAnswer);
  EXPECT_EQ(reply.error, "");
  EXPECT_FALSE(reply.is_cut);
  EXPECT_EQ(reply.usage.completion_tokens, int64_t(reply.message.tokens.size()));
  EXPECT_GT(reply.usage.prompt_tokens, 20);
  EXPECT_EQ(reply.usage.cached_tokens, 0);
}

TEST_F(LocalChatTest, ACallNamesAToolThatThereIs) {
  const test::TempDir dir;
  const auto model = model::Model::load(test::write_tiny_model(dir.path(), "]<]minimax[>[<invoke name=\"xyz"));
  const auto said = [&](std::vector<model::ToolDecl> tools) {
    LocalChatOptions options;
    options.prompt.tools = std::move(tools);
    options.logprobs = 0;  // every token's text comes to the watcher, markup too
    LocalChat chat(model, exec_, std::move(options));
    std::string text;
    chat.reply(messages_, 30, [&](const Piece& piece) { text += piece.logprobs ? piece.logprobs->chosen.text : ""; },
               {});
    return text;
  };
  EXPECT_THAT(said({}), HasSubstr("<invoke name=\"xyz"));
  EXPECT_THAT(said({{"shell", "", model::Json::object()}}), HasSubstr("<invoke name=\"shell\">"));
}

TEST_F(LocalChatTest, TheNextPromptExtendsTheCachedOneAndChangesNothing) {
  LocalChat chat = answering();
  const Reply first = ask(chat);
  messages_.push_back(first.message);
  messages_.push_back(user_entry("are you sure?").message);
  const Reply second = ask(chat);
  // All but the last token of the turn, which was sampled and never evaluated.
  EXPECT_EQ(second.usage.cached_tokens, first.usage.prompt_tokens + first.usage.completion_tokens - 1);
  LocalChat fresh = answering();
  const Reply same = ask(fresh);
  EXPECT_EQ(same.usage.cached_tokens, 0);
  EXPECT_EQ(same.usage.prompt_tokens, second.usage.prompt_tokens);
  EXPECT_EQ(same.message.tokens, second.message.tokens);
}

TEST_F(LocalChatTest, TheSamePromptAgainIsCachedButForItsLastToken) {
  LocalChat chat = answering();
  const Reply first = ask(chat);
  const Reply again = ask(chat);
  EXPECT_EQ(again.usage.cached_tokens, first.usage.prompt_tokens - 1);
  EXPECT_EQ(again.message.tokens, first.message.tokens);
}

TEST_F(LocalChatTest, ALongPromptIsEvaluatedInStepsToTheSameEnd) {
  messages_[0].text.assign(9000, 'x');
  for (size_t i = 0; i < messages_[0].text.size(); i += 7) messages_[0].text[i] = char('a' + i % 26);
  LocalChat chat = answering();
  const Reply reply = ask(chat);
  EXPECT_GT(reply.usage.prompt_tokens, 1100) << "more than two steps";
  EXPECT_EQ(reply.message.text, kAnswer);
}

TEST_F(LocalChatTest, MaxTokensCutsTheReplyWhichIsThenPutBackFromItsText) {
  LocalChat chat = endless();
  const Reply reply = ask(chat, 3);
  EXPECT_TRUE(reply.is_cut);
  EXPECT_EQ(reply.usage.completion_tokens, 3);
  EXPECT_TRUE(std::string(kAnswer).starts_with(reply.message.text)) << reply.message.text;
  EXPECT_TRUE(reply.message.tokens.empty());
}

TEST_F(LocalChatTest, TheContextCutsAReplyAndRefusesAPromptThatDoesNotFit) {
  LocalChat wide = endless();
  const int64_t prompt = ask(wide, 1).usage.prompt_tokens;
  LocalChat narrow = endless(with_context(prompt + 5));
  const Reply reply = ask(narrow);
  EXPECT_TRUE(reply.is_cut);
  EXPECT_EQ(reply.usage.completion_tokens, 5);

  LocalChat full = endless(with_context(prompt));
  EXPECT_THAT([&] { ask(full); },
              testing::ThrowsMessage<std::length_error>(HasSubstr("want at most " + std::to_string(prompt - 1) +
                                                                  " tokens, found " + std::to_string(prompt))));
}

TEST_F(LocalChatTest, AStopEndsTheReplyWithWhatWasSaid) {
  LocalChat chat = endless();
  std::stop_source stop;
  const Reply reply = chat.reply(
      messages_, 1'000'000, [&](const Piece&) { stop.request_stop(); }, stop.get_token());
  EXPECT_EQ(reply.usage.completion_tokens, 1);
  EXPECT_FALSE(reply.is_cut);
  EXPECT_FALSE(reply.message.text.empty());
  EXPECT_TRUE(reply.message.tokens.empty());

  const Reply nothing = chat.reply(messages_, 1000, {}, stop.get_token());
  EXPECT_EQ(nothing.usage.completion_tokens, 0);
  EXPECT_EQ(nothing.message.text, "");
}

TEST_F(LocalChatTest, TheFirstTokenIsAnnouncedOnceAndNotBeforeItIsThere) {
  LocalChatOptions options;
  std::vector<std::string> order;
  options.on_first_token = [&] { order.emplace_back("announced"); };
  LocalChat chat = endless(options);
  std::stop_source stopped;
  stopped.request_stop();
  chat.reply(messages_, 3, {}, stopped.get_token());
  EXPECT_TRUE(order.empty());
  chat.reply(messages_, 3, [&](const Piece&) { order.emplace_back("text"); }, {});
  ask(chat, 3);
  EXPECT_EQ(order, (std::vector<std::string>{"text", "announced", "text", "text"}));
}

TEST_F(LocalChatTest, SamplingFollowsTheSeedAndTheMessagesNotWhatWasAskedBefore) {
  LocalChatOptions options;
  options.sampler.temperature = 50;  // the model is very sure of itself
  options.sampler.seed = 7;
  LocalChat chat = endless(options);
  ask(chat, 20);
  messages_.push_back(user_entry("are you sure?").message);
  const std::string second = ask(chat, 20).message.text;
  LocalChat fresh = endless(options);
  EXPECT_EQ(ask(fresh, 20).message.text, second);
  options.sampler.seed = 8;
  LocalChat other = endless(options);
  EXPECT_NE(ask(other, 20).message.text, second);
}

TEST_F(LocalChatTest, AStopStringEndsTheAnswerAndIsNotShown) {
  LocalChatOptions options;
  options.sampler.stop = {"e 3 f"};
  LocalChat chat = answering(options);
  std::string streamed;
  const Reply reply = chat.reply(messages_, 1000, [&](const Piece& piece) { streamed += piece.text; }, {});
  EXPECT_EQ(reply.message.text, "There ar");
  EXPECT_EQ(streamed, reply.message.text);
  EXPECT_TRUE(reply.is_stopped);
  EXPECT_FALSE(reply.is_cut);
  EXPECT_TRUE(reply.message.tokens.empty()) << "the next prompt has the text that was shown";

  options.sampler.stop = {"There are 3 files. And", "files!"};
  LocalChat other = answering(options);
  const Reply whole = ask(other);
  EXPECT_EQ(whole.message.text, kAnswer);
  EXPECT_FALSE(whole.is_stopped);
  EXPECT_FALSE(whole.message.tokens.empty());
}

TEST_F(LocalChatTest, WhatComesBehindAStopStringIsNoFailedCall) {
  // What may become a thinking tag is shown only when the call's marker says that it is none: the stop comes first.
  const test::TempDir dir;
  const auto model = model::Model::load(test::write_tiny_model(dir.path(), "<m]<]minimax[>["));
  LocalChatOptions options;
  LocalChat plain(model, exec_, options);
  const Reply whole = ask(plain);
  EXPECT_THAT(whole.error, testing::StartsWith("call markup: "));
  EXPECT_THAT(whole.message.text, testing::StartsWith("<m"));
  options.sampler.stop = {"m"};
  LocalChat chat(model, exec_, options);
  const Reply reply = ask(chat);
  EXPECT_TRUE(reply.is_stopped);
  EXPECT_EQ(reply.message.text, "<");
  EXPECT_EQ(reply.error, "");
  EXPECT_TRUE(reply.message.calls.empty());
}

TEST_F(LocalChatTest, LogprobsComeWithEveryTokenWhenAskedFor) {
  LocalChatOptions options;
  options.logprobs = 2;
  LocalChat chat = answering(options);
  std::vector<model::Token> tokens;
  std::string text;
  const Reply reply =
      chat.reply(messages_, 1000,
                 [&](const Piece& piece) {
                   text += piece.text;
                   ASSERT_TRUE(piece.logprobs);
                   tokens.push_back(piece.logprobs->chosen.id);
                   EXPECT_EQ(piece.logprobs->chosen.text, answering_model().tokenizer().piece(tokens.back()));
                   ASSERT_EQ(piece.logprobs->top.size(), 2u);
                   EXPECT_EQ(piece.logprobs->top[0].id, tokens.back()) << "greedy takes the likeliest";
                   EXPECT_GE(piece.logprobs->top[0].logprob, piece.logprobs->top[1].logprob);
                   EXPECT_LE(piece.logprobs->top[0].logprob, 0);
                 },
                 {});
  EXPECT_EQ(text, kAnswer);
  EXPECT_EQ(tokens, reply.message.tokens);
}

// What a chat says to a prompt and to a second one, with what it found in its cache.
struct Said {
  std::vector<std::string> texts;
  std::vector<std::vector<model::Token>> tokens;
  std::vector<int64_t> completion_tokens, cached_tokens;
  bool operator==(const Said&) const = default;
};

Said said(LocalChat& chat, const std::string& prompt, int64_t max_tokens, int64_t* accepted) {
  Said said;
  std::vector<Message> messages{user_entry(prompt).message};
  for (int turn = 0; turn < 2; ++turn) {
    Reply reply = chat.reply(messages, max_tokens, {}, {});
    said.texts.push_back(reply.message.text);
    said.tokens.push_back(reply.message.tokens);
    said.completion_tokens.push_back(reply.usage.completion_tokens);
    said.cached_tokens.push_back(reply.usage.cached_tokens);
    if (accepted != nullptr) *accepted += reply.usage.accepted_tokens;
    EXPECT_LE(reply.usage.accepted_tokens, reply.usage.drafted_tokens);
    messages.push_back(std::move(reply.message));
    messages.push_back(user_entry("again: " + prompt).message);
  }
  return said;
}

TEST_F(LocalChatTest, GuessingAheadChangesNothing) {
  for (const float temperature : {0.0f, 50.0f}) {
    for (const int64_t max_tokens : {1, 2, 7, 60}) {
      int64_t accepted = 0;
      LocalChatOptions options;
      options.sampler.temperature = temperature;
      LocalChat guessing = endless(options);
      const Said found = said(guessing, "how many files?", max_tokens, &accepted);
      options.speculate = 0;
      LocalChat plain = endless(options);
      EXPECT_EQ(found, said(plain, "how many files?", max_tokens, nullptr));
      if (temperature == 0 && max_tokens == 60) {
        EXPECT_GT(accepted, 60) << "a loop is easy to guess";
      }
    }
  }
}

TEST_F(LocalChatTest, GuessingAheadChangesNothingThatTheModelThatShipsSays) {
  const auto model = model::Model::load(std::filesystem::path(CORVID_SOURCE_DIR) / "configs/models/corvid-small.gguf");
  int64_t accepted = 0;
  const auto agrees = [&](const std::string& prompt, float temperature, uint64_t seed, float penalty) {
    LocalChatOptions options;
    options.prompt.instructions = "You do chores.";
    options.sampler.temperature = temperature;
    options.sampler.seed = seed;
    options.sampler.repeat_penalty = penalty;
    LocalChat guessing(model, exec_, options);
    const Said found = said(guessing, prompt, 30, &accepted);
    options.speculate = 0;
    LocalChat plain(model, exec_, options);
    EXPECT_EQ(found, said(plain, prompt, 30, nullptr)) << prompt << " at " << temperature << ", seed " << seed;
  };
  const std::string copying = "copy src/archive/report-2024-final.txt to src/archive/report-2025-final.txt";
  agrees(copying, 0, 1, 1);
  agrees("put the numbers 1 2 3 4 5 6 7 8 1 2 3 4 5 6 7 8 1 2 3 4 into numbers.txt", 0, 1, 1.3f);
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    agrees(copying, 0.8f, seed, 1);
    std::string random;
    for (uint64_t i = 0, state = seed; i < 60; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      random += static_cast<char>('a' + (state >> 60));
    }
    agrees(random + " " + random, 0.8f, seed, 1);
    agrees(random, 0, seed, 1);
  }
  EXPECT_GT(accepted, 20);
}

// Memory for the prompt and so many tokens more: guesses must not ask for more than that, and the reply is cut where it
// would be without them.
TEST_F(LocalChatTest, TheMemoryCutsAReplyAsTheContextDoesWithGuessesAndWithout) {
  LocalChat wide = endless();
  const int64_t prompt = ask(wide, 1).usage.prompt_tokens;
  const auto& model = endless_model();
  const model::KvCache cache(model->config());
  const int64_t pages = cache.pages_for(prompt) + 1, room = pages * cache.block();
  const auto within = [&](int64_t bytes, int64_t guesses) {
    const auto engine = model::Engine::create(model, exec_, model::KvPool::create(bytes));
    LocalChatOptions options;
    options.speculate = guesses;
    LocalChat chat(engine, options);
    return ask(chat, 1'000'000);
  };
  for (const int64_t guesses : {0, 16}) {
    const Reply reply = within(pages * cache.page_bytes() + 100, guesses);
    EXPECT_TRUE(reply.is_cut);
    EXPECT_EQ(reply.usage.prompt_tokens + reply.usage.completion_tokens, room);
    EXPECT_EQ(reply.usage.accepted_tokens > 0, guesses > 0);
  }
  messages_[0].text = std::string(static_cast<size_t>(40 * cache.block()), 'x');
  EXPECT_THAT([&] { within(pages * cache.page_bytes(), 16); },
              testing::ThrowsMessage<std::length_error>(
                  HasSubstr("does not fit the memory for keys and values any more: want at most ")));
}

TEST_F(LocalChatTest, ParametersOutOfRangeAreRefusedAtOnce) {
  LocalChatOptions hot;
  hot.sampler.temperature = -1;
  EXPECT_THROW(answering(hot), std::invalid_argument);
  EXPECT_THAT([&] { answering(with_context((1 << 20) + 1)); },
              testing::ThrowsMessage<std::invalid_argument>(HasSubstr("context: want 1 to 1048576 tokens")));
  EXPECT_THROW(answering(with_context(-1)), std::invalid_argument);
}

}  // namespace
}  // namespace corvid::runtime
