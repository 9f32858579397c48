// An agent behind a socket:  stream FOLDER [PORT]
//
// Listens on 127.0.0.1. Every connection sends one line, the prompt, and gets the run's events as they happen, one JSON
// object a line, like `corvid run --output jsonl`. A client that hangs up cancels its run, also while it says nothing;
// closing its sending side alone looks the same from here, so a client keeps both open.
// Ends after one connection, or with a PORT serves until it is killed.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <corvid/corvid.hpp>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

[[noreturn]] void fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ~Socket() {
    if (fd_ >= 0) ::close(fd_);
  }
  int fd() const { return fd_; }

  std::string read_line() const {
    std::string line;
    for (char c; line.size() < 4096 && ::recv(fd_, &c, 1, 0) == 1 && c != '\n';) line += c;
    return line;
  }
  // Whether the other side has closed the connection.
  bool is_closed() const {
    pollfd peer{fd_, POLLRDHUP, 0};
    return ::poll(&peer, 1, 0) == 1 && (peer.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
  }
  // False when nobody is there any more.
  bool send_line(std::string line) const {
    line += '\n';
    for (std::string_view left = line; !left.empty();) {
      const ssize_t n = ::send(fd_, left.data(), left.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      left.remove_prefix(size_t(n));
    }
    return true;
  }

 private:
  int fd_;
};

Socket listen_on(uint16_t port) {
  Socket server(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int yes = 1;
  ::setsockopt(server.fd(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  socklen_t size = sizeof address;
  if (::bind(server.fd(), reinterpret_cast<sockaddr*>(&address), size) != 0) fail("bind");
  if (::listen(server.fd(), 16) != 0) fail("listen");
  ::getsockname(server.fd(), reinterpret_cast<sockaddr*>(&address), &size);
  std::cout << "listening on 127.0.0.1:" << ntohs(address.sin_port) << std::endl;
  return server;
}

// The run's next event; while there is none, a client that has gone cancels the run.
std::optional<corvid::Event> next_event(corvid::Run& run, const Socket& client) {
  for (;;) {
    if (std::optional<corvid::Event> event = run.next_for(std::chrono::milliseconds(200))) return event;
    if (run.is_done()) return run.next();
    if (client.is_closed()) run.cancel();
  }
}

void serve(const Socket& client, const corvid::Engine& engine, const corvid::Store& store,
           const std::filesystem::path& folder) try {
  corvid::Session session = corvid::Session::start(engine, store, corvid::Agent(), {.workdir = folder});
  corvid::Run run = session.begin(client.read_line());
  while (const std::optional<corvid::Event> event = next_event(run, client)) {
    if (!client.send_line(corvid::to_json(*event))) run.cancel();
  }
} catch (const std::exception& error) {
  client.send_line(std::string("error: ") + error.what());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: stream FOLDER [PORT]\n";
    return 2;
  }
  try {
    const corvid::Engine engine(corvid::Model::shipped());
    const corvid::Store store("agent.db");
    const std::filesystem::path folder = std::filesystem::canonical(argv[1]);
    const Socket server = listen_on(argc > 2 ? uint16_t(std::atoi(argv[2])) : 0);
    std::vector<std::jthread> clients;
    do {
      Socket client(::accept4(server.fd(), nullptr, nullptr, SOCK_CLOEXEC));
      if (client.fd() < 0) fail("accept");
      clients.emplace_back(
          [client = std::move(client), &engine, &store, &folder] { serve(client, engine, store, folder); });
    } while (argc > 2);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "stream: " << error.what() << "\n";
    return 1;
  }
}
