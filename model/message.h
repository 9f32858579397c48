// The transcript's unit: what was said, by whom, and which tools were called. Stored, shown and sent to the model
// alike.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace corvid::model {

using Token = int32_t;

enum class Role : uint8_t { system, user, assistant, tool };

struct Call {
  std::string id;  // unique within a session: "call_1", "call_2", ...
  std::string name;
  std::string args;  // a JSON object as text, in the order in which the model wrote the arguments
};

struct Message {
  Role role = Role::user;
  std::string text;         // without reasoning and without call markup
  std::vector<Call> calls;  // assistant only
  std::string call_id;      // tool only: the call that this answers
  std::string reasoning;    // assistant only: what stood inside the thinking tags
  // Assistant only: exactly what the model generated, end-of-turn token included, so that the next prompt extends the
  // cached one. Empty for a message that no model of this tokenizer wrote; it is then rendered from the fields above.
  std::vector<Token> tokens;
};

}  // namespace corvid::model
