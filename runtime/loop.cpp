#include "runtime/loop.h"

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <utility>

#include "runtime/deadline.h"

namespace corvid::runtime {

namespace {

using model::Call;
using model::Message;

constexpr int kSameTold = 3;  // at this many equal results of equal calls in a row the model is told; one more ends it

std::string limit_reached(int64_t limit, const std::string& unit) {
  return "the limit of " + std::to_string(limit) + " " + unit + (limit == 1 ? "" : "s") + " was reached";
}

std::string limit_reached(std::chrono::milliseconds wall) {
  const int64_t ms = wall.count();
  const std::string time = ms % 1000 == 0 ? std::to_string(ms / 1000) + " s" : std::to_string(ms) + " ms";
  return "the limit of " + time + " was reached";
}

bool is_blank(const std::string& text) { return text.find_first_not_of(" \t\r\n") == std::string::npos; }

// What a run may spend, and what it has spent.
class Budget {
 public:
  Budget(const Limits& limits, Meter* meter, std::stop_token caller)
      : limits_(limits), caller_(std::move(caller)), deadline_(limits.wall, caller_), meter_(meter ? *meter : own_) {
    meter_.tokens = meter_.calls = 0;
  }

  std::stop_token stop() const { return deadline_.token(); }
  int64_t tokens_left() const { return limits_.tokens - meter_.tokens; }

  std::optional<Outcome> stopped() const {
    if (caller_.stop_requested()) return Outcome{End::cancelled, "interrupted"};
    if (deadline_.is_over()) return Outcome{End::time_limit, limit_reached(limits_.wall)};
    return std::nullopt;
  }
  std::optional<Outcome> spent() const {
    if (std::optional<Outcome> end = stopped()) return end;
    if (turns_ >= limits_.turns) return Outcome{End::turn_limit, limit_reached(limits_.turns, "turn")};
    if (tokens_left() <= 0) return Outcome{End::token_limit, limit_reached(limits_.tokens, "token")};
    return std::nullopt;
  }
  void charge(const Usage& usage) {
    ++turns_;
    meter_.tokens += usage.completion_tokens;
  }
  // Why a call may not run any more; takes one from the budget when it may.
  std::optional<Outcome> charge_call() {
    if (meter_.calls >= limits_.calls) return Outcome{End::call_limit, limit_reached(limits_.calls, "tool call")};
    ++meter_.calls;
    return std::nullopt;
  }
  // A cut reply used up its tokens or filled the context.
  Outcome cut() const {
    if (tokens_left() <= 0) return {End::token_limit, limit_reached(limits_.tokens, "token")};
    return {End::context_limit, "the model's context is full: the reply was cut"};
  }

 private:
  Limits limits_;
  std::stop_token caller_;
  Deadline deadline_;
  Meter own_;
  Meter& meter_;
  int64_t turns_ = 0;
};

// Counts how often in a row the same call gave the same result.
class RepeatGuard {
 public:
  int count(const std::string& name, const std::string& args, const std::string& result) {
    const bool is_same = name == name_ && args == args_ && result == result_;
    times_ = is_same ? times_ + 1 : 1;
    name_ = name, args_ = args, result_ = result;
    return times_;
  }
  // Appended to the result that the model sees.
  static std::string remark(int times) {
    return times < kSameTold ? ""
                             : "\n[this has now given the same result " + std::to_string(times) +
                                   " times in a row; do something else, or answer]";
  }
  std::optional<Outcome> end(int times) const {
    if (times <= kSameTold) return std::nullopt;
    return Outcome{End::loop_limit, (name_.empty() ? "a call that cannot be read" : "the same call of " + name_) +
                                        " gave the same result " + std::to_string(times) + " times in a row"};
  }

