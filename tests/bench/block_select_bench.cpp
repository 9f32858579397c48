// Speed of block selection: GB/s of index keys for few rows, GFLOP/s for many.
//
//   block_select_bench --benchmark_filter=select     CORVID_ISA and CORVID_BENCH_THREADS as for kernels_bench
//
// Eight sequences' keys in turn, so that a few rows read them from memory, as the layers of a model do.
#include <benchmark/benchmark.h>

#include <cstdlib>

#include "kernels/block_select/block_select.h"
#include "tests/support/pages.h"

namespace corvid::bench {
namespace {

using kernels::Exec;
using kernels::Format;

constexpr int64_t kHeads = 4, kDim = 128, kBlock = 128, kTop = 16, kSequences = 8;

Exec& exec() {
  static Exec instance(std::getenv("CORVID_BENCH_THREADS") == nullptr ? 0
                                                                      : std::atoi(std::getenv("CORVID_BENCH_THREADS")));
  return instance;
}

void select(benchmark::State& state, Format format) {
  const int64_t rows = state.range(0), n_keys = state.range(1);
  const std::vector<float> q = test::random_floats(rows * kHeads * kDim, 2);
  std::vector<test::Pages> sequences;
  for (uint32_t s = 0; s < kSequences; ++s) sequences.emplace_back(n_keys, 1, kDim, kBlock, s, exec(), format);
  std::vector<int64_t> pos;
  for (int64_t r = 0; r < rows; ++r) pos.push_back(n_keys - rows + r);
  std::vector<int32_t> ids(static_cast<size_t>(rows * kHeads * kTop)), counts(static_cast<size_t>(rows * kHeads));
  size_t at = 0;
  for (auto _ : state) {
    const test::Pages& pages = sequences[at++ % kSequences];
    kernels::block_select({q.data(), pages.keys.data(), pos.data(), ids.data(), counts.data(), rows, kHeads, kDim,
                           kBlock, n_keys, kTop, 1, format},
                          exec());
  }
  const auto rate = [](double x) {
    return benchmark::Counter(x, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
  };
  const int64_t scored = (n_keys / kBlock - 1) * kBlock;
  state.counters["FLOP/s"] = rate(2.0 * double(rows * kHeads * scored * kDim));
  state.counters["B/s"] = rate(double(scored / kBlock * kernels::key_head_bytes(format, kDim, kBlock)));
}
BENCHMARK_CAPTURE(select, f32, Format::f32)->Args({1, 32768})->Args({4, 32768})->Args({512, 32768})->UseRealTime();
BENCHMARK_CAPTURE(select, bf16, Format::bf16)
    ->Args({1, 4096})
    ->Args({1, 32768})
    ->Args({4, 32768})
    ->Args({8, 32768})
    ->Args({512, 32768})
    ->UseRealTime();
BENCHMARK_CAPTURE(select, q8_0, Format::q8_0)->Args({1, 32768})->Args({4, 32768})->Args({512, 32768})->UseRealTime();

}  // namespace
}  // namespace corvid::bench

BENCHMARK_MAIN();
