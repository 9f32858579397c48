// Sessions created, run, cancelled and destroyed from eight threads, for as long as it is told:
//
//   corvid_soak MINUTES [SEED]
//
// A host's long day in small. Every half minute it says what was done and what the process holds; in the end it fails
// when an answer was wrong, or when memory, descriptors or threads have grown. Leaks and races are the sanitizers' to
// say: script/soak builds it with each.
#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <corvid/corvid.hpp>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <random>
#include <thread>

namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr int kThreads = 8;
constexpr auto kReport = 30s;
constexpr const char* kCount = "how many txt files are in notes?";
constexpr const char* kWait = "run the command sleep 20";

struct Counts {
  std::atomic<int64_t> sessions, completed, cancelled, destroyed, limits, resumed, tool_calls, engines, wrong;
};

struct Held {
  int64_t rss_kb = 0, descriptors = 0, threads = 0;
};

int64_t entries(const char* folder) {
  int64_t n = 0;
  DIR* const list = ::opendir(folder);
  if (list == nullptr) return 0;
  while (::readdir(list) != nullptr) ++n;
  ::closedir(list);
  return n - 2;
}

// What the descriptors are, for when there are too many.
std::string descriptors() {
  std::string list;
  std::error_code failure;
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc/self/fd"))
    list += "\n  " + fs::read_symlink(entry.path(), failure).string();
  return list;
}

Held held() {
  Held now{0, entries("/proc/self/fd"), entries("/proc/self/task")};
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmRSS:")) now.rss_kb = std::atoll(line.c_str() + 6);
  return now;
}

class Soak {
 public:
  Soak(fs::path folder, uint64_t seed) : folder_(std::move(folder)), seed_(seed), store_(folder_ / "soak.db") {
    fs::create_directories(folder_ / "work/notes");
    for (const char* note : {"a.txt", "b.txt", "c.md"}) std::ofstream(folder_ / "work/notes" / note) << "one\ntwo\n";
  }

  int run(Clock::duration time) {
    const Clock::time_point begin = Clock::now();
    std::vector<Held> seen;
    std::atomic<bool> is_over = false;
    {
      std::vector<std::jthread> threads;
      for (int i = 0; i < kThreads; ++i) threads.emplace_back([this, i, &is_over] { work(i, is_over); });
      for (auto next = begin + kReport; next <= begin + time; next += kReport) {
        std::this_thread::sleep_until(next);
        seen.push_back(held());
        report(begin, seen.back());
      }
      std::this_thread::sleep_until(begin + time);
      is_over = true;
    }
    const Held last = held();
    report(begin, last);
    return verdict(seen, last);
  }

 private:
  // One thread: small lives of sessions until it is over.
  void work(int number, const std::atomic<bool>& is_over) {
    std::mt19937_64 random(seed_ * kThreads + uint64_t(number));
    std::string id;  // of a session that may be resumed
    while (!is_over) {
      try {
        const int what = int(random() % 8);
        if (what == 7) {
          own_engine();
        } else if (what == 6 && !id.empty()) {
          corvid::Session session = corvid::Session::resume(engine_, store_, agent(), id);
          ++counts_.resumed;
          expect(session.run(kCount).status == corvid::Status::completed, "a resumed session that answers");
          store_.remove(id);
          id.clear();
        } else {
          if (!id.empty()) store_.remove(id);
          corvid::Session session = corvid::Session::start(engine_, store_, agent(), {.workdir = folder_ / "work"});
          ++counts_.sessions;
          id = session.id();
          live(session, what, random);
        }
      } catch (const std::exception& error) {
        expect(false, error.what());
      }
    }
  }

  void live(corvid::Session& session, int what, std::mt19937_64& random) {
    switch (what) {
      case 0:
      case 1: {  // to the end
        const corvid::Result result = session.run(kCount);
        expect(result.answer.starts_with("2 "), "\"2 ...\", found " + result.answer + result.error);
        ++counts_.completed;
        return;
      }
      case 2: {  // cancelled after some events
        corvid::Run run = session.begin(kWait);
        for (uint64_t left = random() % 6; run.next() && left > 0; --left) {
        }
        run.cancel();
        expect(run.wait().status != corvid::Status::error, "a cancelled run that did not fail: " + run.wait().error);
        ++counts_.cancelled;
        return;
      }
      case 3: {  // destroyed at a moment of chance, by its own token or by the run's end
        std::stop_source stop;
        corvid::Run run = session.begin(random() % 2 == 0 ? kWait : kCount, {.stop = stop.get_token()});
        std::this_thread::sleep_for(std::chrono::milliseconds(random() % 300));
        if (random() % 2 == 0) stop.request_stop();
        ++counts_.destroyed;
        return;
      }
      case 4: {  // too late
        const corvid::Result result =
            session.run(kWait, {.deadline = Clock::now() + std::chrono::milliseconds(random() % 500)});
        expect(result.status == corvid::Status::limit, "a limit, found " + result.answer + result.error);
        ++counts_.limits;
        return;
      }
      default:  // a tool of the host's, which looks at the store meanwhile
        expect(session.call_tool("sessions", "{}").status == corvid::ToolStatus::ok, "a call that works");
        ++counts_.tool_calls;
    }
  }

