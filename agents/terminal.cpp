#include "agents/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>

namespace corvid::agents {

namespace {

// An unterminated sequence must not hide the rest of a text: after this many bytes it counts as over.
constexpr int kLongestSequence = 4096;

}  // namespace

bool is_terminal(int fd) { return isatty(fd) == 1; }

bool wants_colour(int fd) {
  const char* no_colour = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  if (no_colour != nullptr && *no_colour != '\0') return false;
  return is_terminal(fd) && term != nullptr && *term != '\0' && std::string_view(term) != "dumb";
}

int terminal_columns(int fd) {
  winsize size{};
  return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string coloured(std::string_view text, Colour colour, bool enabled) {
  if (!enabled) return std::string(text);
  static constexpr const char* kCodes[] = {"\033[2m", "\033[31m", "\033[32m", "\033[33m", "\033[1m"};
  return kCodes[static_cast<size_t>(colour)] + std::string(text) + "\033[0m";
}

void PlainText::take_control(uint32_t code) {
  swallowed_ = 0;
  if (code == 0x1B) state_ = State::escape;
  if (code == 0x9B) state_ = State::csi;
  if (code == 0x90 || code == 0x98 || code == 0x9D || code == 0x9E || code == 0x9F) state_ = State::string;
}

void PlainText::take(unsigned char byte, std::string& out) {
  if (state_ != State::text && ++swallowed_ > kLongestSequence) state_ = State::text;
  switch (state_) {
    case State::escape:
      if (byte == '[')
        state_ = State::csi;
      else if (byte == ']' || byte == 'P' || byte == 'X' || byte == '^' || byte == '_')
        state_ = State::string;
      else if (byte < 0x20 || byte > 0x2F)
        state_ = State::text;  // 0x20-0x2F are intermediates: more follows
      return;
    case State::csi:
      if (byte >= 0x40 || byte == '\n') state_ = State::text;
      if (byte == '\n') out += '\n';
      return;
    case State::string:
      if (byte == 0x1B) state_ = State::string_escape;
      if (byte == 0x07 || byte == 0x9C || byte == '\n') state_ = State::text;
      if (byte == '\n') out += '\n';
      return;
    case State::string_escape:  // ESC \ ends the string; another sequence may begin instead
      state_ = byte == '[' ? State::csi : byte == ']' ? State::string : State::text;
      return;
    case State::text:
      break;
  }
  if (missing_ > 0) {
    if ((byte & 0xC0) == 0x80) {
      pending_ += static_cast<char>(byte);
      if (--missing_ > 0) return;
      const auto lead = static_cast<unsigned char>(pending_[0]), second = static_cast<unsigned char>(pending_[1]);
      const bool is_overlong = (lead == 0xE0 && second < 0xA0) || (lead == 0xF0 && second < 0x90);
      const bool is_outside = (lead == 0xED && second > 0x9F) || (lead == 0xF4 && second > 0x8F);
      if (lead == 0xC2 && second < 0xA0)
        take_control(second);
      else
        out += is_overlong || is_outside ? "\uFFFD" : pending_;
      pending_.clear();
      return;
    }
    out += "\uFFFD";
    pending_.clear();
    missing_ = 0;
  }
  if (byte == '\n' || byte == '\t' || (byte >= 0x20 && byte < 0x7F)) {
    out += static_cast<char>(byte);
  } else if (byte < 0x20 || byte == 0x7F) {
    take_control(byte);
  } else if (byte >= 0xC2 && byte <= 0xF4) {
    pending_ = static_cast<char>(byte);
    missing_ = byte >= 0xF0 ? 3 : byte >= 0xE0 ? 2 : 1;
  } else if (byte < 0xA0) {
    take_control(byte);  // a raw C1
  } else {
    out += "\uFFFD";
  }
}

std::string PlainText::push(std::string_view piece) {
  std::string out;
  for (const char c : piece) take(static_cast<unsigned char>(c), out);
  return out;
}

std::string PlainText::finish() {
  const bool is_cut = missing_ > 0;
  *this = PlainText();
  return is_cut ? "\uFFFD" : "";
}

std::string plain(std::string_view text) {
  PlainText filter;
  std::string out = filter.push(text);
  return out + filter.finish();
}

std::string one_line(std::string_view text, size_t width) {
  std::string out;
  size_t characters = 0;
  const std::string clean = plain(text.substr(0, width * 16 + 64));
  for (size_t at = 0; at < clean.size();) {
    size_t end = at + 1;
    while (end < clean.size() && (static_cast<unsigned char>(clean[end]) & 0xC0) == 0x80) ++end;
    if (characters + 1 >= width && end < clean.size()) return out + "…";
    const bool is_space = clean[at] == '\n' || clean[at] == '\t';
    out += is_space ? " " : clean.substr(at, end - at);
    ++characters;
    at = end;
  }
  return out;
}

}  // namespace corvid::agents
