#include "agents/device.h"

#include <numeric>
#include <optional>

#include "kernels/comm/all_reduce.h"
#include "kernels/gpu.h"
#include "model/gpu_backend.h"

namespace corvid::agents {

DeviceWish device_wish(const Args& args, const Config& config) { return device_wish(args, config, "auto", ""); }

DeviceWish device_wish(const Args& args, const Config& config, const std::string& device, const std::string& file) {
  DeviceWish wish;
  if (const auto flag = args.text("device")) {
    wish = {*flag, "--device " + *flag};
  } else if (device != "auto") {
    wish = {device, file + ": device: " + device};
  } else {
    wish = {config.device, config.file.string() + ": device: " + config.device};
  }
  const auto flag = args.integer("gpus", 1, kernels::kMostGpus);
  wish.gpus.resize(static_cast<size_t>(flag ? *flag : config.gpus.value_or(1)));
  std::iota(wish.gpus.begin(), wish.gpus.end(), 0);
  if (wish.name == "cpu") {
    if (flag && *flag > 1) throw UsageError("--gpus " + std::to_string(*flag) + ": want --device cuda, found cpu");
    wish.gpus = {0};
  }
  if (wish.gpus.size() > 1) {
    wish.name = "cuda";
    const std::string count = std::to_string(wish.gpus.size());
    wish.origin = flag ? "--gpus " + count : config.file.string() + ": gpus: " + count;
  }
  if (wish.name == "cuda") {
    if (const auto obstacle = kernels::cuda::gpu_obstacle(wish.gpus)) throw UsageError(wish.origin + ": " + *obstacle);
  }
  return wish;
}

kernels::Device device_for(const DeviceWish& wish, const model::Model& model, const Args& args) {
  if (wish.name == "cpu") {
    if (args.text("index-type") == "e4m3") throw UsageError("--index-type e4m3: want a GPU, found --device cpu");
    return kernels::Device::cpu;
  }
  const bool selects = args.text("attention").value_or("auto").find("sparse") != std::string::npos;
  std::optional<std::string> obstacle = model::gpu_obstacle(model, wish.gpus, selects);
  for (const std::string flag : {"cache-type", "index-type"}) {
    const bool is_index = flag == "index-type";
    if (const auto type = args.text(flag); !obstacle && type && *type != "bf16" && !(is_index && *type == "e4m3"))
      obstacle = "want --" + flag + (is_index ? " bf16 or e4m3" : " bf16") + " on a GPU, found " + *type;
  }
  if (!obstacle) return kernels::Device::cuda;
  if (wish.name == "cuda") throw UsageError(wish.origin + ": " + model.name() + ": " + *obstacle);
  if (args.text("index-type") == "e4m3") throw UsageError("--index-type e4m3: want a GPU, found the CPU: " + *obstacle);
  return kernels::Device::cpu;
}

}  // namespace corvid::agents
