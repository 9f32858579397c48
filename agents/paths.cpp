#include "agents/paths.h"

#include <link.h>
#include <pwd.h>
#include <sys/stat.h>
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

// The file that this code was loaded from: nothing for the program itself, the shared library's path in a host. The
// loader keeps the path as it was given, which may be relative.
std::optional<fs::path> find_loaded_library() {
  struct Search {
    uintptr_t here = reinterpret_cast<uintptr_t>(&find_loaded_library);
    std::optional<fs::path> found;
  } search;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        auto& [here, found] = *static_cast<Search*>(data);
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& part = info->dlpi_phdr[i];
          const uintptr_t begin = info->dlpi_addr + part.p_vaddr;
          if (part.p_type != PT_LOAD || here < begin || here >= begin + part.p_memsz) continue;
          if (*info->dlpi_name != '\0') found = info->dlpi_name;  // the program has no name here
          return 1;
        }
        return 0;
      },
      &search);
  if (!search.found) return std::nullopt;
  std::error_code failure;  // without a current folder the path stays as it is
  fs::path file = fs::absolute(*search.found, failure);
  return failure ? search.found : file;
}

// Found while the library is loaded: later the host may be in another folder.
const std::optional<fs::path> kLoadedLibrary = find_loaded_library();

fs::path loaded_file() { return kLoadedLibrary.value_or("/proc/self/exe"); }

// What was installed together with the program or the library.
std::optional<fs::path> installed_data_folder() {
  std::error_code failure;
  const fs::path self = fs::canonical(loaded_file(), failure);
  if (failure) return std::nullopt;
  const char* way = kLoadedLibrary ? CORVID_DATA_FROM_LIB : CORVID_DATA_FROM_BIN;
  return (self.parent_path() / way).lexically_normal();
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

std::string code_identity() {
  struct stat info {};
  if (stat(loaded_file().c_str(), &info) != 0) return CORVID_VERSION;
  return CORVID_VERSION " " + std::to_string(info.st_size) + " " + std::to_string(info.st_mtim.tv_sec) + "." +
         std::to_string(info.st_mtim.tv_nsec);
}

std::vector<fs::path> shipped_folders(const std::string& what) {
  std::vector<fs::path> folders;
  if (const auto data = installed_data_folder()) folders.push_back(*data / what);
  folders.push_back(fs::path(CORVID_CONFIGS_DIR) / what);
  return folders;
}

fs::path resolve(const std::string& path, const fs::path& base) {
  if (path == "~") return home_folder();
  if (path.starts_with("~/")) return (home_folder() / path.substr(2)).lexically_normal();
  return (base / path).lexically_normal();
}

std::optional<fs::path> model_in(const std::vector<fs::path>& folders) {
  std::error_code failure;
  for (const fs::path& folder : folders) {
    const fs::path file = (folder / kModelName).lexically_normal();
    if (fs::exists(file, failure)) return file;
  }
  return std::nullopt;
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
  if (const auto file = model_in(folders)) return {*file, "shipped"};
  std::string looked;
  for (const fs::path& folder : folders) looked += (looked.empty() ? "" : ", ") + folder.lexically_normal().string();
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
