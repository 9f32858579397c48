// Sums over GPUs: two where there are, and two shares on one. SKIPPED without a GPU.
#include "kernels/comm/all_reduce.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/comm/nccl.h"
#include "kernels/exec.h"
#include "kernels/format.h"
#include "kernels/gpu.h"
#include "kernels/products/products.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/store_heads/store_heads.h"
#include "tests/support/backends.h"

namespace corvid::kernels {
namespace {

struct Case {
  const char* name;
  std::vector<int> gpus;
  AllReduce::Way way;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class AllReduceTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const auto obstacle = cuda::gpu_obstacle(GetParam().gpus)) GTEST_SKIP() << *obstacle;
    if (const auto obstacle = AllReduce::obstacle(GetParam().gpus)) GTEST_SKIP() << *obstacle;
    if (GetParam().way != AllReduce::Way::nccl) return;
    if (const auto obstacle = Nccl::obstacle()) GTEST_SKIP() << *obstacle;
  }
};
INSTANTIATE_TEST_SUITE_P(Gpus, AllReduceTest,
                         testing::Values(Case{"in_two_shares", {0, 0}, AllReduce::Way::automatic},
                                         Case{"in_four_shares", {0, 0, 0, 0}, AllReduce::Way::automatic},
                                         Case{"on_two", {0, 1}, AllReduce::Way::peers},
                                         Case{"on_two_by_nccl", {0, 1}, AllReduce::Way::nccl}),
                         [](const auto& instance) { return instance.param.name; });

struct OnGpu {
  int gpu;
  CUstream_st* stream;
  Buffer partial, x, w, h;
};

// Many rows' partials, where they are wanted.
void deal(const std::vector<float>& partial, const DealtRows<void>& to, int64_t rows, int64_t dim,
          CUstream_st* stream) {
  std::vector<uint16_t> bits(partial.size());
  std::transform(partial.begin(), partial.end(), bits.begin(), f32_to_bf16);
  for (int64_t first = 0; first < rows; first += kDealtRows)
    cuda::to_device(static_cast<uint16_t*>(to.of[to.owner(first)]) + to.place(first) * dim, bits.data() + first * dim,
                    std::min<int64_t>(kDealtRows, rows - first) * dim * 2, stream);
}

std::vector<float> from_gpu(const Buffer& buffer, CUstream_st* stream) {
  std::vector<float> values(size_t(buffer.bytes()) / 4);
  cuda::to_host(values.data(), buffer.as<void>(), buffer.bytes(), stream);
  return values;
}

