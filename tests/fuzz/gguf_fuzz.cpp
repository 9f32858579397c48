// GGUF files: header, configuration, weights, tokenizer; then a few tokens through what was accepted, and a copy of it
// with other types. A file that begins with "gguf" stands for "GGUF" with noise behind it as tensor data, so that
// inputs stay short.
#include "model/gguf_files.h"
#include "model/recode.h"
#include "tests/fuzz/target.h"
#include "tests/support/temp_dir.h"

namespace corvid {
namespace {

constexpr size_t kDataBytes = 64 << 10;

void try_tokenizer(const model::Model& loaded) {
  if (!loaded.has_tokenizer()) return;
  fuzz::accepts([&] { fuzz::must_be_lossless(loaded.tokenizer(), "the \xC3\xA9t\xC3\xA9 of\n 2019\xFF<e>  [e~["); });
}

}  // namespace
}  // namespace corvid

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace corvid;
  static const test::TempDir dir;
  static const std::string noise = fuzz::noise(kDataBytes);
  std::string bytes(fuzz::text_of(data, size));
  if (bytes.starts_with("gguf")) bytes = "GGUF" + bytes.substr(4) + noise;
  const std::filesystem::path file = dir.write("model.gguf", bytes);
  std::shared_ptr<const model::Model> loaded;
  if (!fuzz::accepts([&] { loaded = model::Model::load(file); })) return 0;
  for (const model::Gguf& one : model::open_gguf_files(file)) {
    for (const std::string& key : one.keys()) fuzz::must(!one.encoded(key).empty(), "a key has a value");
  }
  try_tokenizer(*loaded);
  fuzz::evaluate(loaded);
  const std::filesystem::path other = dir / "other.gguf";
  if (fuzz::accepts([&] { model::quantize(file, other, model::Mix::parse("q8_0")); })) {
    fuzz::must(model::Model::load(other)->config().dim == loaded->config().dim, "what is written can be read");
  }
  return 0;
}
