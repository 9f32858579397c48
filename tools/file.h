// The file tools. They touch only what the policy's path rules allow, open nothing that could block, and replace files
// whole: a reader sees the old text or the new one.
#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "tools/sandbox.h"
#include "tools/tool.h"

namespace corvid::tools {

std::unique_ptr<Tool> make_read_file();
std::unique_ptr<Tool> make_list_dir();
std::unique_ptr<Tool> make_write_file();
std::unique_ptr<Tool> make_edit_file();

// Puts `content` at `path` by way of a new file beside it and a rename; makes parent folders, keeps the mode of a file
// that is replaced. Returns 0, or an errno value (EXDEV, EROFS, EISDIR, ... as PathRules::place).
int replace_file(const PathRules& rules, const std::filesystem::path& path, std::string_view content);

// The line of `text` that is most like `wanted`, compared by their pairs of neighbouring characters, without the blanks
// at either end; the first of equals. Empty when no line has anything in common with it.
std::string nearest_line(std::string_view text, std::string_view wanted);

}  // namespace corvid::tools
