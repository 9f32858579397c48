// Who is asked before a tool runs.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "model/message.h"

namespace corvid::runtime {

enum class ApproveMode : uint8_t { never, risky, always };

// Throws std::invalid_argument naming the three words.
ApproveMode approve_mode_from(std::string_view text);

struct Approver {
  ApproveMode mode = ApproveMode::never;
  // True: run it. Called on the run's thread; may take as long as a person needs (the wall limit goes on).
  std::function<bool(const model::Call&)> ask;
  // True for the name of a tool that is not what its name says: a host's function. May be empty.
  std::function<bool(std::string_view tool)> is_unknown = {};

  // Nothing when the call may run; otherwise the text of the denial for the model. With a question to ask and no `ask`,
  // the call is denied.
  std::optional<std::string> refusal(const model::Call& call) const;
};

// All tools but those known to only look (read_file, list_dir); a host's own tools are risky.
bool is_risky(std::string_view tool_name);

}  // namespace corvid::runtime
