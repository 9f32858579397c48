#include "tools/seccomp_filter.h"

#include <asm/termbits.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>

namespace corvid::tools {
namespace {

// Looked up by name, so that one unknown to an older libseccomp is left out: such a kernel lacks it too, or the command
// has no capability to use it.
constexpr const char* kDenied[] = {"ptrace",
                                   "process_vm_readv",
                                   "process_vm_writev",
                                   "process_madvise",
                                   "pidfd_getfd",
                                   "kcmp",
                                   "io_uring_setup",
                                   "io_uring_enter",
                                   "io_uring_register",
                                   "keyctl",
                                   "add_key",
                                   "request_key",
                                   "bpf",
                                   "perf_event_open",
                                   "userfaultfd",
                                   "fanotify_init",
                                   "mount",
                                   "umount",
                                   "umount2",
                                   "pivot_root",
                                   "chroot",
                                   "fsopen",
                                   "fsconfig",
                                   "fsmount",
                                   "fspick",
                                   "move_mount",
                                   "open_tree",
                                   "open_tree_attr",
                                   "mount_setattr",
                                   "unshare",
                                   "setns",
                                   "open_by_handle_at",
                                   "kexec_load",
                                   "kexec_file_load",
                                   "init_module",
                                   "finit_module",
                                   "delete_module",
                                   "create_module",
                                   "swapon",
                                   "swapoff",
                                   "reboot",
                                   "acct",
                                   "quotactl",
                                   "quotactl_fd",
                                   "iopl",
                                   "ioperm",
                                   "nfsservctl",
                                   "vhangup",
                                   "settimeofday",
                                   "clock_settime",
                                   "sethostname",
                                   "setdomainname",
                                   "lookup_dcookie",
                                   "syslog"};

constexpr uint64_t kLow32 = 0xffffffff;  // the kernel takes these arguments as 32 bits, whatever stands above them

void check(int rc, const char* what) {
  if (rc < 0)
    throw std::runtime_error("seccomp filter: " + std::string(what) + ": " + std::generic_category().message(-rc));
}

std::string build() {
  const std::unique_ptr<void, void (*)(void*)> filter(seccomp_init(SCMP_ACT_ALLOW), seccomp_release);
  if (!filter) throw std::runtime_error("seccomp filter: libseccomp could not start one");
  void* const f = filter.get();
  check(seccomp_attr_set(f, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS), "other architectures");
  for (const char* name : kDenied) {
    const int number = seccomp_syscall_resolve_name(name);
    if (number < 0) continue;  // unknown here, or not a call of this architecture
    check(seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), number, 0), name);
  }
  if (const int clone3 = seccomp_syscall_resolve_name("clone3"); clone3 >= 0) {
    check(seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), clone3, 0), "clone3");
  }
  for (const uint64_t request : {uint64_t{TIOCSTI}, uint64_t{TIOCLINUX}}) {
    check(seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_MASKED_EQ, kLow32, request)),
          "ioctl");
  }
  for (const uint64_t flag :
       {CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP}) {
    check(seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, flag, flag)),
          "clone");
  }
  constexpr std::array kFamilies = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};
  constexpr uint64_t kLastFamily = 63;  // beyond every family there is; above it one comparison denies all
  for (const int call : {SCMP_SYS(socket), SCMP_SYS(socketpair)}) {
    for (uint64_t family = 0; family <= kLastFamily; ++family) {
      if (std::find(kFamilies.begin(), kFamilies.end(), static_cast<int>(family)) != kFamilies.end()) continue;
      check(seccomp_rule_add(f, SCMP_ACT_ERRNO(EAFNOSUPPORT), call, 1, SCMP_A0(SCMP_CMP_MASKED_EQ, kLow32, family)),
            "socket");
    }
    check(seccomp_rule_add(f, SCMP_ACT_ERRNO(EAFNOSUPPORT), call, 1, SCMP_A0(SCMP_CMP_GT, kLastFamily)), "socket");
  }
  const Fd file(memfd_create("seccomp", MFD_CLOEXEC));
  if (!file) throw std::system_error(errno, std::generic_category(), "memfd_create");
  check(seccomp_export_bpf(f, file.get()), "export");
  std::string program(static_cast<size_t>(lseek(file.get(), 0, SEEK_END)), '\0');
  if (pread(file.get(), program.data(), program.size(), 0) != static_cast<ssize_t>(program.size())) {
    throw std::system_error(errno, std::generic_category(), "seccomp filter: read back");
  }
  return program;
}

}  // namespace

Fd seccomp_filter() {
  static const std::string program = build();
  Fd file(memfd_create("seccomp", MFD_CLOEXEC));
  if (!file || pwrite(file.get(), program.data(), program.size(), 0) != static_cast<ssize_t>(program.size())) {
    throw std::system_error(errno, std::generic_category(), "seccomp filter: memory file");
  }
  return file;
}

}  // namespace corvid::tools
