#include "kernels/cuda_check.h"
#include "kernels/rope/rope.h"

namespace corvid::kernels {
namespace {

constexpr int kThreads = 128;

// One block per row.
__global__ void rope_angles_kernel(RopeAngles a) {
  const int64_t half = a.rotary_dim / 2;
  float* out = a.cos_sin + blockIdx.x * a.rotary_dim;
  for (int64_t i = threadIdx.x; i < half; i += kThreads) {
    const double angle = double(a.pos[blockIdx.x]) * pow(a.theta, -2.0 * double(i) / double(a.rotary_dim));
    out[i] = static_cast<float>(cos(angle));
    out[half + i] = static_cast<float>(sin(angle));
  }
}

// One block per row; a thread turns one pair of one head.
__global__ void rope_kernel(Rope a) {
  const int64_t half = a.rotary_dim / 2;
  const float* cos_sin = a.cos_sin + blockIdx.x * a.rotary_dim;
  float* row = a.x + blockIdx.x * a.n_heads * a.head_dim;
  for (int64_t n = threadIdx.x; n < a.n_heads * half; n += kThreads) {
    const int64_t i = n % half;
    float* x = row + n / half * a.head_dim;
    const float first = x[i], second = x[half + i], c = cos_sin[i], s = cos_sin[half + i];
    x[i] = first * c - second * s;
    x[half + i] = second * c + first * s;
  }
}

}  // namespace

void cuda::rope_angles(const RopeAngles& a, CUstream_st* stream) {
  if (a.rows == 0) return;
  const int64_t bytes = a.rows * static_cast<int64_t>(sizeof(int64_t));
  Buffer pos(bytes, Device::cuda);
  to_device(pos.as<int64_t>(), a.pos, bytes, stream);
  RopeAngles on_device = a;
  on_device.pos = pos.as<int64_t>();
  rope_angles_kernel<<<static_cast<unsigned>(a.rows), kThreads, 0, stream>>>(on_device);
  check_launch("rope_angles");
  wait(stream);  // `pos` goes
}

void cuda::rope(const Rope& a, CUstream_st* stream) {
  if (a.rows == 0) return;
  rope_kernel<<<static_cast<unsigned>(a.rows), kThreads, 0, stream>>>(a);
  check_launch("rope");
}

}  // namespace corvid::kernels
