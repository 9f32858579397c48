// Speed of the kernels on this machine: GFLOP/s beside the measured peak, GB/s for one row.
//
//   kernels_bench --benchmark_filter=prefill        CORVID_ISA=avx2 and CORVID_BENCH_THREADS=1 choose tier and threads
//
// Each matmul checks one output against float64 before it is timed.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <numeric>
#include <random>

#include "kernels/expert_ffn/expert_ffn.h"
#include "kernels/matmul/matmul.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/simd/v16.h"
#include "kernels/sparse_attention/sparse_attention.h"
#include "tests/support/pages.h"
#include "tests/support/weights.h"

namespace corvid::bench {
namespace {

using kernels::Exec;
using kernels::Format;
using test::random_floats;
using test::TestWeights;

Exec& exec() {
  static Exec instance(std::getenv("CORVID_BENCH_THREADS") == nullptr ? 0
                                                                      : std::atoi(std::getenv("CORVID_BENCH_THREADS")));
  return instance;
}

void set_rates(benchmark::State& state, double flops, double bytes) {
  const auto rate = [&](double x) {
    return benchmark::Counter(x, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
  };
  state.counters["FLOP/s"] = rate(flops);
  if (bytes > 0) state.counters["B/s"] = rate(bytes);
}

// Rows copied out of a Guarded-free, 64-byte aligned buffer, as the model's activations are.
kernels::Buffer aligned(const std::vector<float>& values) {
  kernels::Buffer buffer(static_cast<int64_t>(values.size()) * 4);
  std::copy(values.begin(), values.end(), buffer.as<float>());
  return buffer;
}

void matmul(benchmark::State& state, Format format) {
  const int64_t rows = state.range(0), n = state.range(1), k = state.range(2);
  // Enough copies of the weights that one row reads them from memory, not from a cache.
  const int64_t copies =
      rows > 4 ? 1 : std::max<int64_t>(1, (int64_t{256} << 20) / (n * kernels::row_bytes(format, k)));
  const TestWeights w(plain_format(format), n, k, 1);
  const std::vector<char> one = is_interleaved(format) ? interleaved(w, format) : w.bytes;
  std::vector<char> bytes;
  for (int64_t i = 0; i < copies; ++i) bytes.insert(bytes.end(), one.begin(), one.end());
  const kernels::Buffer x = aligned(random_floats(rows * k, 2));
  kernels::Buffer y(rows * n * 4);
  std::vector<double> wanted(static_cast<size_t>(rows * n));
  if (rows * n * k < 10'000'000) kernels::ref::matmul({x.as(), w.view(), nullptr, rows, n, k}, wanted.data());
  int64_t copy = 0;
  for (auto _ : state) {
    const kernels::Matrix matrix{bytes.data() + copy++ % copies * int64_t(w.bytes.size()), format};
    kernels::matmul({x.as(), matrix, y.as(), rows, n, k}, exec());
  }
  if (rows * n * k < 10'000'000 && std::fabs(y.as()[0] - wanted[0]) > 1e-3) state.SkipWithError("wrong result");
  set_rates(state, 2.0 * double(rows * n * k), double(w.bytes.size()));
}
BENCHMARK_CAPTURE(matmul, prefill_q8_0, Format::q8_0)
    ->Args({512, 384, 384})
    ->Args({512, 1024, 384})
    ->Args({512, 384, 1024})
    ->Args({80, 128, 384})
    ->Args({80, 384, 128})
    ->UseRealTime();
BENCHMARK_CAPTURE(matmul, prefill_f32, Format::f32)->Args({512, 384, 384})->Args({512, 1024, 1024})->UseRealTime();
BENCHMARK_CAPTURE(matmul, decode_q8_0, Format::q8_0)
    ->Args({1, 384, 384})
    ->Args({1, 4096, 384})
    ->Args({1, 4096, 4096})
    ->UseRealTime();
BENCHMARK_CAPTURE(matmul, decode_q8_0x96, Format::q8_0x96)->Args({1, 4096, 384})->Args({1, 4096, 4096})->UseRealTime();
BENCHMARK_CAPTURE(matmul, decode_q4_0x96, Format::q4_0x96)->Args({1, 4096, 1024})->UseRealTime();
BENCHMARK_CAPTURE(matmul, prefill_q8_0x96, Format::q8_0x96)->Args({512, 384, 1024})->UseRealTime();
BENCHMARK_CAPTURE(matmul, prefill_q4_0, Format::q4_0)->Args({512, 1024, 1024})->UseRealTime();
BENCHMARK_CAPTURE(matmul, prefill_q4_k, Format::q4_k)->Args({512, 1024, 1024})->UseRealTime();
BENCHMARK_CAPTURE(matmul, prefill_q6_k, Format::q6_k)->Args({512, 1024, 1024})->UseRealTime();
BENCHMARK_CAPTURE(matmul, decode_q4_0, Format::q4_0)->Args({1, 4096, 1024})->UseRealTime();
BENCHMARK_CAPTURE(matmul, decode_mxfp4, Format::mxfp4)->Args({1, 4096, 1024})->UseRealTime();
BENCHMARK_CAPTURE(matmul, decode_q4_k, Format::q4_k)->Args({1, 4096, 1024})->UseRealTime();
BENCHMARK_CAPTURE(matmul, decode_q5_k, Format::q5_k)->Args({1, 4096, 1024})->UseRealTime();
BENCHMARK_CAPTURE(matmul, decode_q6_k, Format::q6_k)->Args({1, 4096, 1024})->UseRealTime();
BENCHMARK_CAPTURE(matmul, decode_bf16, Format::bf16)->Args({1, 4096, 4096})->UseRealTime();
BENCHMARK_CAPTURE(matmul, decode_f8_e4m3, Format::f8_e4m3)->Args({1, 4096, 4096})->UseRealTime();
BENCHMARK_CAPTURE(matmul, decode_f32, Format::f32)->Args({1, 4096, 4096})->UseRealTime();

void expert_ffn(benchmark::State& state) {
  const int64_t rows = state.range(0), dim = 384, ffn = 128, n_experts = 12, top_k = 2;
  const TestWeights gate(Format::q8_0, n_experts * ffn, dim, 1), up(Format::q8_0, n_experts * ffn, dim, 2),
      down(Format::q8_0, n_experts * dim, ffn, 3);
  const kernels::Buffer x = aligned(random_floats(rows * dim, 4));
  kernels::Buffer y(rows * dim * 4);
  std::vector<int32_t> ids;
  const std::vector<float> weights(static_cast<size_t>(rows * top_k), 0.5F);
  for (int64_t r = 0; r < rows; ++r) {
    ids.push_back(static_cast<int32_t>(r * 5 % n_experts));
    ids.push_back(static_cast<int32_t>((r * 5 + 1 + r % 7) % n_experts));
  }
  for (auto _ : state)
    kernels::expert_ffn({x.as(),
                         gate.view(),
                         up.view(),
                         down.view(),
                         ids.data(),
                         weights.data(),
                         y.as(),
                         rows,
                         dim,
                         ffn,
                         n_experts,
                         top_k,
                         {}},
                        exec());
  set_rates(state, 6.0 * double(rows * top_k * dim * ffn), 0);
}
BENCHMARK(expert_ffn)->Arg(1)->Arg(512)->UseRealTime();

// 16 heads of 128 at 4 kv heads, blocks of 128: `rows` last positions of n_keys, dense or 16 random blocks for each row
// and kv head.
void attention(benchmark::State& state, Format format, bool sparse) {
  const int64_t rows = state.range(0), n_keys = state.range(1), n_heads = 16, n_kv_heads = 4, dim = 128, block = 128;
  const int64_t top_k = 16;
  const test::Pages pages(n_keys, n_kv_heads, dim, block, 1, exec(), format);
  const std::vector<float> q = random_floats(rows * n_heads * dim, 2);
  std::vector<float> o(q.size());
  std::vector<int64_t> pos(static_cast<size_t>(rows));
  std::iota(pos.begin(), pos.end(), n_keys - rows);
  std::vector<int32_t> ids, counts(static_cast<size_t>(rows * n_kv_heads), top_k);
  std::mt19937 bits(3);
  double pairs = 0;
  for (const int64_t p : pos) {
    pairs += double(sparse ? (top_k - 1) * block + p % block + 1 : p + 1);
    for (int64_t g = 0; sparse && g < n_kv_heads; ++g) {
      std::vector<int32_t> earlier(static_cast<size_t>(p / block));
      std::iota(earlier.begin(), earlier.end(), 0);
      std::sample(earlier.begin(), earlier.end(), std::back_inserter(ids), top_k - 1, bits);
      ids.push_back(static_cast<int32_t>(p / block));
    }
  }
  const kernels::SparseAttention args{q.data(),
                                      pages.keys.data(),
                                      pages.values.data(),
                                      pos.data(),
                                      sparse ? ids.data() : nullptr,
                                      sparse ? counts.data() : nullptr,
                                      o.data(),
                                      rows,
                                      n_heads,
                                      n_kv_heads,
                                      dim,
                                      block,
                                      n_keys,
                                      sparse ? top_k : 0,
                                      0.088F,
                                      format};
  for (auto _ : state) kernels::sparse_attention(args, exec());
  const double position_bytes =
      double(n_kv_heads * (key_head_bytes(format, dim, block) + value_head_bytes(format, dim, block))) / double(block);
  set_rates(state, 4.0 * pairs * double(n_heads * dim), rows == 1 ? pairs * position_bytes : 0);
}
BENCHMARK_CAPTURE(attention, decode_f32, Format::f32, false)->Args({1, 32768})->UseRealTime();
BENCHMARK_CAPTURE(attention, decode_f16, Format::f16, false)->Args({1, 4096})->Args({1, 32768})->UseRealTime();
BENCHMARK_CAPTURE(attention, decode_bf16, Format::bf16, false)->Args({1, 32768})->UseRealTime();
BENCHMARK_CAPTURE(attention, decode_q8_0, Format::q8_0, false)->Args({1, 32768})->UseRealTime();
BENCHMARK_CAPTURE(attention, verify_f16, Format::f16, false)->Args({8, 32768})->UseRealTime();
BENCHMARK_CAPTURE(attention, prefill_f16, Format::f16, false)
    ->Args({512, 512})
    ->Args({512, 4608})
    ->Args({512, 33280})
    ->UseRealTime();
BENCHMARK_CAPTURE(attention, sparse_prefill_f16, Format::f16, true)
    ->Args({512, 4608})
    ->Args({512, 33280})
    ->UseRealTime();
BENCHMARK_CAPTURE(attention, sparse_prefill_q8_0, Format::q8_0, true)->Args({512, 33280})->UseRealTime();

void rms_norm(benchmark::State& state) {
  const int64_t rows = state.range(0), dim = 384;
  const std::vector<float> x = random_floats(rows * dim, 1), w = random_floats(dim, 2);
  std::vector<float> y(x.size());
  for (auto _ : state) kernels::rms_norm({x.data(), w.data(), y.data(), rows, dim, 1e-6F}, exec());
  set_rates(state, 4.0 * double(rows * dim), 8.0 * double(rows * dim));
}
BENCHMARK(rms_norm)->Arg(1)->Arg(512)->UseRealTime();

// What waking and joining the threads costs.
void empty_run(benchmark::State& state) {
  for (auto _ : state) exec().pool().run(exec().pool().threads(), [](int64_t, int) {});
}
BENCHMARK(empty_run)->UseRealTime();

}  // namespace
}  // namespace corvid::bench

#if defined(__x86_64__)
// The peak of floats: independent fused multiply-adds in registers, in the tier of the Exec, on every thread.
CORVID_BEGIN_AVX2
namespace corvid::kernels::avx2 {
void peak(float* out, int64_t rounds) noexcept {
  V sum[6];
  for (V& s : sum) s = zero();
  const V a = set(out[0]), b = set(out[1]);
  for (int64_t i = 0; i < rounds; ++i) {
    CORVID_UNROLL
    for (int j = 0; j < 6; ++j) sum[j] = fma(a, sum[j], b);
  }
  for (const V& s : sum) store(out, s);
}
}  // namespace corvid::kernels::avx2
CORVID_END_TIER
CORVID_BEGIN_AVX512
namespace corvid::kernels::avx512 {
void peak(float* out, int64_t rounds) noexcept {
  V sum[12];
  for (V& s : sum) s = zero();
  const V a = set(out[0]), b = set(out[1]);
  for (int64_t i = 0; i < rounds; ++i) {
    CORVID_UNROLL
    for (int j = 0; j < 12; ++j) sum[j] = fma(a, sum[j], b);
  }
  for (const V& s : sum) store(out, s);
}
}  // namespace corvid::kernels::avx512
CORVID_END_TIER

namespace corvid::bench {
namespace {
void peak(benchmark::State& state) {
  constexpr int64_t kRounds = 20'000;
  const kernels::Isa isa = exec().isa();
  if (isa == kernels::Isa::scalar) return state.SkipWithError("not for the tier scalar");
  const int64_t sums = isa >= kernels::Isa::avx512 ? 12 : 6;
  std::vector<float> out(static_cast<size_t>(exec().pool().threads()) * 64, 0.5F);
  for (auto _ : state)
    exec().pool().run(exec().pool().threads(), [&](int64_t task, int) {
      (isa >= kernels::Isa::avx512 ? &kernels::avx512::peak : &kernels::avx2::peak)(out.data() + task * 64, kRounds);
    });
  set_rates(state, 2.0 * 16 * double(sums * kRounds * exec().pool().threads()), 0);
}
BENCHMARK(peak)->UseRealTime();
}  // namespace
}  // namespace corvid::bench
#endif

BENCHMARK_MAIN();
