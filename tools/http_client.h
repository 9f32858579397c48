// One HTTP exchange through libcurl, under a host policy: no proxies, no stored credentials, no other protocols,
// redirects followed by us and only to what the policy allows, everything bounded.
#pragma once
#include <chrono>
#include <cstdint>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "tools/host_policy.h"

namespace corvid::tools {

struct HttpRequest {
  std::string method, url;  // the method in upper case
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  bool has_body = false;
};

struct HttpLimits {
  std::chrono::milliseconds timeout;  // of the whole, redirects included
  int64_t body_bytes;                 // after decompression
  int64_t header_bytes = 64 * 1024;
  int redirects = 5;
};

struct HttpReply {
  enum class End : uint8_t { answered, denied, failed, timed_out, cancelled };
  End end = End::answered;
  std::string problem;  // unless answered; when answered, why a redirect was not followed
  int status = 0;
  std::string headers;  // "Name: value\n" lines as sent
  std::string body;
  std::string url;  // of the last request
  int redirects = 0;
};

HttpReply fetch(const HttpRequest& request, const HostPolicy& policy, const HttpLimits& limits, std::stop_token stop);

}  // namespace corvid::tools
