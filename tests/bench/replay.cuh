// What the benchmarks of CUDA kernels share: replays of a graph on a warm card, and how a program ends.
#pragma once
#include <algorithm>
#include <cstdio>
#include <exception>
#include <vector>

#include "kernels/cuda_check.h"
#include "kernels/exec.h"

namespace corvid::kernels {

// Microseconds of a replay.
struct Times {
  double median_us, best_us, worst_us;
};

// Of so many replays of what queue() puts on the stream, when the card is warm: one that was idle, or busy otherwise,
// takes some milliseconds until it is as fast as when it goes on and on.
template <class Queue>
Times replay(cudaStream_t stream, int times, const Queue& queue) {
  using cuda::check;
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  queue();
  check(cudaStreamEndCapture(stream, &graph), "capture");
  check(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
  cudaEvent_t start, end;
  check(cudaEventCreate(&start), "event"), check(cudaEventCreate(&end), "event");
  std::vector<double> us;
  constexpr double kWarmMs = 50;
  for (double warm_ms = 0; std::ssize(us) < times;) {
    check(cudaEventRecord(start, stream), "record");
    check(cudaGraphLaunch(exec, stream), "launch");
    check(cudaEventRecord(end, stream), "record");
    check(cudaEventSynchronize(end), "replay");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, start, end), "elapsed");
    if (warm_ms < kWarmMs)
      warm_ms += ms;
    else
      us.push_back(ms * 1000);
  }
  cudaEventDestroy(start), cudaEventDestroy(end);
  cudaGraphExecDestroy(exec), cudaGraphDestroy(graph);
  std::sort(us.begin(), us.end());
  return {us[us.size() / 2], us.front(), us.back()};
}

// main() of the program `name`.
template <class Run>
int bench_main(const char* name, const Run& run) {
  if (!cuda::available()) {
    std::puts("SKIPPED: this machine has no GPU");
    return 0;
  }
  try {
    run();
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: %s\n", name, e.what());
    return 1;
  }
}

}  // namespace corvid::kernels
