#include "tools/http.h"

#include <algorithm>
#include <cerrno>

#include "tools/file.h"
#include "tools/http_client.h"
#include "tools/results.h"
#include "tools/sandbox.h"
#include "tools/text.h"

namespace corvid::tools {
namespace {

std::string changed_case(std::string text, char from, char to) {
  for (char& c : text) {
    if (c >= from && c <= from + 25) c = static_cast<char>(c - from + to);
  }
  return text;
}

bool is_token(std::string_view text) {  // RFC 9110, 5.6.2
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}

// Headers that libcurl writes, or that would make a server and us see two different messages or hosts.
bool is_ours(const std::string& name) {
  const std::string lower = changed_case(name, 'A', 'a');
  for (const char* known :
       {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect"}) {
    if (lower == known) return true;
  }
  return lower.starts_with("proxy-");
}

// Fills the request; returns what is wrong with the arguments, or "".
std::string read_request(const Json& args, HttpRequest& request) {
  static const std::vector<std::string> kMethods = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};
  request.method = changed_case(args["method"], 'a', 'A');
  if (std::find(kMethods.begin(), kMethods.end(), request.method) == kMethods.end()) {
    return "\"method\" must be one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, found " +
           args["method"].dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  request.url = args["url"];
  bool has_type = false;
  const Json headers = args.value("headers", Json::object());
  for (const auto& [name, item] : headers.items()) {
    const std::string value = item;
    const auto is_control = [](char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f; };
    if (!is_token(name)) return "\"" + one_line(name) + "\" cannot be the name of a header";
    if (std::any_of(value.begin(), value.end(), is_control))
      return "the header " + name + " holds a line end or another control byte";
    if (is_ours(name)) return "the header " + name + " cannot be set";
    has_type = has_type || changed_case(name, 'A', 'a') == "content-type";
    request.headers.emplace_back(name, value);
  }
  if (const auto body = args.find("body"); body != args.end()) {
    request.has_body = true;
    request.body = *body;
    const bool looks_json = request.body.find_first_of("{[") == request.body.find_first_not_of(" \t\r\n");
    const bool is_json = !request.body.empty() && looks_json && Json::accept(request.body);
    if (!has_type)
      request.headers.emplace_back("Content-Type", is_json ? "application/json" : "text/plain; charset=utf-8");
  }
  return "";
}

class HttpTool : public SpecTool {
 public:
  HttpTool()
      : SpecTool(make_spec("http_request", "Fetch a URL",
                           {{"method", {{"type", "string"}}},
                            {"url", {{"type", "string"}}},
                            {"headers", {{"type", "object"}, {"additionalProperties", {{"type", "string"}}}}},
                            {"body", {{"type", "string"}}},
                            {"save_to", {{"type", "string"}}}},
                           {"method", "url"})) {}

  ToolResult run(const Json& args, const Sandbox& box, std::stop_token stop) override {
    HttpRequest request;
    if (const std::string problem = read_request(args, request); !problem.empty()) return bad_args(problem);
    const std::string save_to = args.value("save_to", "");
    if (args.contains("save_to")) {  // said before anything is sent; folders are made when there is something to save
      int error = 0;
      box.paths().place(save_to, /*make_parents=*/false, error);
      if (error != 0 && error != ENOENT) return path_failure(error, save_to);
    }
    const Policy& policy = box.policy();
    const HttpReply reply =
        fetch(request, HostPolicy(policy.allow_hosts), {policy.http_timeout, policy.http_body_limit_bytes}, stop);
    switch (reply.end) {
      case HttpReply::End::answered:
        break;
      case HttpReply::End::denied:
        return denied(reply.problem);
      case HttpReply::End::failed:
        return failed(reply.problem);
      case HttpReply::End::timed_out:
        return {Status::timed_out, "[timed out after " + seconds_text(policy.http_timeout.count()) + "]",
                Json::object()};
      case HttpReply::End::cancelled:
        return cancelled();
    }
    return show(reply, args.contains("save_to"), save_to, box);
  }

 private:
  static ToolResult show(const HttpReply& reply, bool save, const std::string& save_to, const Sandbox& box) {
    ToolResult result;
    result.detail["status"] = reply.status;
    result.detail["bytes"] = reply.body.size();
    result.detail["url"] = to_valid_utf8(reply.url);
    const int64_t limit = box.policy().output_limit_bytes;
    result.text = "HTTP " + std::to_string(reply.status) + '\n' + cut_middle(reply.headers, limit);
    end_line(result.text);
    result.text += '\n';
    // A redirect's body is not what was asked for.
    if (save && reply.status < 300) {
      if (const int error = replace_file(box.paths(), save_to, reply.body)) return path_failure(error, save_to);
      result.text += "saved " + std::to_string(reply.body.size()) + " bytes to " + one_line(save_to);
      return result;
    }
    // A NUL means bytes; text in another encoding than UTF-8 is still worth seeing.
    const bool binary = reply.body.find('\0') != std::string::npos;
    result.text +=
        binary ? "[binary body, " + std::to_string(reply.body.size()) + " bytes]" : cut_middle(reply.body, limit);
    if (save) {
      end_line(result.text);
      result.text += "[not saved: status " + std::to_string(reply.status) + "]";
      result.status = Status::failed;
    }
    result.text = without_final_newline(std::move(result.text));
    return result;
  }
};

}  // namespace

std::unique_ptr<Tool> make_http_request() { return std::make_unique<HttpTool>(); }

}  // namespace corvid::tools
