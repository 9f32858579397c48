// The agent loop: the model speaks, its calls run, the results go back, until it answers or a limit is reached.
//
//   reply -> stored -> each call: approved? run -> result stored -> reply -> ... -> an answer without calls
//
// Outcomes are values. run() throws only for failures: of the store, of the model, and for a second empty answer.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>

#include "runtime/approval.h"
#include "runtime/chat.h"
#include "runtime/events.h"
#include "runtime/transcript.h"
#include "tools/toolbox.h"

namespace corvid::runtime {

struct Limits {
  int64_t turns = 20;     // replies of the model
  int64_t tokens = 8192;  // generated, over the run
  int64_t calls = 40;
  std::chrono::milliseconds wall{300'000};  // interrupts generation and tools
  int64_t depth = 3;  // levels of agents that it may ask, those asking others; the loop itself does not look at it
};

// What a run has spent. Runs that its tools begin add theirs, so that its limits hold for all of them together.
struct Meter {
  std::atomic<int64_t> tokens{0}, calls{0};
};

struct Outcome {
  End end = End::answered;
  std::string reason;  // empty when answered; otherwise for people, with the limit's number
};

// All optional; called on the run's thread.
struct Hooks {
  Chat::OnPiece on_piece;
  std::function<void(const model::Call&)> on_call;  // approved and about to run
  std::function<void(const Usage&)> on_usage;       // after each reply, stored or not
  Approver approver;
  Meter* meter = nullptr;  // set to nothing as the run begins; outlives it
};

// `log` ends with the message to be answered. Every call in it has a result when run() returns, also after a cancel or
// a limit. A call that gives the same result three times in a row is told so; at the fourth the run ends.
Outcome run(Transcript& log, Chat& chat, tools::Toolbox& tools, const Limits& limits, const Hooks& hooks,
            std::stop_token stop);

}  // namespace corvid::runtime
