#include "model/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "model/error.h"
#include "model/utf8.h"

namespace corvid::model {

const std::string_view kO200kRegex =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const std::string_view kQwen2Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const std::string_view kGpt2Regex = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

// \s spelled out: PCRE2's also holds U+180E, which is no white space since Unicode 6.3 and not in Oniguruma's \s.
std::string with_white_space_spelled_out(std::string_view regex) {
  constexpr std::string_view kSpaces =
      R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
  std::string out;
  bool is_class = false;
  for (size_t i = 0; i < regex.size(); ++i) {
    const char c = regex[i];
    if (c == '\\' && i + 1 < regex.size()) {
      const char escaped = regex[++i];
      if (escaped == 's') {
        out += is_class ? std::string(kSpaces) : concat('[', kSpaces, ']');
      } else if (escaped == 'S' && !is_class) {
        out += concat("[^", kSpaces, ']');
      } else {
        out += {c, escaped};
      }
      continue;
    }
    if (is_class && regex.substr(i, 2) == "[:") {  // [:alpha:] inside a class
      const size_t end = std::min(regex.find(":]", i), regex.size() - 2) + 2;
      out += regex.substr(i, end - i);
      i = end - 1;
      continue;
    }
    if (c == '[') is_class = true;
    if (c == ']') is_class = false;
    out += c;
  }
  return out;
}

std::string error_text(int code) {
  char text[256] = "";
  pcre2_get_error_message(code, reinterpret_cast<PCRE2_UCHAR*>(text), sizeof text);
  return text;
}

// What an expression of the file's own may take for one match: steps, as many as an honest one could need that looks at
// every character a few times, and memory. Ours are linear and need no bound.
uint32_t match_limit(size_t text_bytes) {
  constexpr uint64_t kSteps = 100'000, kStepsForAByte = 16;
  return static_cast<uint32_t>(std::min<uint64_t>(kSteps + kStepsForAByte * text_bytes, UINT32_MAX));
}
constexpr uint32_t kHeapLimitKiB = 64 << 10;

}  // namespace

struct Splitter::Impl {
  std::string regex;
  bool is_ours = false;
  pcre2_code* code = nullptr;
  ~Impl() { pcre2_code_free(code); }
};

Splitter::Splitter(std::string_view regex) {
  auto impl = std::make_unique<Impl>();
  impl->regex = regex;
  const std::string pattern = with_white_space_spelled_out(regex);
  int error = 0;
  size_t at = 0;
  impl->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                             PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &at, nullptr);
  if (!impl->code) {
    fail("pre-tokenizer: want a regular expression, found ", printable(regex), " (", error_text(error), " at ", at,
         ")");
  }
  // Without JIT support every match is interpreted: slower, the same result.
  pcre2_jit_compile(impl->code, PCRE2_JIT_COMPLETE);
  impl->is_ours = regex == kO200kRegex || regex == kQwen2Regex || regex == kGpt2Regex;
  impl_ = std::move(impl);
}

Splitter::Splitter(Splitter&&) noexcept = default;
Splitter::~Splitter() = default;

bool Splitter::is_in(std::string_view text) const {
  std::vector<std::string_view> pieces;
  return Matcher(*this).split(text, pieces) > 0;
}

struct Splitter::Matcher::Impl {
  const Splitter::Impl* splitter;
  pcre2_match_data* match = nullptr;
  pcre2_match_context* context = nullptr;
  ~Impl() {
    pcre2_match_context_free(context);
    pcre2_match_data_free(match);
  }
};

Splitter::Matcher::Matcher(const Splitter& splitter) : impl_(std::make_unique<Impl>()) {
  impl_->splitter = splitter.impl_.get();
  impl_->match = pcre2_match_data_create_from_pattern(impl_->splitter->code, nullptr);
  impl_->context = pcre2_match_context_create(nullptr);
  if (!impl_->match || !impl_->context) throw std::bad_alloc();
  if (impl_->splitter->is_ours) pcre2_set_match_limit(impl_->context, std::numeric_limits<uint32_t>::max());
  if (!impl_->splitter->is_ours) pcre2_set_heap_limit(impl_->context, kHeapLimitKiB);
}

Splitter::Matcher::Matcher(Matcher&&) noexcept = default;
Splitter::Matcher::~Matcher() = default;

size_t Splitter::Matcher::split(std::string_view text, std::vector<std::string_view>& out) {
  const Splitter::Impl& splitter = *impl_->splitter;
  if (!splitter.is_ours) pcre2_set_match_limit(impl_->context, match_limit(text.size()));
  size_t matches = 0;
  size_t done = 0;  // everything before is in `out`
  for (size_t at = 0; at < text.size();) {
    const auto find = [&](uint32_t options) {
      return pcre2_match(splitter.code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                         PCRE2_NO_UTF_CHECK | options, impl_->match, impl_->context);
    };
    int found = find(0);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = find(PCRE2_NO_JIT);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) fail("pre-tokenizer ", printable(splitter.regex), ": ", error_text(found));
    const size_t* ends = pcre2_get_ovector_pointer(impl_->match);
    const size_t begin = ends[0], end = ends[1];
    if (begin < at || end < begin) fail("pre-tokenizer ", printable(splitter.regex), ": matches backwards");
    if (begin > done) out.push_back(text.substr(done, begin - done));
    if (end > begin) out.push_back(text.substr(begin, end - begin));
    done = end;
    ++matches;
    // After an empty match the search goes on one character further; that character belongs to the next piece.
    at = end > begin || end == text.size() ? end : end + static_cast<size_t>(utf8_length(text.substr(end)));
  }
  if (done < text.size()) out.push_back(text.substr(done));
  return matches;
}

}  // namespace corvid::model
