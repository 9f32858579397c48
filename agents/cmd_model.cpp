// corvid model: looks at a model, brings one in.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <iostream>
#include <map>

#include "agents/assemble.h"
#include "agents/commands.h"
#include "agents/device.h"
#include "agents/progress.h"
#include "model/convert.h"
#include "model/error.h"
#include "model/gguf_files.h"
#include "model/json_file.h"
#include "model/mix.h"
#include "model/model.h"
#include "model/recode.h"
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
  return model::Tokenizer::from_gguf(model::open_gguf_files(path).front());
}

// How many tensors of each type, and how large the files are that hold them.
struct Contents {
  std::map<std::string_view, int64_t> types;
  int64_t bytes = 0;  // of a folder: none
};

Contents contents_of(const fs::path& path) {
  Contents contents;
  if (is_folder(path)) {
    const model::Checkpoint checkpoint = model::Checkpoint::open(path, {});
    for (const model::PlannedTensor& tensor : checkpoint.tensors()) {
      ++contents.types[model::tensor_layout(tensor.source_type()).name];
    }
    return contents;
  }
  for (const model::Gguf& file : model::open_gguf_files(path)) {
    contents.bytes += file.file_bytes();
    for (const model::GgufTensor& tensor : file.tensors()) ++contents.types[model::tensor_layout(tensor.type).name];
  }
  return contents;
}

int run_info(const Args& args) {
  const fs::path path = model_argument(args);
  const auto loaded = model::Model::load(path, {.memory = model::WeightMemory::mapped});
  const model::Config& config = loaded->config();
  const auto count = [&](auto holds) { return std::count_if(config.layers.begin(), config.layers.end(), holds); };
  const Contents contents = contents_of(path);
  const Json json = {
      {"file", path.string()},
      {"file_bytes", is_folder(path) ? Json(nullptr) : Json(contents.bytes)},  // of all files of a split model
      {"tensor_types", contents.types},
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
      {"router", config.family->gating == kernels::Gating::softmax ? "softmax" : "sigmoid"},
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

int written(const fs::path& file, int64_t bytes, const model::Mix& mix) {
  std::cerr << "wrote " << plain(file.string()) << ": " << bytes << " bytes, matrices as " << mix.name << "\n";
  return 0;
}

void print_note(const std::string& note) { std::cerr << plain(note) << "\n"; }

int run_convert(const Args& args) {
  const fs::path folder = model_argument(args);
  const fs::path file = *args.positional(1);
  if (!is_folder(folder)) throw UsageError("DIR: want a Hugging Face folder, found a file: " + folder.string());
  if (is_folder(file)) throw UsageError("OUT.gguf: want a file, found a folder: " + file.string());
  const auto named = args.text("type");
  const model::Mix mix =
      named ? model::Mix::parse(*named) : model::Mix(model::Checkpoint::open(folder, {}).widest_type());
  return written(file, model::convert(folder, file, mix, print_note), mix);
}

int run_quantize(const Args& args) {
  const fs::path from = model_argument(args), to = *args.positional(1);
  if (is_folder(to)) throw UsageError("OUT.gguf: want a file, found a folder: " + to.string());
  if (!args.has("type")) throw UsageError("--type is missing");
  const model::Mix mix = model::Mix::parse(*args.text("type"));
  return written(
      to, is_folder(from) ? model::convert(from, to, mix, print_note) : model::quantize(from, to, mix, print_note),
      mix);
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
  // What the reference computes in float32 is not rounded to bf16 unless somebody says so.
  const DeviceWish device = device_wish(args, defaults, "cpu", "");
  if (!args.has("prompt-ids")) throw UsageError("--prompt-ids is missing");
  const std::vector<int64_t> ids = *args.integers("prompt-ids", 0, INT32_MAX);
  const auto last = static_cast<int64_t>(ids.size()) - 1;
  const std::vector<int64_t> positions = args.integers("positions", 0, last).value_or(std::vector<int64_t>{last});
  const int64_t n_greedy = args.integer("greedy", 0, kMostTokens).value_or(0);
  const fs::path path = model_argument(args);

  const auto loaded = model::Model::load(path, {.memory = model::WeightMemory::mapped});  // they are read once
  for (const int64_t id : ids) {
    if (id < loaded->config().vocab_size) continue;
    throw UsageError("--prompt-ids: want ids from 0 to " + std::to_string(loaded->config().vocab_size - 1) +
                     ", found " + std::to_string(id));
  }
  const std::vector<Token> prompt(ids.begin(), ids.end());
  const auto engine = model::Engine::create(loaded, {.device = device_for(device, *loaded, args),
                                                     .gpus = device.gpus,
                                                     .threads = threads_from(args, defaults),
                                                     .cache_format = cache_format_from(args, kernels::Format::f32)});
  model::Sequence sequence(engine, std::ssize(prompt) + n_greedy, attention_from(args));
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
  const std::vector<std::string> mixes{"f32",    "f16",  "bf16",   "q8_0",   "q4_0", "q4_k", "q4_k_s",
                                       "q4_k_m", "q5_k", "q5_k_s", "q5_k_m", "q6_k", "mxfp4"};
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
       .flags = {{"type", "TYPE", "of the matrices (default: the checkpoint's own)", mixes}},
       .examples = {"corvid model convert ./checkpoint model.gguf --type q8_0"},
       .notes = "",
       .run = run_convert},
      {.name = "model quantize",
       .summary = "Write a model with its matrices in fewer bits.",
       .positionals = {any_model, {"OUT.gguf", "the file to write", true, false, Completes::files}},
       .flags = {{"type", "TYPE", "of the matrices", mixes}},
       .examples = {"corvid model quantize model-f16.gguf model-q4.gguf --type q4_k_m"},
       .notes =
           "q4_k_m and q5_k_m give the output matrix and half of the layers' values and down projections 6 bits, as\n"
           "llama.cpp's mixes of these names do; mxfp4 rounds the routed experts to 4 bits and the rest to 8. Norms,\n"
           "the router and the index branch stay float32.",
       .run = run_quantize},
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
                 device_flag("cpu, which computes in float32"),
                 gpus_flag(),
                 attention_flag(),
                 cache_type_flag("f32, as the reference computes"),
                 index_type_flag(),
                 threads_flag(),
                 output_flag({"json"})},
       .examples = {"corvid model logits corvid-small.gguf --prompt-ids 1,2,3 --greedy 8 --output json"},
       .notes =
           "Prints {\"positions\", \"logits\", \"greedy\", \"greedy_last_logits\"}; the last are the logits after the\n"
           "last greedy token.",
       .run = run_logits}};
}

}  // namespace corvid::agents
