#include "model/convert.h"

#include <algorithm>
#include <memory>

#include "model/error.h"
#include "model/gguf.h"
#include "model/json_file.h"
#include "model/recode.h"
#include "model/tokenizer.h"

namespace corvid::model {
namespace {

constexpr int32_t kUnusedToken = 5;

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

int64_t convert(const std::filesystem::path& folder, const std::filesystem::path& file, const Mix& mix,
                const Note& note) {
  kernels::Exec exec;
  const Checkpoint checkpoint = Checkpoint::open(folder, note);
  const Config& config = checkpoint.config();
  GgufWriter out;
  config.to_gguf(out, note);
  set_mix(out, mix);
  write_tokenizer(out, config, folder, note);
  for (const PlannedTensor& tensor : checkpoint.tensors()) {
    const bool is_output = tensor.name == (config.tied_output ? "token_embd.weight" : "output.weight");
    const Mix::Choice choice = mix.choose(tensor.name, tensor.shape, config.n_layers(), is_output);
    if (!choice.fits && note) note(misfit(tensor.name, tensor.shape, mix, choice.type));
    out.add(tensor.name, choice.type, tensor.shape,
            [&exec, &tensor, choice](const GgufWriter::Sink& sink) { tensor.read(choice.type, exec.pool(), sink); });
  }
  return out.write(file);
}

}  // namespace corvid::model
