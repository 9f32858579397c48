// corvid model: looks at a model, brings one in.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <iostream>

#include "agents/assemble.h"
#include "agents/commands.h"
#include "agents/progress.h"
#include "model/convert.h"
#include "model/error.h"
#include "model/gguf.h"
#include "model/json_file.h"
#include "model/model.h"
#include "model/safetensors.h"
#include "model/sampler.h"
#include "model/sequence.h"

namespace corvid::agents {

namespace {

namespace fs = std::filesystem;
using model::Token;
using runtime::Json;

// MODEL of the command line: a file or a folder that is there.
fs::path model_argument(const Args& args, size_t index = 0) {
  const fs::path path = *args.positional(index);
  std::error_code failure;
  if (!fs::exists(path, failure)) throw UsageError("no such file or folder: " + path.string());
  return path;
}

bool is_folder(const fs::path& path) {
  std::error_code failure;
  return fs::is_directory(path, failure);
}

model::Tokenizer load_tokenizer(const fs::path& path) {
  if (is_folder(path)) return model::Tokenizer::from_json_file(path / "tokenizer.json");
  if (path.extension() == ".json") return model::Tokenizer::from_json_file(path);
  return model::Tokenizer::from_gguf(model::Gguf::open(path));
}

int run_info(const Args& args) {
  const fs::path path = model_argument(args);
  const auto loaded = model::Model::load(path);
  const model::Config& config = loaded->config();
  const auto count = [&](auto holds) { return std::count_if(config.layers.begin(), config.layers.end(), holds); };
  std::error_code failure;
  const uintmax_t size = fs::file_size(path, failure);
  const Json json = {
      {"file", path.string()},
      {"file_bytes", failure ? Json(nullptr) : Json(size)},  // of a folder: none
      {"architecture", config.architecture()},
      {"name", config.name},
      {"context_length", config.context_length},
      {"vocab_size", config.vocab_size},
      {"tokenizer", loaded->has_tokenizer()},
      {"dim", config.dim},
      {"layers", config.n_layers()},
      {"sparse_attention_layers", count([](const model::Config::Layer& layer) { return layer.sparse_attention; })},
      {"moe_layers", count([](const model::Config::Layer& layer) { return layer.moe; })},
      {"heads", config.n_heads},
      {"kv_heads", config.n_kv_heads},
      {"head_dim", config.head_dim},
      {"rotary_dim", config.rotary_dim},
      {"rope_theta", config.rope_theta},
      {"index_heads", config.n_index_heads},
      {"block", config.block},
      {"top_blocks", config.top_blocks},
      {"dense_ffn", config.dense_ffn},
      {"experts", config.n_experts},
      {"experts_per_token", config.top_k},
      {"expert_ffn", config.expert_ffn},
      {"shared_ffn", config.shared_ffn},
      {"fingerprint", loaded->fingerprint()},
  };
  if (args.text("output").value_or("text") == "json") {
    std::cout << to_output_line(json) << "\n";
    return 0;
  }
  for (const auto& [key, value] : json.items()) {
    const std::string text = value.is_string() ? value.get<std::string>() : to_output_line(value);
    std::cout << key << std::string(key.size() < 24 ? 24 - key.size() : 1, ' ') << plain(text) << "\n";
  }
  return 0;
}

// The type that loses nothing: the widest that the checkpoint's matrices have.
model::TensorType widest_type(const fs::path& folder) {
  model::TensorType widest = model::TensorType::bf16;
  const model::SafeTensors checkpoint = model::SafeTensors::open(folder);
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    const std::optional<model::TensorType> type = tensor.type();
    if (tensor.shape.size() < 2 || !type || *type == widest) continue;
    if (*type == model::TensorType::f32) return *type;
    widest = *type;
  }
  return widest;
}

int run_convert(const Args& args) {
  const fs::path folder = model_argument(args);
  const fs::path file = *args.positional(1);
  if (!is_folder(folder)) throw UsageError("DIR: want a Hugging Face folder, found a file: " + folder.string());
  if (is_folder(file)) throw UsageError("OUT.gguf: want a file, found a folder: " + file.string());
  const auto named = args.text("type");
  const model::TensorType type = named ? model::parse_weight_type(*named) : widest_type(folder);
  const int64_t bytes =
      model::convert(folder, file, type, [](std::string_view note) { std::cerr << plain(note) << "\n"; });
  std::cerr << "wrote " << plain(file.string()) << ": " << bytes << " bytes, matrices as "
            << model::tensor_layout(type).name << "\n";
  return 0;
}

int run_tokenize(const Args& args) {
  const fs::path path = model_argument(args);
  if (args.has("decode") && args.has("no-special"))
    throw UsageError("--no-special says how text is read, --decode reads ids");
  const model::Tokenizer tokenizer = load_tokenizer(path);
  const std::string input = read_stdin();
  if (args.has("decode")) {
    const bool is_flat = model::json_depth(input) <= 1;  // anything deeper is no list of ids, and not worth a tree
    const Json list = is_flat ? Json::parse(input, nullptr, false) : Json();
    if (!list.is_array()) throw UsageError("standard input: want a JSON list of ids, such as [1,2,3]");
    std::vector<Token> tokens;
    for (const Json& id : list) {
      if (!id.is_number_integer() || id < 0 || id >= tokenizer.vocab_size()) {
        throw UsageError("standard input: want ids from 0 to " + std::to_string(tokenizer.vocab_size() - 1) +
                         ", found " + model::printable(id.dump()));
      }
      tokens.push_back(id.get<Token>());
    }
    const std::string text = tokenizer.decode(tokens);
    std::cout.write(text.data(), static_cast<std::streamsize>(text.size()));
    return 0;
  }
  std::string out;
  for (const Token token : tokenizer.encode(input, !args.has("no-special")))
    out += (out.empty() ? "" : ", ") + std::to_string(token);
  std::cout << "[" << out << "]\n";
  return 0;
}

// The shortest text that reads back as the same float.
void append_floats(std::string& out, std::span<const float> values) {
  char text[32];
  out += '[';
  for (size_t i = 0; i < values.size(); ++i) {
    if (i > 0) out += ',';
    if (std::isfinite(values[i])) {
      out.append(text, std::to_chars(text, text + sizeof text, values[i]).ptr);
    } else {
      out += "null";  // JSON has no word for it
    }
  }
  out += ']';
}

template <class Integers>
std::string integer_list(const Integers& values) {
  std::string out;
  for (const auto value : values) out += (out.empty() ? "" : ",") + std::to_string(value);
  return "[" + out + "]";
}

int run_logits(const Args& args) {
  constexpr int64_t kMostTokens = 1 << 24;
  const Config defaults = load_config();
  check_device(args, defaults);
  if (!args.has("prompt-ids")) throw UsageError("--prompt-ids is missing");
  const std::vector<int64_t> ids = *args.integers("prompt-ids", 0, INT32_MAX);
  const auto last = static_cast<int64_t>(ids.size()) - 1;
  const std::vector<int64_t> positions = args.integers("positions", 0, last).value_or(std::vector<int64_t>{last});
  const int64_t n_greedy = args.integer("greedy", 0, kMostTokens).value_or(0);
  const fs::path path = model_argument(args);

  const auto loaded = model::Model::load(path);
  for (const int64_t id : ids) {
    if (id < loaded->config().vocab_size) continue;
    throw UsageError("--prompt-ids: want ids from 0 to " + std::to_string(loaded->config().vocab_size - 1) +
                     ", found " + std::to_string(id));
  }
  const std::vector<Token> prompt(ids.begin(), ids.end());
  kernels::Exec exec(threads_from(args, defaults));
  model::Sequence sequence(loaded, exec, std::ssize(prompt) + n_greedy, attention_from(args));
  const std::vector<std::vector<float>> rows = sequence.logits_at(prompt, positions);

  // The last logits are those after the last token, so every token is evaluated.
  std::vector<Token> greedy;
  std::vector<float> greedy_last;
  if (n_greedy > 0) {
    sequence.sync(prompt);
    model::Sampler sampler{model::SamplerParams{}};
    for (int64_t i = 0; i < n_greedy; ++i) {
      greedy.push_back(sampler.sample(sequence.logits()));
      sequence.append(greedy.back());
    }
    greedy_last.assign(sequence.logits().begin(), sequence.logits().end());
  }

  std::string out = "{\"positions\":" + integer_list(positions) + ",\"logits\":[";
  for (size_t i = 0; i < rows.size(); ++i) {
    if (i > 0) out += ',';
    append_floats(out, rows[i]);
  }
  out += "],\"greedy\":" + integer_list(greedy) + ",\"greedy_last_logits\":";
  append_floats(out, greedy_last);
  std::cout << out << "}\n";
  return 0;
}

}  // namespace

