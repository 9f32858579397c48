#include "model/memory_room.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/support/temp_dir.h"

namespace corvid::model {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

// What a system would say of itself.
class System {
 public:
  System() { say("proc/meminfo", "MemTotal:       16777216 kB\nMemFree:   10 kB\nMemAvailable:    1048576 kB\n"); }
  void say(const std::string& file, const std::string& text) {
    const std::filesystem::path path = dir_ / file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  void limit(const std::string& group, const std::string& most, int64_t used_mib) {
    say("sys/fs/cgroup/" + group + "/memory.max", most + "\n");
    say("sys/fs/cgroup/" + group + "/memory.current", std::to_string(used_mib * kMiB) + "\n");
  }
  void limit_v1(const std::string& group, int64_t most, int64_t used_mib) {
    say("sys/fs/cgroup/memory/" + group + "/memory.limit_in_bytes", std::to_string(most) + "\n");
    say("sys/fs/cgroup/memory/" + group + "/memory.usage_in_bytes", std::to_string(used_mib * kMiB) + "\n");
  }
  int64_t room_mib() const { return available_memory(dir_ / ".").value_or(-kMiB) / kMiB; }

 private:
  test::TempDir dir_;
};

TEST(AvailableMemory, IsTheSystemsWhereNoGroupLimitsIt) {
  System system;
  EXPECT_EQ(system.room_mib(), 1024);
  system.say("proc/self/cgroup", "0::/user/mia\n");
  system.limit("user/mia", "max", 100);
  EXPECT_EQ(system.room_mib(), 1024);
}

TEST(AvailableMemory, IsTheLeastThatAnyGroupAboveLeaves) {
  System system;
  system.say("proc/self/cgroup", "0::/user/mia\n");
  system.limit("user/mia", std::to_string(900 * kMiB), 100);
  EXPECT_EQ(system.room_mib(), 800);
  system.limit("user", std::to_string(700 * kMiB), 200);
  EXPECT_EQ(system.room_mib(), 500);
  system.limit("user/mia", std::to_string(50 * kMiB), 60);  // above its limit for a moment
  EXPECT_EQ(system.room_mib(), 0);
}

TEST(AvailableMemory, KnowsTheFirstVersionOfGroupsToo) {
  System system;
  system.say("proc/self/cgroup", "12:cpu,cpuacct:/a\n4:memory:/user/mia\n1:name=systemd:/user/mia\n0::/\n");
  constexpr int64_t kUnlimited = 9223372036854771712;
  system.limit_v1("user/mia", kUnlimited, 100);
  EXPECT_EQ(system.room_mib(), 1024);
  system.limit_v1("", 600 * kMiB, 100);
  EXPECT_EQ(system.room_mib(), 500);
  system.limit_v1("user/mia", 300 * kMiB, 100);
  EXPECT_EQ(system.room_mib(), 200);
}

// A group that has read large files is full of them, and has room all the same.
TEST(AvailableMemory, LeavesOutFilesThatNobodyLooksAt) {
  System system;
  system.say("proc/self/cgroup", "4:memory:/a\n0::/b\n");
  system.limit("b", std::to_string(800 * kMiB), 790);
  EXPECT_EQ(system.room_mib(), 10);
  system.say("sys/fs/cgroup/b/memory.stat", "anon 1\ninactive_file " + std::to_string(690 * kMiB) + "\n");
  EXPECT_EQ(system.room_mib(), 700);
  system.limit_v1("a", 600 * kMiB, 600);
  system.say("sys/fs/cgroup/memory/a/memory.stat",
             "inactive_file 5\ntotal_inactive_file " + std::to_string(500 * kMiB) + "\n");
  EXPECT_EQ(system.room_mib(), 500);
}

TEST(AvailableMemory, IsUnknownWhereNobodyTells) {
  const test::TempDir nothing;
  EXPECT_EQ(available_memory(nothing.path()), std::nullopt);
}

}  // namespace
}  // namespace corvid::model
