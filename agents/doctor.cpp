// corvid doctor: what this machine offers, and whether the main job can work.
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <thread>

#include "agents/assemble.h"
#include "agents/commands.h"
#include "agents/paths.h"
#include "agents/progress.h"
#include "kernels/gpu.h"
#include "kernels/isa.h"

namespace corvid::agents {

namespace {

namespace fs = std::filesystem;
using runtime::Json;

struct Check {
  std::string name;
  enum class State : uint8_t { ok, info, failed } state;
  std::string detail;
};

std::string processor() {
  std::string tiers;
  for (const kernels::Isa isa : kernels::available_isas())
    tiers += (tiers.empty() ? "" : ", ") + std::string(kernels::isa_name(isa));
  return "tier " + std::string(kernels::isa_name(kernels::best_isa())) + " of " + tiers;
}

std::string on_path(const std::string& program) {
  const char* path = std::getenv("PATH");
  std::string_view rest = path != nullptr ? path : "";
  while (!rest.empty()) {
    const size_t end = std::min(rest.find(':'), rest.size());
    const fs::path file = fs::path(rest.substr(0, end)) / program;
    if (access(file.c_str(), X_OK) == 0) return file.string();
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return "";
}

Check gpu() {
  const auto obstacle = kernels::cuda::gpu_obstacle();
  std::error_code failure;
  if (obstacle && !fs::exists("/proc/driver/nvidia/version", failure) && !fs::exists("/dev/nvidia0", failure))
    return {"gpu", Check::State::info, "none found"};
  if (obstacle) return {"gpu", Check::State::info, "found, but not used: " + *obstacle};
  const kernels::cuda::GpuInfo info = kernels::cuda::gpu_info();
  const auto version = [](int number) {
    return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
  };
  const int count = kernels::cuda::gpu_count();
  return {"gpu", Check::State::ok,
          (count > 1 ? std::to_string(count) + " x " : "") + info.name + ", " + std::to_string(info.free_bytes >> 20) +
              " of " + std::to_string(info.total_bytes >> 20) + " MB free, the driver for CUDA " +
              version(info.driver) + ", this build of CUDA " + version(info.runtime)};
}

Check namespaces() {
  std::string missing;
  std::error_code failure;
  for (const char* kind : {"user", "pid", "net", "mnt", "ipc", "uts"}) {
    if (!fs::exists(std::string("/proc/self/ns/") + kind, failure))
      missing += std::string(missing.empty() ? "" : ", ") + kind;
  }
  if (missing.empty()) return {"namespaces", Check::State::info, "user, pid, net, mnt, ipc, uts"};
  return {"namespaces", Check::State::info, "missing: " + missing};
}

Check seccomp() {
  std::error_code failure;
  const bool is_there = fs::exists("/proc/sys/kernel/seccomp/actions_avail", failure);
  return {"seccomp", Check::State::info, is_there ? "filters" : "none"};
}

Check sandbox() {
  if (const auto missing = tools::Sandbox::missing_mechanism()) return {"sandbox", Check::State::failed, *missing};
  return {"sandbox", Check::State::ok, "commands can be confined"};
}

Check model_found(const Args& args, const Config& config) {
  try {
    const ModelChoice choice = find_model(args.text("model"), config.model);
    const auto loaded = model::Model::load(choice.path, {.memory = model::WeightMemory::mapped});
    loaded->tokenizer();
    return {"model", Check::State::ok, choice.path.string() + " (" + choice.origin + ")"};
  } catch (const std::exception& error) {
    return {"model", Check::State::failed, error.what()};
  }
}

// Without making anything: the store itself when it is there, else whether its folder could be made.
Check store_writable(const Args& args, const Config& config) {
  try {
    const fs::path file = fs::absolute(store_path(args, config));
    if (fs::exists(file)) {
      if (access(file.c_str(), R_OK | W_OK) != 0)
        return {"store", Check::State::failed, file.string() + ": not writable"};
      const auto store = open_store(args, config);
      return {"store", Check::State::ok, file.string()};
    }
    fs::path folder = file.parent_path();
    while (!fs::exists(folder) && folder.has_relative_path()) folder = folder.parent_path();
    if (!fs::is_directory(folder) || access(folder.c_str(), W_OK | X_OK) != 0) {
      return {"store", Check::State::failed,
              file.string() + ": cannot be made, " + folder.string() + " is not a writable folder"};
    }
    return {"store", Check::State::ok, file.string() + " (will be made)"};
  } catch (const std::exception& error) {
    return {"store", Check::State::failed, error.what()};
  }
}

int run_doctor(const Args& args) {
  const Config config = load_config();
  utsname system{};
  uname(&system);
  const std::string bwrap = on_path("bwrap");
  std::error_code failure;
  const std::vector<Check> checks{
      {"version", Check::State::info, "corvid " CORVID_VERSION},
      {"system", Check::State::info, std::string(system.sysname) + " " + system.release + " " + system.machine},
      {"cpu", Check::State::info, processor()},
      {"threads", Check::State::info, std::to_string(std::thread::hardware_concurrency())},
      gpu(),
      {"bwrap", Check::State::info, bwrap.empty() ? "not on PATH; install bubblewrap" : bwrap},
      namespaces(),
      seccomp(),
      sandbox(),
      {"config", Check::State::info,
       config.file.string() + (fs::exists(config.file, failure) ? "" : " (none; defaults apply)")},
      model_found(args, config),
      store_writable(args, config)};
  bool is_ready = true;
  for (const Check& check : checks) is_ready = is_ready && check.state != Check::State::failed;
  static constexpr const char* kStates[] = {"ok", "info", "failed"};
  if (args.text("output").value_or("text") == "json") {
    Json json = {{"ready", is_ready}, {"checks", Json::array()}};
    for (const Check& check : checks) {
      json["checks"].push_back(
          {{"name", check.name}, {"status", kStates[static_cast<size_t>(check.state)]}, {"detail", check.detail}});
    }
    std::cout << to_output_line(json) << "\n";
    return is_ready ? 0 : 1;
  }
  const bool colour = wants_colour(STDOUT_FILENO);
  for (const Check& check : checks) {
    const bool is_failed = check.state == Check::State::failed;
    const std::string mark = is_failed                         ? coloured("failed", Colour::red, colour)
                             : check.state == Check::State::ok ? coloured("ok    ", Colour::green, colour)
                                                               : "      ";
    std::cout << mark << "  " << check.name << std::string(12 - check.name.size(), ' ') << plain(check.detail) << "\n";
  }
  std::cout << (is_ready ? "corvid run can work here.\n" : "corvid run cannot do its whole job here.\n");
  return is_ready ? 0 : 1;
}

}  // namespace

std::vector<Command> doctor_commands() {
  return {{.name = "doctor",
           .summary = "Say what this machine offers, and whether corvid can work here.",
           .positionals = {},
           .flags = {output_flag({"text", "json"}), model_flag(), db_flag()},
           .examples = {"corvid doctor", "corvid doctor --output json"},
           .notes = "Exit status: 0 when the main job can work, 1 otherwise.",
           .run = run_doctor}};
}

}  // namespace corvid::agents
