#include "agents/embed/session.h"

#include <algorithm>
#include <stdexcept>

#include "agents/agent_tools.h"
#include "model/utf8.h"

namespace corvid {
inline namespace v1 {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kDefaultContext = 32768;

// What the store and the engine keep is no tool's business: it is read as what was said, and as what was evaluated.
tools::Sandbox sandbox_of(const Agent::Impl& agent, const fs::path& workdir, const Store::Impl& store,
                          const fs::path& prefix_folder) {
  std::error_code failure;
  const fs::path real = fs::canonical(workdir, failure);
  if (failure || !fs::is_directory(real, failure))
    throw std::invalid_argument("workdir: no such folder: " + workdir.string());
  tools::Policy policy = agent.policy;
  agents::hide_store(policy, store.file);
  for (const fs::path& folder : {store.session_folder, prefix_folder}) {
    if (!folder.empty()) policy.hidden_folders.push_back(folder);
  }
  return tools::Sandbox(real, std::move(policy));
}

// The agent's tools, and behind them the host's.
tools::Toolbox toolbox_of(const Agent::Impl& agent, tools::Sandbox sandbox) {
  tools::Toolbox toolbox = agents::make_agent_tools(agent.agent, std::move(sandbox));
  for (tools::ToolSpec& spec : toolbox.specs()) {
    if (const auto found = agent.replaced.find(spec.name); found != agent.replaced.end())
      toolbox.replace(make_host_tool(std::move(spec), found->second));
  }
  for (const auto& [spec, run] : agent.host_tools) toolbox.add(make_host_tool(spec, run));
  return toolbox;
}

// Names of tools with a function of the host behind them.
std::set<std::string, std::less<>> host_functions_of(const Agent::Impl& agent) {
  std::set<std::string, std::less<>> names;
  for (const auto& [name, run] : agent.replaced) names.insert(name);
  for (const auto& [spec, run] : agent.host_tools) names.insert(spec.name);
  return names;
}

// What a stored session was told that it has must be there.
void check_tools(const runtime::SessionRecord& record, const tools::Toolbox& toolbox) {
  const std::vector<tools::ToolSpec> specs = toolbox.specs();
  for (const model::ToolDecl& tool : record.prompt.tools) {
    if (std::ranges::find(specs, tool.name, &tools::ToolSpec::name) == specs.end())
      throw std::invalid_argument("session " + record.id + " has a tool \"" + tool.name + "\", which the agent lacks");
  }
}

runtime::LocalChatOptions chat_options(const Engine::Impl& engine, int64_t context, model::Prompt prompt,
                                       model::SamplerParams sampler) {
  const int64_t most = engine.model->model->config().context_length;
  runtime::LocalChatOptions options;
  options.prompt = std::move(prompt);
  options.sampler = std::move(sampler);
  options.context = context == 0 ? std::min(kDefaultContext, most) : context;
  options.prefixes = engine.prefixes;
  return options;
}

std::string summary_of(const Result& result) {
  return std::string(to_text(result.status)) + ", " + std::to_string(result.turns) + " turns, " +
         std::to_string(result.usage.completion_tokens) + " tokens, " + std::to_string(result.tool_calls.size()) +
         " calls" + (result.error.empty() ? "" : ": " + result.error);
}

}  // namespace

std::string checked_prompt(std::string_view prompt) {
  if (model::is_blank(prompt)) throw std::invalid_argument("prompt: want a task, found nothing");
  return std::string(prompt);
}

void deliver(const RunOptions& options, Event event) {
  if (!options.dispatch) return options.on_event(event);
  options.dispatch([handler = options.on_event, event = std::move(event)] { handler(event); });
}

Session::Impl::Impl(std::shared_ptr<Engine::Impl> engine_in, const Store::Impl& store_in, const Agent::Impl& agent,
                    const fs::path& workdir)
    : engine(std::move(engine_in)),
      store(store_in.file),
      cache(store_in.sessions),
      limits(agent.agent.limits),
      host_functions(host_functions_of(agent)),
      toolbox(as_arguments(
          [&] { return toolbox_of(agent, sandbox_of(agent, workdir, store_in, engine->prefix_folder)); })) {}

Session::Impl::~Impl() {
  if (!cache || !has_run) return;
  const std::string& id = session->record().id;
  try {
    store.find(id);  // throws when it was removed, and then nothing may be left of it
    chat->store(*cache, id);
    store.find(id);  // meanwhile
  } catch (const std::exception&) {
    cache->remove(id);
  }
}

void Session::Impl::claim() {
  std::unique_lock lock(mutex_);
  if (use_ == Use::claimed || (use_ == Use::ending && user_ == std::this_thread::get_id()))
    throw std::logic_error("session " + session->record().id + ": want one call at a time, found a run that goes on");
  released_.wait(lock, [&] { return use_ == Use::free; });
  use_ = Use::claimed;
}

void Session::Impl::release() noexcept {
  const std::lock_guard lock(mutex_);
  use_ = Use::free;
  released_.notify_one();
}

Result Session::Impl::run(std::string prompt, const RunOptions& options, std::stop_token stop, const Emit& emit_in) {
  runtime::RunOptions inner;
  inner.limits = limits;
  if (options.deadline) {
    const auto left = *options.deadline - std::chrono::steady_clock::now();
    inner.limits.wall = std::min(
        limits.wall, std::max(std::chrono::ceil<std::chrono::milliseconds>(left), std::chrono::milliseconds(0)));
  }
  inner.approver.mode = runtime::ApproveMode(options.approve);
  inner.approver.is_unknown = [this](std::string_view tool) { return host_functions.contains(tool); };
  if (options.ask) {
    inner.approver.ask = [&](const model::Call& call) { return options.ask({call.id, call.name, call.args}); };
  }
  emit = [&](const runtime::Event& event) {
    if (std::holds_alternative<runtime::DoneEvent>(event)) {
      const std::lock_guard lock(mutex_);
      use_ = Use::ending;
      user_ = std::this_thread::get_id();
    }
    if (emit_in) emit_in(event);
  };
  has_run = true;
  const std::string notice = session->notice();
  if (!notice.empty()) engine->log(LogLevel::warning, "session " + session->record().id + ": " + notice);
  Result result = to_public(session->run(std::move(prompt), inner, std::move(stop)));
  emit = nullptr;
  const LogLevel level = result.status == Status::completed ? LogLevel::info
                         : result.status == Status::error   ? LogLevel::error
                                                            : LogLevel::warning;
  engine->log(level, "session " + result.session_id + ": " + summary_of(result));
  return result;
}

Session::Session(std::shared_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {
  impl_->session->watch([inner = impl_.get()](const runtime::Event& event) {
    if (inner->emit) inner->emit(event);
  });
}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

Session Session::start(const Engine& engine, const Store& store, const Agent& agent, const SessionOptions& options) {
  auto impl = std::make_shared<Impl>(engine.impl_, *store.impl_, *agent.impl_, options.workdir);
  const agents::Agent& inner = agent.impl_->agent;
  runtime::SessionRecord record;
  record.workdir = impl->toolbox.sandbox().workdir();
  record.agent = inner.name;
  record.model_name = engine.impl_->model->model->name();
  record.model_fingerprint = engine.impl_->model->model->fingerprint();
  record.prompt = agents::prompt_of(inner, impl->toolbox);
  if (!options.project_notes) record.prompt.instructions = inner.instructions;
  record.sampler = inner.sampler;
  impl->chat.emplace(engine.impl_->engine, chat_options(*engine.impl_, options.context, record.prompt, record.sampler));
  impl->session.emplace(runtime::Session::start(impl->store, std::move(record), *impl->chat, impl->toolbox));
  engine.impl_->log(LogLevel::info, "session " + impl->session->record().id + ": begun by " + inner.name + " in " +
                                        impl->session->record().workdir.string());
  return Session(std::move(impl));
}

Session Session::resume(const Engine& engine, const Store& store, const Agent& agent, std::string_view id,
                        const SessionOptions& options) {
  runtime::SessionRecord record = [&] {
    const std::lock_guard lock(store.impl_->mutex);
    return store.impl_->store.find(id);
  }();
  const fs::path workdir = options.workdir == "." ? record.workdir : options.workdir;
  auto impl = std::make_shared<Impl>(engine.impl_, *store.impl_, *agent.impl_, workdir);
  check_tools(record, impl->toolbox);
  impl->chat.emplace(engine.impl_->engine, chat_options(*engine.impl_, options.context, record.prompt, record.sampler));
  if (impl->cache) impl->chat->restore(*impl->cache, record.id);
  impl->session.emplace(runtime::Session::resume(impl->store, std::move(record), *impl->chat, impl->toolbox,
                                                 engine.impl_->model->model->fingerprint()));
  engine.impl_->log(LogLevel::info, "session " + impl->session->record().id + ": resumed by " +
                                        agent.impl_->agent.name + " in " + impl->toolbox.sandbox().workdir().string());
  return Session(std::move(impl));
}

const std::string& Session::id() const noexcept { return impl_->session->record().id; }
const fs::path& Session::workdir() const noexcept { return impl_->toolbox.sandbox().workdir(); }

std::vector<Message> Session::messages() const {
  const Claim claim(*impl_);
  std::vector<Message> messages;
  for (const model::Message& message : impl_->session->messages()) messages.push_back(to_public(message));
  return messages;
}

Result Session::run(std::string_view prompt, const RunOptions& options) {
  std::string checked = checked_prompt(prompt);
  const Claim claim(*impl_);
  Impl::Emit emit;
  if (options.on_event) emit = [&](const runtime::Event& event) { deliver(options, to_public(event)); };
  return impl_->run(std::move(checked), options, options.stop, emit);
}

ToolResult Session::call_tool(std::string_view name, std::string_view arguments, std::stop_token stop) {
  const Claim claim(*impl_);
  tools::ToolResult result = impl_->toolbox.run(name, arguments, std::move(stop));
  ToolResult outer(to_public(result.status), std::move(result.text));
  outer.detail = result.detail.dump(-1, ' ', false, tools::Json::error_handler_t::replace);
  return outer;
}

}  // namespace v1
}  // namespace corvid
