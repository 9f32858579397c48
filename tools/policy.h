// What tools may touch. Filled from defaults, a policy file and flags by agents/; a tool's arguments can never change
// it.
#pragma once
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace corvid::tools {

enum class SandboxMode : uint8_t { required /* refuse when the mechanism is missing */, none /* the user said so */ };

struct Policy {
  SandboxMode sandbox = SandboxMode::required;
  std::vector<std::filesystem::path> write_dirs;      // writable besides the working folder; absolute
  std::vector<std::filesystem::path> read_dirs;       // visible besides the system and the working folder; absolute
  std::vector<std::filesystem::path> hidden_paths;    // files, never visible wherever they lie: the store's; absolute
  std::vector<std::filesystem::path> hidden_folders;  // the same for folders; absolute
  std::vector<std::string> allow_hosts;               // HOST or HOST:PORT, as the user wrote them
  std::vector<std::string> pass_env;                  // names passed on although they look like secrets
  std::chrono::milliseconds shell_timeout{30'000};
  std::chrono::milliseconds shell_timeout_max{600'000};
  std::chrono::milliseconds http_timeout{30'000};
  int64_t output_limit_bytes = 16 * 1024;  // of each of stdout, stderr, file and body, as given to the model
  int64_t http_body_limit_bytes = 16 * 1024 * 1024;
  int64_t max_file_bytes = 1024LL * 1024 * 1024;  // RLIMIT_FSIZE of a command
  int64_t max_processes = 512;
};

}  // namespace corvid::tools
