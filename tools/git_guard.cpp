#include "tools/git_guard.h"

#include <algorithm>
#include <fstream>
#include <sstream>

namespace corvid::tools {
namespace fs = std::filesystem;
namespace {

constexpr const char* kRedirections[] = {"commondir", "config.worktree"};

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

bool is_harmless(const std::string& section, const std::string& key) {
  static const std::vector<std::pair<std::string, std::vector<std::string>>> kKnown = {
      {"core",
       {"repositoryformatversion", "filemode", "bare", "logallrefupdates", "symlinks", "ignorecase",
        "precomposeunicode"}},
      {"user", {"name", "email"}},
      {"branch", {"remote", "merge"}},
      {"remote", {"url", "fetch"}},
      {"extensions", {"objectformat"}}};
  return std::any_of(kKnown.begin(), kKnown.end(), [&](const auto& known) {
    return known.first == section && std::find(known.second.begin(), known.second.end(), key) != known.second.end();
  });
}

// Nothing of the command runs any more, so that what is looked at cannot change; links are still never followed.
void clean_new_repository(const fs::path& git) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(git, error);
  if (!fs::exists(status)) return;
  if (!fs::is_directory(status)) {
    fs::remove(git, error);
    return;
  }
  const fs::path hooks = git / "hooks", config = git / "config";
  if (fs::is_directory(fs::symlink_status(hooks, error))) {
    std::vector<fs::path> found;
    for (const fs::directory_entry& entry : fs::directory_iterator(hooks, error)) {
      if (entry.path().extension() != ".sample") found.push_back(entry.path());
    }
    for (const fs::path& hook : found) fs::remove_all(hook, error);
  } else {
    fs::remove(hooks, error);
  }
  if (!fs::is_regular_file(fs::symlink_status(config, error))) {
    fs::remove_all(config, error);
    return;
  }
  std::ostringstream before;
  before << std::ifstream(config, std::ios::binary).rdbuf();
  const std::string kept = harmless_git_config(before.str());
  if (kept == before.str()) return;
  // A new file, for the old one may have another name elsewhere.
  fs::remove(config, error);
  std::ofstream(config, std::ios::binary) << kept;
}

}  // namespace

std::string harmless_git_config(std::string_view text) {
  std::string out, section;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size() - 1);
    const std::string line(text.substr(0, end + 1));
    text.remove_prefix(end + 1);
    const size_t first = line.find_first_not_of(" \t");
    const size_t last = line.find_last_not_of(" \t\r\n");
    if (first == std::string::npos || last == std::string::npos || line[last] == '\\') continue;  // continued lines go
    if (line[first] == '[') {
      section = lower(line.substr(first + 1, line.find_first_of(" \t]\".", first) - first - 1));
      if (line[last] == ']')
        out += line;  // a header with a key behind it goes, and the key with it
      else
        section.clear();
      continue;
    }
    const std::string key = lower(line.substr(first, line.find_first_of(" \t=\r\n", first) - first));
    if (is_harmless(section, key)) out += line;
  }
  return out;
}

GitGuard::GitGuard(const PathRules& rules) {
  for (const PathRule& rule : rules.rules()) {
    if (rule.access != Access::write) continue;
    std::error_code error;
    // Whatever stands there was somebody's choice, and is mounted read-only where it matters; what is new is judged.
    Folder folder{rule.path, fs::exists(fs::symlink_status(rule.path / ".git", error)), {}};
    for (const char* name : kRedirections) {
      if (!fs::exists(fs::symlink_status(rule.path / ".git" / name, error))) folder.missing.emplace_back(name);
    }
    folders_.push_back(std::move(folder));
  }
}

void GitGuard::restore() const {
  for (const Folder& folder : folders_) {
    const fs::path git = folder.path / ".git";
    std::error_code error;
    if (!folder.had_git) clean_new_repository(git);
    if (!fs::is_directory(fs::symlink_status(git, error))) continue;
    for (const std::string& name : folder.missing) fs::remove_all(git / name, error);
  }
}

}  // namespace corvid::tools
