// Writes the inputs that fuzzing starts from:  corvid_fuzz_seeds FOLDER
// Small valid files of every kind; FOLDER/NAME is for target NAME. To be run again when a format changes.
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "model/byte_alphabet.h"
#include "model/convert.h"
#include "model/gguf.h"
#include "model/pre_tokenizer.h"
#include "tests/fuzz/snapshot.h"
#include "tests/support/golden_chat.h"

namespace corvid::fuzz {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class Seeds {
 public:
  explicit Seeds(fs::path folder) : folder_(std::move(folder)) {}
  void put(const std::string& target, const std::string& name, const std::string& bytes) const {
    fs::create_directories(folder_ / target);
    std::ofstream(folder_ / target / name, std::ios::binary) << bytes;
  }

 private:
  fs::path folder_;
};

// A Hugging Face folder in the layout with one tensor for each expert: config.json and the safetensors header.
struct Folder {
  json config, header = json::object();
  std::string dtype = "BF16";
  int64_t at = 0;

  void add(const std::string& name, const std::vector<int64_t>& shape) { add(name, shape, dtype); }
  void add(const std::string& name, const std::vector<int64_t>& shape, const std::string& type) {
    int64_t bytes = type == "F32" ? 4 : type == "F8_E4M3" ? 1 : 2;
    for (const int64_t dim : shape) bytes *= dim;
    header[name] = {{"dtype", type}, {"shape", shape}, {"data_offsets", {at, at + bytes}}};
    at += bytes;
    if (type == "F8_E4M3") add(name + "_scale_inv", {shape[0] / 8, shape[1] / 8}, "F32");
  }
  std::string bundle() const {
    return "@@ config.json\n" + config.dump() + "\n@@ model.safetensors.header\n" + header.dump();
  }
};

Folder small_folder(const std::string& family, const std::string& dtype) {
  constexpr int64_t vocab = 16, dim = 16, heads = 2, kv_heads = 1, head_dim = 8, ffn = 16, experts = 2;
  const bool is_m2 = family == "minimax_m2";
  Folder f;
  f.dtype = dtype;
  f.config = {{"model_type", family},
              {"vocab_size", vocab},
              {"hidden_size", dim},
              {"num_hidden_layers", 2},
              {"num_attention_heads", heads},
              {"num_key_value_heads", kv_heads},
              {"head_dim", head_dim},
              {"max_position_embeddings", 64},
              {"rms_norm_eps", 1e-6},
              {"rope_theta", 10000},
              {"intermediate_size", ffn},
              {"num_local_experts", experts},
              {"num_experts_per_tok", 1},
              {"tie_word_embeddings", !is_m2},
              {"bos_token_id", 1},
              {"eos_token_id", json::array({2, 3})}};
  if (is_m2) {
    f.config.update({{"rotary_dim", 4},
                     {"qk_norm_type", "per_layer"},
                     {"scoring_func", "sigmoid"},
                     {"use_routing_bias", true},
                     {"use_qk_norm", true}});
  } else {
    f.config.update({{"moe_intermediate_size", ffn}, {"mlp_only_layers", {0}}, {"norm_topk_prob", true}});
  }
  if (dtype == "F8_E4M3") {
    f.config["quantization_config"] = {{"quant_method", "fp8"}, {"weight_block_size", {8, 8}}};
  }
  f.add("model.embed_tokens.weight", {vocab, dim}, "BF16");
  if (is_m2) f.add("lm_head.weight", {vocab, dim}, "BF16");
  f.add("model.norm.weight", {dim}, "BF16");
  for (int i = 0; i < 2; ++i) {
    const std::string in = "model.layers." + std::to_string(i) + ".", attn = in + "self_attn.";
    f.add(in + "input_layernorm.weight", {dim}, "BF16");
    f.add(in + "post_attention_layernorm.weight", {dim}, "F32");
    f.add(attn + "q_proj.weight", {heads * head_dim, dim});
    f.add(attn + "k_proj.weight", {kv_heads * head_dim, dim});
    f.add(attn + "v_proj.weight", {kv_heads * head_dim, dim});
    f.add(attn + "o_proj.weight", {dim, heads * head_dim});
    f.add(attn + "q_norm.weight", {is_m2 ? heads * head_dim : head_dim}, "BF16");
    f.add(attn + "k_norm.weight", {is_m2 ? kv_heads * head_dim : head_dim}, "BF16");
    const std::string ffn_in = in + (is_m2 ? "block_sparse_moe." : "mlp.");
    if (!is_m2 && i == 0) {
      for (const char* name : {"gate_proj", "up_proj", "down_proj"}) f.add(ffn_in + name + ".weight", {ffn, dim});
      continue;
    }
    f.add(ffn_in + "gate.weight", {experts, dim}, "BF16");
    if (is_m2) f.add(ffn_in + "e_score_correction_bias", {experts}, "F32");
    for (int64_t e = 0; e < experts; ++e) {
      const std::string one = ffn_in + "experts." + std::to_string(e) + ".";
      for (const char* name : {"w1", "w2", "w3"}) {
        const std::string usual = name[1] == '1' ? "gate_proj" : name[1] == '2' ? "down_proj" : "up_proj";
        f.add(one + (is_m2 ? name : usual) + ".weight", {ffn, dim});
      }
    }
  }
  return f;
}

std::string tokenizer_json(const json& pre, const json& added, const json& merges, const json& more, bool ignores,
                           const json& normalizer) {
  json vocab = more;
  vocab["@bytes@"] = 0;
  return json{
      {"version", "1.0"},
      {"added_tokens", added},
      {"normalizer", normalizer},
      {"pre_tokenizer", pre},
      {"model",
       {{"type", "BPE"}, {"ignore_merges", ignores}, {"byte_fallback", false}, {"vocab", vocab}, {"merges", merges}}}}
      .dump();
}

json byte_level(bool regex) { return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", regex}}; }
json split(std::string_view regex) {
  return {{"type", "Sequence"},
          {"pretokenizers",
           {{{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}},
            byte_level(false)}}};
}

void tokenizers(const Seeds& seeds) {
  const std::string text = std::string(1, '\0') +
                           "the cat's \xE2\x80\x9C"
                           "end\xE2\x80\x9D 123 <e>  \xF0\x9F\x98\x80\xFF";
  const json words = {{"th", 256}, {"the", 257}, {"\u0120t", 258}, {"<e>", 300}, {"e\u0301", 259}};
  const json flags = {{{"id", 300}, {"content", "<e>"}, {"special", true}},
                      {{"id", 301},
                       {"content", "end"},
                       {"special", false},
                       {"normalized", true},
                       {"lstrip", true},
                       {"rstrip", true},
                       {"single_word", true}}};
  const json none = json::array(), pairs = {"t h", "th e", "\u0120 t"},
             lists = json::array({json::array({"t", "h"}), json::array({"th", "e"})});
  const json lone = {{"th", 256}, {"the", 257}};
  const auto put = [&](const char* name, const std::string& file) { seeds.put("tokenizer", name, file + text); };
  put("plain", tokenizer_json(byte_level(false), none, none, json::object(), false, nullptr));
  put("gpt2", tokenizer_json(byte_level(true), flags, pairs, words, false, nullptr));
  put("qwen", tokenizer_json(split(R"((?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|\s+(?!\S)|\s+)"), none, lists, lone,
                             true, {{"type", "NFC"}}));
  put("own", tokenizer_json(split(R"([[:alpha:]]+|\s*[\r\n]|(?<=a)b|x*)"), none, lists, lone, false,
                            {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}}}}));
  put("backtracking", tokenizer_json(split("(a*)*b|(?:.+)+c"), none, none, json::object(), false, nullptr));
}

