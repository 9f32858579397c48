#include "tools/host_policy.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace corvid::tools {
namespace {

constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

struct Range4 {
  uint32_t base;
  int bits;
};
constexpr uint32_t v4(uint32_t a, uint32_t b, uint32_t c, uint32_t d) { return a << 24 | b << 16 | c << 8 | d; }
// The IANA special-purpose registry, multicast and what is reserved; 168.63.129.16 is one cloud's host service.
constexpr Range4 kSpecial4[] = {{v4(0, 0, 0, 0), 8},      {v4(10, 0, 0, 0), 8},       {v4(100, 64, 0, 0), 10},
                                {v4(127, 0, 0, 0), 8},    {v4(169, 254, 0, 0), 16},   {v4(172, 16, 0, 0), 12},
                                {v4(192, 0, 0, 0), 24},   {v4(192, 0, 2, 0), 24},     {v4(192, 88, 99, 0), 24},
                                {v4(192, 168, 0, 0), 16}, {v4(198, 18, 0, 0), 15},    {v4(198, 51, 100, 0), 24},
                                {v4(203, 0, 113, 0), 24}, {v4(168, 63, 129, 16), 32}, {v4(224, 0, 0, 0), 3}};

bool is_public4(const uint8_t* bytes) {
  const uint32_t address = v4(bytes[0], bytes[1], bytes[2], bytes[3]);
  return std::none_of(std::begin(kSpecial4), std::end(kSpecial4),
                      [&](const Range4& range) { return (address ^ range.base) >> (32 - range.bits) == 0; });
}

bool begins(const Address& address, std::initializer_list<uint8_t> prefix) {
  return std::equal(prefix.begin(), prefix.end(), address.begin());
}

bool is_loopback(const Address& address) {
  if (std::equal(std::begin(kMapped), std::end(kMapped), address.begin())) return address[12] == 127;
  return std::all_of(address.begin(), address.end() - 1, [](uint8_t b) { return b == 0; }) && address[15] == 1;
}

std::string canonical(std::string_view host) {
  std::string out(host);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  if (out.ends_with('.')) out.pop_back();
  return out;
}

}  // namespace

std::optional<Address> parse_address(std::string_view text) {
  const std::string copy(text);
  Address out{};
  if (::inet_pton(AF_INET6, copy.c_str(), out.data()) == 1) return out;
  std::copy(std::begin(kMapped), std::end(kMapped), out.begin());
  if (::inet_pton(AF_INET, copy.c_str(), out.data() + 12) == 1) return out;
  return std::nullopt;
}

std::optional<Address> address_of(const sockaddr* address) {
  Address out{};
  if (address->sa_family == AF_INET6) {
    std::memcpy(out.data(), &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr, 16);
    return out;
  }
  if (address->sa_family != AF_INET) return std::nullopt;
  std::copy(std::begin(kMapped), std::end(kMapped), out.begin());
  std::memcpy(out.data() + 12, &reinterpret_cast<const sockaddr_in*>(address)->sin_addr, 4);
  return out;
}

std::string to_text(const Address& address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (std::equal(std::begin(kMapped), std::end(kMapped), address.begin())) {
    ::inet_ntop(AF_INET, address.data() + 12, text, sizeof text);
  } else {
    ::inet_ntop(AF_INET6, address.data(), text, sizeof text);
  }
  return text;
}

bool is_public(const Address& address) {
  if (std::equal(std::begin(kMapped), std::end(kMapped), address.begin())) return is_public4(address.data() + 12);
  if (begins(address, {0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0})) return is_public4(address.data() + 12);  // NAT64
  if (begins(address, {0x20, 0x02})) return is_public4(address.data() + 2);                                    // 6to4
  // Global unicast is 2000::/3; within it 2001::/23 (Teredo and other protocols), 2001:db8::/32 and 3fff::/20 are not.
  // Everything outside it is loopback, local, multicast or unassigned, compatible IPv4 included.
  if (address[0] >> 5 != 1) return false;
  if (begins(address, {0x20, 0x01, 0x0d, 0xb8}) || (begins(address, {0x20, 0x01}) && address[2] < 2)) return false;
  return !(begins(address, {0x3f, 0xff}) && address[2] < 0x10);
}

HostPolicy::HostPolicy(const std::vector<std::string>& allow_hosts) {
  for (const std::string& text : allow_hosts) {
    const auto bad = [&] {
      return std::invalid_argument("allowed host \"" + text + "\": want HOST or HOST:PORT ([ADDRESS]:PORT for IPv6)");
    };
    std::string_view host = text, port;
    if (host.starts_with('[')) {
      const size_t end = host.find(']');
      if (end == std::string_view::npos) throw bad();
      port = host.substr(end + 1);
      host = host.substr(1, end - 1);
      if (!port.empty() && !port.starts_with(':')) throw bad();
    } else if (std::count(host.begin(), host.end(), ':') == 1) {
      port = host.substr(host.find(':'));
      host = host.substr(0, host.find(':'));
    }
    Entry entry{canonical(host), parse_address(host), 0};
    const bool plain = std::all_of(entry.host.begin(), entry.host.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == ':';
    });
    if (entry.host.empty() || !plain || (entry.host.find(':') != std::string::npos && !entry.address)) throw bad();
    if (!port.empty()) {
      const std::string digits(port.substr(1));
      if (digits.empty() || digits.size() > 5 || digits.find_first_not_of("0123456789") != std::string::npos)
        throw bad();
      const int number = std::stoi(digits);
      if (number < 1 || number > 65535) throw bad();
      entry.port = static_cast<uint16_t>(number);
    }
    entries_.push_back(std::move(entry));
  }
}

bool HostPolicy::allows_name(std::string_view host, uint16_t port) const {
  const std::optional<Address> address = parse_address(host);
  return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    if (entry.port != 0 && entry.port != port) return false;
    if (address) return entry.address == address || (entry.host == "localhost" && is_loopback(*address));
    // An allowed loopback address may be called localhost; the address itself is checked all the same.
    return entry.host == host || (host == "localhost" && entry.address && is_loopback(*entry.address));
  });
}

bool HostPolicy::allows_address(std::string_view host, const Address& address, uint16_t port) const {
  if (is_public(address)) return true;
  return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    if (entry.port != 0 && entry.port != port) return false;
    if (entry.address) return *entry.address == address;
    return entry.host == "localhost" && is_loopback(address) && (host == "localhost" || parse_address(host));
  });
}

std::string host_port(std::string_view host, uint16_t port) {
  std::string out(host);
  if (host.find(':') != std::string_view::npos) out.insert(0, 1, '[').append(1, ']');
  return out.append(1, ':').append(std::to_string(port));
}

}  // namespace corvid::tools
