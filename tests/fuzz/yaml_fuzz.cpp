// Agent and policy files. The input is read as both; a file is refused with file and line, or read.
#include "agents/args.h"
#include "agents/config.h"
#include "tests/fuzz/target.h"
#include "tests/support/temp_dir.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace corvid;
  static const test::TempDir dir;
  const std::string file = dir.write("file.yaml", fuzz::text_of(data, size)).string();
  fuzz::accepts<agents::UsageError>([&] { agents::load_agent(file); });
  fuzz::accepts<agents::UsageError>([&] { agents::load_policy(file); });
  return 0;
}
