#include "model/json_file.h"

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

nlohmann::json read_json_object(const std::filesystem::path& file) {
  const std::string text = read_whole(file);
  nlohmann::json json;
  try {
    json = nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    fail(file.filename().string(), ": not valid JSON: ", printable(error.what()));
  }
  if (!json.is_object()) fail(file.filename().string(), ": want a JSON object, found ", json.type_name());
  return json;
}

}  // namespace corvid::model
