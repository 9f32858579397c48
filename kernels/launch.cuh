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

// `attributes`: room for them, which the result points to.
inline cudaLaunchConfig_t config_of(const Launch& how, cudaLaunchAttribute (&attributes)[2]) {
  cudaLaunchConfig_t config{};
  config.gridDim = how.grid;
  config.blockDim = dim3(how.threads);
  config.dynamicSmemBytes = how.shared_bytes;
  config.stream = how.stream;
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
  return config;
}

template <class... Params, class... Args>
void launch(const char* name, void (*kernel)(Params...), const Launch& how, Args&&... args) {
  cudaLaunchAttribute attributes[2];
  const cudaLaunchConfig_t config = config_of(how, attributes);
  check(cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...), name);
}

// Whether the current device has a place for one of its clusters.
template <class Kernel>
bool fits_a_cluster(Kernel* kernel, const Launch& how) {
  cudaLaunchAttribute attributes[2];
  const cudaLaunchConfig_t config = config_of(how, attributes);
  int clusters = 0;
  check(cudaOccupancyMaxActiveClusters(&clusters, kernel, &config), "clusters");
  return clusters > 0;
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
