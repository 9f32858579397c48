#include "runtime/sampler_json.h"

#include <cmath>
#include <limits>

namespace corvid::runtime {

using model::SamplerNumber;
using tools::Json;

Json to_json(const model::SamplerParams& params) {
  Json json = Json::object();
  for (const SamplerNumber& number : model::sampler_numbers()) {
    const double value = number.get(params);
    json[number.name] = number.is_whole() ? Json(static_cast<int64_t>(value)) : Json(value);
  }
  json["seed"] = params.seed;
  json["dry_sequence_breakers"] = params.dry_sequence_breakers;
  json["stop"] = params.stop;
  Json& biases = json["logit_bias"] = Json::array();  // [token, bias]; JSON has no infinity: null rules a token out
  for (const model::LogitBias& entry : params.logit_bias)
    biases.push_back({entry.token, std::isfinite(entry.bias) ? Json(entry.bias) : Json()});
  return json;
}

model::SamplerParams sampler_of(const Json& json) {
  model::SamplerParams params;
  for (const SamplerNumber& number : model::sampler_numbers()) {
    if (const auto value = json.find(number.name); value != json.end()) number.set(params, value->get<double>());
  }
  params.seed = json.value("seed", params.seed);
  params.dry_sequence_breakers = json.value("dry_sequence_breakers", params.dry_sequence_breakers);
  params.stop = json.value("stop", params.stop);
  for (const Json& entry : json.value("logit_bias", Json::array())) {
    const Json& bias = entry.at(1);
    params.logit_bias.push_back(
        {entry.at(0), bias.is_null() ? -std::numeric_limits<float>::infinity() : bias.get<float>()});
  }
  return params;
}

}  // namespace corvid::runtime
