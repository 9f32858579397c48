// Rows of weights times rows of x in a block, the weights being the first operand, so that the rows of x need only be a
// multiple of 16: 256 x 192 of experts, else 128 x 256; and of gate and up for all rows 128 of x, as the first operand,
// times 128 of each. One thread feeds a ring of stages through the copy engine; warpgroups multiply. Blocks stay, and
// take piece after piece, so that the next piece's stages arrive during this one's end; of experts the next that is
// left, as multiprocessors don't read equally fast. Results leave through shared memory, so that whole lines are
// written.
//
// An instruction reads both of its operands from shared memory, so it had better be wide: of 64 x 256 it reads 10 KB in
// 128 cycles, of 64 x 128, twice as many of them, 12 KB, and with what arrives meanwhile that is all that shared memory
// gives. On an H200 (8,192 -> 6,144, 4,096 rows, Nsight Compute) the tensor cores are busy for 74% of the time with the
// one and for 90% with the other. Several matrices of one x go in one launch: k and v have work for few blocks.
//
// Two blocks are a cluster, and what both need comes once, to both: the weights where a tile of a plan has more rows of
// x than a block, or else x. Blocks that meet in the level-2 cache alone may drift apart, until what they share is gone
// from there when the later one comes. 4,096 rows on an H100: Qwen3-30B-A3B's experts 1,040 (1,740), MiniMax-M3's 5,900
// (6,630), which the memory binds: x is to stay in the cache there, or it is 6,210. Weights that are to leave it first
// made it slower; so did clusters of four, of which 30 have room on a GPU. An arrival at the other block's barrier
// needs no .release.cluster, which waits for all that the thread has written; without it and with a file for each
// kernel (below) all took 0.6 of the time.
#include "kernels/products/wide_kernel.cuh"

namespace corvid::kernels {

// Each by a file of its own, which takes the compiler a while.
extern template void launch_wide<SharesX>(std::span<const WideProduct>, int, CUstream_st*);
extern template void launch_wide<SharesWeights>(std::span<const WideProduct>, int, CUstream_st*);
extern template void launch_wide<Pairs>(std::span<const WideProduct>, int, CUstream_st*);
extern template void launch_wide<Dense>(std::span<const WideProduct>, int, CUstream_st*);

void cuda::wide_products(std::span<const WideProduct> all, CUstream_st* stream) {
  const WideProduct& a = all.front();
  if (a.first.format != DeviceFormat::bf16) return wide_quants(a, stream);
  if (a.tiles != nullptr)
    return a.tile > SharesX::kMost ? launch_wide<SharesWeights>(all, 0, stream) : launch_wide<SharesX>(all, 0, stream);
  // One matrix for all: tiles as even as they can be.
  const int64_t tiles = (a.positions + Dense::kMost - 1) / Dense::kMost, each = (a.positions + tiles - 1) / tiles;
  const auto tile = static_cast<int>((each + 2 * kBox - 1) / (2 * kBox) * (2 * kBox));
  if (a.out == WideProduct::Out::activated) return launch_wide<Pairs>(all, tile, stream);
  launch_wide<Dense>(all, tile, stream);
}

}  // namespace corvid::kernels