TEST_P(AllReduceTest, AddsTheSharesAndNormalises) {
  const auto& gpus = GetParam().gpus;
  constexpr int64_t kMostRows = 2500;
  const std::pair<int64_t, int64_t> cases[] = {
      {8, kStreamRows},    {128, kStreamRows},  {2048, kStreamRows},
      {6144, kStreamRows}, {7168, kStreamRows}, {kHeadSquares, kMostRows}};  // dim, how many rows are few
  for (const auto& [dim, few_rows] : cases) {
    AllReduce reduce(gpus, kMostRows, dim, GetParam().way, few_rows);
    // Several times, as buffers take turns; few rows, many, a few more than are dealt at a time.
    for (const int64_t rows : {1, 5, 128, 1, 129, 3, 700, 2500, 2, 131}) {
      if (rows > 700 && dim > 2048) continue;
      std::vector<OnGpu> on;
      std::vector<AllReduce::Share> shares;
      const auto x = test::random_floats(rows * dim, uint32_t(rows)), w = test::random_floats(dim, 3);
      std::vector<std::vector<float>> partials;
      for (size_t g = 0; g < gpus.size(); ++g) {
        const cuda::GpuScope scope(gpus[g]);
        partials.push_back(test::random_floats(rows * dim, uint32_t(rows * 17 + int64_t(g))));
        for (size_t i = 0; i < partials[g].size(); i += 3) partials[g][i] = g == 0 ? -0.0F : 0.0F;
        for (size_t i = 0; i < partials[g].size(); i += 16) std::fill_n(partials[g].begin() + i, 4, -0.0F);
        on.push_back({gpus[g], cuda::create_stream(), Buffer(rows * dim * 4, Device::cuda),
                      Buffer(rows * dim * 4, Device::cuda), Buffer(dim * 4, Device::cuda),
                      Buffer(rows * dim * 2, Device::cuda)});
        OnGpu& o = on.back();
        if (rows > few_rows)
          deal(partials.back(), reduce.partials(int(g)), rows, dim, o.stream);
        else
          cuda::to_device(o.partial.as(), partials.back().data(), o.partial.bytes(), o.stream);
        cuda::to_device(o.x.as(), x.data(), o.x.bytes(), o.stream);
        cuda::to_device(o.w.as(), w.data(), o.w.bytes(), o.stream);
        shares.push_back({o.partial.as(), o.x.as(), o.w.as(), o.h.as<uint16_t>(), o.stream});
      }
      reduce.queue(shares, rows, 1e-5F);
      for (OnGpu& o : on) cuda::wait(o.stream);

      const double few = 0x1p-22, many = GetParam().way == AllReduce::Way::nccl ? 0x1p-7 : 0x1p-8;
      const double rounding = rows > few_rows ? many : few;
      const bool are_dealt = reduce.are_dealt(rows);
      auto sums = from_gpu(on[0].x, on[0].stream);
      for (size_t g = 1; g < on.size() && are_dealt; ++g) {
        const auto part = from_gpu(on[g].x, on[g].stream);
        for (int64_t r = 0; r < rows; ++r)
          if (Deal{int(on.size())}.owner(r) == int(g)) std::copy_n(part.begin() + r * dim, dim, sums.begin() + r * dim);
      }
      std::vector<uint16_t> h(size_t(rows * dim));
      cuda::to_host(h.data(), on[0].h.as<void>(), on[0].h.bytes(), on[0].stream);
      int64_t wrong = 0;
      for (int64_t r = 0; r < rows; ++r) {
        double squares = 0;
        for (int64_t i = 0; i < dim; ++i) {
          const auto at = size_t(r * dim + i);
          double exact = x[at], most = std::abs(x[at]);
          for (const auto& partial : partials) exact += partial[at], most += std::abs(partial[at]);
          wrong += !(std::abs(sums[at] - exact) <= rounding * most);
          squares += double(sums[at]) * sums[at];
        }
        const double scale = 1 / std::sqrt(squares / double(dim) + 1e-5F);
        for (int64_t i = 0; i < dim; ++i) {
          const double exact = sums[size_t(r * dim + i)] * scale * w[size_t(i)];
          wrong += !(std::abs(bf16_to_f32(h[size_t(r * dim + i)]) - exact) <=
                     (0x1p-8 + rms_norm_tolerance(dim)) * std::abs(exact));
        }
      }
      EXPECT_EQ(wrong, 0) << rows << " x " << dim;
      for (OnGpu& o : on) {
        std::vector<uint16_t> its(h.size());
        cuda::to_host(its.data(), o.h.as<void>(), o.h.bytes(), o.stream);
        EXPECT_EQ(its, h) << "the same bits everywhere";
        if (!are_dealt) {
          EXPECT_EQ(from_gpu(o.x, o.stream), sums) << "the same bits everywhere";
        }
        if (rows <= few_rows) {
          EXPECT_EQ(from_gpu(o.partial, o.stream), std::vector<float>(size_t(rows * dim))) << "ready for the next";
        }
        cuda::destroy_stream(o.stream);
      }
    }
  }
}

TEST(AllReduceRecordTest, ARecordingCanBeLaunchedAgain) {
  const std::vector<int> gpus{0, 0};
  if (const auto obstacle = cuda::gpu_obstacle(gpus)) GTEST_SKIP() << *obstacle;
  constexpr int64_t kDim = 256, kRows = 4;
  AllReduce reduce(gpus, 16, kDim);
  std::vector<AllReduce::Share> shares;
  std::vector<Buffer> memory;
  std::vector<CUstream_st*> streams;
  std::vector<float> ones(size_t(kRows * kDim), 1.0F), zeros(ones.size());
  for (size_t g = 0; g < 2; ++g) {
    streams.push_back(cuda::create_stream());
    for (int i = 0; i < 3; ++i) memory.emplace_back(kRows * kDim * 4, Device::cuda);
    float *const from = memory[3 * g].as(), *const partial = memory[3 * g + 1].as(), *const x = memory[3 * g + 2].as();
    cuda::to_device(from, ones.data(), kRows * kDim * 4, streams[g]);
    cuda::to_device(x, zeros.data(), kRows * kDim * 4, streams[g]);
    shares.push_back({partial, x, nullptr, nullptr, streams[g]});
  }
  const auto recorded = Graph::record(gpus, streams, [&] {
    for (size_t g = 0; g < 2; ++g)
      cuda::queue_copy(shares[g].partial, memory[3 * g].as(), kRows * kDim * 4, streams[g]);
    reduce.queue(shares, kRows, 1e-5F);
  });
  for (int time = 0; time < 5; ++time) {
    for (size_t g = 0; g < 2; ++g) recorded[g].launch(streams[g]);
  }
  for (size_t g = 0; g < 2; ++g) {
    cuda::wait(streams[g]);
    EXPECT_EQ(from_gpu(memory[3 * g + 2], streams[g]), std::vector<float>(ones.size(), 10.0F));
    cuda::destroy_stream(streams[g]);
  }
}

}  // namespace
}  // namespace corvid::kernels
