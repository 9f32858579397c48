// Where corvid looks for things: the XDG folders, what was installed beside the program, the model.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace corvid::agents {

std::filesystem::path home_folder();    // $HOME, or the account's
std::filesystem::path config_folder();  // $XDG_CONFIG_HOME/corvid, by default ~/.config/corvid
std::filesystem::path data_folder();    // $XDG_DATA_HOME/corvid, by default ~/.local/share/corvid
std::filesystem::path cache_folder();   // $XDG_CACHE_HOME/corvid, by default ~/.cache/corvid

// Version, size and time of the file that this code was loaded from, the program or the shared library: a build or an
// update replaces it.
std::string code_identity();

// The folders that may hold `what` ("models", "agents") of corvid itself: installed with the program, or with the
// shared library when a host loaded that; then the source tree that it was built from.
std::vector<std::filesystem::path> shipped_folders(const std::string& what);

// `~/x` beneath the home folder, a relative path beneath `base`.
std::filesystem::path resolve(const std::string& path, const std::filesystem::path& base);

// The model that ships, in the first of the folders that has it.
std::optional<std::filesystem::path> model_in(const std::vector<std::filesystem::path>& folders);

// The model to load: `named` (a flag, CORVID_MODEL or config.yaml, with `origin` for messages) when given, else the one
// that ships. Throws UsageError naming what was looked for and where.
struct ModelChoice {
  std::filesystem::path path;
  std::string origin;  // "--model", "CORVID_MODEL", "config.yaml", "shipped"
};
ModelChoice find_model(const std::optional<std::string>& flag, const std::optional<std::filesystem::path>& configured);

// A folder that must exist; its real path. Throws UsageError that begins with `origin`.
std::filesystem::path existing_folder(const std::string& path, const std::string& origin);

}  // namespace corvid::agents
