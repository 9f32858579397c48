// Two agents that talk:  two_agents FOLDER FILE
//
// A scout looks and a clerk writes down, each in a thread and with a session of its own, over one engine. They talk
// through two mailboxes: the scout's answer is in the clerk's prompt, the clerk's report in the scout's next one.
#include <condition_variable>
#include <corvid/corvid.hpp>
#include <deque>
#include <iostream>
#include <mutex>
#include <thread>

namespace {

class Mailbox {
 public:
  void put(std::string text) {
    const std::lock_guard lock(mutex_);
    letters_.push_back(std::move(text));
    changed_.notify_one();
  }
  std::string take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !letters_.empty(); });
    std::string text = std::move(letters_.front());
    letters_.pop_front();
    return text;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> letters_;
};

std::string ask(corvid::Session& session, const char* who, const std::string& prompt) {
  const corvid::Result result = session.run(prompt);
  const std::string answer = result.status == corvid::Status::completed ? result.answer : result.error;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  std::cout << "> " << prompt << "\n" << who << ": " << answer << "\n";
  return answer;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: two_agents FOLDER FILE\n";
    return 2;
  }
  try {
    const corvid::Engine engine(corvid::Model::shipped());
    const corvid::Store store("agent.db");
    corvid::Agent looks, writes;
    looks.set_name("scout");
    writes.set_name("clerk");
    corvid::Session scout = corvid::Session::start(engine, store, looks, {.workdir = argv[1]});
    corvid::Session clerk = corvid::Session::start(engine, store, writes, {.workdir = argv[1]});
    const std::string file = argv[2];
    Mailbox to_scout, to_clerk;

    std::jthread writer([&] {
      const std::string found = to_clerk.take();
      to_scout.put(ask(clerk, "clerk", "Create a file called report.txt with one line: " + found));
    });
    to_clerk.put(ask(scout, "scout", "How many lines does " + file + " have?"));
    to_scout.take();
    ask(scout, "scout", "What does report.txt say?");
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "two_agents: " << error.what() << "\n";
    return 1;
  }
}
