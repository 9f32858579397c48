#include "model/convert.h"

#include <algorithm>
#include <memory>

#include "model/error.h"
#include "model/gguf.h"
#include "model/json_file.h"
#include "model/tokenizer.h"

namespace corvid::model {
namespace {

constexpr uint32_t kQuantizationVersion = 2;
constexpr int32_t kUnusedToken = 5;

// llama.cpp's number for "mostly this type".
uint32_t file_type(TensorType type) {
  switch (type) {
    case TensorType::f32:
      return 0;
    case TensorType::f16:
      return 1;
    case TensorType::q8_0:
      return 7;
    case TensorType::bf16:
      return 32;
    default:
      throw std::invalid_argument(concat("type ", tensor_layout(type).name, ": can't be written yet"));
  }
}

void write_tokenizer(GgufWriter& out, const Config& c, const std::filesystem::path& folder, const Note& note) {
  if (c.bos) out.set_u32("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(*c.bos));
  if (c.eos) out.set_u32("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(*c.eos));
  const std::filesystem::path file = folder / "tokenizer.json";
  if (!std::filesystem::exists(file)) {
    out.set_text("tokenizer.ggml.model", "none");
    if (note) note("no tokenizer.json: the file will have no tokenizer");
    return;
  }
  Tokenizer::Tables tables = Tokenizer::from_json_file(file).tables();
  if (std::cmp_greater(tables.tokens.size(), c.vocab_size)) {
    fail("tokenizer.json: want at most ", c.vocab_size, " tokens as in config.json, found ", tables.tokens.size());
  }
  // The embedding may have more rows than there are tokens; llama.cpp wants a name for each.
  while (std::cmp_less(tables.tokens.size(), c.vocab_size)) {
    tables.tokens.push_back(concat("[PAD", tables.tokens.size(), "]"));
    tables.types.push_back(kUnusedToken);
  }
  out.set_text("tokenizer.ggml.model", "gpt2");
  out.set_text("tokenizer.ggml.pre", tables.pre == PreTokenizer::o200k ? "minimax-m2" : "qwen2");
  out.set_texts("tokenizer.ggml.tokens", tables.tokens);
  out.set_i32s("tokenizer.ggml.token_type", tables.types);
  out.set_texts("tokenizer.ggml.merges", tables.merges);
  if (const auto text = folder / "chat_template.jinja"; std::filesystem::exists(text)) {
    out.set_text("tokenizer.chat_template", read_whole(text));
  }
}

}  // namespace

TensorType parse_weight_type(std::string_view text) {
  for (const TensorType type : {TensorType::f32, TensorType::f16, TensorType::bf16, TensorType::q8_0}) {
    if (text == tensor_layout(type).name) return type;
  }
  for (const TensorType type : {TensorType::q4_0, TensorType::q4_k, TensorType::q6_k}) {
    if (text == tensor_layout(type).name) {
      throw std::invalid_argument(concat("type ", text, ": not supported yet, want f32, f16, bf16 or q8_0"));
    }
  }
  throw std::invalid_argument(concat("type: want f32, f16, bf16 or q8_0, found ", printable(text)));
}

int64_t convert(const std::filesystem::path& folder, const std::filesystem::path& file, TensorType type,
                const Note& note) {
  const Checkpoint checkpoint = Checkpoint::open(folder, note);
  GgufWriter out;
  checkpoint.config().to_gguf(out, note);
  out.set_u32("general.file_type", file_type(type));
  if (type == TensorType::q8_0) out.set_u32("general.quantization_version", kQuantizationVersion);
  write_tokenizer(out, checkpoint.config(), folder, note);
  for (const PlannedTensor& tensor : checkpoint.tensors()) {
    const TensorType stored = tensor.stored_as(type);
    if (!tensor.keep_f32 && stored != type && note) {
      note(concat(tensor.name, ": rows of ", tensor.shape.back(), " do not fit ", tensor_layout(type).name,
                  ", stored as ", tensor_layout(stored).name));
    }
    out.add(tensor.name, stored, tensor.shape,
            [&tensor, stored](const GgufWriter::Sink& sink) { tensor.read(stored, sink); });
  }
  return out.write(file);
}

}  // namespace corvid::model
