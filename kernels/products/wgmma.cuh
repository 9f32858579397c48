// What the wide products need of Hopper beside kernels/wgmma.cuh: the matrix instruction in many sizes, and boxes of a
// matrix by the copy engine.
#pragma once
#include <cuda.h>

#include "kernels/wgmma.cuh"

namespace corvid::kernels {

// What the level-2 cache does with what is copied: as usual, or keeps it for longer.
constexpr uint64_t kPolicyNormal = 0x1000000000000000U, kPolicyLast = 0x14F0000000000000U;
// A box of a matrix, its first column and row, to shared memory; counted by the barrier.
__device__ inline void copy_box(void* to, const CUtensorMap& from, int column, int row, uint64_t* barrier,
                                uint64_t policy = kPolicyNormal) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%2, "
      "%3}], [%4], %5;" ::"r"(ptx::shared_address(to)),
      "l"(&from), "r"(column), "r"(row), "r"(ptx::shared_address(barrier)), "l"(policy)
      : "memory");
}
// The same to the same place in all blocks of a mask, counted by their barriers.
__device__ inline void copy_box_to(uint16_t blocks, void* to, const CUtensorMap& from, int column, int row,
                                   uint64_t* barrier, uint64_t policy = kPolicyNormal) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint "
      "[%0], [%1, {%2, %3}], [%4], %5, %6;" ::"r"(ptx::shared_address(to)),
      "l"(&from), "r"(column), "r"(row), "r"(ptx::shared_address(barrier)), "h"(blocks), "l"(policy)
      : "memory");
}

// d [64, kColumns] += a [64, 16] b [kColumns, 16]^T. Thread t of the warpgroup has of d the rows 16 * (t / 32) + t % 32
// / 4 and that + 8, the columns 8 j + 2 * (t % 4) and the next: d[4 j], d[4 j + 1], and d[4 j + 2], d[4 j + 3].
template <int kColumns>
__device__ void wgmma(float (&d)[kColumns / 2], uint64_t a, uint64_t b);
// The same with a in registers, which must stay as they are until the instruction is done: a0 and a2 are of the first
// of the thread's rows, a1 and a3 of the second; a0 and a1 the columns 2 * (t % 4) and the next, a2 and a3 those eight
// on.
template <int kColumns>
__device__ void wgmma_from_registers(float (&d)[kColumns / 2], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                     uint64_t b);

// The numbers and the operands of so many registers.
#define CORVID_D16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define CORVID_D32 \
  CORVID_D16       \
  ", "             \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define CORVID_D48 \
  CORVID_D32       \
  ", "             \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define CORVID_D64 \
  CORVID_D48       \
  ", "             \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define CORVID_D72 \
  CORVID_D64       \
  ", "             \
  "%64, %65, %66, %67, %68, %69, %70, %71"
#define CORVID_D80 \
  CORVID_D72       \
  ", "             \
  "%72, %73, %74, %75, %76, %77, %78, %79"
#define CORVID_D88 \
  CORVID_D80       \
  ", "             \
  "%80, %81, %82, %83, %84, %85, %86, %87"
#define CORVID_D96 \
  CORVID_D88       \
  ", "             \
  "%88, %89, %90, %91, %92, %93, %94, %95"
#define CORVID_D128                                                                              \
  CORVID_D96                                                                                     \
  ", "                                                                                           \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define CORVID_8(d, at)                                                                                              \
  "+f"(d[at]), "+f"(d[at + 1]), "+f"(d[at + 2]), "+f"(d[at + 3]), "+f"(d[at + 4]), "+f"(d[at + 5]), "+f"(d[at + 6]), \
      "+f"(d[at + 7])
