// Each promise of the sandbox, and an attempt to break it. Commands are real and run in the real sandbox.
#include "tools/sandbox.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cctype>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "tests/support/child.h"
#include "tests/support/temp_dir.h"
#include "tools/bubblewrap.h"
#include "tools/fd.h"
#include "tools/git_guard.h"

namespace corvid::tools {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

class SandboxTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const auto missing = Sandbox::missing_mechanism()) GTEST_SKIP() << *missing;
  }

  SpawnResult run(const std::string& command, Policy policy = {}, std::chrono::milliseconds timeout = 30s) const {
    return Sandbox(dir.path(), std::move(policy)).shell(command, timeout, {});
  }
  // What a command printed, with its errors, on one stream.
  std::string output(const std::string& command, Policy policy = {}) const {
    return run("exec 2>&1; " + command, std::move(policy)).out;
  }
  void wait_for_file(const std::string& name) const {
    for (int i = 0; i < 3000 && !fs::exists(dir / name); ++i) std::this_thread::sleep_for(20ms);
    ASSERT_TRUE(fs::exists(dir / name));
  }

  test::TempDir dir;
};

// Processes whose command line holds the text.
int count_processes(const std::string& text) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    if (!std::isdigit(static_cast<unsigned char>(entry.path().filename().native()[0]))) continue;
    std::ifstream file(entry.path() / "cmdline");
    const std::string line((std::istreambuf_iterator<char>(file)), {});
    std::ifstream status_file(entry.path() / "stat");
    const std::string status((std::istreambuf_iterator<char>(status_file)), {});
    if (line.find(text) != std::string::npos && status.find(") Z") == std::string::npos) ++count;
  }
  return count;
}

// A sleep that no other process on this machine runs.
std::string unique_sleep() { return "sleep 10" + std::to_string(getpid()); }

TEST_F(SandboxTest, ACommandRunsInTheWorkingFolderAsTheSameUserAndOnTheSameMachine) {
  dir.write("here.txt", "42\n");
  const SpawnResult done = run("pwd; id -u; cat here.txt; uname -r; nproc; echo oops >&2; exit 7");
  EXPECT_EQ(done.end, SpawnResult::End::exited);
  EXPECT_EQ(done.exit_code, 7);
  EXPECT_EQ(done.err, "oops\n");
  Policy outside;
  outside.sandbox = SandboxMode::none;
  EXPECT_EQ(done.out, run("pwd; id -u; cat here.txt; uname -r; nproc", outside).out);
  EXPECT_EQ(output("id -un; hostname; df -P . | awk 'END {print $2}'"),
            output("id -un; hostname; df -P . | awk 'END {print $2}'", outside));
}

// A host may ignore SIGCHLD, or wait for any child: then the status is gone when the library asks for it.
TEST_F(SandboxTest, AHostThatReapsEveryChildLearnsHowCommandsEnd) {
  struct sigaction before {};
  struct sigaction ignored {};
  ignored.sa_handler = SIG_IGN;
  ASSERT_EQ(sigaction(SIGCHLD, &ignored, &before), 0);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(run("echo out; exit 3").exit_code, 3);
    EXPECT_EQ(run("true").exit_code, 0);
    EXPECT_EQ(run("kill -9 $$").exit_code, 128 + SIGKILL);
  }
  Policy open;
  open.sandbox = SandboxMode::none;
  EXPECT_EQ(run("sleep 0.1; exit 3", open).exit_code, SpawnResult::kUnknownExit);
  sigaction(SIGCHLD, &before, nullptr);
}

TEST_F(SandboxTest, WhatACommandWritesInTheWorkingFolderStays) {
  EXPECT_EQ(run("mkdir -p a/b && echo one > a/b/c.txt && ln -s a/b/c.txt link && chmod 750 a").exit_code, 0);
  EXPECT_EQ(dir.read("a/b/c.txt"), "one\n");
  EXPECT_TRUE(fs::is_symlink(dir / "link"));
  EXPECT_EQ(fs::status(dir / "a").permissions(), fs::perms(0750));
}

