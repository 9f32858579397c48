// Times the sums over GPUs that share a model, by size: through the peers' memory and through NCCL.
//
//   all_reduce_cuda [DIM] [GPUS]      6144 and 2 by default
//
// A recording holds 20 sums with their norms in a row; the median of 30 launches, of one sum, as the first GPU sees it.
// "moved" is what a GPU must send and receive at least, in the format that crosses the wires, over the time. Of many
// rows through the peers' memory these are the norms alone: partials come with the products that compute them.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <vector>

#include "kernels/comm/all_reduce.h"
#include "kernels/comm/nccl.h"
#include "kernels/exec.h"
#include "kernels/gpu.h"
#include "kernels/products/products.h"

using namespace corvid::kernels;

int main(int argc, char** argv) {
  const int64_t dim = argc > 1 ? std::atoll(argv[1]) : 6144;
  std::vector<int> gpus(static_cast<size_t>(argc > 2 ? std::atoll(argv[2]) : 2));
  std::iota(gpus.begin(), gpus.end(), 0);
  if (const auto obstacle = cuda::gpu_obstacle(gpus)) {
    std::fprintf(stderr, "%s\n", obstacle->c_str());
    return 1;
  }
  constexpr int64_t kMostRows = 8192;
  constexpr int kTimes = 20;
  std::vector<CUstream_st*> streams;
  std::vector<Buffer> memory;
  std::vector<AllReduce::Share> shares;
  for (const int gpu : gpus) {
    const cuda::GpuScope on(gpu);
    streams.push_back(cuda::create_stream());
    std::vector<Buffer> own;
    for (const int64_t bytes : {kMostRows * dim * 4, kMostRows * dim * 4, dim * 4, kMostRows * dim * 2}) {
      own.emplace_back(bytes, Device::cuda);
      cuda::queue_zero(own.back().as<void>(), bytes, streams.back());
    }
    shares.push_back({own[0].as(), own[1].as(), own[2].as(), own[3].as<uint16_t>(), streams.back()});
    for (Buffer& buffer : own) memory.push_back(std::move(buffer));
  }
  const bool has_nccl = !Nccl::obstacle();
  std::printf("%zu GPUs, rows of %lld\n%6s %12s %12s %12s %12s\n", gpus.size(), static_cast<long long>(dim), "rows",
              "peers us", "moved GB/s", "NCCL us", "moved GB/s");
  for (const int64_t rows : {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192}) {
    std::printf("%6lld", static_cast<long long>(rows));
    for (const auto way : {AllReduce::Way::peers, AllReduce::Way::nccl}) {
      if (way == AllReduce::Way::nccl && !has_nccl) continue;
      AllReduce reduce(gpus, kMostRows, dim, way);
      reduce.queue(shares, rows, 1e-5F);  // NCCL connects when it is first used
      for (CUstream_st* stream : streams) cuda::wait(stream);
      const auto recorded = Graph::record(gpus, streams, [&] {
        for (int i = 0; i < kTimes; ++i) reduce.queue(shares, rows, 1e-5F);
      });
      std::vector<double> us;
      Event begin, end;
      for (int time = 0; time < 33; ++time) {
        for (size_t g = gpus.size(); g-- > 0;) {
          const cuda::GpuScope on(gpus[g]);
          if (g == 0) begin.record(streams[0]);
          recorded[g].launch(streams[g]);
          if (g == 0) end.record(streams[0]);
        }
        for (CUstream_st* stream : streams) cuda::wait(stream);
        if (time >= 3) us.push_back(end.ms_since(begin) * 1e3 / kTimes);
      }
      std::ranges::nth_element(us, us.begin() + std::ssize(us) / 2);
      const double median = us[us.size() / 2], bytes = double(rows * dim) * (rows > kStreamRows ? 2 : 4);
      const double trips = reduce.are_dealt(rows) ? 1 : 2, n = double(gpus.size());
      std::printf(" %12.2f %12.1f", median, bytes * trips * (n - 1) / n / median * 1e-3);
    }
    std::printf("\n");
    std::fflush(stdout);
  }
  return 0;
}
