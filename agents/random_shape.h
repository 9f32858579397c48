// "minimax-m3:layers=4,type=q4_0": the shape of a made-up model, as people write it.
#pragma once
#include <string>

#include "model/random_model.h"

namespace corvid::agents {

// Throws UsageError naming what was wanted and found, and the nearest key, family or type.
model::RandomShape parse_shape(const std::string& text);

// For --help: every key with its default.
std::string shape_help();

}  // namespace corvid::agents
