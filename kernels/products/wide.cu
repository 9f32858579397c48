// Rows of x times rows of weights in a block: 192 x 256, or 128 x 192, the weights being the first operand, so that the
// rows of x need only be a multiple of 16. One thread feeds a ring of stages through the copy engine; warpgroups
// multiply, each with rows of weights of its own. Blocks stay, and take piece after piece, so that the next piece's
// stages arrive during this one's end. Results leave through shared memory, so that whole lines are written.
//
// Two blocks are a cluster, and what both need comes once, to both: the weights where a tile of a plan has more rows of
// x than a block, or else x. Blocks that meet in the level-2 cache alone may drift apart, until what they share is gone
// from there when the later one comes. 4,096 rows on an H100: Qwen3-30B-A3B's experts 1,040 (1,740), MiniMax-M3's 5,900
// (6,630), which the memory binds: x is to stay in the cache there, or it is 6,210. Weights that are to leave it first
// made it slower. An arrival at the other block's barrier needs no .release.cluster, which waits for all that the
// thread has written; without it and with a file for each kernel (below) all took 0.6 of the time.
#include "kernels/products/wide_kernel.cuh"

namespace corvid::kernels {

// Each by a file of its own, which takes the compiler a while.
extern template void launch_wide<SharesX>(const WideProduct&, int, CUstream_st*);
extern template void launch_wide<SharesWeights>(const WideProduct&, int, CUstream_st*);
extern template void launch_wide<Narrow>(const WideProduct&, int, CUstream_st*);

void cuda::wide_product(const WideProduct& a, CUstream_st* stream) {
  if (a.first.format != DeviceFormat::bf16) return wide_quants(a, stream);
  if (a.tiles != nullptr)
    return a.tile > SharesX::kMost ? launch_wide<SharesWeights>(a, 0, stream) : launch_wide<SharesX>(a, 0, stream);
  // One matrix for all: tiles as even as they can be.
  constexpr int64_t kTile = 256;
  const int64_t tiles = (a.positions + kTile - 1) / kTile, each = (a.positions + tiles - 1) / tiles;
  const auto tile = static_cast<int>((each + 2 * kBox - 1) / (2 * kBox) * (2 * kBox));
  if (a.out == WideProduct::Out::activated) return launch_wide<SharesWeights>(a, tile, stream);
  // Which fills the multiprocessors better.
  const auto rounds = [&, clusters = multiprocessors() / 2](int64_t rows) {
    return (tiles * ((a.first.n + rows - 1) / rows) + clusters - 1) / clusters * rows;
  };
  if (rounds(Narrow::kRows) * 21 < rounds(SharesWeights::kRows) * 20)
    launch_wide<Narrow>(a, tile, stream);
  else
    launch_wide<SharesWeights>(a, tile, stream);
}

}  // namespace corvid::kernels
