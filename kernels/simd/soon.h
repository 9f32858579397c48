// Memory that is read soon, as the processor is told of it.
#pragma once
#include <cstddef>
#include <cstdint>

namespace corvid::kernels {

// The line of the cache so many bytes from `at` is fetched; it may be another object's, or nobody's.
inline void fetch_line(const void* at, int64_t ahead) noexcept {
  __builtin_prefetch(reinterpret_cast<const void*>(  // NOLINT(performance-no-int-to-ptr): see above
      reinterpret_cast<uintptr_t>(at) + static_cast<uintptr_t>(ahead)));
}

// A line of each kSoonStep bytes is fetched: their pages are looked up, and the processor's own prefetching, which ends
// with each 4 KiB, begins anew there before anything waits for it (docs/performance.md).
constexpr int64_t kSoonStep = 1024;

inline void fetch_soon(const std::byte* at, int64_t bytes) noexcept {
  for (int64_t i = 0; i < bytes; i += kSoonStep) fetch_line(at, i);
}

}  // namespace corvid::kernels
