#include "agents/random_shape.h"

#include <optional>

#include "agents/args.h"

namespace corvid::agents {

namespace {

using model::TensorType;

constexpr TensorType kTypes[] = {TensorType::f32,  TensorType::f16,  TensorType::bf16,
                                 TensorType::q8_0, TensorType::q4_0, TensorType::q4_k,
                                 TensorType::q5_k, TensorType::q6_k, TensorType::mxfp4};

// Released models at their true sizes.
struct Preset {
  const char* name;
  const model::Family* family;
  TensorType type;
  const char* keys;
};
constexpr Preset kPresets[] = {
    {"minimax-m3-full", &model::kMiniMaxM3, TensorType::bf16,
     "dim=6144,layers=60,heads=64,kv_heads=4,head_dim=128,rotary=64,experts=128,top_k=4,ffn=3072,vocab=200064,"
     "context=1048576,dense_layers=3,dense_ffn=12288"},
    {"minimax-m2-full", &model::kMiniMaxM2, TensorType::bf16,
     "dim=3072,layers=62,heads=48,kv_heads=8,head_dim=128,rotary=64,experts=256,top_k=8,ffn=1536,vocab=200064,"
     "context=196608"},
    {"qwen3-30b-a3b", &model::kQwen3Moe, TensorType::q8_0,
     "dim=2048,layers=48,heads=32,kv_heads=4,head_dim=128,experts=128,top_k=8,ffn=768,vocab=151936,context=262144"},
};

std::vector<std::string> shape_names() {
  std::vector<std::string> names;
  for (const model::Family* family : model::all_families()) names.emplace_back(family->architecture);
  for (const Preset& preset : kPresets) names.emplace_back(preset.name);
  return names;
}

std::vector<std::string> type_names() {
  std::vector<std::string> names;
  for (const TensorType type : kTypes) names.emplace_back(model::tensor_layout(type).name);
  return names;
}

std::string joined(const std::vector<std::string>& words) {
  std::string all;
  for (const std::string& word : words) all += (all.empty() ? "" : ", ") + word;
  return all;
}

// The place of `word` among `known`, or an error that names `what`.
size_t place_of(const std::string& what, const std::string& word, const std::vector<std::string>& known) {
  for (size_t i = 0; i < known.size(); ++i) {
    if (known[i] == word) return i;
  }
  throw UsageError("--random: " + what + ": want " + joined(known) + "; found \"" + word + '"' +
                   did_you_mean(word, known));
}

}  // namespace

namespace {

void read_keys(const std::string& text, model::RandomShape& shape) {
  std::vector<std::string> keys{"type"};
  for (const model::ShapeKey& key : model::shape_keys()) {
    if (!key.sparse_only || shape.family->sparse_attention) keys.emplace_back(key.name);
  }
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    const std::string item = text.substr(at, end - at);
    at = end + 1;
    const size_t equals = item.find('=');
    if (equals == std::string::npos) throw UsageError("--random: want KEY=VALUE, found \"" + item + '"');
    const std::string name = item.substr(0, equals), value = item.substr(equals + 1);
    place_of("key", name, keys);
    if (name == "type") {
      shape.type = kTypes[place_of("type", value, type_names())];
      continue;
    }
    for (const model::ShapeKey& key : model::shape_keys()) {
      if (key.name != name) continue;
      const std::optional<int64_t> number = parse_integer(value);
      if (!number || *number < key.min || *number > key.max) {
        throw UsageError("--random: " + name + ": want a whole number from " + std::to_string(key.min) + " to " +
                         std::to_string(key.max) + ", found \"" + value + '"');
      }
      shape.*key.value = *number;
    }
  }
}

}  // namespace

model::RandomShape parse_shape(const std::string& text) {
  model::RandomShape shape;
  const size_t colon = std::min(text.find(':'), text.size()), n_families = model::all_families().size();
  const size_t place = place_of("family", text.substr(0, colon), shape_names());
  if (place < n_families) {
    shape.family = model::all_families()[place];
  } else {
    const Preset& preset = kPresets[place - n_families];
    shape.family = preset.family;
    shape.type = preset.type;
    read_keys(preset.keys, shape);
  }
  read_keys(text.substr(std::min(colon + 1, text.size())), shape);
  try {
    shape.config();
  } catch (const std::runtime_error& error) {
    throw UsageError(std::string("--random: ") + error.what());
  }
  return shape;
}

std::string shape_help() {
  std::string help = "SHAPE is a family, or a released model at its true size (" + joined(shape_names()) +
                     "),\nthen keys after a colon:\n  ";
  size_t column = 2;
  const auto append = [&](const std::string& item) {
    if (column + item.size() > 98) {
      help.back() = '\n';
      help += "  ";
      column = 2;
    }
    help += item + " ";
    column += item.size() + 1;
  };
  const model::RandomShape defaults;
  append("type=" + std::string(model::tensor_layout(defaults.type).name));
  for (const model::ShapeKey& key : model::shape_keys()) {
    const int64_t value = defaults.*key.value;
    append(std::string(key.name) + "=" + (value == 0 ? "(the family's)" : std::to_string(value)));
  }
  help.pop_back();
  return help + "\nthe last from dense_layers on for " + std::string(model::kMiniMaxM3.architecture) +
         " alone; type is one of " + joined(type_names()) + ".";
}

}  // namespace corvid::agents
