// Feeds files to one fuzz target, without libFuzzer:  corvid_fuzz_NAME FILE|FOLDER...
// What once was found stays tested, with any compiler. The last file named is the one that broke it.
#include <algorithm>
#include <fstream>
#include <iostream>
#include <iterator>

#include "tests/fuzz/target.h"

int main(int argc, char** argv) {
  namespace fs = std::filesystem;
  std::vector<fs::path> files;
  for (int i = 1; i < argc; ++i) {
    if (!fs::is_directory(argv[i])) files.emplace_back(argv[i]);
    if (fs::is_directory(argv[i])) files.insert(files.end(), fs::directory_iterator(argv[i]), {});
  }
  if (files.empty()) {
    std::cerr << argv[0] << ": want files or folders of inputs, found none\n";
    return 2;
  }
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) {
    std::cout << file.string() << std::endl;
    std::ifstream in(file, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(in), {}};
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  }
}