TEST_F(SandboxTest, WritesOutsideTheWorkingFolderFail) {
  fs::create_directory(dir / "inner");
  const Sandbox box(dir / "inner", {});
  for (const char* place : {"..", "/", "/usr", "/etc", "/var", "/home", "/mnt", "/opt", "/run", "/proc/sys/kernel"}) {
    const std::string name = std::string(place) + "/corvid-sandbox-test";
    EXPECT_NE(box.shell("echo x > " + name, 30s, {}).exit_code, 0) << place;
    EXPECT_FALSE(fs::exists((dir / "inner" / name).lexically_normal())) << place;
  }
}

TEST_F(SandboxTest, TheHomeFolderAndOtherUsersFilesAreInvisible) {
  test::TempDir home;
  home.write("diary.txt", "private");
  test::TempDir other;
  other.write("secret.txt", "private");
  const std::string before = std::getenv("HOME") ? std::getenv("HOME") : "";
  setenv("HOME", home.path().c_str(), 1);
  const std::string seen =
      output("ls -A ~; cat ~/diary.txt; cat " + (other / "secret.txt").string() + "; echo mine > ~/new && cat ~/new");
  before.empty() ? unsetenv("HOME") : setenv("HOME", before.c_str(), 1);
  EXPECT_THAT(seen, Not(HasSubstr("private")));
  EXPECT_THAT(seen, HasSubstr("mine"));
  EXPECT_FALSE(fs::exists(home / "new"));
  EXPECT_EQ(output("find /home /root /mnt /srv /media -type f 2>/dev/null | wc -l"), "0\n");
}

TEST_F(SandboxTest, SecretsOfTheSystemCannotBeReadEvenByRoot) {
  const std::string seen = output("cat /etc/shadow /etc/gshadow /etc/sudoers; ls /etc/ssl/private");
  EXPECT_THAT(seen, Not(HasSubstr("root:")));
  EXPECT_THAT(seen, Not(HasSubstr("ALL=")));
}

TEST_F(SandboxTest, TemporarySpaceIsPrivateAndGoneAfterwards) {
  const std::string name = "corvid-private-" + std::to_string(getpid());
  for (const std::string place : {"/tmp/", "/var/tmp/", "/dev/shm/"}) {
    EXPECT_EQ(run("echo x > " + place + name + " && cat " + place + name).out, "x\n") << place;
    EXPECT_FALSE(fs::exists(place + name));
    EXPECT_NE(run("cat " + place + name).exit_code, 0) << place;
  }
}

TEST_F(SandboxTest, AWorkingFolderInSharedMemoryIsStillTheRealOne) {
  char pattern[] = "/dev/shm/corvid-test-XXXXXX";
  if (mkdtemp(pattern) == nullptr) GTEST_SKIP() << "/dev/shm cannot be written";
  Sandbox(pattern, {}).shell("echo kept > file", 30s, {});
  EXPECT_TRUE(fs::exists(fs::path(pattern) / "file"));
  fs::remove_all(pattern);
}

TEST_F(SandboxTest, FoldersOfThePolicyAreThereWithTheirRights) {
  test::TempDir reference, results;
  reference.write("table.txt", "data\n");
  Policy policy;
  policy.read_dirs = {reference.path()};
  policy.write_dirs = {results.path()};
  const std::string seen = output("cat " + (reference / "table.txt").string() + "; echo x > " +
                                      (reference / "no").string() + "; echo y > " + (results / "yes").string(),
                                  policy);
  EXPECT_THAT(seen, HasSubstr("data\n"));
  EXPECT_FALSE(fs::exists(reference / "no"));
  EXPECT_EQ(results.read("yes"), "y\n");
}

