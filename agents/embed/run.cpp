// A run on a thread of its own.
#include <deque>
#include <stdexcept>

#include "agents/embed/session.h"
#include "runtime/no_signals.h"

namespace corvid {
inline namespace v1 {

struct [[gnu::visibility("hidden")]] Run::Impl {
  Impl(std::shared_ptr<Session::Impl> session_in, RunOptions options_in)
      : session(std::move(session_in)),
        options(std::move(options_in)),
        forward(options.stop, [this] { stop.request_stop(); }) {}

  // The body of the thread, which holds the session's claim.
  void work(std::string prompt) noexcept;
  void push(Event event);
  void drop_events();

  std::shared_ptr<Session::Impl> session;
  const RunOptions options;
  std::stop_source stop;
  std::stop_callback<std::function<void()>> forward;  // the host's token asks ours
  std::thread thread;

  mutable std::mutex mutex;
  std::condition_variable changed;
  std::deque<Event> events;  // not read yet
  bool is_read = true;       // events are kept for next()
  bool is_over = false;
  Result result;
  std::exception_ptr failure;  // what no result can say: memory was short
};

void Run::Impl::work(std::string prompt) noexcept {
  Result made;
  std::exception_ptr failed;
  try {
    made = session->run(std::move(prompt), options, stop.get_token(), [this](const runtime::Event& event) {
      if (options.on_event)
        deliver(options, to_public(event));
      else
        push(to_public(event));
    });
  } catch (...) {
    failed = std::current_exception();
  }
  session->release();
  const std::lock_guard lock(mutex);
  result = std::move(made);
  failure = failed;
  is_over = true;
  changed.notify_all();
}

void Run::Impl::push(Event event) {
  const std::lock_guard lock(mutex);
  if (!is_read) return;
  events.push_back(std::move(event));
  changed.notify_all();
}

void Run::Impl::drop_events() {
  const std::lock_guard lock(mutex);
  is_read = false;
  events.clear();
}

Run Session::begin(std::string_view prompt, const RunOptions& options) {
  std::string checked = checked_prompt(prompt);
  auto impl = std::make_shared<Run::Impl>(impl_, options);
  impl_->claim();
  try {
    const runtime::NoSignals quiet;
    impl->thread = std::thread([impl, checked = std::move(checked)]() mutable { impl->work(std::move(checked)); });
  } catch (...) {
    impl_->release();
    throw;
  }
  return Run(std::move(impl));
}

Run::Run(std::shared_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Run::Run(Run&&) noexcept = default;

Run& Run::operator=(Run&& other) noexcept {
  if (this == &other) return *this;
  Run old(std::move(*this));  // ends as a destroyed one
  impl_ = std::move(other.impl_);
  return *this;
}

Run::~Run() {
  if (!impl_) return;
  impl_->stop.request_stop();
  impl_->drop_events();
  if (impl_->thread.get_id() == std::this_thread::get_id())
    impl_->thread.detach();  // it holds what it needs
  else if (impl_->thread.joinable())
    impl_->thread.join();
}

std::optional<Event> Run::next() {
  std::unique_lock lock(impl_->mutex);
  impl_->changed.wait(lock, [&] { return !impl_->events.empty() || impl_->is_over; });
  if (impl_->events.empty()) return std::nullopt;
  std::optional<Event> event(std::move(impl_->events.front()));
  impl_->events.pop_front();
  return event;
}

std::optional<Event> Run::next_for(std::chrono::milliseconds time) {
  {
    std::unique_lock lock(impl_->mutex);
    impl_->changed.wait_for(lock, time, [&] { return !impl_->events.empty() || impl_->is_over; });
    if (impl_->events.empty()) return std::nullopt;
  }
  return next();
}

bool Run::is_done() const noexcept {
  const std::lock_guard lock(impl_->mutex);
  return impl_->is_over;
}

Result Run::wait() {
  impl_->drop_events();
  std::unique_lock lock(impl_->mutex);
  impl_->changed.wait(lock, [&] { return impl_->is_over; });
  if (impl_->failure) std::rethrow_exception(impl_->failure);
  return impl_->result;
}

void Run::cancel() noexcept { impl_->stop.request_stop(); }

}  // namespace v1
}  // namespace corvid
