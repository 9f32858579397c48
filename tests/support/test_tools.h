// Small tools for tests of what lies above tools/.
#pragma once
#include <condition_variable>
#include <functional>
#include <mutex>
#include <stop_token>
#include <string>
#include <utility>

#include "tools/tool.h"

namespace corvid::test {

// A tool with one string argument, "text", that does what the test says.
class FunctionTool final : public tools::Tool {
 public:
  using Function = std::function<tools::ToolResult(const std::string& text, std::stop_token stop)>;

  FunctionTool(std::string name, Function function)
      : spec_{std::move(name), "A tool of a test",
              tools::Json::parse(R"({"type":"object","properties":{"text":{"type":"string"}},"required":["text"]})")},
        function_(std::move(function)) {}

  const tools::ToolSpec& spec() const noexcept override { return spec_; }
  tools::ToolResult run(const tools::Json& args, const tools::Sandbox&, std::stop_token stop) override {
    return function_(args.at("text").get<std::string>(), std::move(stop));
  }

 private:
  tools::ToolSpec spec_;
  Function function_;
};

inline tools::ToolResult ok(std::string text) { return {tools::Status::ok, std::move(text), tools::Json::object()}; }

// Returns when a stop is requested, and not before.
inline void wait_for(std::stop_token stop) {
  std::mutex mutex;
  std::condition_variable_any stopped;
  std::unique_lock lock(mutex);
  stopped.wait(lock, std::move(stop), [] { return false; });
}

}  // namespace corvid::test
