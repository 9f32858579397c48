// corvid tools, policy and sandbox: what an agent could do, by hand and through the same policy.
#include <unistd.h>

#include <chrono>
#include <iostream>

#include "agents/assemble.h"
#include "agents/commands.h"
#include "agents/paths.h"
#include "agents/progress.h"
#include "runtime/interrupt.h"
#include "tools/schema.h"

namespace corvid::agents {

namespace {

using runtime::Json;

// The exit status of `corvid sandbox` when it is corvid that fails, not the command: as env and timeout do.
constexpr int kSandboxFailed = 125;

bool wants_json(const Args& args) { return args.text("output").value_or("text") == "json"; }

// The agent's tools under the policy that its runs have. A model is loaded when another agent is asked, and not before.
tools::Toolbox toolbox_from(const Args& args) {
  const Config config = load_config();
  const Agent agent = load_agent(args.text("agent").value_or(config.agent));
  tools::Sandbox sandbox = read_confinement(args, config, agent.policy).sandbox();
  if (agent.agents.empty()) return make_agent_tools(agent, std::move(sandbox));
  const auto asker = std::make_shared<Asker>();
  asker->options.limits = agent.limits;
  asker->options.meter = std::make_shared<runtime::Meter>();
  open_store(args, config);  // made, if need be, readable by this user alone
  const auto loaded = std::make_shared<std::shared_ptr<model::Engine>>();
  const auto make_chat = [=](runtime::SessionRecord& record) {
    runtime::LocalChatOptions options;
    if (!*loaded) {
      const DeviceWish device = device_wish(args, config);
      const std::filesystem::path file = find_model(args.text("model"), config.model).path;
      const auto model = model::Model::load(file, load_options_from(args, device));
      *loaded = model::Engine::create(model, engine_options_from(args, config, device, *model, options.cache_format));
    }
    options.context = context_from(args, config, *(*loaded)->model());
    options.prefixes = prefix_cache();
    return make_local_chat(*loaded, std::move(options), record);
  };
  return make_asking_tools(agent, std::move(sandbox), {make_chat, store_path(args, config)}, asker);
}

int run_tools_list(const Args& args) {
  const tools::Toolbox toolbox = toolbox_from(args);
  if (wants_json(args)) {
    Json list = Json::array();
    for (const tools::ToolSpec& spec : toolbox.specs()) {
      list.push_back({{"name", spec.name}, {"description", spec.description}, {"parameters", spec.parameters}});
    }
    std::cout << to_output_line(list) << "\n";
    return 0;
  }
  for (const tools::ToolSpec& spec : toolbox.specs()) {
    std::string arguments;
    const Json required = spec.parameters.value("required", Json::array());
    const Json properties = spec.parameters.value("properties", Json::object());
    for (const auto& [name, schema] : properties.items()) {
      const bool is_required = std::find(required.begin(), required.end(), name) != required.end();
      arguments += (arguments.empty() ? "" : ", ") + name + (is_required ? "" : "?");
    }
    std::cout << spec.name << "(" << arguments << ")\n    " << spec.description << "\n";
  }
  return 0;
}

int run_tools_call(const Args& args) {
  const std::string name = *args.positional(0);
  std::string arguments = args.positional(1).value_or("{}");
  if (arguments == "-") arguments = read_stdin();
  const runtime::Interrupt interrupt;
  tools::Toolbox toolbox = toolbox_from(args);
  const auto start = std::chrono::steady_clock::now();
  const tools::ToolResult result = toolbox.run(name, arguments, interrupt.token());
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  if (wants_json(args)) {
    Json given = arguments;  // as text when they cannot be read, which the result says
    try {
      given = tools::parse_arguments(arguments);
    } catch (const std::invalid_argument&) {
    }
    Json json = {{"name", name}, {"arguments", std::move(given)}, {"status", tools::to_text(result.status)}};
    if (result.detail.contains("exit_code")) json["exit_code"] = result.detail["exit_code"];
    json["duration_ms"] = took.count();
    json["text"] = result.text;
    json["detail"] = result.detail;
    std::cout << to_output_line(json) << "\n";
  } else {
    std::cout << (is_terminal(STDOUT_FILENO) ? plain(result.text) : result.text) << "\n";
  }
  if (result.status == tools::Status::cancelled && interrupt.token().stop_requested()) return 130;
  if (result.status == tools::Status::bad_args) return 2;
  return result.status == tools::Status::ok ? 0 : 1;
}

int run_policy_show(const Args& args) {
  const Config config = load_config();
  const Agent agent = load_agent(args.text("agent").value_or(config.agent));
  const Confinement confinement = read_confinement(args, config, agent.policy);
  const tools::Policy& policy = confinement.policy;
  const tools::EnvReport environment = confinement.sandbox().environment();
  const bool is_required = policy.sandbox == tools::SandboxMode::required;
  const std::optional<std::string> missing = tools::Sandbox::missing_mechanism();

  // Names alone: this text gets pasted into reports.
  std::vector<std::string> passed;
  for (const std::string& entry : environment.passed) passed.push_back(entry.substr(0, entry.find('=')));
  Json json;
  json["sandbox"] = is_required ? "required" : "none";
  json["mechanism"] = !is_required ? "none: commands run as you, unconfined"
                      : missing    ? "missing: " + *missing
                                   : "bubblewrap";
  json["workdir"] = confinement.workdir.string();
  const auto paths = [](const std::vector<std::filesystem::path>& folders) {
    Json list = Json::array();
    for (const std::filesystem::path& folder : folders) list.push_back(folder.string());
    return list;
  };
  json["write"] = paths(policy.write_dirs);
  json["read"] = paths(policy.read_dirs);
  json["shell_network"] = is_required ? "none" : "yours";
  json["allow_hosts"] = policy.allow_hosts;
  json["timeouts_ms"] = {{"shell", policy.shell_timeout.count()},
                         {"shell_max", policy.shell_timeout_max.count()},
                         {"http", policy.http_timeout.count()}};
  json["limits"] = {{"output", policy.output_limit_bytes},
                    {"http_body", policy.http_body_limit_bytes},
                    {"file", policy.max_file_bytes},
                    {"processes", policy.max_processes}};
  json["environment"] = {{"passed", passed}, {"held_back", environment.held_back}};
  if (wants_json(args)) {
    std::cout << to_output_line(json) << "\n";
    return 0;
  }
  const auto print = [](const std::string& name, const Json& value) {
    std::string text;
    if (value.is_array()) {
      for (const Json& item : value) text += (text.empty() ? "" : ", ") + item.get<std::string>();
      if (text.empty()) text = "-";
    } else {
      text = value.is_string() ? value.get<std::string>() : value.dump();
    }
    std::cout << name << std::string(name.size() < 22 ? 22 - name.size() : 1, ' ') << plain(text) << "\n";
  };
  for (const auto& [key, value] : json.items()) {
    if (!value.is_object())
      print(key, value);
    else
      for (const auto& [inner, item] : value.items()) print(key + "." + inner, item);
  }
  return 0;
}

int run_sandbox(const Args& args) {
  const Config config = load_config();
  const Agent agent = load_agent(config.agent);
  const Confinement confinement = read_confinement(args, config, agent.policy);
  const tools::Sandbox sandbox = confinement.sandbox();
  try {
    return sandbox.exec(args.positionals());
  } catch (const std::exception& error) {
    std::cerr << "corvid: " << plain(error.what()) << "\n";
    return kSandboxFailed;
  }
}

}  // namespace

std::vector<Command> tools_commands() {
  std::vector<Flag> flags = confinement_flags();
  flags.insert(flags.begin(),
               {output_flag({"text", "json"}), {"agent", "NAME|FILE", "whose tools", {}, Completes::files}});
  std::vector<Flag> call_flags = flags;  // with what an agent that is asked needs
  for (const Flag& flag : {model_flag(), threads_flag(), db_flag()}) call_flags.push_back(flag);
  std::vector<Flag> sandbox_flags = confinement_flags();
  std::erase_if(sandbox_flags, [](const Flag& flag) { return flag.name == "allow-host"; });  // a command has no network
  return {
      {.name = "tools list",
       .summary = "List the tools that an agent would have.",
       .positionals = {},
       .flags = flags,
       .examples = {"corvid tools list", "corvid tools list --output json"},
       .notes = "",
       .run = run_tools_list},
      {.name = "tools call",
       .summary = "Call a tool by hand, through the policy that an agent's calls go through.",
       .positionals = {{"NAME", "the tool"}, {"JSON", "its arguments; - reads them from standard input", false}},
       .flags = call_flags,
       .examples =
           {"corvid tools call shell '{\"command\":\"ls\"}' --workdir ~/garden",
            "corvid tools call http_request '{\"method\":\"GET\",\"url\":\"http://127.0.0.1:8000/\"}' --allow-host "
            "127.0.0.1:8000"},
       .notes = "Exit status: 0 ok, 1 the call failed or was denied, 2 no such tool or wrong arguments.",
       .run = run_tools_call},
      {.name = "policy show",
       .summary = "Show what applies to tools here, and which environment variables are held back from them.",
       .positionals = {},
       .flags = flags,
       .examples = {"corvid policy show --policy strict.yaml"},
       .notes = "",
       .run = run_policy_show},
      {.name = "sandbox",
       .summary = "Run a command under exactly the sandbox that the shell tool uses.",
       .positionals = {{"COMMAND", "the command and its arguments", true, true}},
       .flags = std::move(sandbox_flags),
       .examples = {"corvid sandbox -- ls -la", "corvid sandbox --workdir ~/garden -- bash -c 'echo hello > a.txt'"},
       .notes = "The command's output and exit status pass through; 125 means that the sandbox itself failed.",
       .run = run_sandbox}};
}

}  // namespace corvid::agents
