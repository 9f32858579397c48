// What the cuda:: functions of a build without CUDA do.
#pragma once
#include <stdexcept>

namespace corvid::kernels {

[[noreturn]] inline void no_cuda() {
  throw std::runtime_error("this build of corvid has no CUDA (configure with -DCORVID_CUDA=ON)");
}

}  // namespace corvid::kernels
