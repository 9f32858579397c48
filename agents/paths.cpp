#include "agents/paths.h"

#include <pwd.h>
#include <unistd.h>

#include <cstdlib>

#include "agents/args.h"

namespace corvid::agents {

namespace fs = std::filesystem;

namespace {

constexpr const char* kModelName = "corvid-small.gguf";

// The specification of the base directories: a relative value is to be ignored.
fs::path xdg_folder(const char* variable, const char* fallback) {
  const char* value = std::getenv(variable);
  const fs::path base = value != nullptr && *value == '/' ? fs::path(value) : home_folder() / fallback;
  return base / "corvid";
}

}  // namespace

fs::path home_folder() {
  const char* home = std::getenv("HOME");
  if (home != nullptr && *home == '/') return home;
  const passwd* account = getpwuid(getuid());
  return account != nullptr && account->pw_dir != nullptr ? account->pw_dir : "/";
}

fs::path config_folder() { return xdg_folder("XDG_CONFIG_HOME", ".config"); }

fs::path data_folder() { return xdg_folder("XDG_DATA_HOME", ".local/share"); }

fs::path cache_folder() { return xdg_folder("XDG_CACHE_HOME", ".cache"); }

std::vector<fs::path> shipped_folders(const std::string& what) {
  std::vector<fs::path> folders;
  std::error_code failure;
  const fs::path program = fs::read_symlink("/proc/self/exe", failure);
  if (!failure) folders.push_back(program.parent_path().parent_path() / "share/corvid" / what);
  folders.push_back(fs::path(CORVID_CONFIGS_DIR) / what);
  return folders;
}

fs::path resolve(const std::string& path, const fs::path& base) {
  if (path == "~") return home_folder();
  if (path.starts_with("~/")) return (home_folder() / path.substr(2)).lexically_normal();
  return (base / path).lexically_normal();
}

ModelChoice find_model(const std::optional<std::string>& flag, const std::optional<fs::path>& configured) {
  const char* variable = std::getenv("CORVID_MODEL");
  std::optional<ModelChoice> named;
  if (flag) {
    named = {*flag, "--model"};
  } else if (variable != nullptr && *variable != '\0') {
    named = {variable, "CORVID_MODEL"};
  } else if (configured) {
    named = {*configured, "config.yaml"};
  }
  std::error_code failure;
  if (named) {
    if (fs::exists(named->path, failure)) return *named;
    throw UsageError(named->origin + ": no such file: " + named->path.string());
  }
  std::vector<fs::path> folders = shipped_folders("models");
  folders.push_back(data_folder() / "models");
  std::string looked;
  for (const fs::path& folder : folders) {
    const fs::path file = (folder / kModelName).lexically_normal();
    if (fs::exists(file, failure)) return {file, "shipped"};
    looked += (looked.empty() ? "" : ", ") + folder.lexically_normal().string();
  }
  throw UsageError("no model: want " + std::string(kModelName) + " in " + looked +
                   "; name one with --model FILE, CORVID_MODEL or `model:` in " +
                   (config_folder() / "config.yaml").string());
}

fs::path existing_folder(const std::string& path, const std::string& origin) {
  std::error_code failure;
  const fs::path real = fs::canonical(path, failure);
  if (failure) throw UsageError(origin + ": no such folder: " + path + " (" + failure.message() + ")");
  if (!fs::is_directory(real, failure)) throw UsageError(origin + ": want a folder, found a file: " + path);
  return real;
}

}  // namespace corvid::agents
