// Launches that overlap with the end of what the stream did before: a block starts as soon as there is room for it,
// does what needs nothing of the kernel before (weights on their way to registers, above all), and waits.
//
// Every thread of such a kernel calls wait_for_previous() before it reads what another kernel wrote, or writes
// anything. start_next() lets the next kernel's blocks in; what this kernel writes is seen behind their wait, wherever
// it stands.
#pragma once
#include <utility>

#include "kernels/cuda_check.h"

namespace corvid::kernels {

__device__ inline void wait_for_previous() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
__device__ inline void start_next() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

template <class... Parameters, class... Arguments>
void launch_dependent(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                      Arguments&&... arguments) {
  cudaLaunchAttribute overlap;
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid, config.blockDim = block, config.dynamicSmemBytes = shared_bytes, config.stream = stream;
  config.attrs = &overlap, config.numAttrs = 1;
  cuda::check(cudaLaunchKernelEx(&config, kernel, Parameters(std::forward<Arguments>(arguments))...), "launch");
}

}  // namespace corvid::kernels
