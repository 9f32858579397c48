#include "agents/random_shape.h"

#include <optional>

#include "agents/args.h"

namespace corvid::agents {

namespace {

using model::TensorType;

constexpr TensorType kTypes[] = {TensorType::f32,  TensorType::f16,  TensorType::bf16,
                                 TensorType::q8_0, TensorType::q4_0, TensorType::q4_k,
                                 TensorType::q5_k, TensorType::q6_k, TensorType::mxfp4};

std::vector<std::string> family_names() {
  std::vector<std::string> names;
  for (const model::Family* family : model::all_families()) names.emplace_back(family->architecture);
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

model::RandomShape parse_shape(const std::string& text) {
  model::RandomShape shape;
  const size_t colon = std::min(text.find(':'), text.size());
  shape.family = model::all_families()[place_of("family", text.substr(0, colon), family_names())];
  std::vector<std::string> keys{"type"};
  for (const model::ShapeKey& key : model::shape_keys()) {
    if (!key.sparse_only || shape.family->sparse_attention) keys.emplace_back(key.name);
  }
  for (size_t at = colon + 1; at < text.size();) {
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
  try {
    shape.config();
  } catch (const std::runtime_error& error) {
    throw UsageError(std::string("--random: ") + error.what());
  }
  return shape;
}

std::string shape_help() {
  std::string help = "SHAPE is a family (" + joined(family_names()) + "), then keys after a colon:\n  ";
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
