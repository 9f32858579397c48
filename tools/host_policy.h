// Which hosts the HTTP tool may reach. A name must be allowed, and so must the address that is really connected to:
// a name that leads to a private address gains nothing by being allowed (DNS rebinding).
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

struct sockaddr;

namespace corvid::tools {

// An IPv6 address; IPv4 as ::ffff:a.b.c.d.
using Address = std::array<uint8_t, 16>;

std::optional<Address> parse_address(std::string_view text);  // no brackets
std::optional<Address> address_of(const sockaddr* address);
std::string to_text(const Address& address);

// A public address of the Internet: not loopback, private, link-local, shared (CGNAT), multicast, reserved, for
// documentation, or a cloud's metadata service. An IPv4 address within an IPv6 one (mapped, compatible, NAT64, 6to4)
// counts as itself.
bool is_public(const Address& address);

class HostPolicy {
 public:
  // HOST or HOST:PORT each, [V6]:PORT for IPv6 with a port. Throws std::invalid_argument naming a bad one.
  explicit HostPolicy(const std::vector<std::string>& allow_hosts);

  // `host` in lower case, no final dot, no brackets.
  bool allows_name(std::string_view host, uint16_t port) const;
  // Whether `host`, which was allowed, may be reached at this address.
  bool allows_address(std::string_view host, const Address& address, uint16_t port) const;

 private:
  struct Entry {
    std::string host;
    std::optional<Address> address;  // when the host is one
    uint16_t port;                   // 0: every port
  };
  std::vector<Entry> entries_;
};

// HOST:PORT, [V6]:PORT
std::string host_port(std::string_view host, uint16_t port);

}  // namespace corvid::tools