 private:
  std::string name_, args_, result_;
  int times_ = 0;
};

Entry result_entry(const Call& call, tools::ToolResult result, double duration_ms) {
  CallResult stored;
  stored.status = result.status;
  if (const auto code = result.detail.find("exit_code"); code != result.detail.end() && code->is_number_integer())
    stored.exit_code = code->get<int>();
  stored.detail = std::move(result.detail);
  stored.duration_ms = duration_ms;
  return tool_entry(std::move(result.text), call.id, std::move(stored));
}

// Runs a message's calls in their order and appends a result for each. Once something ends the run, the calls that are
// left get a result that says so.
class CallRunner {
 public:
  CallRunner(Transcript& log, tools::Toolbox& tools, Budget& budget, RepeatGuard& guard, const Hooks& hooks)
      : log_(log), tools_(tools), budget_(budget), guard_(guard), hooks_(hooks) {}

  std::optional<Outcome> run(const std::vector<Call>& calls, std::optional<Outcome> end) {
    for (const Call& call : calls) {
      if (!end) end = budget_.stopped();
      if (!end) end = budget_.charge_call();
      if (end)
        log_.append(
            result_entry(call, {tools::Status::cancelled, "[error: not run: " + end->reason + "]", Json::object()}, 0));
      else
        end = run(call);
    }
    return end;
  }

 private:
  std::optional<Outcome> run(const Call& call) {
    using Clock = std::chrono::steady_clock;
    Clock::time_point begin = Clock::now();
    tools::ToolResult result{tools::Status::denied, "", Json::object()};
    if (const std::optional<std::string> refusal = hooks_.approver.refusal(call)) {
      result.text = *refusal;
    } else {
      if (hooks_.on_call) hooks_.on_call(call);
      begin = Clock::now();
      result = tools_.run(call.name, call.args, budget_.stop());
    }
    const double duration_ms = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
    const int times = guard_.count(call.name, call.args, result.text);
    result.text += RepeatGuard::remark(times);
    log_.append(result_entry(call, std::move(result), duration_ms));
    return guard_.end(times);
  }

  Transcript& log_;
  tools::Toolbox& tools_;
  Budget& budget_;
  RepeatGuard& guard_;
  const Hooks& hooks_;
};

}  // namespace

Outcome run(Transcript& log, Chat& chat, tools::Toolbox& tools, const Limits& limits, const Hooks& hooks,
            std::stop_token stop) {
  Budget budget(limits, hooks.meter, std::move(stop));
  RepeatGuard guard;
  CallRunner calls(log, tools, budget, guard, hooks);
  for (bool was_empty = false;;) {
    if (std::optional<Outcome> end = budget.spent()) return *end;
    Reply reply;
    try {
      reply = chat.reply(log.messages(), budget.tokens_left(), hooks.on_piece, budget.stop());
    } catch (const std::length_error& e) {  // the messages do not fit; e.what() has the numbers
      return {End::context_limit, e.what()};
    }
    const Message message = reply.message;
    budget.charge(reply.usage);
    if (hooks.on_usage) hooks.on_usage(reply.usage);

    std::optional<Outcome> end = budget.stopped();
    if (!end && reply.is_cut) end = budget.cut();
    const bool says_nothing = message.calls.empty() && is_blank(message.text);
    // Nothing is to be kept of a reply that was ended before it said anything.
    if (!end || !says_nothing || !message.reasoning.empty()) log.append(assistant_entry(message, reply.usage));
    end = calls.run(message.calls, std::move(end));
    if (end) return *end;

    if (!reply.error.empty()) {
      const int times = guard.count("", message.text, reply.error);
      log.append(tool_entry("[error: " + reply.error + "]" + RepeatGuard::remark(times)));
      if ((end = guard.end(times))) return *end;
    } else if (says_nothing && !reply.is_stopped) {
      if (was_empty) throw std::runtime_error("the model: want an answer or a tool call, found an empty reply twice");
      log.append(tool_entry("[error: the reply was empty; answer the user]"));
    } else if (message.calls.empty()) {
      return {End::answered, ""};
    }
    was_empty = says_nothing && reply.error.empty();
  }
}

}  // namespace corvid::runtime
