// What goes to a terminal: colour only where it is wanted, and text of a model or a tool never as control sequences.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace corvid::agents {

bool is_terminal(int fd);
// A terminal that can show colour, and no NO_COLOR in the environment.
bool wants_colour(int fd);
int terminal_columns(int fd);  // 80 when unknown

enum class Colour : uint8_t { dim, red, green, yellow, bold };
// `text` in that colour when `enabled`, as it is otherwise.
std::string coloured(std::string_view text, Colour colour, bool enabled);

// Takes control sequences out of text that comes in pieces: escape sequences whole (CSI, OSC and the other strings,
// also when a piece ends inside one), C0 but for newline and tab, DEL, C1 (raw or as UTF-8). Other bytes that are not
// UTF-8 become U+FFFD.
class PlainText {
 public:
  std::string push(std::string_view piece);
  std::string finish();  // what waited for its other half

 private:
  enum class State : uint8_t { text, escape, csi, string, string_escape };
  void take(unsigned char byte, std::string& out);
  void take_control(uint32_t code);
  State state_ = State::text;
  int swallowed_ = 0;    // bytes of the sequence so far
  std::string pending_;  // a UTF-8 sequence that is not complete
  int missing_ = 0;      // its continuation bytes still to come
};

std::string plain(std::string_view text);
// Plain, on one line, cut to `width` characters with an ellipsis.
std::string one_line(std::string_view text, size_t width);

}  // namespace corvid::agents
