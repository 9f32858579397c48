// Keeps a host's signal handlers off the threads that are begun meanwhile.
#pragma once
#include <csignal>

namespace corvid::runtime {

// Blocks all signals on this thread while it lives. A thread inherits what is blocked, so that one which is begun
// meanwhile never runs a handler.
class NoSignals {
 public:
  NoSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  NoSignals(const NoSignals&) = delete;
  NoSignals& operator=(const NoSignals&) = delete;
  ~NoSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace corvid::runtime
