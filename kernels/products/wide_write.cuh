// How a warpgroup of wide.cu writes what it has summed: from its registers, a channel a row as wgmma has them, through
// shared memory, so that its threads write whole lines of y.
#pragma once
#include "kernels/products/wide.cuh"

namespace corvid::kernels {

__device__ inline uint32_t packed(float low, float high) {
  const __nv_bfloat162 two = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&two);
}

// Of this warpgroup. The compiler is not to know that it is always the same: it would work out before the first piece
// where everything of a piece goes, keep that in local memory, and read it back from far at every piece's end.
__device__ inline int thread_of_group() {
  int thread = static_cast<int>(threadIdx.x) % 128;
  asm volatile("" : "+r"(thread));
  return thread;
}

// Accesses on their way together, where there are registers for it.
template <int kSums>
constexpr int kAtOnce = kSums <= 320 ? 4 : 1;

// kEach * 64 channels from `channel` on of the tile's positions, of which kColumns were multiplied. between: kEach * 8
// KB that this warpgroup alone uses, free when all of it has come here: 64 positions of 128 * kEach bytes, whose chunks
// of 16 bytes are permuted so that neither side's accesses meet in a bank.
template <int kEach, int kColumns>
__device__ void write_bf16_lines(const WideTask& a, const ExpertTile& tile, int channel, int group,
                                 unsigned char* between, const float (&sum)[kEach][kColumns / 2]) {
  constexpr int kPositions = 64, kChunks = kEach * 8, kPitch = kChunks * 16;
  const int thread = thread_of_group(), warp = thread / 32, lane = thread % 32;
  const bool has_chunks = a.order == XOrder::plain && a.n % 8 == 0;
  const auto place = [&](int position, int chunk) { return position * kPitch + (chunk ^ (position & 7)) * 16; };
#pragma unroll
  for (int first = 0; first < kColumns; first += kPositions) {
    if (first > 0) ptx::sync_warpgroup(group + 1);
#pragma unroll
    for (int m = 0; m < kEach; ++m)
#pragma unroll
      for (int j = 0; j < kPositions / 16; ++j) {
        const int i = first / 2 + j * 8;
        if (i >= kColumns / 2) continue;
        const int position = j * 16 + lane / 16 * 8 + lane % 8, chunk = m * 8 + warp * 2 + lane / 8 % 2;
        store_transposed(between + place(position, chunk), packed(sum[m][i], sum[m][i + 1]),
                         packed(sum[m][i + 2], sum[m][i + 3]), packed(sum[m][i + 4], sum[m][i + 5]),
                         packed(sum[m][i + 6], sum[m][i + 7]));
      }
    ptx::sync_warpgroup(group + 1);
    const int count = min(kPositions, tile.count - first);
    const RowsOfY<uint16_t> y(a, tile.first + first);
    if (has_chunks) {
#pragma unroll kAtOnce < kEach* kColumns>
      for (int at = thread; at < count * kChunks; at += 128) {
        const int position = at / kChunks, chunk = at % kChunks, column = channel + chunk * 8;
        if (column < a.n)
          *reinterpret_cast<uint4*>(y[tile.first + first + position] + column) =
              *reinterpret_cast<const uint4*>(between + place(position, chunk));
      }
    } else {
      for (int at = thread; at < count * kChunks * 4; at += 128) {
        const int position = at / (kChunks * 4), pair = at % (kChunks * 4), column = channel + pair * 2;
        if (column >= a.n) continue;
        const auto* from = reinterpret_cast<const uint16_t*>(between + place(position, pair / 4)) + pair % 4 * 2;
        uint16_t* to = y[tile.first + first + position] + place_of(a.order, column);
        to[0] = from[0];
        if (column + 1 < a.n) to[1] = from[1];
      }
    }
  }
}