// The header alone, with the magic that asks the target for data; and the whole file.
void put_gguf(const Seeds& seeds, const std::string& name, const fs::path& file, bool whole) {
  const model::Gguf gguf = model::Gguf::open(file);
  std::string header(reinterpret_cast<const char*>(gguf.header().data()), gguf.header().size());
  header.resize((header.size() + 31) / 32 * 32);
  seeds.put("gguf", name, "gguf" + header.substr(4));
  if (!whole) return;
  std::ifstream in(file, std::ios::binary);
  seeds.put("gguf", name + "-whole", {std::istreambuf_iterator<char>(in), {}});
}

void write_folder(const test::TempDir& dir, const Folder& folder) {
  const std::string header = folder.header.dump();
  dir.write("config.json", folder.config.dump());
  dir.write("model.safetensors",
            test::raw<uint64_t>(header.size()) + header + std::string(static_cast<size_t>(folder.at), '\x3d'));
}

void models(const Seeds& seeds) {
  for (const std::string family : {"minimax_m2", "qwen3_moe"}) {
    for (const std::string dtype : {"BF16", "F32", "F8_E4M3"}) {
      const Folder folder = small_folder(family, dtype);
      seeds.put("safetensors", family + "-" + dtype, folder.bundle());
      const test::TempDir dir;
      write_folder(dir, folder);
      model::convert(dir.path(), dir / "m.gguf", model::Mix::parse(dtype == "F32" ? "f32" : "f16"));
      if (dtype != "F8_E4M3") put_gguf(seeds, family + "-" + dtype, dir / "m.gguf", family == "minimax_m2");
    }
  }
  test::TinyCheckpoint tiny = snapshot_model();
  for (const bool flat : {false, true}) {
    tiny.flat = flat;
    tiny.dtype = "BF16";
    const test::TempDir dir;
    tiny.write(dir);
    const std::string file = dir.read("model.safetensors");
    uint64_t length = 0;
    std::memcpy(&length, file.data(), sizeof length);
    const std::string name = flat ? "minimax_m3-flat" : "minimax_m3";
    seeds.put(
        "safetensors", name,
        "@@ config.json\n" + dir.read("config.json") + "\n@@ model.safetensors.header\n" + file.substr(8, length));
    if (flat) continue;
    seeds.put("safetensors", name + "-whole",
              "@@ config.json\n" + dir.read("config.json") + "\n@@ model.safetensors\n" + file);
    model::convert(dir.path(), dir / "m.gguf", model::Mix::parse("bf16"));
    put_gguf(seeds, name, dir / "m.gguf", false);
  }
  // Rows that fit quantised types, two files with an index, and a tokenizer.
  tiny = {.vocab = 320,
          .dim = 32,
          .heads = 1,
          .kv_heads = 1,
          .head_dim = 32,
          .rotary_dim = 8,
          .index_heads = 1,
          .index_dim = 32,
          .block = 4,
          .top_blocks = 2,
          .dense_ffn = 32,
          .experts = 2,
          .top_k = 1,
          .expert_ffn = 32,
          .shared_ffn = 32,
          .sparse = {1},
          .moe = {1},
          .dtype = "F16",
          .shards = 2};
  const test::TempDir dir;
  tiny.write(dir);
  std::string bundle = "@@ config.json\n" + dir.read("config.json");
  std::string index = dir.read("model.safetensors.index.json");
  for (const auto& [from, to] :
       {std::pair{"model-0.safetensors", "a.safetensors"}, {"model-1.safetensors", "b.safetensors"}}) {
    const std::string file = dir.read(from);
    uint64_t length = 0;
    std::memcpy(&length, file.data(), sizeof length);
    bundle += "\n@@ " + std::string(to) + ".header\n" + file.substr(8, length);
    for (size_t at; (at = index.find(from)) != std::string::npos;) index.replace(at, std::strlen(from), to);
  }
  seeds.put("safetensors", "split", bundle + "\n@@ model.safetensors.index.json\n" + index);
  json vocab = json::object();
  for (int byte = 0; byte < 256; ++byte) vocab[model::to_byte_alphabet(std::string(1, static_cast<char>(byte)))] = byte;
  vocab.update({{"th", 256}, {"the", 257}});
  const json added = {{{"id", 300}, {"content", "<e>"}, {"special", true}}, {{"id", 301}, {"content", "end"}}};
  json content =
      json::parse(tokenizer_json(split(model::kQwen2Regex), added, {"t h", "th e"}, json::object(), false, nullptr));
  content["model"]["vocab"] = vocab;
  dir.write("tokenizer.json", content.dump());
  for (const char* type : {"q8_0", "q4_0", "mxfp4"}) {
    model::convert(dir.path(), dir / "m.gguf", model::Mix::parse(type));
    put_gguf(seeds, std::string("tokenizer-") + type, dir / "m.gguf", false);
  }
}

