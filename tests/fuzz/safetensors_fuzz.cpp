// Hugging Face folders: config.json, safetensors files with and without an index, tokenizer.json. An input is a bundle:
//
//   @@ config.json
//   {...}
//   @@ model.safetensors.header
//   {...}
//
// A line "@@ NAME" begins a file of the folder. Of NAME.header the target makes NAME: the header's length, the header,
// and noise for all that its offsets ask for.
#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "model/convert.h"
#include "model/json_file.h"
#include "tests/fuzz/target.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/temp_dir.h"

namespace corvid {
namespace {

constexpr std::string_view kMark = "@@ ", kHeader = ".header";
constexpr std::array<std::string_view, 6> kNames = {
    "config.json",   "model.safetensors", "model.safetensors.index.json",
    "a.safetensors", "b.safetensors",     "tokenizer.json"};

// The largest number of all data_offsets, as far as memory is no question.
size_t data_bytes(const std::string& header) {
  constexpr uint64_t kMost = 1 << 20;
  uint64_t bytes = 0;
  if (model::json_depth(header) > model::kMaxJsonDepth) return 0;
  for (const nlohmann::json& entry : nlohmann::json::parse(header, nullptr, false)) {
    if (!entry.is_object() || !entry.contains("data_offsets")) continue;
    for (const nlohmann::json& at : entry["data_offsets"]) {
      if (at.is_number_unsigned() && at.get<uint64_t>() <= kMost) bytes = std::max(bytes, at.get<uint64_t>());
    }
  }
  return bytes;
}

void unpack(std::string_view bundle, const test::TempDir& dir) {
  for (const std::string_view name : kNames) std::filesystem::remove(dir / name);
  while (!bundle.empty()) {
    const size_t next = std::min(bundle.find("\n@@ "), bundle.size() - 1) + 1;
    std::string_view file = bundle.substr(0, next);
    bundle.remove_prefix(next);
    const size_t line = file.find('\n');
    if (!file.starts_with(kMark) || line == std::string_view::npos) continue;
    std::string_view name = file.substr(kMark.size(), line - kMark.size());
    std::string content(file.substr(line + 1));
    if (name.ends_with(kHeader)) {
      name.remove_suffix(kHeader.size());
      content = test::raw<uint64_t>(content.size()) + content + fuzz::noise(data_bytes(content));
    }
    if (std::find(kNames.begin(), kNames.end(), name) != kNames.end()) dir.write(name, content);
  }
}

}  // namespace
}  // namespace corvid

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace corvid;
  static const test::TempDir dir, out;
  unpack(fuzz::text_of(data, size), dir);
  std::shared_ptr<const model::Model> loaded;
  if (!fuzz::accepts([&] { loaded = model::Model::load(dir.path()); })) return 0;
  fuzz::evaluate(loaded);
  if (loaded->has_tokenizer()) {
    fuzz::accepts([&] { fuzz::must_be_lossless(loaded->tokenizer(), "a b\xFF<e> [e~[", true); });
  }
  const std::filesystem::path file = out / "model.gguf";
  if (fuzz::accepts([&] { model::convert(dir.path(), file, model::Mix::parse("q8_0")); })) {
    fuzz::must(model::Model::load(file)->config().dim == loaded->config().dim, "what is written can be read");
  }
  return 0;
}
