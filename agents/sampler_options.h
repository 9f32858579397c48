// The sampler as a user sets it: the map `sampler:` of an agent file, and flags. Every key is also a flag.
#pragma once
#include <vector>

#include "agents/args.h"
#include "agents/yaml.h"
#include "model/sampler_params.h"

namespace corvid::agents {

// Throws UsageError with file, line and column for what is out of range.
model::SamplerParams read_sampler(const YamlValue& value);

std::vector<Flag> sampler_flags();
// `sampler` with what the flags say; lists (--stop, --logit-bias) replace those that are there. Throws UsageError
// naming the flag.
model::SamplerParams sampler_from(const Args& args, model::SamplerParams sampler);

}  // namespace corvid::agents
