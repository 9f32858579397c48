#include "tools/environment.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <string>

extern char** environ;

namespace corvid::tools {
namespace {

constexpr const char* kSecretWords[] = {
    "KEY",      "KEYS",       "TOKEN",          "TOKENS",        "SECRET",     "SECRETS",     "PASS",
    "PASSWORD", "PASSWORDS",  "PASSWD",         "PASSPHRASE",    "CREDENTIAL", "CREDENTIALS", "CREDS",
    "CRED",     "AUTH",       "AUTHENTICATION", "AUTHORIZATION", "OAUTH",      "COOKIE",      "COOKIES",
    "SESSION",  "SESSIONS",   "SESSIONID",      "PAT",           "BEARER",     "JWT",         "PIN",
    "OTP",      "XAUTHORITY", "NETRC",          "PGPASSFILE",    "KRB5CCNAME"};
// Written without an underscore: GITHUBTOKEN, PGPASSWORD, APIKEY.
constexpr const char* kSecretParts[] = {"PASSWORD", "PASSWD",    "PASSPHRASE", "SECRET",   "CREDENTIAL",
                                        "APIKEY",   "ACCESSKEY", "PRIVATEKEY", "AUTHTOKEN"};
constexpr const char* kPoison[] = {"ENV",
                                   "IFS",
                                   "PS4",
                                   "CDPATH",
                                   "GLOBIGNORE",
                                   "SHELLOPTS",
                                   "BASHOPTS",
                                   "PROMPT_COMMAND",
                                   "PYTHONSTARTUP",
                                   "PYTHONPATH",
                                   "PYTHONHOME",
                                   "PYTHONINSPECT",
                                   "PYTHONUSERBASE",
                                   "PYTHONEXECUTABLE",
                                   "PYTHONBREAKPOINT",
                                   "PYTHONWARNINGS",
                                   "PERL5LIB",
                                   "PERLLIB",
                                   "PERL5OPT",
                                   "PERL5DB",
                                   "RUBYLIB",
                                   "RUBYOPT",
                                   "NODE_OPTIONS",
                                   "NODE_PATH",
                                   "JAVA_TOOL_OPTIONS",
                                   "_JAVA_OPTIONS",
                                   "JDK_JAVA_OPTIONS",
                                   "GCONV_PATH",
                                   "GLIBC_TUNABLES",
                                   "LOCPATH",
                                   "NLSPATH",
                                   "MALLOC_TRACE",
                                   "RES_OPTIONS",
                                   "HOSTALIASES",
                                   "LESSOPEN",
                                   "LESSCLOSE",
                                   "MAKEFLAGS",
                                   "MAKEFILES",
                                   "MANPAGER",
                                   "TAR_OPTIONS",
                                   "TMPDIR",
                                   "TMP",
                                   "TEMP",
                                   "XDG_RUNTIME_DIR",
                                   "DISPLAY",
                                   "WAYLAND_DISPLAY",
                                   "MAIL",
                                   "OLDPWD",
                                   "PWD",
                                   "SHLVL",
                                   "_"};

bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (is_lower(c)) c = static_cast<char>(c - 'a' + 'A');
  }
  return out;
}

template <typename List>
bool contains(const List& list, std::string_view item) {
  return std::find(std::begin(list), std::end(list), item) != std::end(list);
}

// Runs of the characters that tokens are made of. '/' ends a run: paths are long and harmless.
template <typename Check>
bool any_run(std::string_view value, Check check) {
  size_t start = 0;
  for (size_t i = 0; i <= value.size(); ++i) {
    const bool inside = i < value.size() && (is_upper(value[i]) || is_lower(value[i]) || is_digit(value[i]) ||
                                             value[i] == '_' || value[i] == '-' || value[i] == '+' || value[i] == '.');
    if (inside) continue;
    if (i > start && check(value.substr(start, i - start))) return true;
    start = i + 1;
  }
  return false;
}

