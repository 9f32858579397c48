// What a host finds of the library in its own process.
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <map>
#include <mutex>
#include <vector>

#include "library_test.h"

namespace {

namespace fs = std::filesystem;
using corvid_test::kCount;
using corvid_test::LibraryTest;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

TEST_F(LibraryTest, TheDeviceIsTheHostsChoice) {
  EXPECT_EQ(corvid::Engine(corvid::Model::shipped(), {.device = corvid::Device::cpu}).device(), corvid::Device::cpu);
  EXPECT_NE(engine_->device(), corvid::Device::automatic);
  EXPECT_THROW(
      corvid::Engine(engine_->model(), {.cache_type = corvid::CacheType::q8_0, .device = corvid::Device::cuda}),
      std::invalid_argument);
  EXPECT_THROW(corvid::Engine(engine_->model(), {.device = corvid::Device(9)}), std::invalid_argument);
  if (engine_->device() == corvid::Device::cuda) return;
  try {
    corvid::Engine(engine_->model(), {.device = corvid::Device::cuda});
    FAIL() << "nothing was thrown";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), StartsWith("device: cuda: corvid-small.gguf: "));
  }
}

// What a host must not find changed.
std::map<int, void (*)(int)> handlers() {
  std::map<int, void (*)(int)> all;
  for (int number = 1; number < NSIG; ++number) {
    struct sigaction action {};
    if (::sigaction(number, nullptr, &action) == 0) all[number] = action.sa_handler;
  }
  return all;
}

TEST_F(LibraryTest, LeavesTheProcessAsItWas) {
  const auto handlers_before = handlers();
  const mode_t mask = ::umask(022);
  const fs::path folder = fs::current_path();
  sigset_t blocked_before, blocked;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked_before);
  std::FILE* const caught = std::tmpfile();
  const int out = ::dup(1), err = ::dup(2);
  ::dup2(::fileno(caught), 1), ::dup2(::fileno(caught), 2);
  {
    const corvid::Engine engine(corvid::Model::shipped(), {.threads = 2});
    corvid::Session session = corvid::Session::start(engine, *store_, corvid::Agent(), {.workdir = folder_ / "work"});
    session.run(kCount);
    session.begin(kCount).wait();
  }
  ::dup2(out, 1), ::dup2(err, 2);
  ::close(out), ::close(err);
  EXPECT_EQ(::ftell(caught) + ::lseek(::fileno(caught), 0, SEEK_END), 0) << "something was printed";
  std::fclose(caught);
  EXPECT_EQ(handlers(), handlers_before);
  EXPECT_EQ(::umask(mask), 022u);
  EXPECT_EQ(fs::current_path(), folder);
  ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  for (int number = 1; number < NSIG; ++number)
    EXPECT_EQ(sigismember(&blocked, number), sigismember(&blocked_before, number)) << number;
}

// The signals that each thread of this process blocks, as the kernel tells them; but for the calling one.
std::vector<uint64_t> blocked_elsewhere() {
  std::vector<uint64_t> masks;
  for (const fs::directory_entry& task : fs::directory_iterator("/proc/self/task")) {
    if (task.path().filename() == std::to_string(::gettid())) continue;
    std::ifstream status(task.path() / "status");
    for (std::string line; std::getline(status, line);)
      if (line.starts_with("SigBlk:")) masks.push_back(std::stoull(line.substr(7), nullptr, 16));
  }
  return masks;
}

TEST_F(LibraryTest, ItsThreadsNeverRunAHandlerOfTheHosts) {
  corvid::Session session = start();
  std::vector<uint64_t> masks;
  session.run(kCount, {.on_event = [&](const corvid::Event& event) {
                if (std::holds_alternative<corvid::ToolCallEvent>(event)) masks = blocked_elsewhere();
              }});
  corvid::Run run = session.begin(kCount);
  while (const auto event = run.next()) {
    if (!std::holds_alternative<corvid::ToolCallEvent>(*event)) continue;
    const std::vector<uint64_t> more = blocked_elsewhere();
    masks.insert(masks.end(), more.begin(), more.end());
  }
  EXPECT_GE(masks.size(), 3u);  // the engine's, the clock's, the run's
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGCHLD, SIGALRM})
    EXPECT_THAT(masks, testing::Each(testing::Truly([&](uint64_t mask) { return (mask >> (number - 1) & 1) == 1; })))
        << number;
}

TEST_F(LibraryTest, TheHostsLoggerGetsTheRemarks) {
  std::mutex mutex;
  std::vector<std::string> lines;
  const corvid::Engine engine(corvid::Model::shipped(), {.logger = [&](corvid::LogLevel, std::string_view line) {
                                const std::lock_guard lock(mutex);
                                lines.emplace_back(line);
                                throw std::runtime_error("a logger that throws harms nobody");
                              }});
  corvid::Session session = corvid::Session::start(engine, *store_, corvid::Agent(), {.workdir = folder_ / "work"});
  session.run(kCount);
  EXPECT_THAT(lines, ElementsAre(StartsWith("engine: corvid-small.gguf from "), HasSubstr(": begun by default in "),
                                 HasSubstr(": completed, 2 turns, ")));
}

}  // namespace
