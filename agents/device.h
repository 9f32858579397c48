// Where the model computes: a GPU that can run it, several that share it, or the CPU.
#pragma once
#include <string>
#include <vector>

#include "agents/args.h"
#include "agents/config.h"
#include "kernels/exec.h"
#include "kernels/format.h"
#include "model/model.h"

namespace corvid::agents {

struct DeviceWish {
  std::string name;    // auto, cpu or cuda
  std::string origin;  // who said so, for messages: "--device cuda"
  std::vector<int> gpus{0};
};

// --gpus, else config.yaml's gpus: the first so many; several mean cuda. --device; else what `file` says under device:,
// unless that is auto; else config.yaml. Throws UsageError for cuda where there are not as many GPUs that this build
// can use.
DeviceWish device_wish(const Args& args, const Config& config);
DeviceWish device_wish(const Args& args, const Config& config, const std::string& device, const std::string& file);

// auto: a GPU that can run this model with these flags, else the CPU. Throws UsageError when cuda was wanted and can't.
kernels::Device device_for(const DeviceWish& wish, const model::Model& model, const Args& args);

}  // namespace corvid::agents
