#include "agents/assemble.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "agents/device.h"
#include "agents/paths.h"
#include "agents/sampler_options.h"
#include "agents/terminal.h"
#include "kernels/gpu.h"
#include "model/memory_room.h"

namespace corvid::agents {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kDefaultContext = 32768;
constexpr int64_t kLeastCacheMemory = 64 << 20;  // where hardly any memory is free: with less nothing would run
constexpr int64_t kMostLogprobs = 100;
constexpr int64_t kMostGuesses = 64;

runtime::Limits limits_from(const Args& args, runtime::Limits limits) {
  if (const auto turns = args.integer("max-turns", 1, 1'000'000)) limits.turns = *turns;
  if (const auto tokens = args.integer("max-tokens", 1, 1'000'000'000)) limits.tokens = *tokens;
  if (const auto wall = args.duration("timeout")) limits.wall = *wall;
  return limits;
}

// Asks the person at the terminal, whatever stdin and stdout are. No answer is a no.
bool ask_at_terminal(const model::Call& call, std::stop_token stop) {
  const int tty = open("/dev/tty", O_RDWR | O_CLOEXEC);
  if (tty < 0) return false;
  const std::string question = "corvid: run " + plain(call.name) + " " + one_line(call.args, 400) + " ? [y/N] ";
  std::string answer;
  if (write(tty, question.data(), question.size()) > 0) {
    while (!stop.stop_requested() && answer.find('\n') == std::string::npos) {
      pollfd waiting{tty, POLLIN, 0};
      if (poll(&waiting, 1, 100) <= 0) continue;
      char buffer[64];
      const ssize_t got = read(tty, buffer, sizeof buffer);
      if (got <= 0) break;
      answer.append(buffer, static_cast<size_t>(got));
    }
  }
  close(tty);
  return answer.starts_with('y') || answer.starts_with('Y');
}

bool wants_cache() {
  const char* variable = std::getenv("CORVID_CACHE");
  const std::string wish = variable != nullptr ? variable : "";
  if (!wish.empty() && wish != "on" && wish != "off")
    throw UsageError("CORVID_CACHE: want on or off, found \"" + wish + '"');
  return wish != "off";
}

// A resumed session keeps its instructions and tools; of the agent only limits, policy and the agents that it
// may ask count, and it may be gone.
Agent agent_of(const runtime::SessionRecord& record) {
  Agent agent;
  try {
    agent = load_agent(record.agent);
  } catch (const UsageError&) {
    agent.name = record.agent;
  }
  agent.tools.emplace();
  bool asks = false;
  for (const model::ToolDecl& tool : record.prompt.tools) {
    asks = asks || tool.name == kAskAgent;
    if (tool.name != kAskAgent) agent.tools->push_back(tool.name);
  }
  if (!asks) agent.agents.clear();
  return agent;
}

}  // namespace

std::optional<runtime::PrefixCache> prefix_cache() {
  if (!wants_cache()) return std::nullopt;
  return runtime::PrefixCache(cache_folder() / "prefix", code_identity());
}

std::optional<runtime::SessionCache> session_cache() {
  if (!wants_cache()) return std::nullopt;
  return runtime::SessionCache(cache_folder() / "sessions", code_identity());
}

tools::Sandbox Confinement::sandbox() const {
  try {
    return tools::Sandbox(workdir, policy);
  } catch (const std::invalid_argument& error) {
    throw UsageError(error.what());
  }
}

Confinement read_confinement(const Args& args, const Config& config, const std::string& agent_policy,
                             const fs::path& default_workdir) {
  const auto flag = args.text("workdir");
  Confinement confinement;
  confinement.workdir =
      flag ? existing_folder(*flag, "--workdir") : existing_folder(default_workdir.string(), "the working folder");
  confinement.policy =
      load_policy(args.text("policy").value_or(agent_policy != "default" ? agent_policy : config.policy));
  for (const std::string& host : args.texts("allow-host")) {
    if (!is_host(host)) throw UsageError("--allow-host: want HOST or HOST:PORT, found \"" + host + '"');
    confinement.policy.allow_hosts.push_back(host);
  }
  for (const std::string& folder : args.texts("allow-write")) {
    confinement.policy.write_dirs.push_back(existing_folder(folder, "--allow-write"));
  }
  hide_store(confinement.policy, store_path(args, config));
  return confinement;
}

fs::path store_path(const Args& args, const Config& config) {
  if (const auto flag = args.text("db")) return *flag;
  return config.db.value_or(data_folder() / "corvid.db");
}

std::unique_ptr<runtime::Store> open_store(const Args& args, const Config& config) {
  const fs::path file = store_path(args, config);
  // What was said and read may be private. No thread and no child runs yet that the mask could reach.
  const mode_t mask = umask(077);
  try {
    auto store = std::make_unique<runtime::Store>(file);
    umask(mask);
    return store;
  } catch (const std::exception& error) {
    umask(mask);
    throw UsageError(std::string(error.what()) + (args.has("db") ? "" : " (name another file with --db)"));
  }
}

runtime::SessionRecord find_session(runtime::Store& store, const std::string& id) {
  try {
    return store.find(id);
  } catch (const runtime::StoreError& error) {
    if (error.code() != 0) throw;  // SQLite's complaint, not an id that is not there
    throw UsageError(error.what());
  }
}

model::Attention attention_from(const Args& args) {
  const std::string name = args.text("attention").value_or("auto");
  if (name == "sparse") return model::Attention::sparse;
  return name == "dense" ? model::Attention::dense : model::Attention::automatic;
}

model::CacheFormat cache_format_from(const Args& args, kernels::Format standard) {
  const auto named = [&](const char* flag, kernels::Format otherwise) {
    const auto name = args.text(flag);
    for (const auto f : {kernels::Format::f32, kernels::Format::f16, kernels::Format::bf16, kernels::Format::q8_0}) {
      if (name == kernels::format_name(f)) return f;
    }
    return otherwise;
  };
  model::CacheFormat format = named("cache-type", standard);
  format.index = named("index-type", format.index);
  format.e4m3_index = args.text("index-type") == "e4m3";
  return format;
}

int threads_from(const Args& args, const Config& config) {
  return static_cast<int>(args.integer("threads", 1, 1024).value_or(config.threads.value_or(0)));
}

int64_t cache_memory_from(const Args& args, const Config& config, kernels::Device device, const model::Model* model) {
  if (const auto bytes = args.bytes("cache-memory", 1, kMostCacheMemory)) return *bytes;
  if (config.cache_memory) return *config.cache_memory;
  if (device == kernels::Device::cuda) return model::KvPool::kNoLimit;
  const std::optional<int64_t> left = model != nullptr ? model->memory_left() : std::nullopt;
  const std::optional<int64_t> available = left ? left : model::available_memory();
  return available ? std::max(*available / 2, kLeastCacheMemory) : model::KvPool::kNoLimit;
}

model::EngineOptions engine_options_from(const Args& args, const Config& config, const DeviceWish& wish,
                                         const model::Model& model, model::CacheFormat cache_format) {
  const kernels::Device device = device_for(wish, model, args);
  return {device, wish.gpus, threads_from(args, config), cache_memory_from(args, config, device, &model), cache_format};
}

model::LoadOptions load_options_from(const Args& args, const DeviceWish& device) {
  // What goes to a GPU is read once.
  const bool may_be_gpu = device.name != "cpu" && !kernels::cuda::gpu_obstacle();
  const std::string memory = args.text("weights").value_or(may_be_gpu ? "mapped" : "auto");
  return {.memory = memory == "mapped"   ? model::WeightMemory::mapped
                    : memory == "copied" ? model::WeightMemory::copied
                                         : model::WeightMemory::automatic};
}

std::optional<int64_t> speculate_from(const Args& args) {
  const auto text = args.text("speculate");
  if (!text) return std::nullopt;
  const auto count = *text == "off" ? 0 : parse_integer(*text);
  if (!count || *count < 0 || *count > kMostGuesses) {
    throw UsageError("--speculate: want a whole number from 0 to " + std::to_string(kMostGuesses) +
                     ", or off, found \"" + *text + '"');
  }
  return count;
}

// Without a bound a model made for a million tokens would reserve for them all.
int64_t context_from(const Args& args, const Config& config, const model::Model& model) {
  return std::min(args.integer("context", 1, 1 << 24).value_or(config.context.value_or(kDefaultContext)),
                  model.config().context_length);
}

Assembly::Assembly(const Args& args, const std::optional<std::string>& resume) {
  const Config config = load_config();
  const DeviceWish device = device_wish(args, config);
  approve_mode_ = runtime::approve_mode_from(args.text("approve").value_or("never"));
  args.integer("context", 1, 1 << 24);
  const auto speculate = speculate_from(args);
  const auto logprobs = args.integer("logprobs", 0, kMostLogprobs);
  limits_ = limits_from(args, {});  // a wrong flag is said before anything else that may be wrong
  sampler_from(args, {});
  cache_memory_from(args, config);
  std::optional<runtime::PrefixCache> prefixes = prefix_cache();
  sessions_ = session_cache();
  const ModelChoice choice = find_model(args.text("model"), config.model);

  runtime::SessionRecord record;
  Agent agent;
  if (resume) {
    store_ = open_store(args, config);
    record = find_session(*store_, *resume);
    agent = agent_of(record);
    if (const auto named = args.text("agent"); named && load_agent(*named).name != record.agent) {
      throw UsageError("--agent " + *named + ": session " + record.id + " was started with the agent " + record.agent);
    }
  } else {
    agent = load_agent(args.text("agent").value_or(config.agent));
  }
  limits_ = limits_from(args, agent.limits);
  const model::SamplerParams sampler = sampler_from(args, resume ? record.sampler : agent.sampler);
  const Confinement confinement = read_confinement(args, config, agent.policy, resume ? record.workdir : fs::path("."));
  model_ = model::Model::load(choice.path, load_options_from(args, device));
  asker_ = std::make_shared<Asker>();
  asker_->options.meter = std::make_shared<runtime::Meter>();
  const auto make_chat = [this](runtime::SessionRecord& asked) {
    return make_local_chat(engine_, chat_options_, asked);
  };
  toolbox_.emplace(make_asking_tools(agent, confinement.sandbox(), {make_chat, store_path(args, config)}, asker_));
  if (!store_) store_ = open_store(args, config);

  runtime::LocalChatOptions options;
  options.prompt = resume ? record.prompt : prompt_of(agent, *toolbox_);
  options.sampler = sampler;
  options.attention = attention_from(args);
  options.cache_format = cache_format_from(args, options.cache_format.kv);
  options.prefixes = std::move(prefixes);
  options.speculate = speculate.value_or(options.speculate);
  options.context = context_from(args, config, *model_);
  chat_options_ = options;
  // The trial sandbox takes as long as a call does: the first call need not wait for it, nor does the first token.
  if (confinement.policy.sandbox == tools::SandboxMode::required) {
    options.on_first_token = [this] { probe_ = std::async(std::launch::async, &tools::Sandbox::missing_mechanism); };
  }
  options.logprobs = logprobs;
  try {
    engine_ = model::Engine::create(model_, engine_options_from(args, config, device, *model_, options.cache_format));
    chat_ = std::make_unique<runtime::LocalChat>(engine_, options);
  } catch (const std::invalid_argument& error) {  // a parameter that only the model can tell is wrong
    throw UsageError(error.what());
  }

  if (resume) {
    if (sessions_) chat_->restore(*sessions_, record.id);
    session_.emplace(runtime::Session::resume(*store_, std::move(record), *chat_, *toolbox_, model_->fingerprint()));
  } else {
    record.workdir = confinement.workdir;
    record.agent = agent.name;
    record.model_name = model_->name();
    record.model_fingerprint = model_->fingerprint();
    record.prompt = options.prompt;
    record.sampler = sampler;
    session_.emplace(runtime::Session::start(*store_, std::move(record), *chat_, *toolbox_));
  }
  asker_->session_id = session_->record().id;
}

void Assembly::keep_cache() const {
  if (sessions_) chat_->store(*sessions_, session_->record().id);
}

runtime::RunOptions Assembly::run_options(std::stop_token stop) {
  runtime::RunOptions& options = asker_->options;
  options.limits = limits_;
  options.approver = {.mode = approve_mode_, .ask = {}};
  if (approve_mode_ != runtime::ApproveMode::never && access("/dev/tty", R_OK | W_OK) == 0) {
    options.approver.ask = [stop](const model::Call& call) { return ask_at_terminal(call, stop); };
  }
  return options;
}

}  // namespace corvid::agents
