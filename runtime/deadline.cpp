#include "runtime/deadline.h"

#include <algorithm>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <thread>

#include "runtime/no_signals.h"

namespace corvid::runtime {

struct Deadline::Impl {
  Impl(std::chrono::milliseconds wall, std::stop_token caller)
      : timer(io, std::clamp<std::chrono::milliseconds>(wall, std::chrono::milliseconds(0), std::chrono::years(1))),
        forward(std::move(caller), [this] { source.request_stop(); }) {
    timer.async_wait([this](const boost::system::error_code& error) {
      if (error) return;
      is_over = true;
      source.request_stop();
    });
    const NoSignals quiet;
    thread = std::jthread([this] { io.run(); });
  }
  ~Impl() { io.stop(); }  // the thread, declared last, is joined next

  std::stop_source source;
  std::atomic<bool> is_over = false;
  boost::asio::io_context io{1};
  boost::asio::steady_timer timer;
  std::stop_callback<std::function<void()>> forward;
  std::jthread thread;
};

Deadline::Deadline(std::chrono::milliseconds wall, std::stop_token caller)
    : impl_(std::make_unique<Impl>(wall, std::move(caller))) {}
Deadline::~Deadline() = default;
std::stop_token Deadline::token() const { return impl_->source.get_token(); }
bool Deadline::is_over() const { return impl_->is_over; }

}  // namespace corvid::runtime