  // An engine and a model come and go beside the others.
  void own_engine() {
    const corvid::Engine engine(corvid::Model::shipped(), {.threads = 1, .cache_bytes = 64 << 20});
    corvid::Session session = corvid::Session::start(engine, store_, agent(), {.workdir = folder_ / "work"});
    ++counts_.engines;
    expect(session.run(kCount).answer.starts_with("2 "), "an answer of a fresh engine");
    store_.remove(session.id());
  }

  corvid::Agent agent() {
    corvid::Agent agent;
    agent.set_limits({.wall = 1h});  // under a sanitizer on a busy machine minutes may not do
    agent.add_tool(
        {"sessions", "How many sessions there are", R"({"type":"object","properties":{}})",
         [this](const corvid::ToolRequest&) -> corvid::ToolResult { return std::to_string(store_.list(-1).size()); }});
    return agent;
  }

  void expect(bool holds, const std::string& what) {
    if (holds) return;
    ++counts_.wrong;
    std::fprintf(stderr, "want %s\n", what.c_str());
  }

  void report(Clock::time_point begin, const Held& now) const {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - begin).count();
    std::printf(
        "%5lld s  %lld sessions: %lld completed, %lld cancelled, %lld destroyed, %lld limits, %lld calls; %lld "
        "resumed, "
        "%lld engines  |  %lld MB, %lld descriptors, %lld threads\n",
        static_cast<long long>(seconds), number(counts_.sessions), number(counts_.completed), number(counts_.cancelled),
        number(counts_.destroyed), number(counts_.limits), number(counts_.tool_calls), number(counts_.resumed),
        number(counts_.engines), static_cast<long long>(now.rss_kb / 1024), static_cast<long long>(now.descriptors),
        static_cast<long long>(now.threads));
    std::fflush(stdout);
  }
  static long long number(const std::atomic<int64_t>& count) { return count.load(); }

  using Samples = std::vector<Held>::const_iterator;
  static int64_t median_kb(Samples begin, Samples end) {
    std::vector<int64_t> all;
    std::transform(begin, end, std::back_inserter(all), [](const Held& held) { return held.rss_kb; });
    std::ranges::nth_element(all, all.begin() + std::ssize(all) / 2);
    return all[all.size() / 2];
  }

  // Memory goes up and down with what the eight are at; its middle may settle during the first third, and not go up by
  // a third from there to the last.
  int verdict(const std::vector<Held>& seen, const Held& last) {
    if (const auto third = std::ssize(seen) / 3; third > 0) {
      const int64_t first = median_kb(seen.begin(), seen.begin() + third),
                    end = median_kb(seen.end() - third, seen.end());
      expect(end <= first * 4 / 3,
             "no growth: " + std::to_string(first / 1024) + " MB became " + std::to_string(end / 1024));
    }
    // All threads of the runs are gone: what is left is main and the engine's.
    expect(last.threads <= before_.threads, "the threads it began with, found " + std::to_string(last.threads));
    // Opened once and kept: SQLite's log and its index, the pipe of Asio's signals. And SQLite keeps the descriptor of
    // a closed connection while another one holds a lock on the file, for the next that opens it: one for each thread.
    expect(last.descriptors <= before_.descriptors + 4 + kThreads,
           "the descriptors it began with, found " + std::to_string(last.descriptors) + descriptors());
    std::printf("%s\n", counts_.wrong == 0 ? "no leak, no growth, no wrong answer" : "NOT as it should be");
    return counts_.wrong == 0 ? 0 : 1;
  }

  fs::path folder_;
  uint64_t seed_;
  corvid::Engine engine_{corvid::Model::shipped(), {.cache_bytes = 256 << 20}};
  corvid::Store store_;
  Held before_ = held();
  Counts counts_{};
};

}  // namespace

int main(int argc, char** argv) {
  const double minutes = argc > 1 ? std::atof(argv[1]) : 0;
  if (minutes <= 0) {
    std::fprintf(stderr, "usage: corvid_soak MINUTES [SEED]\n");
    return 2;
  }
  std::string folder = (fs::temp_directory_path() / "corvid-soak-XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) return 1;
  const int status = Soak(folder, argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1)
                         .run(std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(minutes * 60)));
  fs::remove_all(folder);
  return status;
}
