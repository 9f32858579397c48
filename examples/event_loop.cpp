// A host with an event loop, as a window has one:  event_loop FOLDER PROMPT
//
// One thread draws sixty times a second and must never wait. The agent works on a thread of the library's; what it
// tells is handed to the loop, so that every handler runs where the widgets are. Afterwards a second task is begun and
// cancelled at its first call, as by a button.
#include <chrono>
#include <condition_variable>
#include <corvid/corvid.hpp>
#include <deque>
#include <iostream>
#include <mutex>
#include <optional>

namespace {

using namespace std::chrono_literals;

class EventLoop {
 public:
  // From any thread.
  void post(std::function<void()> call) {
    const std::lock_guard lock(mutex_);
    calls_.push_back(std::move(call));
    posted_.notify_one();
  }
  void quit() { is_running_ = false; }
  int64_t frames() const { return frames_; }

  void run() {
    auto next_frame = std::chrono::steady_clock::now();
    while (is_running_) {
      std::unique_lock lock(mutex_);
      posted_.wait_until(lock, next_frame, [&] { return !calls_.empty(); });
      while (!calls_.empty()) {
        const std::function<void()> call = std::move(calls_.front());
        calls_.pop_front();
        lock.unlock();
        call();
        lock.lock();
      }
      if (std::chrono::steady_clock::now() < next_frame) continue;
      ++frames_;  // here a window would be drawn
      next_frame += 16ms;
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable posted_;
  std::deque<std::function<void()>> calls_;
  bool is_running_ = true;
  int64_t frames_ = 0;
};

// The part of the window that shows an agent. All of it runs in the loop.
class Panel {
 public:
  Panel(EventLoop& loop, corvid::Session session) : loop_(loop), session_(std::move(session)) {}

  void begin(const std::string& prompt, bool cancels) {
    cancels_ = cancels;
    text_.clear();
    run_ = session_.begin(prompt, {.on_event = [this](const corvid::Event& event) { on(event); },
                                   .dispatch = [this](std::function<void()> call) { loop_.post(std::move(call)); }});
  }

 private:
  void on(const corvid::Event& event) {
    if (const auto* token = std::get_if<corvid::TokenEvent>(&event)) text_ += token->text;
    if (std::holds_alternative<corvid::ToolCallEvent>(event) && cancels_) run_->cancel();
    const auto* done = std::get_if<corvid::DoneEvent>(&event);
    if (done == nullptr) return;
    std::cout << corvid::to_text(done->result.status) << (text_.empty() ? "" : ": " + text_) << "\n";
    if (cancels_) return loop_.quit();
    begin("run the command sleep 60", true);
  }

  EventLoop& loop_;
  corvid::Session session_;
  std::optional<corvid::Run> run_;  // destroyed first: it cancels and waits
  std::string text_;
  bool cancels_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: event_loop FOLDER PROMPT\n";
    return 2;
  }
  try {
    EventLoop loop;
    const corvid::Engine engine(corvid::Model::shipped());
    const corvid::Store store("agent.db");
    Panel panel(loop, corvid::Session::start(engine, store, corvid::Agent(), {.workdir = argv[1]}));
    panel.begin(argv[2], false);
    loop.run();
    std::cout << (loop.frames() > 1 ? "the window was drawn meanwhile" : "the window stood still") << "\n";
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "event_loop: " << error.what() << "\n";
    return 1;
  }
}
