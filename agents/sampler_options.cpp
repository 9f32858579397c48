#include "agents/sampler_options.h"

#include <algorithm>
#include <limits>

namespace corvid::agents {

namespace {

using model::LogitBias;
using model::SamplerNumber;
using model::SamplerParams;

constexpr double kMostBias = 1000;

std::string flag_name(std::string name) {
  std::ranges::replace(name, '_', '-');
  return name;
}

// `false` and -inf forbid a token.
std::optional<float> bias_of(const std::string& text) {
  if (text == "false" || text == "-inf" || text == "-.inf") return -std::numeric_limits<float>::infinity();
  const std::optional<double> bias = parse_number(text);
  if (!bias || *bias < -kMostBias || *bias > kMostBias) return std::nullopt;
  return static_cast<float>(*bias);
}

const std::string kWantedBias = "a number from -1000 to 1000, or false to forbid the token";

}  // namespace

SamplerParams read_sampler(const YamlValue& value) {
  SamplerParams params;
  std::vector<std::string> keys{"seed", "dry_sequence_breakers", "logit_bias", "stop"};
  for (const SamplerNumber& number : model::sampler_numbers()) keys.emplace_back(number.name);
  const YamlMap map = value.map(keys);
  for (const SamplerNumber& number : model::sampler_numbers()) {
    const auto found = map.find(number.name);
    if (!found) continue;
    number.set(params, number.is_whole() ? static_cast<double>(found->integer(static_cast<int64_t>(number.least),
                                                                              static_cast<int64_t>(number.most)))
                                         : found->number(number.least, number.most));
  }
  if (const auto found = map.find("seed")) params.seed = static_cast<uint64_t>(found->integer(0, INT64_MAX));
  const auto texts = [&](const char* key, std::vector<std::string>& into) {
    const auto found = map.find(key);
    if (!found) return;
    into = found->texts();
    if (std::ranges::find(into, "") != into.end()) found->fail("want texts of at least one byte, found an empty one");
  };
  texts("dry_sequence_breakers", params.dry_sequence_breakers);
  texts("stop", params.stop);
  if (const auto found = map.find("logit_bias")) {
    for (const auto& [token, number] : found->entries()) {
      if (token.empty()) number.fail("want a token's id or text as key, found an empty one");
      const std::optional<float> bias = bias_of(number.text());
      if (!bias) number.fail("want " + kWantedBias + ", found \"" + number.text() + '"');
      params.logit_bias.push_back({token, *bias});
    }
  }
  return params;
}

std::vector<Flag> sampler_flags() {
  std::vector<Flag> flags{{"seed", "N", "seed of the sampler"}};
  for (const SamplerNumber& number : model::sampler_numbers())
    flags.push_back({flag_name(number.name), number.is_whole() ? "N" : "X", number.help});
  flags.push_back({"dry-sequence-breaker", "TEXT", "what DRY does not look beyond", {}, Completes::nothing, true});
  flags.push_back({"logit-bias", "TOKEN=X", "added to a token's logit; an id or a text", {}, Completes::nothing, true});
  flags.push_back({"stop", "TEXT", "ends the answer where it would say this", {}, Completes::nothing, true});
  return flags;
}

SamplerParams sampler_from(const Args& args, SamplerParams params) {
  if (const auto seed = args.integer("seed", 0, INT64_MAX)) params.seed = static_cast<uint64_t>(*seed);
  for (const SamplerNumber& number : model::sampler_numbers()) {
    const std::string flag = flag_name(number.name);
    if (number.is_whole()) {
      const auto value = args.integer(flag, static_cast<int64_t>(number.least), static_cast<int64_t>(number.most));
      if (value) number.set(params, static_cast<double>(*value));
    } else if (const auto value = args.number(flag, number.least, number.most)) {
      number.set(params, *value);
    }
  }
  const auto texts = [&](const char* flag, std::vector<std::string>& into) {
    if (!args.text(flag)) return;
    into = args.texts(flag);
    if (std::ranges::find(into, "") != into.end()) throw UsageError("--" + std::string(flag) + ": the value is empty");
  };
  texts("dry-sequence-breaker", params.dry_sequence_breakers);
  texts("stop", params.stop);
  if (args.has("logit-bias")) params.logit_bias.clear();
  for (const std::string& text : args.texts("logit-bias")) {
    const size_t end = text.rfind('=');
    const std::optional<float> bias = end == std::string::npos ? std::nullopt : bias_of(text.substr(end + 1));
    if (!bias || end == 0) throw UsageError("--logit-bias: want TOKEN=X, X " + kWantedBias + ", found \"" + text + '"');
    params.logit_bias.push_back({text.substr(0, end), *bias});
  }
  return params;
}

}  // namespace corvid::agents
