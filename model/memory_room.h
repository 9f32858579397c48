// How much memory this process may still take.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>

namespace corvid::model {

// What the system could give without swapping, or the control groups of this process (of either version) allow,
// whichever is less; nothing where neither tells. It is read below `root`.
std::optional<int64_t> available_memory(const std::filesystem::path& root = "/");

}  // namespace corvid::model
