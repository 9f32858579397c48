#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/convert.h"
#include "model/gguf.h"
#include "model/json_file.h"
#include "tests/support/temp_dir.h"
#include "tests/support/throws.h"
#include "tests/support/tiny_checkpoint.h"

namespace corvid::model {
namespace {

using nlohmann::json;
using test::message_of;
using test::TempDir;
using test::TinyCheckpoint;
using testing::HasSubstr;
using testing::StartsWith;

Config config_of(const json& content) {
  const TempDir dir;
  return Config::from_json_file(dir.write("config.json", content.dump()));
}
std::string error_of(const json& content) {
  return message_of([&] { config_of(content); });
}

// Everything but the name, as one text.
std::string all(const Config& c) {
  std::ostringstream text;
  for (const Config::Layer& layer : c.layers) text << layer.sparse_attention << layer.moe << ' ';
  for (const int64_t n :
       {c.vocab_size, c.context_length, c.dim, c.n_heads, c.n_kv_heads, c.head_dim, c.rotary_dim, c.n_index_heads,
        c.index_dim, c.block, c.top_blocks, c.local_blocks, c.dense_ffn, c.n_experts, c.top_k, c.expert_ffn,
        c.shared_ffn, int64_t{c.bos.value_or(-1)}, int64_t{c.eos.value_or(-1)}}) {
    text << n << ' ';
  }
  text << c.architecture() << ' ' << c.rope_theta << ' ' << c.norm_eps << ' ' << c.routed_scale << ' ' << c.swiglu_alpha
       << ' ' << c.swiglu_limit << ' ' << c.tied_output;
  return text.str();
}

TEST(Config, BothSpellingsSayTheSame) {
  TinyCheckpoint flat, released;
  released.flat = false;
  EXPECT_EQ(all(config_of(flat.config())), all(config_of(released.config())));
  EXPECT_EQ(all(config_of(flat.config())),
            "00 11 11 96 4096 64 4 2 16 8 2 16 8 3 1 96 6 2 32 64 1 2 minimax-m3 10000 1e-06 2 1.702 7 0");
}

TEST(Config, TheReleasedCheckpointsNumbersAreRead) {
  std::vector<int> frequency(60, 1);
  for (size_t i = 0; i < 3; ++i) frequency[i] = 0;
  const json text = {{"hidden_size", 6144},
                     {"num_hidden_layers", 60},
                     {"num_attention_heads", 64},
                     {"num_key_value_heads", 4},
                     {"head_dim", 128},
                     {"rotary_dim", 64},
                     {"rope_theta", 5e6},
                     {"max_position_embeddings", 1048576},
                     {"vocab_size", 200064},
                     {"rms_norm_eps", 1e-6},
                     {"intermediate_size", 3072},
                     {"dense_intermediate_size", 12288},
                     {"shared_intermediate_size", 3072},
                     {"num_local_experts", 128},
                     {"num_experts_per_tok", 4},
                     {"n_shared_experts", 1},
                     {"scoring_func", "sigmoid"},
                     {"routed_scaling_factor", 2.0},
                     {"hidden_act", "swigluoai"},
                     {"moe_layer_freq", frequency},
                     {"bos_token_id", 200034},
                     {"eos_token_id", {200020}},
                     {"sparse_attention_config",
                      {{"use_sparse_attention", true},
                       {"sparse_index_dim", 128},
                       {"sparse_num_index_heads", 4},
                       {"sparse_topk_blocks", 16},
                       {"sparse_block_size", 128},
                       {"sparse_score_type", "max"},
                       {"sparse_init_block", 0},
                       {"sparse_local_block", 1},
                       {"sparse_attention_freq", frequency}}}};
  const Config c = config_of({{"model_type", "minimax_m3_vl"}, {"text_config", text}});
  EXPECT_EQ(c.rotary_dim, 64);
  EXPECT_EQ(c.n_layers(), 60);
  EXPECT_FALSE(c.layers[2].moe);
  EXPECT_TRUE(c.layers[3].sparse_attention);
  EXPECT_EQ(c.eos, 200020);
  EXPECT_EQ(c.top_blocks, 16);
}

TEST(Config, SurvivesTheWayThroughAGgufFile) {
  for (const TinyCheckpoint& shape :
       {TinyCheckpoint{}, TinyCheckpoint{.shared_ffn = 65}, TinyCheckpoint{.sparse = {1, 0, 1}, .moe = {1, 1, 0}},
        TinyCheckpoint{.sparse = {0, 0}, .moe = {0, 0}}}) {
    const TempDir dir;
    shape.write(dir);
    convert(dir.path(), dir / "model.gguf", TensorType::f32);
    EXPECT_EQ(all(Config::from_gguf(Gguf::open(dir / "model.gguf"))), all(Config::from_json_file(dir / "config.json")));
  }
}

json golden_config(const char* name) {
  return read_json_object(std::string(CORVID_GOLDEN_DIR) + "/" + name + "/config.json");
}

TEST(Config, FamiliesDifferInWhatTheyCompute) {
  const Config m3 = config_of(golden_config("minimax-m3")), m2 = config_of(golden_config("minimax-m2")),
               qwen = config_of(golden_config("qwen3-moe"));
  EXPECT_TRUE(m3.has_sparse_attention() && !m2.has_sparse_attention() && !qwen.has_sparse_attention());
  EXPECT_TRUE(m2.family->whole_qk_norms && !qwen.family->whole_qk_norms);
  EXPECT_EQ(m2.rotary_dim, 16);
  EXPECT_EQ(qwen.rotary_dim, 32);
  EXPECT_EQ(qwen.family->gating, kernels::Gating::softmax);
  EXPECT_TRUE(qwen.normalised_weights);
  EXPECT_EQ(qwen.expert_ffn, 64);
}

TEST(Config, QwensOptionsAreReadOrRefused) {
  json content = golden_config("qwen3-moe");
  content["norm_topk_prob"] = false;
  content["mlp_only_layers"] = {1};
  const Config c = config_of(content);
  EXPECT_FALSE(c.normalised_weights);
  EXPECT_TRUE(c.layers[0].moe && !c.layers[1].moe && c.layers[2].moe);
  EXPECT_EQ(c.dense_ffn, 192);
  const auto with = [](const char* key, const json& value) {
    json changed = golden_config("qwen3-moe");
    changed[key] = value;
    return error_of(changed);
  };
  EXPECT_THAT(with("attention_bias", true), HasSubstr("attention_bias: true is not supported, want false"));
  EXPECT_THAT(with("mlp_only_layers", {3}), HasSubstr("mlp_only_layers: want a list of layers below 3, found [3]"));
  EXPECT_THAT(with("mlp_only_layers", "x"), HasSubstr("mlp_only_layers: want a list"));
  EXPECT_THAT(with("rope_scaling", {{"type", "yarn"}, {"factor", 4}}), HasSubstr("\"yarn\" is not supported"));
  EXPECT_THAT(with("decoder_sparse_step", 0), HasSubstr("decoder_sparse_step"));
}

TEST(Config, MiniMaxM2sOptionsAreReadOrRefused) {
  json content = golden_config("minimax-m2");
  content["attn_type_list"] = {1, 1, 1};
  content["rotary_dim"] = 8;
  content.erase("rope_parameters");
  content["rope_theta"] = 1e6;
  EXPECT_EQ(config_of(content).rotary_dim, 8);
  content["attn_type_list"] = {1, 0, 1};
  EXPECT_THAT(error_of(content), HasSubstr("attn_type_list: layer 1: linear attention is not supported"));
  content["attn_type_list"] = nullptr;
  content["shared_intermediate_size"] = 64;
  EXPECT_THAT(error_of(content), HasSubstr("shared_intermediate_size: 64 is not supported, want 0"));
}

TEST(Config, UnusualActivationConstantsAreKept) {
  json content = TinyCheckpoint{}.config();
  content["swiglu_alpha"] = 1.5;
  content["swiglu_limit"] = 3;
  const Config c = config_of(content);
  EXPECT_EQ(c.swiglu_alpha, 1.5F);
  EXPECT_EQ(c.swiglu_limit, 3.0F);
}

TEST(Config, ATokenOutsideTheVocabularyIsNoToken) {
  json content = TinyCheckpoint{}.config();
  content["bos_token_id"] = 200034;
  content["eos_token_id"] = nullptr;
  EXPECT_FALSE(config_of(content).bos);
  EXPECT_FALSE(config_of(content).eos);
}

TEST(Config, EveryNumberIsChecked) {
  const json good = TinyCheckpoint{}.config();
  const auto with = [&](const char* key, const json& value) {
    json changed = good;
    changed[key] = value;
    return error_of(changed);
  };
  EXPECT_EQ(with("hidden_size", 0), "config.json: hidden_size: want an integer from 1 to 1048576, found 0");
  EXPECT_THAT(with("hidden_size", -64), HasSubstr("found -64"));
  EXPECT_THAT(with("hidden_size", 64.5), HasSubstr("found 64.5"));
  EXPECT_THAT(with("hidden_size", "64"), HasSubstr("found \"64\""));
  EXPECT_THAT(with("hidden_size", 18446744073709551615U), HasSubstr("found 18446744073709551615"));
  EXPECT_THAT(with("num_hidden_layers", 1 << 30), HasSubstr("num_hidden_layers"));
  EXPECT_THAT(with("num_hidden_layers", 4),
              HasSubstr("mlp_layer_types: want a list of 4 entries, one per layer, found 3"));
  EXPECT_THAT(with("layer_types", {"full_attention", "minimax_m3_sparse", "sliding"}), HasSubstr("found \"sliding\""));
  EXPECT_THAT(with("num_key_value_heads", 3), HasSubstr("heads: want a multiple of 3 key-value heads, found 4"));
  EXPECT_THAT(with("index_n_heads", 4), HasSubstr("index heads: want a divisor of 2 key-value heads, found 4"));
  EXPECT_THAT(with("num_experts_per_tok", 7), HasSubstr("experts per token: want at most 6, found 7"));
  EXPECT_THAT(with("index_local_blocks", 4), HasSubstr("local blocks: want at most the 3"));
  EXPECT_THAT(with("index_block_size", 1 << 20), HasSubstr("index_block_size"));
  EXPECT_THAT(with("rms_norm_eps", 0), HasSubstr("rms_norm_eps"));
  EXPECT_THAT(with("vocab_size", nullptr), HasSubstr("config.json: key vocab_size is missing"));
  EXPECT_THAT(with("index_head_dim", nullptr),
              HasSubstr("key index_head_dim or sparse_attention_config.sparse_index_dim is missing"));
  EXPECT_THAT(with("hidden_act", "gelu"), HasSubstr("hidden_act: \"gelu\" is not supported, want \"swigluoai\""));
  EXPECT_THAT(with("use_qk_norm", false), HasSubstr("use_qk_norm: false is not supported"));
  EXPECT_THAT(with("rope_parameters", {{"rope_theta", 1e4}, {"rope_type", "yarn"}}),
              HasSubstr("\"yarn\" is not supported"));
}

TEST(Config, BrokenJsonIsToldWithPlaceAndReason) {
  const TempDir dir;
  EXPECT_THAT(
      message_of([&] { Config::from_json_file(dir.write("config.json", "")); }),
      StartsWith("config.json: not valid JSON: parse error at line 1, column 1: syntax error while parsing value - "
                 "unexpected end"));
}

TEST(Config, ADeepTreeIsRefusedBeforeItIsMade) {
  const TempDir dir;
  const std::string deep = std::string(200000, '[') + std::string(200000, ']');
  const auto file = dir.write("config.json", R"({"model_type":"minimax_m3_vl","num_hidden_layers":)" + deep + "}");
  EXPECT_EQ(message_of([&] { Config::from_json_file(file); }),
            "config.json: not valid JSON: want at most 64 levels of nesting, found 200001");
}

TEST(Config, AnotherArchitectureIsNamed) {
  EXPECT_EQ(
      error_of({{"model_type", "qwen3"}}),
      "config.json: model_type: \"qwen3\" is not supported, want minimax_m3_vl or minimax_m3_vl_text, minimax_m2, "
      "qwen3_moe");
  EXPECT_THAT(error_of({{"architectures", {"MixtralForCausalLM"}}}), HasSubstr("MixtralForCausalLM"));
  EXPECT_THAT(error_of(json::object()), HasSubstr("model_type: is missing"));
  const TempDir dir;
  GgufWriter out;
  out.set_text("general.architecture", "qwen3");
  out.write(dir / "qwen.gguf");
  EXPECT_EQ(message_of([&] { Config::from_gguf(Gguf::open(dir / "qwen.gguf")); }),
            "qwen.gguf: general.architecture: \"qwen3\" is not supported, want minimax-m3, minimax-m2, qwen3moe");
}

TEST(Config, FlippedBytesGiveAConfigOrAnException) {
  const TempDir dir;
  TinyCheckpoint released;
  released.flat = false;
  const std::string wholes[] = {released.config().dump(), golden_config("minimax-m2").dump(),
                                golden_config("qwen3-moe").dump()};
  uint64_t state = 3;
  const auto random = [&](uint64_t below) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    return (state >> 33) % below;
  };
  int read = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = wholes[round % 3];
    bytes[random(bytes.size())] = static_cast<char>(random(256));
    dir.write("config.json", bytes);
    try {
      Config::from_json_file(dir / "config.json");
      ++read;
    } catch (const std::exception&) {
    }
  }
  EXPECT_GT(read, 0);
}

}  // namespace
}  // namespace corvid::model
