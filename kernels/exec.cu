// Memory, streams and copies of the GPU.
#include <new>

#include "kernels/cuda_check.h"
#include "kernels/exec.h"
#include "kernels/gpu.h"

namespace corvid::kernels::cuda {

bool available() noexcept {
  int devices = 0;
  return cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
}

void* allocate(int64_t bytes) {
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, static_cast<size_t>(bytes));
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // or the next launch would be blamed for it
    size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    throw OutOfMemory("the GPU's memory: want " + std::to_string(bytes >> 20) + " MB, found " +
                      std::to_string(free >> 20) + " MB free");
  }
  check(status, "cudaMalloc");
  return data;
}

// Fails only when the device is lost already; there is nothing to do about it in a destructor.
void deallocate(void* data) noexcept { cudaFree(data); }

CUstream_st* create_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  return stream;
}

void destroy_stream(CUstream_st* stream) noexcept { cudaStreamDestroy(stream); }

void wait(CUstream_st* stream) { check(cudaStreamSynchronize(stream), "waiting for the GPU"); }

void to_device(void* device, const void* host, int64_t bytes, CUstream_st* stream) {
  check(cudaMemcpyAsync(device, host, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream), "copy to the GPU");
  wait(stream);
}

void to_host(void* host, const void* device, int64_t bytes, CUstream_st* stream) {
  check(cudaMemcpyAsync(host, device, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, stream), "copy from the GPU");
  wait(stream);
}

}  // namespace corvid::kernels::cuda
