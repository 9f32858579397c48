#include "tools/shell.h"

#include "tools/results.h"
#include "tools/sandbox.h"
#include "tools/text.h"

namespace corvid::tools {
namespace {

class Shell : public SpecTool {
 public:
  Shell()
      : SpecTool(make_spec("shell", "Run a bash command in the working folder; it has no network",
                           {{"command", {{"type", "string"}}}, {"timeout_s", {{"type", "integer"}}}}, {"command"})) {}

  ToolResult run(const Json& args, const Sandbox& box, std::stop_token stop) override {
    std::chrono::milliseconds timeout = box.policy().shell_timeout;
    if (const auto asked = args.find("timeout_s"); asked != args.end()) {
      const double seconds = asked->get<double>();
      const int64_t most = box.policy().shell_timeout_max.count() / 1000;
      if (seconds < 1 || seconds > static_cast<double>(most)) {
        return bad_args("\"timeout_s\" must be from 1 to " + std::to_string(most) + ", found " + asked->dump());
      }
      timeout = std::chrono::seconds(static_cast<int64_t>(seconds));
    }
    const SpawnResult done = box.shell(args["command"].get_ref<const std::string&>(), timeout, stop);
    ToolResult result;
    result.detail["exit_code"] = done.exit_code;
    result.detail["stdout_bytes"] = done.out_bytes;
    result.detail["stderr_bytes"] = done.err_bytes;
    result.detail["duration_ms"] = done.duration.count();
    result.text = done.out;
    if (!done.err.empty()) {
      end_line(result.text);
      result.text += "[stderr]\n" + done.err;
    }
    const auto add_line = [&](const std::string& line) {
      end_line(result.text);
      result.text += line;
    };
    switch (done.end) {
      case SpawnResult::End::exited:
        if (done.exit_code == SpawnResult::kUnknownExit)
          add_line("[exit code unknown: the host reaps the library's children]");
        else if (done.exit_code != 0)
          add_line("[exit code " + std::to_string(done.exit_code) + "]");
        else if (result.text.empty())
          add_line("[no output]");
        result.status = done.exit_code == 0 ? Status::ok : Status::failed;
        break;
      case SpawnResult::End::timed_out:
        add_line("[timed out after " + seconds_text(timeout.count()) + "]");
        result.status = Status::timed_out;
        break;
      case SpawnResult::End::cancelled:
        add_line("[cancelled]");
        result.status = Status::cancelled;
        break;
    }
    result.text = without_final_newline(std::move(result.text));
    return result;
  }
};

}  // namespace

std::unique_ptr<Tool> make_shell() { return std::make_unique<Shell>(); }

}  // namespace corvid::tools
