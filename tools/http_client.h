// One HTTP exchange through libcurl, under a host policy: no proxies, no stored credentials, no other protocols,
// redirects shown and not followed, everything bounded.
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
  std::chrono::milliseconds timeout;
  int64_t body_bytes;  // after decompression
  int64_t header_bytes = 64 * 1024;
};

struct HttpReply {
  enum class End : uint8_t { answered, denied, failed, timed_out, cancelled };
  End end = End::answered;
  std::string problem;  // unless answered
  int status = 0;
  std::string headers;  // "Name: value\n" lines as sent
  std::string body;
  std::string url;  // as it was sent
};

HttpReply fetch(const HttpRequest& request, const HostPolicy& policy, const HttpLimits& limits, std::stop_token stop);

}  // namespace corvid::tools