TEST_F(SandboxTest, CorvidsOwnFilesAreHiddenEvenInAVisibleFolder) {
  dir.write("corvid.db", "trajectory");
  Policy policy;
  policy.hidden_paths = {dir / "corvid.db"};
  const SpawnResult done = run("cat corvid.db; echo x > corvid.db; rm -f corvid.db", policy);
  EXPECT_EQ(done.out, "");
  EXPECT_EQ(dir.read("corvid.db"), "trajectory");
}

TEST_F(SandboxTest, AHiddenFileCannotBeMovedIntoSightNorPlantedWhileItIsAbsent) {
  dir.write("data/inner/corvid.db", "trajectory");
  Policy policy;
  for (const char* name : {"data/inner/corvid.db", "data/inner/corvid.db-wal", "data/inner/corvid.db-journal"})
    policy.hidden_paths.push_back(dir / name);
  run("mv data other; mv data/inner data/outer; ln data/inner/corvid.db name; echo x > data/inner/corvid.db-journal;"
      "mv data/inner/corvid.db-wal away; echo mine > data/inner/notes.txt",
      policy);
  EXPECT_EQ(output("cat */*/corvid.db */corvid.db name 2>/dev/null", policy), "");
  EXPECT_EQ(dir.read("data/inner/corvid.db"), "trajectory");
  EXPECT_EQ(dir.read("data/inner/corvid.db-journal"), "");
  EXPECT_EQ(dir.read("data/inner/notes.txt"), "mine\n");
  EXPECT_EQ(Sandbox(dir.path(), policy).open_beneath("data/inner/corvid.db", O_RDONLY), -1);
}

