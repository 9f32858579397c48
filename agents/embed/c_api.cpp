// corvid.h over the C++ library: every exception ends here.
#include <corvid.h>

#include <algorithm>
#include <corvid/corvid.hpp>
#include <cstring>
#include <exception>
#include <mutex>
#include <new>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

#include "model/utf8.h"

using corvid::to_json;
using Json = nlohmann::ordered_json;

struct corvid_engine {
  corvid::Engine engine;
  std::string model;
};
struct corvid_store {
  corvid::Store store;
};
struct corvid_agent {
  corvid::Agent agent;
};
struct corvid_session {
  corvid::Session session;
  std::mutex mutex = {};
  std::stop_source stop{std::nostopstate};  // of the run that goes on
};
struct corvid_result {
  corvid::Result result;
  std::string json;
};
struct corvid_output {
  std::string text;
};
struct corvid_error {
  std::string message;
};
struct corvid_event {
  const corvid::Event& event;
  mutable std::string json;
};
struct corvid_request {
  const corvid::ToolRequest& request;
  mutable std::vector<std::unique_ptr<std::string>> given;  // what was asked for, alive during the call
};
struct corvid_reply {
  corvid::ToolResult result;
  std::exception_ptr failure = nullptr;  // instead of a result
};

namespace {

corvid_text text_of(const std::string& text) { return {text.c_str(), text.size()}; }

std::string_view bytes_of(corvid_text text, const char* name) {
  if (text.size == 0) return {};
  if (text.data == nullptr) throw std::invalid_argument(std::string(name) + ": want text, found NULL");
  return {text.data, text.size};
}

// Throws std::invalid_argument for text that is no UTF-8.
std::string string_of(corvid_text text, const char* name) {
  const std::string_view bytes = bytes_of(text, name);
  for (std::string_view left = bytes; !left.empty();) {
    const int length = corvid::model::utf8_length(left);
    if (length <= 0) throw std::invalid_argument(std::string(name) + ": want UTF-8, found other bytes");
    left.remove_prefix(size_t(length));
  }
  return std::string(bytes);
}

std::vector<std::string> strings_of(const corvid_text* texts, size_t count, const char* name) {
  if (count > 0 && texts == nullptr) throw std::invalid_argument(std::string(name) + ": want a list, found NULL");
  std::vector<std::string> strings;
  for (size_t i = 0; i < count; ++i) strings.push_back(string_of(texts[i], name));
  return strings;
}

template <class T>
T& wanted(T* object, const char* name) {
  if (object == nullptr) throw std::invalid_argument(std::string(name) + ": want one, found NULL");
  return *object;
}

// The caller's struct, which an older header may have made shorter; what it lacks is zero.
template <class T>
T options_of(const T* given, const char* name) {
  T options{};
  if (given == nullptr) return options;
  if (given->size < sizeof(size_t) || given->size > sizeof(T))
    throw std::invalid_argument(std::string(name) + ": want a size of at most " + std::to_string(sizeof(T)) +
                                ", found " + std::to_string(given->size));
  std::memcpy(&options, given, given->size);
  return options;
}

corvid_status fail(corvid_status status, const char* what, corvid_error** error) noexcept {
  if (error == nullptr) return status;
  try {
    *error = new corvid_error{what};
  } catch (const std::bad_alloc&) {
    *error = nullptr;
  }
  return status;
}

template <class Step>
corvid_status guarded(corvid_error** error, const Step& step) noexcept {
  if (error != nullptr) *error = nullptr;
  try {
    step();
    return CORVID_OK;
  } catch (const std::bad_alloc&) {
    return fail(CORVID_NO_MEMORY, "memory is short", error);
  } catch (const std::invalid_argument& e) {
    return fail(CORVID_INVALID, e.what(), error);
  } catch (const std::logic_error& e) {
    return fail(CORVID_BUSY, e.what(), error);
  } catch (const std::exception& e) {
    return fail(CORVID_FAILED, e.what(), error);
  } catch (...) {
    return fail(CORVID_FAILED, "something was thrown that is no std::exception", error);
  }
}

// Runs `make` and gives its object to the caller.
template <class T, class Make>
corvid_status make_for(T** out, corvid_error** error, const Make& make) noexcept {
  if (out != nullptr) *out = nullptr;
  return guarded(error, [&] {
    wanted(out, "the pointer for the result");
    *out = make().release();
  });
}

// The host's function with its data, released with the last agent or session that has it.
corvid::ToolFunction function_of(const corvid_tool& tool) {
  if (tool.run == nullptr) throw std::invalid_argument("tool: want a function, found NULL");
  const auto data = std::make_shared<void*>(tool.data);
  return [run = tool.run, data](const corvid::ToolRequest& request) {
    const corvid_request given{request, {}};
    corvid_reply reply;
    run(*data, &given, &reply);
    if (reply.failure) std::rethrow_exception(reply.failure);
    return std::move(reply.result);
  };
}

// What goes wrong fails the call, once the host's function is back: an exception must not pass through it.
void give(corvid_reply& reply, corvid::ToolStatus status, corvid_text text) noexcept {
  try {
    reply.result = corvid::ToolResult(status, std::string(bytes_of(text, "reply")));
    reply.failure = nullptr;
  } catch (...) {
    reply.failure = std::current_exception();
  }
}

template <class Add>
corvid_status with_tool(corvid_agent* agent, const corvid_tool* tool, corvid_error** error, const Add& add) noexcept {
  return guarded(error, [&] {
    wanted(agent, "agent");
    const corvid_tool given = options_of(&wanted(tool, "tool"), "tool");
    // Released only once the tool has been added.
    struct Release {
      void* data;
      corvid_release_fn release = nullptr;
      ~Release() {
        if (release != nullptr) release(data);
      }
    };
    const auto owner = std::make_shared<Release>(Release{given.data});
    add(given, [run = function_of(given), owner](const corvid::ToolRequest& request) { return run(request); });
    owner->release = given.release;
  });
}

corvid::RunOptions run_options_of(const corvid_run_options& given, std::stop_token stop) {
  corvid::RunOptions options;
  options.stop = std::move(stop);
  if (given.timeout_ms < 0)
    throw std::invalid_argument("timeout_ms: want 0 or more, found " + std::to_string(given.timeout_ms));
  if (given.timeout_ms > 0) {
    constexpr int64_t kYear = int64_t{365} * 24 * 3600 * 1000;
    options.deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(std::min(given.timeout_ms, kYear));
  }
  if (given.on_event != nullptr) {
    options.on_event = [handler = given.on_event, data = given.event_data](const corvid::Event& event) {
      const corvid_event shown{event, {}};
      handler(data, &shown);
    };
  }
  if (given.approve < CORVID_APPROVE_NEVER || given.approve > CORVID_APPROVE_ALWAYS)
    throw std::invalid_argument("approve: want never, risky or always, found " + std::to_string(given.approve));
  options.approve = corvid::Approve(given.approve);
  if (given.ask != nullptr) {
    options.ask = [ask = given.ask, data = given.ask_data](const corvid::ToolCall& call) {
      return ask(data, text_of(call.name), text_of(call.arguments));
    };
  }
  return options;
}

struct TextOfEvent {
  const std::string& operator()(const corvid::SessionEvent& e) const { return e.notice; }
  const std::string& operator()(const corvid::TokenEvent& e) const { return e.text; }
  const std::string& operator()(const corvid::ToolCallEvent& e) const { return e.call.name; }
  const std::string& operator()(const corvid::ToolResultEvent& e) const { return e.text; }
  const std::string& operator()(const corvid::MessageEvent& e) const { return e.message.text; }
  const std::string& operator()(const corvid::DoneEvent& e) const { return e.result.answer; }
};

int64_t ms_of(std::chrono::system_clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
}

Json to_json(const corvid::SessionInfo& session) {
  return {{"id", session.id},
          {"created_ms", ms_of(session.created)},
          {"updated_ms", ms_of(session.updated)},
          {"workdir", session.workdir.string()},
          {"agent", session.agent},
          {"model", session.model},
          {"status", session.status},
          {"prompt", session.prompt},
          {"messages", session.messages}};
}

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

corvid_text corvid_version(void) { return {corvid::version().data(), corvid::version().size()}; }

corvid_text corvid_error_message(const corvid_error* error) {
  return error != nullptr ? text_of(error->message) : corvid_text_of("");
}
void corvid_error_free(corvid_error* error) { delete error; }

corvid_status corvid_engine_create(const corvid_engine_options* options, corvid_engine** engine, corvid_error** error) {
  return make_for(engine, error, [&] {
    const corvid_engine_options given = options_of(options, "options");
    corvid::EngineOptions inner;
    inner.threads = given.threads;
    inner.cache_bytes = given.cache_bytes;
    inner.prefix_folder = string_of(given.prefix_folder, "prefix_folder");
    if (given.device < CORVID_DEVICE_AUTO || given.device > CORVID_DEVICE_CUDA)
      throw std::invalid_argument("device: want auto, cpu or cuda, found " + std::to_string(given.device));
    inner.device = corvid::Device(given.device);
    if (given.log != nullptr) {
      inner.logger = [log = given.log, data = given.log_data](corvid::LogLevel level, std::string_view line) {
        log(data, corvid_log_level(level), {line.data(), line.size()});
      };
    }
    const std::string file = string_of(given.model, "model");
    const corvid::Model model = file.empty() ? corvid::Model::shipped() : corvid::Model::load(file);
    return std::make_unique<corvid_engine>(corvid_engine{corvid::Engine(model, inner), model.file().string()});
  });
}
corvid_text corvid_engine_model(const corvid_engine* engine) {
  return engine != nullptr ? text_of(engine->model) : corvid_text_of("");
}
corvid_device corvid_engine_device(const corvid_engine* engine) {
  return engine != nullptr ? corvid_device(engine->engine.device()) : CORVID_DEVICE_AUTO;
}
void corvid_engine_free(corvid_engine* engine) { delete engine; }

corvid_status corvid_store_open(corvid_text file, corvid_store** store, corvid_error** error) {
  return corvid_store_open_with(file, nullptr, store, error);
}
corvid_status corvid_store_open_with(corvid_text file, const corvid_store_options* options, corvid_store** store,
                                     corvid_error** error) {
  return make_for(store, error, [&] {
    const corvid_store_options given = options_of(options, "options");
    const corvid::StoreOptions inner{string_of(given.session_folder, "session_folder")};
    return std::make_unique<corvid_store>(corvid_store{corvid::Store(string_of(file, "file"), inner)});
  });
}
corvid_status corvid_store_list(corvid_store* store, int64_t limit, corvid_output** list, corvid_error** error) {
  return make_for(list, error, [&] {
    Json sessions = Json::array();
    for (const corvid::SessionInfo& session : wanted(store, "store").store.list(limit))
      sessions.push_back(to_json(session));
    return std::make_unique<corvid_output>(corvid_output{dump(sessions)});
  });
}
corvid_status corvid_store_messages(corvid_store* store, corvid_text id, corvid_output** messages,
                                    corvid_error** error) {
  return make_for(messages, error, [&] {
    std::string list;
    int64_t seq = 0;
    for (corvid::Message& message : wanted(store, "store").store.messages(string_of(id, "id"))) {
      list += list.empty() ? "[" : ",";
      list += to_json(corvid::Event(corvid::MessageEvent{seq++, std::move(message)}));
    }
    return std::make_unique<corvid_output>(corvid_output{list.empty() ? "[]" : list + "]"});
  });
}
corvid_status corvid_store_remove(corvid_store* store, corvid_text id, corvid_error** error) {
  return guarded(error, [&] { wanted(store, "store").store.remove(string_of(id, "id")); });
}
void corvid_store_free(corvid_store* store) { delete store; }

corvid_status corvid_agent_load(corvid_text name_or_file, corvid_agent** agent, corvid_error** error) {
  return make_for(agent, error, [&] {
    const std::string name = string_of(name_or_file, "name_or_file");
    return std::make_unique<corvid_agent>(corvid_agent{corvid::Agent::load(name.empty() ? "default" : name)});
  });
}
corvid_status corvid_agent_set_name(corvid_agent* agent, corvid_text name, corvid_error** error) {
  return guarded(error, [&] { wanted(agent, "agent").agent.set_name(string_of(name, "name")); });
}
corvid_status corvid_agent_set_instructions(corvid_agent* agent, corvid_text text, corvid_error** error) {
  return guarded(error, [&] { wanted(agent, "agent").agent.set_instructions(string_of(text, "text")); });
}
corvid_status corvid_agent_set_tools(corvid_agent* agent, const corvid_text* names, size_t count,
                                     corvid_error** error) {
  return guarded(error, [&] { wanted(agent, "agent").agent.set_tools(strings_of(names, count, "names")); });
}
corvid_status corvid_agent_set_limits(corvid_agent* agent, int64_t turns, int64_t tokens, int64_t calls,
                                      int64_t wall_ms, corvid_error** error) {
  return guarded(error, [&] {
    corvid::Limits limits = wanted(agent, "agent").agent.limits();
    if (turns > 0) limits.turns = turns;
    if (tokens > 0) limits.tokens = tokens;
    if (calls >= 0) limits.calls = calls;
    if (wall_ms > 0) limits.wall = std::chrono::milliseconds(wall_ms);
    agent->agent.set_limits(limits);
  });
}
corvid_status corvid_agent_set_sampler(corvid_agent* agent, double temperature, uint64_t seed, corvid_error** error) {
  return guarded(error, [&] {
    corvid::Sampler sampler = wanted(agent, "agent").agent.sampler();
    sampler.temperature = temperature;
    sampler.seed = seed;
    agent->agent.set_sampler(sampler);
  });
}
corvid_status corvid_agent_set_policy(corvid_agent* agent, const corvid_policy* policy, corvid_error** error) {
  return guarded(error, [&] {
    const corvid_policy given = options_of(policy, "policy");
    corvid::Policy inner;
    inner.is_confined = !given.is_unconfined;
    for (std::string& folder : strings_of(given.write_dirs, given.n_write_dirs, "write_dirs"))
      inner.write_dirs.emplace_back(std::move(folder));
    for (std::string& folder : strings_of(given.read_dirs, given.n_read_dirs, "read_dirs"))
      inner.read_dirs.emplace_back(std::move(folder));
    inner.allow_hosts = strings_of(given.allow_hosts, given.n_allow_hosts, "allow_hosts");
    wanted(agent, "agent").agent.set_policy(std::move(inner));
  });
}
corvid_status corvid_agent_add_tool(corvid_agent* agent, const corvid_tool* tool, corvid_error** error) {
  return with_tool(agent, tool, error, [&](const corvid_tool& given, corvid::ToolFunction run) {
    agent->agent.add_tool({string_of(given.name, "name"), string_of(given.description, "description"),
                           string_of(given.parameters, "parameters"), std::move(run)});
  });
}
corvid_status corvid_agent_replace_tool(corvid_agent* agent, const corvid_tool* tool, corvid_error** error) {
  return with_tool(agent, tool, error, [&](const corvid_tool& given, corvid::ToolFunction run) {
    agent->agent.replace_tool(string_of(given.name, "name"), std::move(run));
  });
}
void corvid_agent_free(corvid_agent* agent) { delete agent; }

// The views of a request end with a NUL: they are of whole strings.
corvid_text corvid_request_name(const corvid_request* request) {
  return {request->request.name().data(), request->request.name().size()};
}
corvid_text corvid_request_arguments(const corvid_request* request) {
  return {request->request.arguments().data(), request->request.arguments().size()};
}
corvid_text corvid_request_workdir(const corvid_request* request) {
  return text_of(request->request.workdir().native());
}
corvid_text corvid_request_argument(const corvid_request* request, corvid_text name) {
  try {
    const auto found = request->request.text(bytes_of(name, "name"));
    if (!found) return {nullptr, 0};
    return text_of(*request->given.emplace_back(std::make_unique<std::string>(*found)));
  } catch (...) {
    return {nullptr, 0};
  }
}
bool corvid_request_is_stopped(const corvid_request* request) { return request->request.stop().stop_requested(); }
void corvid_reply_text(corvid_reply* reply, corvid_text text) { give(*reply, corvid::ToolStatus::ok, text); }
void corvid_reply_failure(corvid_reply* reply, corvid_text text) { give(*reply, corvid::ToolStatus::failed, text); }

corvid_status corvid_session_start(const corvid_engine* engine, const corvid_store* store, const corvid_agent* agent,
                                   corvid_text workdir, corvid_session** session, corvid_error** error) {
  return make_for(session, error, [&] {
    corvid::SessionOptions options;
    if (workdir.size > 0) options.workdir = string_of(workdir, "workdir");
    return std::unique_ptr<corvid_session>(new corvid_session{corvid::Session::start(
        wanted(engine, "engine").engine, wanted(store, "store").store, wanted(agent, "agent").agent, options)});
  });
}
corvid_status corvid_session_resume(const corvid_engine* engine, const corvid_store* store, const corvid_agent* agent,
                                    corvid_text id, corvid_session** session, corvid_error** error) {
  return make_for(session, error, [&] {
    return std::unique_ptr<corvid_session>(
        new corvid_session{corvid::Session::resume(wanted(engine, "engine").engine, wanted(store, "store").store,
                                                   wanted(agent, "agent").agent, string_of(id, "id"))});
  });
}
corvid_text corvid_session_id(const corvid_session* session) {
  return session != nullptr ? text_of(session->session.id()) : corvid_text_of("");
}

corvid_event_kind corvid_event_kind_of(const corvid_event* event) { return corvid_event_kind(event->event.index()); }
corvid_text corvid_event_text(const corvid_event* event) { return text_of(std::visit(TextOfEvent{}, event->event)); }
corvid_text corvid_event_json(const corvid_event* event) {
  try {
    if (event->json.empty()) event->json = to_json(event->event);
    return text_of(event->json);
  } catch (...) {
    return corvid_text_of("");
  }
}

corvid_status corvid_session_run(corvid_session* session, corvid_text prompt, const corvid_run_options* options,
                                 corvid_result** result, corvid_error** error) {
  return make_for(result, error, [&] {
    corvid_session& s = wanted(session, "session");
    std::stop_source stop;
    const corvid::RunOptions inner = run_options_of(options_of(options, "options"), stop.get_token());
    const std::string text = string_of(prompt, "prompt");
    {
      const std::lock_guard lock(s.mutex);
      if (s.stop.stop_possible()) throw std::logic_error("session: want one run at a time, found one that goes on");
      s.stop = stop;
    }
    struct Reset {
      corvid_session& session;
      ~Reset() {
        const std::lock_guard lock(session.mutex);
        session.stop = std::stop_source(std::nostopstate);
      }
    } reset{s};
    corvid::Result made = s.session.run(text, inner);
    std::string json = to_json(made);
    return std::make_unique<corvid_result>(corvid_result{std::move(made), std::move(json)});
  });
}
void corvid_session_cancel(corvid_session* session) {
  if (session == nullptr) return;
  std::stop_source stop(std::nostopstate);
  {
    const std::lock_guard lock(session->mutex);
    stop = session->stop;
  }
  stop.request_stop();
}
corvid_status corvid_session_call_tool(corvid_session* session, corvid_text name, corvid_text arguments,
                                       corvid_output** output, corvid_error** error) {
  return make_for(output, error, [&] {
    const corvid::ToolResult result =
        wanted(session, "session").session.call_tool(string_of(name, "name"), string_of(arguments, "arguments"));
    const Json json{
        {"status", corvid::to_text(result.status)}, {"text", result.text}, {"detail", Json::parse(result.detail)}};
    return std::make_unique<corvid_output>(corvid_output{dump(json)});
  });
}
void corvid_session_free(corvid_session* session) { delete session; }

corvid_run_status corvid_result_status(const corvid_result* result) {
  return result != nullptr ? corvid_run_status(result->result.status) : CORVID_RUN_FAILED;
}
corvid_text corvid_result_answer(const corvid_result* result) {
  return result != nullptr ? text_of(result->result.answer) : corvid_text_of("");
}
corvid_text corvid_result_error(const corvid_result* result) {
  return result != nullptr ? text_of(result->result.error) : corvid_text_of("");
}
corvid_text corvid_result_json(const corvid_result* result) {
  return result != nullptr ? text_of(result->json) : corvid_text_of("");
}
void corvid_result_free(corvid_result* result) { delete result; }

corvid_text corvid_output_text(const corvid_output* output) {
  return output != nullptr ? text_of(output->text) : corvid_text_of("");
}
void corvid_output_free(corvid_output* output) { delete output; }
