// A session's sampler as the store keeps it: one JSON object with the parameters by name.
#pragma once
#include "model/sampler_params.h"
#include "tools/tool.h"

namespace corvid::runtime {

tools::Json to_json(const model::SamplerParams& params);
// What is not there has its default. Throws tools::Json::exception for a value of another type.
model::SamplerParams sampler_of(const tools::Json& json);

}  // namespace corvid::runtime