void snapshots(const Seeds& seeds) {
  const auto loaded = test::made_of(snapshot_model());
  const test::TempDir dir;
  kernels::Exec exec(1);
  for (const int64_t tokens : {1, 4, 7, 12}) {
    model::Sequence sequence(loaded, exec, kSnapshotMaxTokens);
    sequence.sync(test::prompt_of(tokens, 5, 16));
    sequence.save(dir / "s.kv", tokens);
    const std::string file = dir.read("s.kv"), name = std::to_string(tokens) + "-tokens";
    seeds.put("snapshot", name,
              std::string("\3").append(file.substr(0, kSnapshotFields)) + file.substr(kSnapshotHeader));
    if (tokens == 4) seeds.put("snapshot", name + "-whole", std::string(1, '\0') + file);
  }
}

void others(const Seeds& seeds) {
  seeds.put(
      "reply", "calls",
      "0<mm:think>look</mm:think>\n\nI look.\n\1<tool_call>\n\1<invoke name=\"http_request\">\1<url>http://x/\1</url>"
      "\1<headers>\1<Accept>text\1</Accept>\1</headers>\1</invoke>\n\1</tool_call>\4");
  seeds.put("reply", "list",
            "1hm</mm:think>\1<tool_call>\1<invoke name='shell'>\1<command>ls\1</command>\1<timeout_s>3\1</timeout_s>"
            "\1<item>1\1</item>\1<item>{\"a\":[1]}\1</item>\1</invoke>\1<invoke name=none>\1<a>x\1<b>\1</b>\1</a>"
            "\1</invoke>\1</tool_call>");
  seeds.put("reply", "text", "0no <tags> here \xF0\x9F\x98\x80 \xFF</mm:think> \2more\3 and\5\1\1 end\4");
  seeds.put(
      "yaml", "agent",
      "version: 1\nname: a\ninstructions: |\n  Do.\ntools: [shell, read_file]\npolicy: default\nthinking: adaptive\n"
      "limits: {turns: 3, tokens: 1000, wall: 5m, calls: 2}\nsampler:\n  temperature: 0.5\n  top_k: 3\n  top_p: 0.9\n"
      "  min_p: 0.1\n  seed: 7\n");
  seeds.put("yaml", "policy",
            "name: p\nsandbox: required\nwrite: [/tmp]\nread:\n- /usr\nallow_hosts: [example.org, \"[::1]:80\", a:1]\n"
            "pass_env: &e [HOME]\ntimeouts: {shell: 30s, shell_max: 1h, http: 1500ms}\n"
            "limits: {output: 16KiB, http_body: 1MiB, file: 1GiB, processes: 64}\n");
  seeds.put("arguments", "shell", R"({"command":"ls \"\u00e9\" \\","timeout_s":3.0})");
  seeds.put("arguments", "read_file", R"({"path":"a","offset":-1,"limit":1e3,"numbers":true,"more":[{"a":null}]})");
  seeds.put("arguments", "http_request", R"({"method":"GET","url":"x","headers":{"A":"b","C":1},"body":""})");
}

}  // namespace
}  // namespace corvid::fuzz

int main(int argc, char** argv) {
  using namespace corvid::fuzz;
  if (argc != 2) {
    std::cerr << "corvid_fuzz_seeds: want one folder\n";
    return 2;
  }
  const Seeds seeds(argv[1]);
  models(seeds);
  tokenizers(seeds);
  snapshots(seeds);
  others(seeds);
}
