#include "runtime/interrupt.h"

#include <unistd.h>

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <chrono>
#include <csignal>
#include <thread>

namespace corvid::runtime {

namespace {

using Clock = std::chrono::steady_clock;

// timeout(1) and service managers signal the process and then its group: that is one request, not two.
constexpr auto kOneRequest = std::chrono::milliseconds(500);

}  // namespace

struct Interrupt::Impl {
  Impl() : signals(io, SIGINT, SIGTERM, SIGHUP) {
    // stdio takes a write that a signal broke off for a failure of the stream; such a write goes on instead.
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
      struct sigaction action {};
      ::sigaction(number, nullptr, &action);
      action.sa_flags |= SA_RESTART;
      ::sigaction(number, &action, nullptr);
    }
    wait();
    thread = std::jthread([this] { io.run(); });
  }
  ~Impl() { io.stop(); }  // the thread, declared last, is joined next; then the signals are restored

  void wait() {
    signals.async_wait([this](const boost::system::error_code& error, int number) {
      if (error) return;
      const Clock::time_point now = Clock::now();
      if (source.stop_requested()) {
        // Asked twice: the store is whole at every moment, so nothing is lost.
        if (now - asked > kOneRequest) _exit(130);
        return wait();
      }
      asked = now;
      first = number;
      // The next signal must be heard even while a stop callback takes its time, hence a thread for the callbacks.
      stopper = std::jthread([this] { source.request_stop(); });
      while (!source.stop_requested()) std::this_thread::yield();
      wait();
    });
  }

  std::stop_source source;
  std::atomic<int> first{0};
  Clock::time_point asked;
  boost::asio::io_context io{1};
  boost::asio::signal_set signals;
  std::jthread stopper;
  std::jthread thread;
};

Interrupt::Interrupt() : impl_(std::make_unique<Impl>()) {}
Interrupt::~Interrupt() = default;
std::stop_token Interrupt::token() const { return impl_->source.get_token(); }
int Interrupt::signal() const { return impl_->first; }

}  // namespace corvid::runtime
