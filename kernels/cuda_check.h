// Errors of CUDA calls, for .cu files.
#pragma once
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace corvid::kernels::cuda {

inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

// After a kernel launch: a wrong launch fails here; what goes wrong while it runs surfaces in Exec::wait().
inline void check_launch(const char* kernel) { check(cudaGetLastError(), kernel); }

}  // namespace corvid::kernels::cuda