bool has_token_prefix(std::string_view run) {
  struct Form {
    std::string_view prefix;
    size_t min_length;
  };
  static constexpr Form kForms[] = {
      {"ghp_", 20},   {"gho_", 20},    {"ghu_", 20},     {"ghs_", 20},     {"ghr_", 20},     {"github_pat_", 20},
      {"glpat-", 16}, {"sk-", 20},     {"sk_live_", 16}, {"sk_test_", 16}, {"rk_live_", 16}, {"AKIA", 20},
      {"ASIA", 20},   {"AIza", 30},    {"ya29.", 20},    {"xoxb-", 14},    {"xoxp-", 14},    {"xoxa-", 14},
      {"xoxr-", 14},  {"xoxs-", 14},   {"xapp-", 14},    {"eyJ", 24},      {"npm_", 30},     {"pypi-", 30},
      {"hf_", 24},    {"dop_v1_", 30}, {"SG.", 30},      {"shpat_", 20},   {"gsk_", 20},     {"r8_", 30},
      {"tskey-", 16}};
  return std::any_of(std::begin(kForms), std::end(kForms), [&](const Form& form) {
    return run.size() >= form.min_length && run.substr(0, form.prefix.size()) == form.prefix;
  });
}

double bits_per_character(std::string_view run) {
  std::array<int, 256> counts{};
  for (const char c : run) ++counts[static_cast<unsigned char>(c)];
  double bits = 0;
  for (const int n : counts) {
    if (n == 0) continue;
    const double p = static_cast<double>(n) / static_cast<double>(run.size());
    bits -= p * std::log2(p);
  }
  return bits;
}

// Random hex of 32 digits has about 3.6 bits a character, random base64 of 24 about 4.3; words joined by case or dashes
// come near the latter but hardly ever change between letters and digits.
bool looks_random(std::string_view run) {
  const bool hex =
      std::all_of(run.begin(), run.end(), [](char c) { return std::isxdigit(static_cast<unsigned char>(c)); });
  if (hex) return run.size() >= 32 && bits_per_character(run) > 3.0;
  if (run.size() < 24) return false;
  int switches = 0;
  for (size_t i = 1; i < run.size(); ++i) switches += is_digit(run[i]) != is_digit(run[i - 1]);
  const bool mixed = std::any_of(run.begin(), run.end(), is_upper) && std::any_of(run.begin(), run.end(), is_lower);
  return mixed && switches >= 4 && bits_per_character(run) > 3.9 && run.find('.') == std::string_view::npos;
}

bool has_url_password(std::string_view value) {
  for (size_t at = value.find("://"); at != std::string_view::npos; at = value.find("://", at + 3)) {
    const std::string_view authority = value.substr(at + 3, value.find_first_of("/?# ", at + 3) - (at + 3));
    const size_t user_end = authority.rfind('@');
    if (user_end != std::string_view::npos && authority.substr(0, user_end).find(':') != std::string_view::npos)
      return true;
  }
  return false;
}

bool is_system_folder(const std::filesystem::path& path) {
  static const std::filesystem::path kSystem[] = {"/usr", "/bin", "/sbin", "/opt", "/nix"};
  return std::any_of(std::begin(kSystem), std::end(kSystem),
                     [&](const auto& folder) { return lies_within(path, folder); });
}

}  // namespace

bool lies_within(const std::filesystem::path& path, const std::filesystem::path& folder) {
  const auto [rest, unused] = std::mismatch(folder.begin(), folder.end(), path.begin(), path.end());
  return rest == folder.end() || (rest->empty() && std::next(rest) == folder.end());  // empty: a trailing slash
}

