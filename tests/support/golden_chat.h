// The prompt of tests/golden/chat and a tokenizer that has the format's special tokens.
#pragma once
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "model/chat_format.h"

namespace corvid::test {

inline const model::Tokenizer& chat_tokenizer() {
  static const model::Tokenizer tokenizer = model::Tokenizer::from_json_file(std::filesystem::path(CORVID_GOLDEN_DIR) /
                                                                             "tokenizer-minimax" / "tokenizer.json");
  return tokenizer;
}

inline const model::ChatFormat& chat_format() {
  static const model::ChatFormat format(chat_tokenizer());
  return format;
}

inline std::string golden_chat(const std::string& name) {
  std::ifstream in(std::filesystem::path(CORVID_GOLDEN_DIR) / "chat" / name, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// The default agent's instructions and the six tools, as the golden files have them.
inline model::Prompt golden_prompt() {
  model::Prompt prompt;
  prompt.instructions =
      "You do chores in the user's working folder. Look with the tools before you answer, do what is asked and nothing "
      "else, and never invent: if something is missing or fails, say so. Answer in one or two short sentences.\n";
  const auto add = [&](const char* name, const char* description, const char* parameters) {
    prompt.tools.push_back({name, description, model::Json::parse(parameters)});
  };
  add("shell", "Run a bash command in the working folder; it has no network",
      R"({"type":"object","properties":{"command":{"type":"string"},"timeout_s":{"type":"integer"}},
          "required":["command"]})");
  add("read_file", "Read a text file",
      R"({"type":"object","properties":{"path":{"type":"string"},"offset":{"type":"integer"},
          "limit":{"type":"integer"},"numbers":{"type":"boolean"}},"required":["path"]})");
  add("write_file", "Write a file, replacing what it held",
      R"({"type":"object","properties":{"path":{"type":"string"},"content":{"type":"string"}},
          "required":["path","content"]})");
  add("edit_file", "Replace exact text in a file",
      R"({"type":"object","properties":{"path":{"type":"string"},"old":{"type":"string"},"new":{"type":"string"},
          "all":{"type":"boolean"}},"required":["path","old","new"]})");
  add("list_dir", "List a folder",
      R"({"type":"object","properties":{"path":{"type":"string"},"depth":{"type":"integer"}},"required":[]})");
  add("http_request", "Fetch a URL",
      R"({"type":"object","properties":{"method":{"type":"string"},"url":{"type":"string"},
          "headers":{"type":"object","additionalProperties":{"type":"string"}},"body":{"type":"string"},
          "save_to":{"type":"string"}},"required":["method","url"]})");
  return prompt;
}

}  // namespace corvid::test
