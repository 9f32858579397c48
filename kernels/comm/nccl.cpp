#include "kernels/comm/nccl.h"

#include <dlfcn.h>

#include <cstdlib>
#include <stdexcept>

namespace corvid::kernels {
namespace {

constexpr int kSum = 0;  // ncclSum

struct Library {
  int (*comm_init_all)(void**, int, const int*) = nullptr;
  int (*comm_destroy)(void*) = nullptr;
  int (*all_reduce)(const void*, void*, size_t, int, int, void*, CUstream_st*) = nullptr;
  int (*group_start)() = nullptr;
  int (*group_end)() = nullptr;
  const char* (*error_string)(int) = nullptr;
  std::string obstacle;

  Library() {
    const char* const named = std::getenv("CORVID_NCCL");
    void* const file = dlopen(named != nullptr ? named : "libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (file == nullptr) {
      obstacle =
          std::string("NCCL was not found: ") + dlerror() + " (package libnccl2, or CORVID_NCCL=/path/to/libnccl.so.2)";
      return;
    }
    const auto find = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(file, name));
      if (function == nullptr) obstacle = std::string("NCCL: want version 2, found one without ") + name;
    };
    find(comm_init_all, "ncclCommInitAll");
    find(comm_destroy, "ncclCommDestroy");
    find(all_reduce, "ncclAllReduce");
    find(group_start, "ncclGroupStart");
    find(group_end, "ncclGroupEnd");
    find(error_string, "ncclGetErrorString");
  }
  void check(int status, const char* what) const {
    if (status != 0) throw std::runtime_error(std::string("NCCL: ") + what + ": " + error_string(status));
  }
};

const Library& library() {
  static const Library loaded;
  return loaded;
}

}  // namespace

std::optional<std::string> Nccl::obstacle() {
  if (library().obstacle.empty()) return std::nullopt;
  return library().obstacle;
}

Nccl::Nccl(std::span<const int> gpus) : comms_(gpus.size()) {
  if (const auto missing = obstacle()) throw std::runtime_error(*missing);
  library().check(library().comm_init_all(comms_.data(), static_cast<int>(gpus.size()), gpus.data()),
                  "ncclCommInitAll");
}

Nccl::~Nccl() {
  for (void* comm : comms_) library().comm_destroy(comm);
}

void Nccl::queue_all_reduce(std::span<void* const> data, int64_t count, Type type,
                            std::span<CUstream_st* const> streams) {
  const Library& nccl = library();
  nccl.check(nccl.group_start(), "ncclGroupStart");
  int status = 0;
  for (size_t i = 0; i < comms_.size() && status == 0; ++i) {
    status = nccl.all_reduce(data[i], data[i], static_cast<size_t>(count), static_cast<int>(type), kSum, comms_[i],
                             streams[i]);
  }
  const int ended = nccl.group_end();
  nccl.check(status != 0 ? status : ended, "ncclAllReduce");
}

}  // namespace corvid::kernels
