// A JSON file of a checkpoint, read whole.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace corvid::model {

// Throws std::system_error when the file can't be read, std::runtime_error naming the file and the place when it is
// not a JSON object, or is longer than 256 MiB.
nlohmann::json read_json_object(const std::filesystem::path& file);

// The whole file as bytes; the same errors.
std::string read_whole(const std::filesystem::path& file);

// The last name of a path, also of "folder/" and ".": for messages.
std::string last_name(const std::filesystem::path& path);

}  // namespace corvid::model
