#include "model/tool_names.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace corvid::model {
namespace {

constexpr std::string_view kOpening = "<invoke name=\"";

// One is the beginning of the other.
bool agree(std::string_view a, std::string_view b) {
  const size_t both = std::min(a.size(), b.size());
  return a.substr(0, both) == b.substr(0, both);
}

}  // namespace

ToolNames::ToolNames(const ChatFormat& format, std::span<const ToolDecl> tools) : format_(format) {
  for (const ToolDecl& tool : tools) heads_.push_back(std::string(kOpening) + tool.name + "\">");
}

void ToolNames::push(Token token) {
  if (token == format_.markers().call) {
    is_in_tag_ = !heads_.empty();
    tag_.clear();
  } else if (is_in_tag_) {
    tag_ += format_.tokenizer().piece(token);
    // Another tag, or a complete head.
    is_in_tag_ = agree(tag_, kOpening) && tag_.find('>') == std::string::npos;
  }
}

bool ToolNames::is_possible(std::string_view text) const {
  if (!text.starts_with(kOpening)) return true;
  return std::ranges::any_of(heads_, [&](const std::string& head) { return agree(text, head); });
}

std::span<const float> ToolNames::possible(std::span<const float> logits) {
  if (!is_in_tag_) return logits;
  changed_.assign(logits.begin(), logits.end());
  bool is_any_left = false;
  for (size_t i = 0; i < changed_.size(); ++i) {
    const std::string_view piece = format_.tokenizer().piece(static_cast<Token>(i));
    if (tag_.size() + piece.size() > kOpening.size()) {  // else no name has begun: most tokens need no look
      with_.assign(tag_).append(piece);
      if (!is_possible(with_)) changed_[i] = -std::numeric_limits<float>::infinity();
    }
    is_any_left |= std::isfinite(changed_[i]);
  }
  return is_any_left ? std::span<const float>(changed_) : logits;
}

}  // namespace corvid::model
