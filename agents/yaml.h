// A checked reader over yaml-cpp: every error is `FILE:LINE:COLUMN: what was wanted and found`, and a key that nobody
// reads is one. Scalars are taken as they stand in the file, so `no` is the text "no" and never a hidden false.
#pragma once
#include <yaml-cpp/yaml.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agents/args.h"

namespace corvid::agents {

class YamlMap;

class YamlValue {
 public:
  YamlValue(std::string file, std::string key, YAML::Node node)
      : file_(std::move(file)), key_(std::move(key)), node_(std::move(node)) {}

  std::string text() const;
  std::string choice(const std::vector<std::string>& choices) const;
  int64_t integer(int64_t min, int64_t max) const;
  double number(double min, double max) const;
  int64_t bytes(int64_t min, int64_t max) const;  // 4096, 64KiB, 16MiB, 1GiB
  std::chrono::milliseconds duration() const;
  bool boolean() const;                    // true or false, and no other word for them
  std::vector<std::string> texts() const;  // a list of texts
  YamlMap map(const std::vector<std::string>& known) const;

  // For values whose form or keys are the writer's choice.
  bool is_text() const { return node_.IsScalar(); }
  bool is_list() const { return node_.IsSequence(); }
  bool is_map() const { return node_.IsMap(); }
  std::vector<YamlValue> items() const;                            // of a list
  std::vector<std::pair<std::string, YamlValue>> entries() const;  // of a mapping; a key that stands twice is an error
  // As JSON: plain scalars that read as JSON numbers, true, false or null are these, all others are texts.
  nlohmann::ordered_json json() const;

  std::string place() const;                                 // "FILE:LINE:COLUMN: KEY: "
  [[noreturn]] void fail(const std::string& message) const;  // throws UsageError with the place before the message

 private:
  std::string file_, key_;
  YAML::Node node_;
};

class YamlMap {
 public:
  // Throws UsageError when `node` is no mapping, has a key twice, or one that is not in `known` (null: any will do).
  YamlMap(const std::string& file, const YAML::Node& node, const std::vector<std::string>* known);
  // `text` under the name `file`, which messages show. A document with nothing in it is an empty mapping; one whose
  // aliases make more of it than 100,000 values is refused, and so are bytes that are not UTF-8, and NULs.
  static YamlMap parse(const std::string& file, const std::string& text, const std::vector<std::string>& known);
  static YamlMap load(const std::filesystem::path& file, const std::vector<std::string>& known);

  std::optional<YamlValue> find(std::string_view key) const;
  const std::vector<std::pair<std::string, YamlValue>>& entries() const { return entries_; }

 private:
  std::vector<std::pair<std::string, YamlValue>> entries_;
};

}  // namespace corvid::agents
