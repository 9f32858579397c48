// A user of corvid for one test: a home folder with its XDG folders, a working folder, and the real program.
#pragma once
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/program.h"

namespace corvid::test {

using Json = nlohmann::ordered_json;

class Home {
 public:
  Home() {
    std::filesystem::create_directories(dir_ / "work");
    environment = {{"HOME", (dir_ / "home").string()},
                   {"XDG_CONFIG_HOME", (dir_ / "config").string()},
                   {"XDG_DATA_HOME", (dir_ / "data").string()},
                   {"PATH", std::getenv("PATH")},
                   {"LANG", "C.UTF-8"},
                   {"TERM", "xterm"}};
    std::filesystem::create_directories(dir_ / "home");
    // The sanitizers' settings are the test run's, not the user's.
    for (const char* name : {"ASAN_OPTIONS", "UBSAN_OPTIONS"}) {
      if (const char* value = std::getenv(name)) environment[name] = value;
    }
  }

  std::filesystem::path work() const { return dir_ / "work"; }
  std::filesystem::path operator/(std::string_view name) const { return dir_ / name; }
  std::filesystem::path write(std::string_view name, std::string_view content) const {
    return dir_.write(name, content);
  }
  std::string read(std::string_view name) const { return dir_.read(name); }

  Program::Setup setup(std::string input = "", bool on_terminal = false) const {
    return {.folder = work(), .environment = environment, .input = std::move(input), .on_terminal = on_terminal};
  }
  static std::vector<std::string> command(std::vector<std::string> words) {
    words.insert(words.begin(), CORVID_PROGRAM);
    return words;
  }
  // corvid WORDS in the working folder.
  Finished corvid(std::vector<std::string> words, std::string input = "") const {
    return Program(command(std::move(words)), setup(std::move(input))).wait();
  }

  std::map<std::string, std::string> environment;

 private:
  TempDir dir_;
};

}  // namespace corvid::test
