#include "agents/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cctype>
#include <stdexcept>

namespace corvid::agents {

namespace {

constexpr uint32_t kMatchLimit = 100'000;  // backtracking steps from one place of the text
constexpr size_t kMostBytes = 1 << 20;     // of a text: the steps are counted anew at each of its places

std::string error_text(int code) {
  char text[256] = "";
  pcre2_get_error_message(code, reinterpret_cast<PCRE2_UCHAR*>(text), sizeof text);
  return text;
}

}  // namespace

Regex::Regex(const std::string& expression) : expression_(expression) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(),
                                   PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_MULTILINE, &error, &offset, nullptr);
  if (code == nullptr)
    throw std::invalid_argument("the expression \"" + expression + "\" is not in order at character " +
                                std::to_string(offset) + ": " + error_text(error));
  code_ = std::shared_ptr<void>(code, [](void* held) { pcre2_code_free(static_cast<pcre2_code*>(held)); });
}

std::string Regex::quoted(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\0') {
      out += "\\x00";
      continue;
    }
    if (byte < 128 && std::isalnum(byte) == 0) out += '\\';
    out += c;
  }
  return out;
}

bool Regex::search(std::string_view text) const {
  if (text.size() > kMostBytes)
    throw std::runtime_error("want at most 1 MiB of text for an expression, found " + std::to_string(text.size()) +
                             " bytes");
  const auto* code = static_cast<const pcre2_code*>(code_.get());
  const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> data(
      pcre2_match_data_create_from_pattern(code, nullptr), pcre2_match_data_free);
  const std::unique_ptr<pcre2_match_context, void (*)(pcre2_match_context*)> context(
      pcre2_match_context_create(nullptr), pcre2_match_context_free);
  pcre2_set_match_limit(context.get(), kMatchLimit);
  const int found =
      pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, 0, data.get(), context.get());
  if (found >= 0) return true;
  if (found == PCRE2_ERROR_NOMATCH) return false;
  throw std::runtime_error("the expression \"" + expression_ + "\": " + error_text(found));
}

}  // namespace corvid::agents
