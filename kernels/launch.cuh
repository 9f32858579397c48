// Launches with the attributes that <<<>>> has no place for.
#pragma once
#include <utility>

#include "kernels/cuda_check.h"

namespace corvid::kernels::cuda {

struct Launch {
  dim3 grid;
  unsigned threads;
  size_t shared_bytes;
  cudaStream_t stream;
  unsigned cluster = 1;          // blocks along x that run at once
  bool may_begin_early = false;  // programmatic dependent launch: the kernel calls ptx::wait_for_earlier()
};

template <class... Params, class... Args>
void launch(const char* name, void (*kernel)(Params...), const Launch& how, Args&&... args) {
  cudaLaunchConfig_t config{};
  config.gridDim = how.grid;
  config.blockDim = dim3(how.threads);
  config.dynamicSmemBytes = how.shared_bytes;
  config.stream = how.stream;
  cudaLaunchAttribute attributes[2];
  unsigned n = 0;
  if (how.cluster > 1) {
    attributes[n].id = cudaLaunchAttributeClusterDimension;
    attributes[n].val.clusterDim.x = how.cluster;
    attributes[n].val.clusterDim.y = 1;
    attributes[n++].val.clusterDim.z = 1;
  }
  if (how.may_begin_early) {
    attributes[n].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[n++].val.programmaticStreamSerializationAllowed = 1;
  }
  config.attrs = attributes;
  config.numAttrs = n;
  check(cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...), name);
}

// More shared memory than every kernel may have: on the current device, for all its launches from now on.
template <class Kernel>
void allow(Kernel* kernel, int shared_bytes) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes), "shared memory");
}

// A multiprocessor divides its memory anew between L1 and shared memory only when it is empty: kernels that follow each
// other closely should want the same.
template <class Kernel>
void want_shared_memory(Kernel* kernel) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared),
        "shared memory");
}

// Of the current device.
inline int multiprocessors() {
  int device = 0, count = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "multiprocessors");
  return count;
}

}  // namespace corvid::kernels::cuda
