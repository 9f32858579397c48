// Ctrl-C for the program (a library never touches signals): the first SIGINT or SIGTERM requests a stop, the second
// exits at once with status 130. Signals within half a second are one.
#pragma once
#include <memory>
#include <stop_token>

namespace corvid::runtime {

// Handles SIGINT, SIGTERM and SIGHUP while it lives; afterwards they do what they did by default. One at a time.
class Interrupt {
 public:
  Interrupt();
  Interrupt(const Interrupt&) = delete;
  ~Interrupt();
  std::stop_token token() const;
  int signal() const;  // the first one; 0 before

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace corvid::runtime
