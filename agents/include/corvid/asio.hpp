// Runs as asynchronous operations of a host with Boost.Asio 1.74 or later, or, with CORVID_ASIO_STANDALONE defined,
// with Asio itself. Not part of corvid.hpp: the library knows nothing of Asio, all of this is compiled into the host.
//
//   corvid::Result result = co_await corvid::async_run(session, "how many txt files are in notes?", options,
//                                                      asio::use_awaitable);
#pragma once
#include <corvid/session.hpp>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#ifdef CORVID_ASIO_STANDALONE
#include <asio/associated_executor.hpp>
#include <asio/async_result.hpp>
#include <asio/execution/context.hpp>
#include <asio/execution_context.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/post.hpp>
#else
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/execution/context.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#endif

namespace corvid {
inline namespace v1 {

namespace detail {
#ifdef CORVID_ASIO_STANDALONE
namespace net = ::asio;
#else
namespace net = ::boost::asio;
#endif

// A run of async_run() until its handler was called.
class PendingRun {
 public:
  virtual ~PendingRun() = default;
  // For a context that ends: cancels the run, waits for its thread, which posts nothing more then, and destroys what
  // may belong to the context while it is there. The handler is not called any more.
  void abandon() {
    const std::lock_guard lock(mutex);
    run.reset();
    let_go();
  }

  // Of the run, which may be over before it is kept, and of what let_go() destroys, once the run is over. Held until a
  // thread has ended, so that of two contexts that end at once none is faster; recursive, since a handler may own one.
  std::recursive_mutex mutex = {};
  std::optional<Run> run = {};

 private:
  virtual void let_go() = 0;
};

// The runs that an execution context has to call back. When the context ends before them it ends them: what their
// threads have posted until then is destroyed with the context, uncalled, as all handlers of Asio's are.
class PendingRuns : public net::execution_context::service {
 public:
  using key_type = PendingRuns;
  inline static net::execution_context::id id;
  explicit PendingRuns(net::execution_context& context) : service(context) {}

  void add(const std::shared_ptr<PendingRun>& run) {
    const std::lock_guard lock(mutex_);
    std::erase_if(runs_, [](const std::weak_ptr<PendingRun>& one) { return one.expired(); });
    runs_.push_back(run);
  }
  void shutdown() override {
    std::vector<std::weak_ptr<PendingRun>> runs;
    {
      const std::lock_guard lock(mutex_);
      runs.swap(runs_);
    }
    for (const std::weak_ptr<PendingRun>& one : runs) {
      if (const std::shared_ptr<PendingRun> run = one.lock()) run->abandon();
    }
  }

 private:
  std::mutex mutex_;
  std::vector<std::weak_ptr<PendingRun>> runs_;
};

template <class Executor>
void watch_context(const Executor& executor, const std::shared_ptr<PendingRun>& run) {
  if constexpr (net::can_query_v<Executor, net::execution::context_t>) {
    net::execution_context& context = net::query(executor, net::execution::context);
    net::use_service<PendingRuns>(context).add(run);
  } else {
    net::use_service<PendingRuns>(executor.context()).add(run);
  }
}
}  // namespace detail

// RunOptions::dispatch over an executor: events come on it, one after the other when it is a strand or has one thread.
template <class Executor>
Dispatch dispatch_on(Executor executor) {
  return [executor](std::function<void()> call) { detail::net::post(executor, std::move(call)); };
}

// Runs the session on a thread of the library's. The handler, void(std::exception_ptr, Result), is called on its
// associated executor, or on `executor`; it gets an exception where Session::begin throws one. Events come on
// `executor`, before the handler when it is a strand or has one thread. `executor` has work until then. When its
// io_context, or the handler's, is destroyed first, its destructor cancels the run, waits for it, and destroys the
// handler uncalled. It waits for ever when a function of the host's waits for something that only this io_context does:
// a tool has to give up at ToolRequest::stop; for RunOptions::ask the run has to be ended before. The session must not
// be used meanwhile.
template <class Executor, class CompletionToken>
auto async_run(Session& session, std::string prompt, RunOptions options, Executor executor, CompletionToken&& token) {
  namespace net = detail::net;
  return net::async_initiate<CompletionToken, void(std::exception_ptr, Result)>(
      [&session, executor](auto handler, std::string text, RunOptions inner) {
        using Handler = decltype(handler);
        // What the run has to tell, and the promise of work to come.
        struct State : detail::PendingRun {
          State(Handler handler_in, EventHandler on_event_in, const Executor& executor_in)
              : handler(std::move(handler_in)), work(std::in_place, executor_in) {
            if (on_event_in) on_event = std::make_shared<const EventHandler>(std::move(on_event_in));
          }
          void let_go() override {
            handler.reset();
            on_event.reset();
            work.reset();
          }
          std::optional<Handler> handler;  // none: it was called, or will not be
          std::shared_ptr<const EventHandler> on_event;
          std::optional<net::executor_work_guard<Executor>> work;
        };
        const auto state = std::make_shared<State>(std::move(handler), std::move(inner.on_event), executor);
        detail::watch_context(executor, state);
        detail::watch_context(net::get_associated_executor(*state->handler, executor), state);
        inner.dispatch = nullptr;
        const auto finish = [](std::shared_ptr<State> s, std::exception_ptr failure, Result result) {
          auto target = net::get_associated_executor(*s->handler, s->work->get_executor());
          net::post(target, [s, failure, result = std::move(result)]() mutable {
            std::optional<Handler> last;
            {
              const std::lock_guard lock(s->mutex);
              if (!s->handler) return;
              s->run.reset();  // as good as over, or never begun
              last.emplace(std::move(*s->handler));
              s->let_go();
            }
            s.reset();
            (*std::move(last))(failure, std::move(result));
          });
        };
        inner.on_event = [state, finish](const Event& event) {
          if (state->on_event)
            net::post(state->work->get_executor(), [handle = state->on_event, event] { (*handle)(event); });
          if (const auto* done = std::get_if<DoneEvent>(&event)) finish(state, nullptr, done->result);
        };
        try {
          const std::lock_guard lock(state->mutex);
          state->run.emplace(session.begin(text, inner));
        } catch (...) {
          finish(state, std::current_exception(), Result{});
        }
      },
      token, std::move(prompt), std::move(options));
}

}  // namespace v1
}  // namespace corvid
