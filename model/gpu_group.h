// The GPUs that compute a model together, one or several, each with its share (gpu_share.h). One thread queues on all
// of them, part by part:
//
//   GPU 0   norm, store, attention -+- sum, norm, feed-forward -+- sum, norm, ...
//   GPU 1   norm, store, attention -+- sum, norm, feed-forward -+- sum, norm, ...
//
// Nothing behind a sum is queued on any GPU before the sum is on all of them, as there they wait for each other. Behind
// a sum all have the same norms, bit for bit; of a prompt's many rows each GPU keeps the sums that it has been dealt
// (kernels/comm). Decode steps are recorded, a recording for each GPU with its sums inside.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "kernels/comm/all_reduce.h"
#include "kernels/exec.h"
#include "kernels/gpu.h"
#include "model/gpu_forward.h"
#include "model/gpu_share.h"
#include "model/gpu_weights.h"
#include "model/kv_pool.h"
#include "model/model.h"

namespace corvid::model {

class GpuGroup {
 public:
  using Batch = GpuForward::Batch;

  // Copies the weights to the GPUs, one of which may be named twice, for tests. The first one's stream is that of
  // `exec`, which must outlive it. Throws std::runtime_error when there is no room.
  GpuGroup(const Model& model, kernels::Exec& exec, std::span<const int> gpus, int64_t most_rows);
  // Before anything is queued: pages of `pool` are where keys and values are. `lines`: of the page table. e4m3_index:
  // index keys in e4m3, here and below.
  void set_pool(KvPool& pool, int64_t lines, bool e4m3_index);

  // Bytes that one of the GPUs needs without caches and without its workspace.
  static int64_t bytes(const Model& model, const GpuShare& share, int64_t most_rows);
  // Bytes of its workspace for up to so many rows and positions.
  static int64_t workspace_bytes(const Model& model, const GpuShare& share, int64_t most_rows, int64_t max_keys);
  // What each GPU has of a page.
  static std::vector<KvPool::Share> page_shares(const Config& config, std::span<const GpuShare> shares,
                                                std::span<const int> gpus, bool e4m3_index = false);
  static int64_t page_bytes(const Config& config,
                            bool e4m3_index = false);  // of a whole one

  GpuRows& rows() { return members_.front()->forward.rows(); }  // that all GPUs get
  int64_t most_rows() const { return members_.front()->forward.most_rows(); }
  // The slots of a line of the page table, queued. What was queued with the lines that it had must be over.
  void set_line(int64_t line, std::span<const int32_t> slots);
  // Whether a step of one row has a block for each of its spans, while they are few.
  bool knows_spans(bool dense);

  // Room for such batches, which is made a dozen times in a life, as pasts double and with the first large chunk. What
  // was recorded before make_room() is void, also where there is no memory for it.
  bool has_room(std::span<const Batch> batches);
  void make_room(std::span<const Batch> batches);
  void queue_rows(int64_t count);         // copies rows()
  void queue_layers(const Batch& batch);  // all, but of the last only what fills the caches when there are runs
  void queue_logits(const Batch& batch);  // of a decode step, or of what queue_wanted() gave
  // After runs: the last layer of rows wanted[first, first + count) of them, count <= kStreamRows.
  Batch queue_wanted(const Batch& batch, int64_t first, int64_t count);
  std::vector<kernels::Graph> record(const std::function<void()>& queue);
  void launch(const std::vector<kernels::Graph>& recorded);

  // Logits [row, row + count) of the last queue_logits() to to[0, count * vocab): queued, and handed out by wait().
  void take_logits(int64_t row, int64_t count, float* to);
  // The likeliest token of a row, likewise.
  void take_best(int64_t row, Token* to);
  void queue_best(int64_t rows);  // before: behind queue_logits(), and inside what is recorded
  // Throws std::runtime_error for the likeliest of logits that are not finite, and where GPUs have failed, with what
  // each of them says.
  void wait();

  void fill(std::span<const int32_t> slots);  // with numbers that mean nothing
  void set_mark(std::function<void(const char*)> mark) { members_.front()->forward.set_mark(std::move(mark)); }

 private:
  struct Member {
    Member(const Model& model, const GpuShare& its_share, int its_gpu, CUstream_st* lent_stream, int64_t most_rows);
    GpuForward::Place place() { return {pages, workspace.as<std::byte>(), stream, partials}; }
    int64_t workspace_bytes(std::span<const Batch> batches) const;  // that they want

    int gpu;
    std::unique_ptr<CUstream_st, void (*)(CUstream_st*)> own_stream;  // null: lent
    CUstream_st* stream;
    GpuShare share;
    Config config;  // of the share
    GpuWeights weights;
    GpuForward forward;
    GpuForward::Pages pages;
    kernels::DealtRows<void> partials;  // where many rows' are summed up; of several
    kernels::Buffer table, workspace;
    kernels::PinnedBuffer logits;  // [kStreamRows, its logits]
    kernels::PinnedBuffer best;    // [kStreamRows], of its logits
  };
  template <class Fn>
  void each(const Fn& fn);
  using Norm = const float* (*)(const GpuWeights& weights, size_t layer);
  // x += the GPUs' sums, where there are several; then h = norm(x).
  void queue_sum(const Batch& batch, Norm norm, size_t layer);
  // Where one has failed the others do, too, which wait for it: so the first error need not be the cause.
  void wait_for_all();
  Token likeliest(int64_t row);                       // of what all have said of it
  void queue_squares(const Batch& batch);             // sums them, where they are wanted
  void queue_rest(size_t layer, const Batch& batch);  // of a layer, from attention to the norm that comes next

  const Config& config_;
  std::vector<int> gpus_;
  std::vector<std::unique_ptr<Member>> members_;
  std::optional<kernels::AllReduce> sum_;      // of several
  std::optional<kernels::AllReduce> squares_;  // of several, where norms go over all heads
  struct Taken {
    int64_t first, count;  // staged rows
    float* to;
  };
  std::vector<Taken> taken_;
  std::vector<std::pair<int64_t, Token*>> best_taken_;  // of which row, and where to
  kernels::PinnedBuffer lines_;                         // the page table as the GPUs have it
  std::vector<int64_t> n_slots_;                        // of each line
  int64_t n_staged_ = 0;
};

}  // namespace corvid::model
