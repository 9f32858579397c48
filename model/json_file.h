// JSON from outside, and the files of a checkpoint that hold it.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace corvid::model {

// A value nested deeper than this is refused before it is made: whoever copies, prints or walks it may recurse.
inline constexpr int kMaxJsonDepth = 64;
int json_depth(std::string_view text);  // of brackets and braces; exact up to the first error

// Throws std::runtime_error that begins with `what` when `text` is not JSON, or is nested too deep.
nlohmann::json parse_json(std::string_view text, const std::string& what);

// Throws std::system_error when the file can't be read, std::runtime_error naming the file and the place when it is
// not a JSON object, is nested too deep, or is longer than 256 MiB.
nlohmann::json read_json_object(const std::filesystem::path& file);

// The whole file as bytes; the same errors.
std::string read_whole(const std::filesystem::path& file);

// The last name of a path, also of "folder/" and ".": for messages.
std::string last_name(const std::filesystem::path& path);

}  // namespace corvid::model
