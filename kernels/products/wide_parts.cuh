// Shapes of the kernel of wide.cu, and the pieces of work that its blocks have.
#pragma once
#include "kernels/products/wide.cuh"

namespace corvid::kernels {
enum class Share : uint8_t { x, weights };  // what the blocks of a cluster have in common

constexpr int kStages = 4;
constexpr int kWeightBox = 64;  // rows of weights of an instruction
constexpr int kWeightBoxBytes = kWeightBox * kWideStageK * 2;

// Pieces of a plan are handed out one by one, as some multiprocessors read faster: the next one's number, -1 when there
// is none left, and its tile. kGiven: more than copying is ahead of multiplying, where a piece has one stage.
struct alignas(16) Given {
  int32_t piece;
  ExpertTile tile;
};
constexpr int kGiven = 8;

// kGroups warpgroups multiply, with kEach boxes of weights each and up to kMost rows of x. kMatrices: most products of
// one x in a launch. kPairs: of gate and up alone, and each has rows of x for itself, and all weights.
template <Share kSharedPart, int kWarpgroups, int kBoxes, int kMostRows, int kMostMatrices, bool kOfPairs = false>
struct Shape {
  static constexpr bool kPairs = kOfPairs;
  static constexpr Share kShare = kSharedPart;
  static constexpr int kMatrices = kMostMatrices;
  static constexpr int kCluster = 2, kGroups = kWarpgroups, kEach = kBoxes, kMost = kMostRows;
  static constexpr int kRows = kGroups * kEach * kWeightBox;  // of weights, in a block
  static constexpr int kThreads = (kGroups + 1) * 128;

  struct alignas(1024) Stage {
    unsigned char w[kGroups * kEach][kWeightBoxBytes];
    unsigned char x[kMost / kBox][kBoxBytes];
  };
  struct Memory {
    Stage stages[kStages];
    uint64_t full[kStages], empty[kStages];
    Given given[kGiven];
    uint64_t given_full[kGiven];
  };
};

template <class S>
struct WideArgs {
  WideTask tasks[S::kMatrices];  // the first has the blocks of all
  CUtensorMap first[S::kMatrices], second, x;
  int first_block[S::kMatrices];  // as the pieces count them
  int32_t* taken;                 // not null: pieces are handed out
  int expert_rows;
  uint64_t w_policy, x_policy;
};

// What the plan says is there when the kernel before has ended.
template <class S>
__device__ int tiles_of(const WideArgs<S>& a) {
  return a.tasks[0].n_tiles != nullptr ? *a.tasks[0].n_tiles : a.tasks[0].max_tiles;
}

struct Part : Piece {
  int matrix;
};
// What of a piece is this block's: some of the tile's rows, maybe none, or the next block of weights.
template <class S>
__device__ Part part_of(const WideArgs<S>& a, const Piece& whole, int rank) {
  Part piece{whole, 0};
  if constexpr (S::kMatrices > 1) {
#pragma unroll
    for (int m = 1; m < S::kMatrices; ++m) piece.matrix += piece.block >= a.first_block[m] ? 1 : 0;
    piece.block -= a.first_block[piece.matrix];
  }
  if constexpr (S::kShare == Share::weights) {
    const int count = piece.tile.count, each = ((count + S::kCluster - 1) / S::kCluster + 15) / 16 * 16;
    const int from = min(rank * each, count);
    piece.tile.first += from, piece.tile.count = min(each, count - from);
  } else {
    piece.block = piece.block * S::kCluster + rank;
  }
  return piece;
}

// The pieces that this cluster has, one after the other.
template <class S>
class Parts {
 public:
  __device__ Parts(const WideArgs<S>& a, typename S::Memory& shared, int n_tiles, int rank)
      : a_(a), shared_(shared), n_tiles_(n_tiles), end_(n_tiles * a.tasks[0].blocks), rank_(rank) {
    if (i_ >= end_) return;
    const WideTask& task = a.tasks[0];
    now_ = part_of<S>(
        a, a.taken != nullptr ? Piece{task.tiles[i_ / task.blocks], i_ % task.blocks} : piece_of(task, i_, n_tiles),
        rank);
  }
  __device__ bool has_one() const { return i_ < end_; }
  __device__ const Part& now() const { return now_; }
  __device__ void next() {
    if (a_.taken == nullptr) {
      i_ += clusters();
      if (i_ < end_) now_ = part_of<S>(a_, piece_of(a_.tasks[0], i_, n_tiles_), rank_);
      return;
    }
    const int slot = n_given_ % kGiven;
    ptx::wait_for_cluster(&shared_.given_full[slot], static_cast<uint32_t>(n_given_ / kGiven % 2));
    const Given given = shared_.given[slot];
    ++n_given_;
    i_ = given.piece >= 0 ? given.piece : end_;
    if (given.piece >= 0) now_ = part_of<S>(a_, {given.tile, given.piece % a_.tasks[0].blocks}, rank_);
  }

  // One thread of each block asks for what next() waits for; then that of the first block sends it.
  __device__ void ask() {
    if (a_.taken == nullptr) return;
    ptx::arrive_expecting(&shared_.given_full[n_given_ % kGiven], sizeof(Given));
    if (rank_ == 0) taken_ = clusters() + atomicAdd(a_.taken, 1);
  }
  __device__ void send() {
    if (a_.taken == nullptr || rank_ != 0) return;
    int4 given = make_int4(-1, 0, 0, 0);
    if (taken_ < end_) {
      const ExpertTile tile = a_.tasks[0].tiles[taken_ / a_.tasks[0].blocks];
      given = make_int4(taken_, tile.expert, tile.first, tile.count);
    }
    const float words[] = {__int_as_float(given.x), __int_as_float(given.y), __int_as_float(given.z),
                           __int_as_float(given.w)};
    const int slot = n_given_ % kGiven;
    for (uint32_t to = 0; to < S::kCluster; ++to)
      ptx::send(to, ptx::shared_address(&shared_.given[slot]), words, &shared_.given_full[slot]);
  }

 private:
  __device__ static int clusters() { return static_cast<int>(gridDim.x) / S::kCluster; }

  const WideArgs<S>& a_;
  typename S::Memory& shared_;
  const int n_tiles_, end_, rank_;
  int i_ = static_cast<int>(blockIdx.x) / S::kCluster, n_given_ = 0, taken_ = 0;
  Part now_ = {};
};

}  // namespace corvid::kernels
