// A small HTTP server on the loopback for tests: one thread, one request a connection, answers from a function.
#pragma once
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <functional>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace corvid::test {

class HttpServer {
 public:
  struct Request {
    std::string line, headers, body;  // "GET /x HTTP/1.1"; header lines as sent, each with its "\r\n"
  };
  // The whole answer as bytes; "" leaves the connection open and silent.
  using Handler = std::function<std::string(const Request&)>;

  explicit HttpServer(Handler handler) : handler_(std::move(handler)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(listener_, 16) != 0 ||
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      throw std::system_error(errno, std::generic_category(), "test server");
    }
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  HttpServer(const HttpServer&) = delete;
  ~HttpServer() {
    stop_ = true;
    thread_.join();
    for (const int fd : silent_) ::close(fd);
    ::close(listener_);
  }

  uint16_t port() const { return port_; }
  std::string url(const std::string& path) const { return "http://127.0.0.1:" + std::to_string(port_) + path; }
  std::vector<Request> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  static bool readable(int fd) {
    pollfd wait{fd, POLLIN, 0};
    return ::poll(&wait, 1, 20) > 0;
  }

  void serve() {
    while (!stop_) {
      if (!readable(listener_)) continue;
      const int peer = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (peer < 0) continue;
      const Request request = read(peer);
      {
        const std::lock_guard lock(mutex_);
        requests_.push_back(request);
      }
      std::string answer = handler_(request);
      if (answer.empty()) {
        silent_.push_back(peer);
        continue;
      }
      for (size_t sent = 0; sent < answer.size();) {
        const ssize_t n = ::send(peer, answer.data() + sent, answer.size() - sent, MSG_NOSIGNAL);
        if (n <= 0) break;
        sent += static_cast<size_t>(n);
      }
      ::close(peer);
    }
  }

  Request read(int peer) {
    std::string text;
    size_t end = std::string::npos, body = 0;
    while (!stop_) {
      if (end == std::string::npos && (end = text.find("\r\n\r\n")) != std::string::npos) {
        const size_t length = text.find("Content-Length: ");
        if (length < end) body = std::stoul(text.substr(length + 16));
      }
      if (end != std::string::npos && text.size() >= end + 4 + body) break;
      char piece[4096];
      if (!readable(peer)) continue;
      const ssize_t n = ::recv(peer, piece, sizeof piece, 0);
      if (n <= 0) return {};
      text.append(piece, static_cast<size_t>(n));
    }
    const size_t line = text.find("\r\n");
    return {text.substr(0, line), text.substr(line + 2, end - line), text.substr(end + 4)};
  }

  Handler handler_;
  int listener_ = -1;
  uint16_t port_ = 0;
  std::atomic<bool> stop_{false};
  mutable std::mutex mutex_;
  std::vector<Request> requests_;
  std::vector<int> silent_;
  std::thread thread_;
};

}  // namespace corvid::test
