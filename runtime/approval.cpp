#include "runtime/approval.h"

#include <stdexcept>

namespace corvid::runtime {

ApproveMode approve_mode_from(std::string_view text) {
  if (text == "never") return ApproveMode::never;
  if (text == "risky") return ApproveMode::risky;
  if (text == "always") return ApproveMode::always;
  throw std::invalid_argument("approve: want never, risky or always, found '" + std::string(text) + "'");
}

bool is_risky(std::string_view tool_name) { return tool_name != "read_file" && tool_name != "list_dir"; }

std::optional<std::string> Approver::refusal(const model::Call& call) const {
  if (mode == ApproveMode::never) return std::nullopt;
  if (mode == ApproveMode::risky && !is_risky(call.name) && !(is_unknown && is_unknown(call.name))) return std::nullopt;
  if (!ask) return "[denied: this call needs an approval, and nobody is there to give it]";
  if (!ask(call)) return "[denied: the user said no]";
  return std::nullopt;
}

}  // namespace corvid::runtime
