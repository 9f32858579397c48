// config.json's keys, of which several spellings may stand for one thing. Every number is range-checked; every
// complaint is a std::runtime_error that names file, key, wanted and found.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace corvid::model {

class JsonKeys {
 public:
  using Spellings = std::initializer_list<const char*>;  // the first that is there counts; "a.b" is key b of object a

  // Looks into text_config when there is one, otherwise at the top level. `root` must outlive this object.
  JsonKeys(std::string file, const nlohmann::json& root);

  const nlohmann::json* find(Spellings spellings) const;  // null when there is none, or only null
  int64_t integer(Spellings spellings, int64_t min, int64_t max) const;
  int64_t integer_or(Spellings spellings, int64_t fallback, int64_t min, int64_t max) const;
  double number(Spellings spellings, double min, double max) const;
  double number_or(Spellings spellings, double fallback, double min, double max) const;
  bool boolean_or(Spellings spellings, bool fallback) const;
  // Some options are only known in one setting: any other is an error. Absent is fine.
  void only(Spellings spellings, std::initializer_list<nlohmann::json> supported) const;
  // One flag per layer, from a list of names or of numbers.
  std::vector<bool> flags(const char* key, const nlohmann::json& list, int64_t n_layers, const char* off,
                          const char* on) const;

  const std::string& file() const { return file_; }
  const nlohmann::json& root() const { return *root_; }

 private:
  const nlohmann::json& required(Spellings spellings) const;
  [[noreturn]] void wrong(const char* key, const std::string& wanted, const nlohmann::json& found) const;

  std::string file_;
  const nlohmann::json* root_;
  const nlohmann::json* text_;
};

}  // namespace corvid::model