bool is_secret_name(std::string_view name) {
  const std::string text = upper(name);
  if (text.starts_with("AWS_")) return true;
  for (const char* part : kSecretParts) {
    if (text.find(part) != std::string::npos) return true;
  }
  size_t start = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size() && (is_upper(text[i]) || is_digit(text[i]))) continue;
    const std::string_view word = std::string_view(text).substr(start, i - start);
    start = i + 1;
    if (contains(kSecretWords, word) || word.ends_with("TOKEN")) return true;
    if (word == "PWD" && text != "PWD" && text != "OLDPWD") return true;  // DB_PWD
  }
  return false;
}

bool is_secret_value(std::string_view value) {
  if (value.find("-----BEGIN") != std::string_view::npos || has_url_password(value)) return true;
  for (const std::string_view scheme : {"Bearer ", "Basic ", "AccountKey=", "SharedAccessKey="}) {
    const size_t at = value.find(scheme);
    if (at != std::string_view::npos && value.size() >= at + scheme.size() + 16) return true;
  }
  return any_run(value, [](std::string_view run) { return has_token_prefix(run) || looks_random(run); });
}

bool is_poison(std::string_view name) {
  if (name.empty()) return true;
  for (const char* prefix : {"LD_", "BASH_", "DBUS_", "SYSTEMD_", "DYLD_"}) {
    if (name.starts_with(prefix)) return true;
  }
  // Git has dozens that point it elsewhere or name a program to run; who the author is does neither.
  if (name.starts_with("GIT_")) return !name.starts_with("GIT_AUTHOR_") && !name.starts_with("GIT_COMMITTER_");
  const std::string text = upper(name);
  if (text.ends_with("_PROXY")) return true;
  return contains(kPoison, name);
}

std::string sane_path(std::string_view path, const std::vector<std::filesystem::path>& visible,
                      const std::vector<std::filesystem::path>& writable) {
  std::vector<std::string> entries;
  const auto add = [&](std::string_view text) {
    const std::filesystem::path folder(text);
    if (!folder.is_absolute() || folder != folder.lexically_normal()) return;
    const auto holds = [&](const std::filesystem::path& root) { return lies_within(folder, root); };
    if (std::any_of(writable.begin(), writable.end(), holds)) return;
    if (!is_system_folder(folder) && std::none_of(visible.begin(), visible.end(), holds)) return;
    if (!contains(entries, text)) entries.emplace_back(text);
  };
  for (size_t start = 0; start <= path.size();) {
    const size_t end = std::min(path.find(':', start), path.size());
    add(path.substr(start, end - start));
    start = end + 1;
  }
  for (const char* usual : {"/usr/local/bin", "/usr/bin", "/bin"}) add(usual);
  std::string out;
  for (const std::string& entry : entries) out += (out.empty() ? "" : ":") + entry;
  return out;
}

EnvReport sift_environment(const std::filesystem::path& workdir, const Policy& policy) {
  EnvReport report;
  std::string_view path;
  bool has_home = false;
  for (char** at = environ; at != nullptr && *at != nullptr; ++at) {
    const std::string_view entry(*at);
    const size_t equals = entry.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view name = entry.substr(0, equals), value = entry.substr(equals + 1);
    if (name == "PATH") {
      path = value;
      continue;
    }
    has_home = has_home || name == "HOME";
    const bool secret = !contains(policy.pass_env, name) && (is_secret_name(name) || is_secret_value(value));
    if (secret || is_poison(name)) {
      if (name != "PWD" && name != "_" && name != "SHLVL") report.held_back.emplace_back(name);
    } else {
      report.passed.emplace_back(entry);
    }
  }
  std::vector<std::filesystem::path> writable = policy.write_dirs;
  writable.push_back(workdir);
  report.passed.push_back("PATH=" + sane_path(path, policy.read_dirs, writable));
  if (!has_home && !home_folder().empty()) report.passed.push_back("HOME=" + home_folder().string());
  report.passed.push_back("PWD=" + workdir.string());
  std::sort(report.passed.begin(), report.passed.end());
  std::sort(report.held_back.begin(), report.held_back.end());
  return report;
}

}  // namespace corvid::tools
