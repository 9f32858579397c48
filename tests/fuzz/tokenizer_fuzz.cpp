// tokenizer.json: what loads is lossless for any bytes. The input is the file; what stands behind its first NUL is the
// text to encode. "@bytes@":0 in the file stands for the 256 tokens of single bytes, which every vocabulary needs.
#include "model/byte_alphabet.h"
#include "tests/fuzz/target.h"
#include "tests/support/temp_dir.h"

namespace corvid {
namespace {

// `"!":33,...` with ids 0 to 255.
std::string byte_tokens() {
  std::string members;
  for (int byte = 0; byte < 256; ++byte) {
    std::string text = model::to_byte_alphabet(std::string(1, static_cast<char>(byte)));
    if (text == "\"" || text == "\\") text = "\\" + text;
    members += (byte > 0 ? ",\"" : "\"") + text + "\":" + std::to_string(byte);
  }
  return members;
}

}  // namespace
}  // namespace corvid

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace corvid;
  static const test::TempDir dir;
  constexpr std::string_view kBytes = "\"@bytes@\":0";
  const std::string_view input = fuzz::text_of(data, size);
  const size_t end = std::min(input.find('\0'), input.size());
  std::string content(input.substr(0, end));
  if (const size_t at = content.find(kBytes); at != std::string::npos) {
    static const std::string bytes = byte_tokens();
    content.replace(at, kBytes.size(), bytes);
  }
  const std::filesystem::path file = dir.write("tokenizer.json", content);
  // "lstrip" and "rstrip", however they are spelled.
  const bool strips = content.find("strip") != std::string::npos || content.find("\\u") != std::string::npos;
  fuzz::accepts([&] {
    const model::Tokenizer tokenizer = model::Tokenizer::from_json_file(file);
    fuzz::must_be_lossless(tokenizer, input.substr(end), strips);
    fuzz::must_be_lossless(tokenizer, "the \xC3\xA9t\xC3\xA9 of\n 2019\xFF<e>  [e~[", strips);
    for (model::Token token = 0; token < tokenizer.vocab_size(); token += 1 + token / 8) {
      fuzz::must(tokenizer.decode({&token, 1}) == tokenizer.piece(token), "a token decodes to its bytes");
    }
    tokenizer.tables();
  });
  return 0;
}
