// Reads every #include of the tree: one that points up, or to a sibling, is an error.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

const std::map<std::string, std::set<std::string>> kMayInclude = {
    {"kernels", {"kernels"}},
    {"model", {"model", "kernels"}},
    {"tools", {"tools"}},
    {"runtime", {"runtime", "model", "tools", "kernels"}},
    {"agents", {"agents", "runtime", "model", "tools", "kernels"}},
};

// What is wrong with the includes of one file; empty when nothing is.
std::vector<std::string> wrong_includes(const std::string& layer, const std::string& name, std::istream& source) {
  static const std::regex kInclude(R"re(^\s*#\s*include\s*([<"])([^>"]+)[>"])re");
  std::vector<std::string> wrong;
  std::string line;
  for (int number = 1; std::getline(source, line); ++number) {
    std::smatch parts;
    if (!std::regex_search(line, parts, kInclude)) continue;
    const std::string path = parts[2];
    const std::string top = path.substr(0, path.find('/'));
    const bool is_ours = kMayInclude.contains(top) && path.find('/') != std::string::npos;
    const bool is_quoted = parts[1] == "\"";
    if (is_quoted && !is_ours) wrong.push_back(name + ":" + std::to_string(number) + ": not from the root: " + path);
    if (is_ours && !kMayInclude.at(layer).contains(top)) {
      wrong.push_back(name + ":" + std::to_string(number) + ": " + layer + " must not include " + path);
    }
  }
  return wrong;
}

TEST(Layers, EveryIncludePointsDownOrStaysInItsFolder) {
  std::vector<std::string> wrong;
  int files = 0;
  for (const auto& [layer, allowed] : kMayInclude) {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(fs::path(CORVID_SOURCE_DIR) / layer)) {
      static const std::set<std::string> kSources{".h", ".hpp", ".cpp", ".cu", ".cuh", ".c", ".in"};
      if (!entry.is_regular_file() || !kSources.contains(entry.path().extension().string())) continue;
      std::ifstream source(entry.path());
      const std::string name = fs::relative(entry.path(), CORVID_SOURCE_DIR).string();
      for (const std::string& one : wrong_includes(layer, name, source)) wrong.push_back(one);
      ++files;
    }
  }
  EXPECT_THAT(wrong, testing::IsEmpty());
  EXPECT_GT(files, 50);
}

// A host that includes them needs neither our headers nor anybody else's; asio.hpp alone is for hosts with Asio.
TEST(Layers, ThePublicHeadersIncludeTheStandardLibraryAndEachOther) {
  static const std::regex kInclude(R"re(^\s*#\s*include\s*(.*))re"),
      kAllowed(R"re(<(corvid/)?[a-z_]+(\.hpp|\.h)?>.*)re");
  std::vector<std::string> wrong;
  int headers = 0;
  const fs::path folder = fs::path(CORVID_SOURCE_DIR) / "agents/include";
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file() || entry.path().filename() == "asio.hpp") continue;
    ++headers;
    std::ifstream source(entry.path());
    for (std::string line; std::getline(source, line);) {
      std::smatch parts;
      if (!std::regex_match(line, parts, kInclude)) continue;
      const std::string what = parts[1];
      const bool is_foreign_h =
          what.find(".h>") != std::string::npos && !what.starts_with("<std") && what != "<string.h>";
      if (!std::regex_match(what, kAllowed) || is_foreign_h)
        wrong.push_back(entry.path().filename().string() + ": " + what);
    }
  }
  EXPECT_THAT(wrong, testing::IsEmpty());
  EXPECT_GE(headers, 10);
}

TEST(Layers, AnUpwardAndASidewaysIncludeAreFound) {
  std::istringstream up("#include \"runtime/loop.h\"\n"), sideways("\n#  include <tools/tool.h>\n"),
      near("#include \"gguf.h\"\n"), fine("#include \"kernels/exec.h\"\n#include <tools>\n#include <vector>\n");
  EXPECT_THAT(wrong_includes("model", "a.cpp", up),
              testing::ElementsAre("a.cpp:1: model must not include runtime/loop.h"));
  EXPECT_THAT(wrong_includes("model", "b.cpp", sideways),
              testing::ElementsAre("b.cpp:2: model must not include tools/tool.h"));
  EXPECT_THAT(wrong_includes("model", "c.cpp", near), testing::ElementsAre("c.cpp:1: not from the root: gguf.h"));
  EXPECT_THAT(wrong_includes("model", "d.cpp", fine), testing::IsEmpty());
}

}  // namespace