// 128 channels from `channel` on of 64 positions from the tile's `first` on, where those were the first operand.
// between: 8 KB: a warp has 16 positions of 64 channels there.
__device__ inline void write_bf16_rows(const WideTask& a, const ExpertTile& tile, int first, int channel,
                                       unsigned char* between, const float (&sum)[64]) {
  const int thread = thread_of_group(), warp = thread / 32, lane = thread % 32;
  const bool has_chunks = a.order == XOrder::plain && a.n % 8 == 0;
  unsigned char* const own = between + warp * 16 * 128;
  const auto place = [&](int position, int chunk) { return position * 128 + (chunk ^ (position & 7)) * 16; };
  const RowsOfY<uint16_t> y(a, tile.first + first);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (half > 0) __syncwarp();
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int i = half * 32 + j * 8;
      store_matrices(own + place(lane / 8 % 2 * 8 + lane % 8, j * 2 + lane / 16), packed(sum[i], sum[i + 1]),
                     packed(sum[i + 2], sum[i + 3]), packed(sum[i + 4], sum[i + 5]), packed(sum[i + 6], sum[i + 7]));
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = i * 32 + lane, position = first + warp * 16 + at / 8, chunk = at % 8;
      const int column = channel + half * 64 + chunk * 8;
      if (position >= tile.count || column >= a.n) continue;
      const unsigned char* const from = own + place(at / 8, chunk);
      if (has_chunks) {
        *reinterpret_cast<uint4*>(y[tile.first + position] + column) = *reinterpret_cast<const uint4*>(from);
        continue;
      }
      for (int pair = 0; pair < 4; ++pair) {
        const auto* two = reinterpret_cast<const uint16_t*>(from) + pair * 2;
        uint16_t* to = y[tile.first + position] + place_of(a.order, column + pair * 2);
        if (column + pair * 2 < a.n) to[0] = two[0];
        if (column + pair * 2 + 1 < a.n) to[1] = two[1];
      }
    }
  }
}

// As write_bf16_lines(), in float32: kEach * 32 positions of 64 channels at a time.
template <int kEach, int kColumns>
__device__ void write_float_lines(const WideTask& a, const ExpertTile& tile, int channel, int group,
                                  unsigned char* between, const float (&sum)[kEach][kColumns / 2]) {
  constexpr int kPositions = kEach * 32;
  const int thread = thread_of_group(), warp = thread / 32, lane = thread % 32;
  auto* floats = reinterpret_cast<float*>(between);
  const auto place = [](int position, int c) { return position * 64 + (c ^ (position / 2 % 4 * 8)); };
  const bool adds = a.out == WideProduct::Out::add_f32;
#pragma unroll
  for (int m = 0; m < kEach; ++m)
#pragma unroll
    for (int first = 0; first < kColumns; first += kPositions) {
      if (m > 0 || first > 0) ptx::sync_warpgroup(group + 1);
#pragma unroll
      for (int i = 0; i < kPositions / 2; ++i) {
        if (first / 2 + i >= kColumns / 2) continue;
        floats[place(i / 4 * 8 + lane % 4 * 2 + i % 2, warp * 16 + i % 4 / 2 * 8 + lane / 4)] = sum[m][first / 2 + i];
      }
      ptx::sync_warpgroup(group + 1);
      const int count = min(kPositions, tile.count - first);
      float* to = static_cast<float*>(a.y.of[0]) + (int64_t{tile.first} + first) * a.n;
      if (a.n % 4 == 0) {
        constexpr int kOnce = kAtOnce<kEach * kColumns>;  // so that what is added to comes in one go
        for (int base = thread; base < count * 16; base += 128 * kOnce) {
          float4 old[kOnce];
          float4* y[kOnce];
#pragma unroll
          for (int i = 0; i < kOnce; ++i) {
            const int at = base + i * 128, column = channel + m * 64 + at % 16 * 4;
            y[i] = at < count * 16 && column < a.n ? reinterpret_cast<float4*>(to + int64_t{at / 16} * a.n + column)
                                                   : nullptr;
            old[i] = adds && y[i] != nullptr ? *y[i] : float4{};
          }
#pragma unroll
          for (int i = 0; i < kOnce; ++i) {
            if (y[i] == nullptr) continue;
            const int at = base + i * 128;
            float4 v = *reinterpret_cast<const float4*>(floats + place(at / 16, at % 16 * 4));
            if (adds) v = {old[i].x + v.x, old[i].y + v.y, old[i].z + v.z, old[i].w + v.w};
            *y[i] = v;
          }
        }
      } else {
        for (int at = thread; at < count * 64; at += 128) {
          const int position = at / 64, c = at % 64, column = channel + m * 64 + c;
          if (column >= a.n) continue;
          float* y = to + int64_t{position} * a.n + column;
          const float v = floats[place(position, c)];
          *y = adds ? *y + v : v;
        }
      }
    }
}

}  // namespace corvid::kernels
