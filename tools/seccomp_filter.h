// The system calls a confined command may not make, as a BPF program for bubblewrap's --seccomp.
#pragma once
#include "tools/fd.h"

namespace corvid::tools {

// A new memory file that holds the filter, at offset 0; read by bubblewrap. Built once per process.
// Allowed by default; denied are:
//   EPERM         typing into a terminal (TIOCSTI, TIOCLINUX), ptrace and its kin, io_uring, the kernel's keyrings,
//   bpf,
//                 perf events, userfaultfd, mounting, new or foreign namespaces, loading kernels and modules
//   EAFNOSUPPORT  sockets of other families than UNIX, INET, INET6 and NETLINK (the last three find an empty network)
//   ENOSYS        clone3, whose flags a filter cannot see; the C library falls back to clone
//   killed        calls of another architecture: x32 and 32-bit entries would pass the rules above by other numbers
// Throws std::runtime_error when libseccomp fails.
Fd seccomp_filter();

}  // namespace corvid::tools
