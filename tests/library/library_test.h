// The C++ library as a host sees it: public headers, the shared object, the model that ships, real tools.
#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <corvid/corvid.hpp>
#include <cstdlib>
#include <fstream>
#include <optional>

namespace corvid_test {

namespace fs = std::filesystem;

// One engine for all tests, as a host has one. It is let go of at the end, so that leaks show.
class LibraryTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { engine_.emplace(corvid::Model::shipped(), corvid::EngineOptions{.threads = 2}); }
  static void TearDownTestSuite() { engine_.reset(); }

  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "corvid-library-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    fs::create_directories(folder_ / "work/notes");
    for (const char* note : {"a.txt", "b.txt", "c.md"}) std::ofstream(folder_ / "work/notes" / note) << "one\ntwo\n";
    store_.emplace(folder_ / "sub/agents.db");
  }
  void TearDown() override {
    store_.reset();
    fs::remove_all(folder_);
  }

  corvid::Session start(const corvid::Agent& agent = corvid::Agent()) {
    return corvid::Session::start(*engine_, *store_, agent, {.workdir = folder_ / "work"});
  }

  inline static std::optional<corvid::Engine> engine_;
  fs::path folder_;
  std::optional<corvid::Store> store_;
};

inline constexpr const char* kCount = "how many txt files are in notes?";

}  // namespace corvid_test