#define CORVID_O16(d) CORVID_8(d, 0), CORVID_8(d, 8)
#define CORVID_O32(d) CORVID_O16(d), CORVID_8(d, 16), CORVID_8(d, 24)
#define CORVID_O48(d) CORVID_O32(d), CORVID_8(d, 32), CORVID_8(d, 40)
#define CORVID_O64(d) CORVID_O48(d), CORVID_8(d, 48), CORVID_8(d, 56)
#define CORVID_O72(d) CORVID_O64(d), CORVID_8(d, 64)
#define CORVID_O80(d) CORVID_O72(d), CORVID_8(d, 72)
#define CORVID_O88(d) CORVID_O80(d), CORVID_8(d, 80)
#define CORVID_O96(d) CORVID_O88(d), CORVID_8(d, 88)
#define CORVID_O128(d) CORVID_O96(d), CORVID_8(d, 96), CORVID_8(d, 104), CORVID_8(d, 112), CORVID_8(d, 120)
#define CORVID_WGMMA(columns, registers, first, second)                                                 \
  template <>                                                                                           \
  __device__ inline void wgmma<columns>(float(&d)[registers], uint64_t a, uint64_t b) {                 \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32.bf16.bf16 {" CORVID_D##registers \
                 "}, %" #first ", %" #second ", 1, 1, 1, 0, 0;"                                         \
                 : CORVID_O##registers(d)                                                               \
                 : "l"(a), "l"(b));                                                                     \
  }
#define CORVID_WGMMA_FROM_REGISTERS(columns, registers, first, second, third, fourth, fifth)                        \
  template <>                                                                                                       \
  __device__ inline void wgmma_from_registers<columns>(float(&d)[registers], uint32_t a0, uint32_t a1, uint32_t a2, \
                                                       uint32_t a3, uint64_t b) {                                   \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32.bf16.bf16 {" CORVID_D##registers             \
                 "}, {%" #first ", %" #second ", %" #third ", %" #fourth "}, %" #fifth ", 1, 1, 1, 0;"              \
                 : CORVID_O##registers(d)                                                                           \
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b));                                                     \
  }
CORVID_WGMMA(32, 16, 16, 17)
CORVID_WGMMA(64, 32, 32, 33)
CORVID_WGMMA(96, 48, 48, 49)
CORVID_WGMMA(128, 64, 64, 65)
CORVID_WGMMA(144, 72, 72, 73)
CORVID_WGMMA(160, 80, 80, 81)
CORVID_WGMMA(176, 88, 88, 89)
CORVID_WGMMA(192, 96, 96, 97)
CORVID_WGMMA(256, 128, 128, 129)
CORVID_WGMMA_FROM_REGISTERS(32, 16, 16, 17, 18, 19, 20)
CORVID_WGMMA_FROM_REGISTERS(64, 32, 32, 33, 34, 35, 36)
CORVID_WGMMA_FROM_REGISTERS(128, 64, 64, 65, 66, 67, 68)
#undef CORVID_D16
#undef CORVID_O16
#undef CORVID_D32
#undef CORVID_O32
#undef CORVID_D48
#undef CORVID_O48
#undef CORVID_D64
#undef CORVID_O64
#undef CORVID_D72
#undef CORVID_O72
#undef CORVID_D80
#undef CORVID_O80
#undef CORVID_D88
#undef CORVID_O88
#undef CORVID_D96
#undef CORVID_O96
#undef CORVID_D128
#undef CORVID_O128
#undef CORVID_8
#undef CORVID_WGMMA
#undef CORVID_WGMMA_FROM_REGISTERS

// Across a warp, lane l having of an 8 x 8 matrix of 16-bit numbers row l / 4, columns 2 * (l % 4) and the next.
__device__ inline uint32_t transpose(uint32_t pair) {
  uint32_t out;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(out) : "r"(pair));
  return out;
}

// Four such matrices to shared memory, each transposed: lanes 8 i to 8 i + 7 have the addresses of the columns of
// matrix i, 16 bytes each.
__device__ inline void store_transposed(void* to, uint32_t m0, uint32_t m1, uint32_t m2, uint32_t m3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(ptx::shared_address(to)),
               "r"(m0), "r"(m1), "r"(m2), "r"(m3)
               : "memory");
}

// The same as they are: lanes 8 i to 8 i + 7 have the addresses of the rows of matrix i.
__device__ inline void store_matrices(void* to, uint32_t m0, uint32_t m1, uint32_t m2, uint32_t m3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(ptx::shared_address(to)),
               "r"(m0), "r"(m1), "r"(m2), "r"(m3)
               : "memory");
}

}  // namespace corvid::kernels
