// Arguments of calls, as models write them, against the tools' schemas: whatever they are, the answer is a list of what
// is wrong, or nothing.
#include "tests/fuzz/target.h"
#include "tests/support/golden_chat.h"
#include "tools/schema.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace corvid;
  static const model::Prompt prompt = test::golden_prompt();
  fuzz::accepts<std::invalid_argument>([&] {
    const tools::Json args = tools::parse_arguments(fuzz::text_of(data, size));
    fuzz::must(args.is_object(), "arguments are an object");
    for (const model::ToolDecl& tool : prompt.tools) {
      const auto wrong = tools::check_arguments({tool.name, tool.description, tool.parameters}, args);
      fuzz::must(!wrong || !wrong->empty(), "an error says what is wrong");
    }
  });
  return 0;
}
