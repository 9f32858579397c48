#include "tools/http_client.h"

#include <curl/curl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>
#include <system_error>

#include "tools/text.h"

namespace corvid::tools {
namespace {

void start_curl() {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (started != CURLE_OK) throw std::runtime_error(std::string("libcurl: ") + curl_easy_strerror(started));
}

// TLS writes without MSG_NOSIGNAL: a server that is gone would end the process, whose handlers are its own business.
class NoSigpipe {
 public:
  NoSigpipe() {
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  NoSigpipe(const NoSigpipe&) = delete;
  NoSigpipe& operator=(const NoSigpipe&) = delete;
  ~NoSigpipe() {
    const timespec now{};
    while (!was_pending_ && sigtimedwait(&pipe_, nullptr, &now) == SIGPIPE) {
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  bool was_pending_;
  sigset_t pipe_, before_;
};

struct Url {
  std::unique_ptr<CURLU, void (*)(CURLU*)> handle{curl_url(), curl_url_cleanup};
  std::string scheme, host;  // host in lower case, no final dot, no brackets
  uint16_t port = 0;
};

std::string part(const Url& url, CURLUPart which, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url.handle.get(), which, &text, flags) != CURLUE_OK) return {};
  std::string out = text;
  curl_free(text);
  return out;
}

// Parsed once, by the parser that will also connect: two parsers that disagree on where the host ends are a hole.
// Returns what is wrong, or "".
std::string parse(const std::string& text, Url& out) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7f || c == '\\')
      return "the URL holds a blank, a control byte or a backslash";
  }
  const CURLUcode code = curl_url_set(out.handle.get(), CURLUPART_URL, text.c_str(), 0);
  if (code == CURLUE_UNSUPPORTED_SCHEME) return "only http and https are spoken";
  if (code != CURLUE_OK) return "the URL cannot be read (want http://HOST/PATH)";
  out.scheme = part(out, CURLUPART_SCHEME);
  if (out.scheme != "http" && out.scheme != "https") return "only http and https are spoken, not " + out.scheme;
  if (!part(out, CURLUPART_USER).empty() || !part(out, CURLUPART_PASSWORD).empty())
    return "a URL with a user or a password is not used";
  out.host = part(out, CURLUPART_HOST);
  if (out.host.starts_with('[') && out.host.ends_with(']')) out.host = out.host.substr(1, out.host.size() - 2);
  std::transform(out.host.begin(), out.host.end(), out.host.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (out.host.ends_with('.')) out.host.pop_back();
  const bool plain = std::all_of(out.host.begin(), out.host.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == ':';
  });
  if (out.host.empty() || !plain) return "the URL's host is not a plain name or address";
  // What connects is what was checked: the cleaned spelling goes back into the URL.
  const std::string spelled = part(out, CURLUPART_HOST).starts_with('[') ? '[' + out.host + ']' : out.host;
  if (curl_url_set(out.handle.get(), CURLUPART_HOST, spelled.c_str(), 0) != CURLUE_OK)
    return "the URL's host cannot be read";
  const std::string port = part(out, CURLUPART_PORT, CURLU_DEFAULT_PORT);
  out.port = static_cast<uint16_t>(std::strtol(port.c_str(), nullptr, 10));
  curl_url_set(out.handle.get(), CURLUPART_FRAGMENT, nullptr, 0);
  return out.port == 0 ? "the URL has no port to connect to" : "";
}

std::string not_allowed(std::string_view host, uint16_t port) {
  const std::string name = host_port(host, port);
  return "host " + name + " is not allowed; allow it with --allow-host " + name;
}

// The state of one exchange, shared with libcurl's callbacks.
struct Exchange {
  const Url& url;
  const HostPolicy& policy;
  const HttpLimits& limits;
  const std::stop_token& stop;
  HttpReply& reply;
  bool in_headers = true;
  std::string denied;  // the last address that was refused
  bool tried = false;  // another was not
  bool headers_too_large = false, body_too_large = false;
};

curl_socket_t open_socket(void* data, curlsocktype, curl_sockaddr* target) {
  auto& exchange = *static_cast<Exchange*>(data);
  const std::optional<Address> address = address_of(&target->addr);
  if (!address || !exchange.policy.allows_address(exchange.url.host, *address, exchange.url.port)) {
    if (address) exchange.denied = to_text(*address);
    return CURL_SOCKET_BAD;
  }
  exchange.tried = true;
  return ::socket(target->family, target->socktype | SOCK_CLOEXEC, target->protocol);
}

size_t take_header(char* data, size_t, size_t size, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  std::string_view line(data, size);
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.remove_suffix(1);
  if (line.starts_with("HTTP/")) {  // of an interim answer (100), and then of the answer
    exchange.reply.headers.clear();
    exchange.in_headers = true;
  } else if (line.empty()) {
    exchange.in_headers = false;  // what still comes are trailers
  } else if (exchange.in_headers) {
    exchange.reply.headers += line;
    exchange.reply.headers += '\n';
  }
  exchange.headers_too_large = static_cast<int64_t>(exchange.reply.headers.size()) > exchange.limits.header_bytes;
  return exchange.headers_too_large ? 0 : size;
}

size_t take_body(char* data, size_t, size_t size, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  std::string& body = exchange.reply.body;
  exchange.body_too_large = static_cast<int64_t>(body.size() + size) > exchange.limits.body_bytes;
  if (exchange.body_too_large) return 0;
  body.append(data, size);
  return size;
}

int progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<Exchange*>(user)->stop.stop_requested() ? 1 : 0;
}

// These say how long their body is even when they have none, or servers ask for it (411).
bool sends_body(const HttpRequest& request) {
  return request.has_body || request.method == "POST" || request.method == "PUT" || request.method == "PATCH";
}

using List = std::unique_ptr<curl_slist, void (*)(curl_slist*)>;

List header_list(const HttpRequest& request) {
  curl_slist* list = curl_slist_append(nullptr, "Expect:");                  // no waiting for 100-continue
  if (sends_body(request)) list = curl_slist_append(list, "Content-Type:");  // not libcurl's guess; ours follows
  for (const auto& [name, value] : request.headers) {
    // libcurl drops "Name:" and sends "Name;" as an empty header.
    list = curl_slist_append(list, (value.empty() ? name + ";" : name + ": " + value).c_str());
  }
  return {list, curl_slist_free_all};
}

void explain(CURLcode code, CURL* curl, const Exchange& exchange, const char* detail) {
  HttpReply& reply = exchange.reply;
  reply.end = HttpReply::End::failed;
  const std::string target = host_port(exchange.url.host, exchange.url.port);
  if (exchange.stop.stop_requested()) {
    reply.end = HttpReply::End::cancelled;
  } else if (exchange.headers_too_large) {
    reply.problem = "the reply's headers are larger than " + std::to_string(exchange.limits.header_bytes) + " bytes";
  } else if (exchange.body_too_large || code == CURLE_FILESIZE_EXCEEDED) {
    reply.problem = "the reply's body is larger than " + std::to_string(exchange.limits.body_bytes) + " bytes";
  } else if (code == CURLE_OPERATION_TIMEDOUT) {
    reply.end = HttpReply::End::timed_out;
  } else if (code == CURLE_COULDNT_CONNECT && !exchange.denied.empty() && !exchange.tried) {
    reply.end = HttpReply::End::denied;
    reply.problem = exchange.denied == exchange.url.host
                        ? not_allowed(exchange.url.host, exchange.url.port)
                        : "host " + exchange.url.host + " leads to " + exchange.denied +
                              ", which is not public and not allowed; allow it with --allow-host " +
                              host_port(exchange.denied, exchange.url.port);
  } else if (code == CURLE_COULDNT_CONNECT) {
    long number = 0;
    curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &number);
    reply.problem = "could not connect to " + target +
                    (number != 0 ? ": " + std::generic_category().message(static_cast<int>(number)) : "");
  } else if (code == CURLE_COULDNT_RESOLVE_HOST) {
    reply.problem = "could not resolve " + exchange.url.host;
  } else {
    reply.problem = target + ": " + (detail[0] != '\0' ? detail : curl_easy_strerror(code));
  }
}

// The exchange itself, with a URL that the policy allows by its name.
void perform(const HttpRequest& request, const Url& url, const HostPolicy& policy, const HttpLimits& limits,
             const std::stop_token& stop, HttpReply& reply) {
  const NoSigpipe quiet;
  const std::unique_ptr<CURL, void (*)(CURL*)> handle(curl_easy_init(), curl_easy_cleanup);
  if (!handle) throw std::runtime_error("libcurl: no handle");
  CURL* const curl = handle.get();
  const List headers = header_list(request);
  char detail[CURL_ERROR_SIZE] = "";
  reply.url = part(url, CURLUPART_URL);
  Exchange exchange{url, policy, limits, stop, reply, true, "", false, false, false};
  curl_easy_setopt(curl, CURLOPT_CURLU, url.handle.get());
#if LIBCURL_VERSION_NUM >= 0x075500
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
#else
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS, long{CURLPROTO_HTTP | CURLPROTO_HTTPS});
#endif
  curl_easy_setopt(curl, CURLOPT_PROXY, "");  // also keeps http_proxy and its kin out
  curl_easy_setopt(curl, CURLOPT_NETRC, long{CURL_NETRC_IGNORED});
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);  // the agent sees where it leads, and asks again
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, detail);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "corvid");
  curl_easy_setopt(curl, CURLOPT_ACCEPT_ENCODING, "");  // what libcurl can undo; the limit counts the undone bytes
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(std::max<int64_t>(limits.timeout.count(), 1)));
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_socket);
  curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, &exchange);
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &exchange);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &exchange);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, progress);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &exchange);
  if (sends_body(request)) {
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request.body.data());
  }
  if (request.method == "HEAD") curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
  curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request.method.c_str());
  const CURLcode code = curl_easy_perform(curl);
  if (code != CURLE_OK) return explain(code, curl, exchange, detail);
  long status = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  reply.status = static_cast<int>(status);
}

}  // namespace

HttpReply fetch(const HttpRequest& request, const HostPolicy& policy, const HttpLimits& limits, std::stop_token stop) {
  start_curl();
  HttpReply reply;
  Url url;
  reply.problem = parse(request.url, url);
  if (!reply.problem.empty()) {
    reply.end = HttpReply::End::failed;
    return reply;
  }
  if (!policy.allows_name(url.host, url.port)) {
    reply.end = HttpReply::End::denied;
    reply.problem = not_allowed(url.host, url.port);
    return reply;
  }
  perform(request, url, policy, limits, stop, reply);
  return reply;
}

}  // namespace corvid::tools
