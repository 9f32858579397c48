#include "model/json_file.h"

#include <algorithm>

#include "model/error.h"
#include "model/mapped_file.h"

namespace corvid::model {

std::string read_whole(const std::filesystem::path& file) {
  constexpr size_t kLongest = size_t{256} << 20;
  const MappedFile mapped(file);
  const auto bytes = mapped.bytes();
  if (bytes.size() > kLongest) {
    fail(file.filename().string(), ": want at most ", kLongest, " bytes, found ", bytes.size());
  }
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string last_name(const std::filesystem::path& path) {
  const std::filesystem::path whole = std::filesystem::absolute(path).lexically_normal();
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

int json_depth(std::string_view text) {
  int depth = 0, deepest = 0;
  bool is_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (is_string && c == '\\') {
      ++i;
    } else if (c == '"') {
      is_string = !is_string;
    } else if (!is_string && (c == '{' || c == '[')) {
      deepest = std::max(deepest, ++depth);
    } else if (!is_string && (c == '}' || c == ']')) {
      --depth;
    }
  }
  return deepest;
}

nlohmann::json parse_json(std::string_view text, const std::string& what) {
  if (const int depth = json_depth(text); depth > kMaxJsonDepth) {
    fail(what, ": not valid JSON: want at most ", kMaxJsonDepth, " levels of nesting, found ", depth);
  }
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 1: ... - unexpected end of input": the place and
    // the reason stand behind the name, which says nothing to a reader.
    const std::string_view text_of_error = error.what();
    const size_t name_end = text_of_error.find("] ");
    fail(what, ": not valid JSON: ",
         printable(name_end == std::string_view::npos ? text_of_error : text_of_error.substr(name_end + 2)));
  }
}

nlohmann::json read_json_object(const std::filesystem::path& file) {
  nlohmann::json json = parse_json(read_whole(file), file.filename().string());
  if (!json.is_object()) fail(file.filename().string(), ": want a JSON object, found ", json.type_name());
  return json;
}

}  // namespace corvid::model
