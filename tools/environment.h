// Which environment variables a command may see. Held back are secrets, by name and by form, and what could poison the
// programs that run (loader and interpreter hooks, git's redirections, the host's proxies).
#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "tools/sandbox.h"

namespace corvid::tools {

// GITHUB_TOKEN, DB_PASSWORD, AWS_PROFILE, API_KEY; not KEYBOARD, TOKENIZERS_PARALLELISM, GIT_AUTHOR_NAME.
bool is_secret_name(std::string_view name);

// ghp_..., sk-..., AKIA..., xoxb-..., JWTs, PEM keys, URLs with a password, long runs that look random.
bool is_secret_value(std::string_view value);

// LD_PRELOAD, BASH_ENV, BASH_FUNC_x%%, PYTHONSTARTUP, GIT_DIR, NODE_OPTIONS, https_proxy, ...
bool is_poison(std::string_view name);

// PATH for a command: the absolute entries of `path` that lie in the system's folders or beneath one of `visible`, and
// never within one of `writable`, where a command could plant a program for the next one; then the usual folders.
std::string sane_path(std::string_view path, const std::vector<std::filesystem::path>& visible,
                      const std::vector<std::filesystem::path>& writable);

// The environment of this process, sifted. Names in policy.pass_env pass although they look like secrets.
EnvReport sift_environment(const std::filesystem::path& workdir, const Policy& policy);

// Whether `path` is `folder` or lies beneath it, by their spelling alone.
bool lies_within(const std::filesystem::path& path, const std::filesystem::path& folder);

}  // namespace corvid::tools