std::vector<Command> model_commands() {
  const Positional any_model{"MODEL", "a GGUF file or a Hugging Face folder", true, false, Completes::files};
  return {
      {.name = "model info",
       .summary = "Show what a model is made of.",
       .positionals = {any_model},
       .flags = {output_flag({"text", "json"})},
       .examples = {"corvid model info corvid-small.gguf"},
       .notes = "",
       .run = run_info},
      {.name = "model convert",
       .summary = "Turn a Hugging Face checkpoint into a GGUF file.",
       .positionals = {{"DIR", "config.json, safetensors and tokenizer.json", true, false, Completes::folders},
                       {"OUT.gguf", "the file to write", true, false, Completes::files}},
       .flags = {{"type", "TYPE", "of the matrices (default: the checkpoint's own)", {"f32", "f16", "bf16", "q8_0"}}},
       .examples = {"corvid model convert ./checkpoint model.gguf --type q8_0"},
       .notes = "",
       .run = run_convert},
      {.name = "model tokenize",
       .summary = "Turn text into token ids, or ids back into bytes.",
       .positionals = {{"MODEL", "a GGUF file, or a folder with a tokenizer.json", true, false, Completes::files}},
       .flags = {{"no-special", "", "the text of a special token is ordinary text"},
                 {"decode", "", "standard input is a JSON list of ids; print their exact bytes"}},
       .examples = {"corvid model tokenize corvid-small.gguf < text",
                    "echo '[72, 105]' | corvid model tokenize corvid-small.gguf --decode"},
       .notes = "",
       .run = run_tokenize},
      {.name = "model logits",
       .summary = "Print a model's logits for a prompt of token ids.",
       .positionals = {any_model},
       .flags = {{"prompt-ids", "1,2,3", "the prompt"},
                 {"positions", "0,2", "whose logits (default: the last position's)"},
                 {"greedy", "N", "then generate N tokens, the likeliest each time"},
                 device_flag(),
                 attention_flag(),
                 threads_flag(),
                 output_flag({"json"})},
       .examples = {"corvid model logits corvid-small.gguf --prompt-ids 1,2,3 --greedy 8 --output json"},
       .notes =
           "Prints {\"positions\", \"logits\", \"greedy\", \"greedy_last_logits\"}; the last are the logits after the\n"
           "last greedy token.",
       .run = run_logits}};
}

}  // namespace corvid::agents