TEST_F(SandboxTest, GitWorksButItsHooksAndConfigurationCannotBeWritten) {
  if (std::system("git --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "git is not installed";
  const std::string git = "git -c init.defaultBranch=main -C " + dir.path().string();
  ASSERT_EQ(std::system((git + " init -q && cd " + dir.path().string() + " && rm -rf .git/hooks").c_str()), 0);
  const std::string config = dir.read(".git/config");
  const std::string seen = output(
      "echo 1 > a && git add a && git -c user.name=A -c user.email=a@b commit -qm 'first one' && git log --format=%s;"
      "echo x > .git/hooks/pre-commit; mkdir .git/hooks; mv .git other; git config core.fsmonitor ./evil; ln -f "
      ".git/config c;"
      "mv .git/config .git/c; rm -rf .git/config");
  EXPECT_THAT(seen, HasSubstr("first one\n"));
  EXPECT_EQ(dir.read(".git/config"), config);
  EXPECT_TRUE(!fs::exists(dir / ".git/hooks") || fs::is_empty(dir / ".git/hooks"));
  EXPECT_FALSE(fs::exists(dir / "other"));
}

TEST_F(SandboxTest, ARepositoryThatACommandMakesRunsNothingLater) {
  if (std::system("git --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "git is not installed";
  EXPECT_EQ(run("git init -q . && git config user.name Ann && git config core.fsmonitor ./evil && git config "
                "filter.x.smudge ./evil &&"
                "mkdir -p .git/hooks && echo x > .git/hooks/pre-commit && echo ../evil > .git/commondir")
                .exit_code,
            0);
  EXPECT_THAT(dir.read(".git/config"),
              testing::AllOf(HasSubstr("repositoryformatversion"), HasSubstr("name = Ann"), Not(HasSubstr("evil"))));
  EXPECT_FALSE(fs::exists(dir / ".git/hooks/pre-commit"));
  EXPECT_FALSE(fs::exists(dir / ".git/commondir"));
  EXPECT_EQ(run("echo 1 > a && git add a && git -c user.email=a@b commit -qm one && git log --format=%an").out,
            "Ann\n");
  EXPECT_EQ(run("echo ../evil > .git/commondir; ln -s ../evil .git/config.worktree").exit_code, 0);
  EXPECT_FALSE(fs::exists(fs::symlink_status(dir / ".git/commondir")) ||
               fs::exists(fs::symlink_status(dir / ".git/config.worktree")));
}

TEST(GitGuard, KeepsOnlyTheHarmlessLines) {
  EXPECT_EQ(
      harmless_git_config(
          "[core]\n\tbare = false\n\tsshCommand = evil\n[core] fsmonitor = evil\n\teditor = evil\n[remote "
          "\"o\"]\n\turl = u\n"
          "\tuploadpack = evil\n[alias]\n\tst = !evil\n[include]\n\tpath = evil\n[user]\n\tname = A \\\n\temail = b\n"),
      "[core]\n\tbare = false\n[remote \"o\"]\n\turl = u\n[alias]\n[include]\n[user]\n\temail = b\n");
  EXPECT_EQ(harmless_git_config(""), "");
  EXPECT_EQ(harmless_git_config("[core]\n bare"), "[core]\n bare");
}

TEST_F(SandboxTest, TheShellHasNoNetwork) {
  const Fd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  ASSERT_EQ(listen(listener.get(), 1), 0);
  ASSERT_EQ(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  const int port = ntohs(reinterpret_cast<uint16_t*>(&address)[1]);
  EXPECT_NE(run("exec 3<>/dev/tcp/127.0.0.1/" + std::to_string(port)).exit_code, 0);
  EXPECT_EQ(output("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '"), "lo\n");
}

TEST_F(SandboxTest, SecretsAndPoisonStayOutOfTheEnvironment) {
  setenv("GREETING", "hello world", 1);
  setenv("MY_API_TOKEN", "abc", 1);
  setenv("PLAIN_NAME", "ghp_0123456789abcdefghijABCDEFGHIJ012345", 1);
  setenv("BASH_ENV", "/tmp/evil", 1);
  const std::string seen = output("env; cat /proc/1/environ /proc/*/environ 2>/dev/null | tr '\\0' '\\n'");
  unsetenv("MY_API_TOKEN"), unsetenv("PLAIN_NAME"), unsetenv("BASH_ENV");
  EXPECT_THAT(seen, HasSubstr("GREETING=hello world"));
  EXPECT_THAT(seen, Not(HasSubstr("MY_API_TOKEN")));
  EXPECT_THAT(seen, Not(HasSubstr("ghp_")));
  EXPECT_THAT(seen, Not(HasSubstr("BASH_ENV")));
}

TEST_F(SandboxTest, ACommandHoldsNoDescriptorButTheThreeOfEveryProgram) {
  const Fd leaked(open("/etc", O_RDONLY | O_DIRECTORY));  // without CLOEXEC
  const Fd high(fcntl(leaked.get(), F_DUPFD, 200));
  EXPECT_EQ(run("ls /proc/$$/fd; true").out, "0\n1\n2\n");
}

TEST_F(SandboxTest, NoPrivilegeIsLeft) {
  const std::string seen =
      output("grep -E '^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp):' /proc/self/status | tr -s '\\t ' ' '");
  EXPECT_EQ(seen,
            "CapInh: 0000000000000000\nCapPrm: 0000000000000000\nCapEff: 0000000000000000\nCapBnd: 0000000000000000\n"
            "CapAmb: 0000000000000000\nNoNewPrivs: 1\nSeccomp: 2\n");
}

TEST_F(SandboxTest, TheKernelsSwitchesCannotBeTurned) {
  // Each is written with what it holds already, so that nothing happens if this fails.
  for (const char* name : {"/proc/sys/vm/swappiness", "/proc/sys/kernel/domainname", "/proc/self/oom_score_adj"}) {
    const bool own = std::string(name).starts_with("/proc/self");
    EXPECT_EQ(run(std::string("v=$(cat ") + name + "); echo \"$v\" > " + name).exit_code == 0, own) << name;
  }
  EXPECT_EQ(output("find /proc/sys /proc/irq /proc/bus /proc/fs -type f -writable 2>/dev/null"), "");
  EXPECT_EQ(run("test -w /proc/sysrq-trigger || test -e /dev/mem || test -e /dev/kmsg || test -e /dev/vda").exit_code,
            1);
}

TEST_F(SandboxTest, DangerousSystemCallsAreDenied) {
  if (std::system("python3 -c '' 2>/dev/null") != 0) GTEST_SKIP() << "python3 is not installed";
  dir.write("try.py", R"(import ctypes, fcntl, os, socket, platform
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *args):
    r = libc.syscall(*args)
    print(name, os.strerror(ctypes.get_errno()) if r == -1 else "allowed")
try: fcntl.ioctl(0, 0x5412, b"x"); print("TIOCSTI allowed")
except OSError as e: print("TIOCSTI", e.strerror)
if platform.machine() == "x86_64":
    call("ptrace", 101, 0, 0, 0, 0)
    call("unshare", 272, 0x10000000)
    call("mount", 165, b"none", b"/tmp", b"tmpfs", 0, None)
    call("keyctl", 250, 0, -3, 0)
    call("bpf", 321, 0, None, 0)
    call("io_uring_setup", 425, 1, None)
    call("userfaultfd", 323, 0)
    call("process_vm_readv", 310, os.getpid(), None, 0, None, 0, 0)
for family in (40, 38, 17):
    try: socket.socket(family, socket.SOCK_DGRAM); print("family", family, "allowed")
    except OSError as e: print("family", family, e.strerror)
a, b = socket.socketpair(); a.send(b"x"); print("socketpair works")
)");
  const std::string seen = output("python3 try.py");
  EXPECT_THAT(seen, Not(HasSubstr("allowed")));
  EXPECT_THAT(seen, HasSubstr("TIOCSTI Operation not permitted"));
  EXPECT_THAT(seen, HasSubstr("socketpair works"));
#ifdef __x86_64__
  for (const char* name :
       {"ptrace", "unshare", "mount", "keyctl", "bpf", "io_uring_setup", "userfaultfd", "process_vm_readv"}) {
    EXPECT_THAT(seen, HasSubstr(std::string(name) + " Operation not permitted"));
  }
  // The x32 numbering of getpid(): killed by SIGSYS, not answered.
  EXPECT_EQ(run("python3 -c 'import ctypes; ctypes.CDLL(None).syscall(0x40000000 + 39)'").exit_code, 128 + SIGSYS);
#endif
}

TEST_F(SandboxTest, ATimeoutEndsTheWholeTreeWhateverItDoes) {
  const std::string sleeper = unique_sleep();
  const SpawnResult done =
      run("trap '' TERM INT HUP; echo started; setsid " + sleeper + " & (setsid bash -c \"trap '' TERM; " + sleeper +
              "; true\" &); " + sleeper + " & kill -STOP $!; " + sleeper,
          {}, 2s);
  EXPECT_EQ(done.end, SpawnResult::End::timed_out);
  EXPECT_EQ(done.out, "started\n");
  EXPECT_EQ(count_processes(sleeper), 0);
}

TEST_F(SandboxTest, WhatACommandLeavesBehindIsGoneWhenItReturns) {
  const std::string sleeper = unique_sleep();
  // The second one keeps the standard output open after its parent has ended.
  const SpawnResult done = run("setsid nohup " + sleeper + " >/dev/null 2>&1 & " + sleeper + " & echo done");
  EXPECT_EQ(done.end, SpawnResult::End::exited);
  EXPECT_EQ(done.out, "done\n");
  EXPECT_EQ(count_processes(sleeper), 0);
}

TEST_F(SandboxTest, ACancelledCommandEndsAtOnce) {
  const std::string sleeper = unique_sleep();
  std::stop_source source;
  std::jthread stopper([&] {
    std::this_thread::sleep_for(300ms);
    source.request_stop();
  });
  const SpawnResult done = Sandbox(dir.path(), {}).shell(sleeper + " & " + sleeper, 600s, source.get_token());
  EXPECT_EQ(done.end, SpawnResult::End::cancelled);
  EXPECT_EQ(count_processes(sleeper), 0);
}

TEST_F(SandboxTest, NothingSurvivesTheDeathOfCorvidItself) {
  const std::string sleeper = unique_sleep();
  test::Child child([&] {
    Sandbox(dir.path(), {}).shell("echo up > up; setsid " + sleeper + " & " + sleeper, 600s, {});
    return 0;
  });
  wait_for_file("up");
  child.kill(SIGKILL);
  child.wait();
  for (int i = 0; i < 3000 && count_processes(sleeper) > 0; ++i) std::this_thread::sleep_for(20ms);
  EXPECT_EQ(count_processes(sleeper), 0);
}

TEST_F(SandboxTest, AForkBombIsStopped) {
  Policy policy;
  policy.max_processes = 40;
  // An ordinary user's forks fail at the limit; uid 0 is not bound by it, and the sweep kills the tree.
  try {
    const SpawnResult done = run("for i in $(seq 200); do sleep 100 & done; wait -n; exit 3", policy, 5s);
    EXPECT_NE(done.exit_code, 0);
  } catch (const std::runtime_error& killed) {
    EXPECT_THAT(killed.what(), HasSubstr("more than 40 processes"));
  }
  EXPECT_EQ(run("echo fine", policy).out, "fine\n");
}

TEST_F(SandboxTest, AFloodOfOutputIsCutInTheMiddleAndCounted) {
  Policy policy;
  policy.output_limit_bytes = 1000;
  const SpawnResult done = run("echo first; head -c 100000000 /dev/zero | tr '\\0' x; echo; echo last", policy, 120s);
  EXPECT_EQ(done.out_bytes, 100'000'012);
  EXPECT_LT(done.out.size(), 1100U);
  EXPECT_THAT(done.out, testing::StartsWith("first\nxxx"));
  EXPECT_THAT(done.out, HasSubstr("\n[... 99999012 bytes cut ...]\n"));
  EXPECT_THAT(done.out, testing::EndsWith("x\nlast\n"));
}

TEST_F(SandboxTest, AFileCannotGrowBeyondTheLimit) {
  Policy policy;
  policy.max_file_bytes = 100'000;
  EXPECT_NE(run("head -c 200000 /dev/zero > big", policy).exit_code, 0);
  EXPECT_LE(fs::file_size(dir / "big"), 100'000U);
  EXPECT_EQ(output("ulimit -c"), "0\n");
}

TEST_F(SandboxTest, ExecPassesStreamsAndStatusThrough) {
  const Sandbox box(dir.path(), {});
  EXPECT_EQ(box.exec({"bash", "-c", "echo kept > seen; exit 9"}), 9);
  EXPECT_EQ(dir.read("seen"), "kept\n");
  EXPECT_EQ(box.exec({"/nonexistent-program"}), 127);
  EXPECT_EQ(box.exec({"bash", "-c", "kill -KILL $$"}), 128 + SIGKILL);
}

TEST_F(SandboxTest, ExecPassesSignalsOn) {
  test::Child child([&] {
    return Sandbox(dir.path(), {})
        .exec({"bash", "-c", "trap 'echo got > got; exit 5' TERM; echo up > up; while :; do sleep 0.05; done"});
  });
  wait_for_file("up");
  child.kill(SIGTERM);
  EXPECT_EQ(child.wait(), 5);
  EXPECT_EQ(dir.read("got"), "got\n");
}

TEST_F(SandboxTest, AWorkingFolderMayHaveAnyName) {
  for (const std::string name : {"-rf", "two words", "new\nline", "quo'te\"s$HOME", "\xc3\xa4\xff"}) {
    fs::create_directory(dir / name);
    EXPECT_EQ(Sandbox(dir / name, {}).shell("echo x > f && cat f", 30s, {}).out, "x\n") << name;
    EXPECT_TRUE(fs::exists(dir / name / "f")) << name;
  }
}

TEST_F(SandboxTest, AProgramInTheWorkingFolderDoesNotStandInForTheSystems) {
  fs::permissions(dir.write("ls", "#!/bin/sh\necho hijacked\n"), fs::perms(0755));
  fs::permissions(dir.write("bash", "#!/bin/sh\necho hijacked\n"), fs::perms(0755));
  const std::string before = std::getenv("PATH");
  setenv("PATH", (dir.path().string() + ":.::relative:" + before).c_str(), 1);
  const std::string seen = output("ls; echo $PATH");
  setenv("PATH", before.c_str(), 1);
  EXPECT_THAT(seen, Not(HasSubstr("hijacked")));
  EXPECT_THAT(seen, Not(HasSubstr(dir.path().string())));
}

TEST(Sandbox, RefusesAFolderThatCannotBeGivenAway) {
  EXPECT_THROW(Sandbox("/", {}), std::invalid_argument);
  EXPECT_THROW(Sandbox("/proc", {}), std::invalid_argument);
  EXPECT_THROW(Sandbox("/sys/kernel", {}), std::invalid_argument);
  EXPECT_THROW(Sandbox("/nonexistent/folder", {}), std::system_error);
  EXPECT_THROW(Sandbox("/etc/passwd", {}), std::system_error);
  Policy policy;
  policy.write_dirs = {"/"};
  EXPECT_THROW(Sandbox(fs::temp_directory_path(), policy), std::invalid_argument);
}

// In a process of its own, for the mechanism is looked for once.
int exit_of_shell_without_bwrap(SandboxMode mode) {
  setenv("PATH", "/nonexistent", 1);
  test::TempDir dir;
  Policy policy;
  policy.sandbox = mode;
  try {
    return Sandbox(dir.path(), policy).shell("exit 3", 30s, {}).exit_code;
  } catch (const SandboxRefused& refused) {
    std::fprintf(stderr, "refused: %s\n", refused.what());
    return 77;
  }
}

TEST(SandboxWithoutBwrap, RefusesUnlessTheUserSaidNone) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(std::_Exit(exit_of_shell_without_bwrap(SandboxMode::required)), testing::ExitedWithCode(77),
              "refused: bwrap: not found on PATH; install bubblewrap");
  EXPECT_EXIT(std::_Exit(exit_of_shell_without_bwrap(SandboxMode::none)), testing::ExitedWithCode(3), "");
}

TEST(SandboxNone, StillEndsTheWholeTree) {
  test::TempDir dir;
  Policy policy;
  policy.sandbox = SandboxMode::none;
  const std::string sleeper = unique_sleep();
  const Sandbox box(dir.path(), policy);
  EXPECT_EQ(
      box.shell("setsid nohup " + sleeper + " >/dev/null 2>&1 & " + sleeper + " & echo done; exit 4", 30s, {}).out,
      "done\n");
  EXPECT_EQ(count_processes(sleeper), 0);
  const SpawnResult late =
      box.shell("trap '' TERM; (setsid " + sleeper + " &); " + sleeper + " & kill -STOP $!; " + sleeper, 300ms, {});
  EXPECT_EQ(late.end, SpawnResult::End::timed_out);
  EXPECT_EQ(count_processes(sleeper), 0);
}

TEST(FindBwrap, TakesOnlyAbsoluteEntries) {
  test::TempDir dir;
  fs::permissions(dir.write("bwrap", "#!/bin/sh\n"), fs::perms(0755));
  EXPECT_EQ(find_bwrap(".:relative:" + dir.path().string()), dir / "bwrap");
  EXPECT_EQ(find_bwrap(".::relative"), fs::path());
}

}  // namespace
}  // namespace corvid::tools
