// What a long session costs to fork, to save and to restore:
//
//   build/release/tests/bench/session_bench [TOKENS [FOLDER]]      (default: 32000 tokens, the folder for temporary
//   files)
//
// On the model that ships, with pages as the program keeps them (f16). What a fork says is compared with what its
// parent says, and a restored session with the one that was saved. Reading the same file into memory, from the disk and
// from the system's cache, stands beside it: restoring maps it and hashes every page.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <vector>

#include "model/sequence.h"

namespace corvid::model {
namespace {

namespace fs = std::filesystem;

constexpr int kRepeats = 9;

template <class Work>
double milliseconds(const Work& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

struct Times {
  std::vector<double> all = {};
  double at(size_t tenth) {
    std::sort(all.begin(), all.end());
    return all[(all.size() - 1) * tenth / 10];
  }
  void print(const char* what, double bytes) {
    std::printf("%-34s %9.3f ms  (%.3f to %.3f)", what, at(5), at(0), at(10));
    if (bytes > 0) std::printf("  %6.2f GB/s", bytes / at(5) / 1e6);
    std::printf("\n");
  }
};

void must(bool holds, const char* law) {
  if (!holds) throw std::runtime_error(law);
}

// Reads the whole file, after the system has been asked to forget it when `cold`.
double read_ms(const fs::path& file, bool cold) {
  const int fd = open(file.c_str(), O_RDONLY | O_CLOEXEC);
  must(fd >= 0, "the snapshot can be opened");
  if (cold) {
    fsync(fd);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  }
  std::vector<char> buffer(4 << 20);
  const double time = milliseconds([&] {
    while (read(fd, buffer.data(), buffer.size()) > 0) {
    }
  });
  close(fd);
  return time;
}

void forget(const fs::path& file) {
  const int fd = open(file.c_str(), O_RDONLY | O_CLOEXEC);
  must(fd >= 0 && fsync(fd) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0, "the system forgets the file");
  close(fd);
}

void run(int64_t n_tokens, const fs::path& folder) {
  const auto model = Model::load(fs::path(CORVID_SOURCE_DIR) / "configs/models/corvid-small.gguf");
  const auto engine = Engine::create(model, {.cache_format = kernels::Format::f16});
  Sequence session(engine, n_tokens + 16);
  session.make_up(n_tokens);
  session.append(5);
  std::printf("%s, %lld tokens, %.1f MB of pages\n", model->name().c_str(), static_cast<long long>(n_tokens),
              static_cast<double>(session.cache_bytes(n_tokens)) / 1e6);

  Times forks, appends, saves, restores, cold_restores, reads, cold_reads;
  for (int i = 0; i < kRepeats; ++i) {
    std::vector<Sequence> fork;
    forks.all.push_back(milliseconds([&] { fork.push_back(session.fork()); }));
    appends.all.push_back(milliseconds([&] { fork[0].append(7); }));
    Sequence other = session.fork();
    other.append(7);
    must(std::ranges::equal(fork[0].logits(), other.logits()), "two forks say the same");
  }
  const fs::path file = folder / ("session-bench-" + std::to_string(getpid()) + ".kv");
  for (int i = 0; i < kRepeats; ++i) {
    saves.all.push_back(milliseconds([&] { session.save(file, n_tokens); }));
    const auto restored = [&] {
      Sequence sequence(engine, n_tokens + 16);
      const double time = milliseconds([&] { sequence.restore(file); });
      sequence.append(5);
      must(std::ranges::equal(sequence.logits(), session.logits()), "a restored session says what the saved one says");
      return time;
    };
    restores.all.push_back(restored());
    reads.all.push_back(read_ms(file, false));
    forget(file);
    cold_restores.all.push_back(restored());
    cold_reads.all.push_back(read_ms(file, true));
  }
  const auto bytes = static_cast<double>(fs::file_size(file));
  fs::remove(file);
  forks.print("fork", 0);
  appends.print("  its first token (copies a page)", 0);
  saves.print("save", bytes);
  restores.print("restore, file in memory", bytes);
  reads.print("  read() of the same", bytes);
  cold_restores.print("restore, file forgotten", bytes);
  cold_reads.print("  read() of the same", bytes);
}

}  // namespace
}  // namespace corvid::model

int main(int argc, char** argv) {
  const int64_t n_tokens = argc > 1 ? std::atoll(argv[1]) : 32000;
  if (n_tokens < 1 || n_tokens > 32760 || argc > 3) {
    std::fprintf(stderr, "usage: session_bench [TOKENS, 1 to 32760 [FOLDER]]\n");
    return 2;
  }
  try {
    corvid::model::run(n_tokens, argc > 2 ? std::filesystem::path(argv[2]) : std::filesystem::temp_directory_path());
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "session_bench: %s\n", error.what());
    return 1;
  }
}
