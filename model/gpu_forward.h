// The forward pass on a GPU: everything is queued on a stream, in buffers that stay where they are, so that it can be
// recorded once and queued again with other tokens.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "kernels/arg_max/arg_max.h"
#include "kernels/comm/dealt_rows.h"
#include "kernels/exec.h"
#include "kernels/gpu.h"
#include "kernels/paged_rows.h"
#include "kernels/products/products.h"
#include "kernels/sparse_attention/paged.h"
#include "kernels/store_heads/store_heads.h"
#include "model/config.h"
#include "model/gpu_weights.h"
#include "model/kv_cache.h"

namespace corvid::model {

// Rows whose products are bound by reading the weights: decode steps, and the rows whose logits are wanted. What they
// give does not depend on how many they are.
using kernels::kStreamRows;

// What a pass says of its rows, on both sides: four groups of int32.
struct GpuRows {
  explicit GpuRows(int64_t most_rows);

  int32_t* tokens() { return host.as<int32_t>(); }  // outside the vocabulary: an idle row
  int32_t* seq() { return tokens() + most; }        // line of the page table
  int32_t* pos() { return seq() + most; }           // -1: an idle row
  int32_t* wanted() { return pos() + most; }        // rows whose logits are wanted, ascending
  const int32_t* device_tokens() const { return device.as<int32_t>(); }
  const int32_t* device_seq() const { return device_tokens() + most; }
  const int32_t* device_pos() const { return device_seq() + most; }
  const int32_t* device_wanted() const { return device_pos() + most; }
  void queue_copy(GpuRows& from, int64_t rows, CUstream_st* stream);  // what the host says of so many in `from`

  int64_t most;
  kernels::PinnedBuffer host;
  kernels::Buffer device;
};

class GpuForward {
 public:
  // `config`: the sizes of this GPU's share. Of several GPUs what attention and feed-forward add to the rows' sums goes
  // to partial() instead of x(), of many rows to Place::partials.
  GpuForward(const Config& config, const GpuWeights& weights, int64_t most_rows, int64_t gpus);

  // Where the caches' pages are.
  struct Pages {
    std::byte* first_slot = nullptr;
    int64_t page_bytes = 0;
    const int32_t* table = nullptr;  // [lines, max_pages], device
    int64_t max_pages = 0;
    std::vector<int64_t> layer_offsets;           // in a page
    int64_t values_offset = 0, index_offset = 0;  // from there
    int64_t block = 0;
    bool index_e4m3 = false;  // index keys, else bf16
  };
  struct Batch {
    int64_t rows = 0;      // the last of them may be idle
    int64_t max_keys = 0;  // positions of all are below
    bool dense = false;
    std::span<const kernels::PrefillRun> runs;  // empty: a decode step, at most kStreamRows rows
    int64_t real_rows = 0;                      // of runs: those before are in one each; the others are idle
    bool are_wanted = false;                    // rows that queue_gather() took, at most kStreamRows
  };
  // What a pass works with.
  struct Place {
    const Pages& pages;
    std::byte* workspace;
    CUstream_st* stream;
    kernels::DealtRows<void> partials = {};  // of more than kStreamRows rows, in bf16
  };

  // Bytes of workspace for such batches, of which only rows, max_keys, dense and whether there are runs count.
  int64_t workspace_bytes(const Batch& batch, const Pages& pages) const {
    return workspace_bytes(c_, w_, batch, pages.block);
  }
  // The most of all batches of up to most_rows rows and max_keys positions; of weights the shapes are enough.
  static int64_t most_workspace_bytes(const Config& config, const GpuWeights& weights, int64_t most_rows,
                                      int64_t max_keys, int64_t block);

  // The parts of a pass, in this order: begin; of each layer norm, projections, store, attention, norm, feed-forward;
  // norm, logits. Those that share a model add up their partials behind attention and feed-forward, and behind the
  // projections their squares, where they have some.
  void queue_begin(const Batch& batch, const Place& at);
  // h = norm(x); of one row where it is first read, perhaps nowhere else.
  void queue_norm(const Batch& batch, const float* weights, const Place& at);
  void queue_projections(size_t layer, const Batch& batch, const Place& at);
  // Fills the caches, unless queue_attention() does: of one row that attends to everything, where the kernel for that
  // serves it.
  void queue_store(size_t layer, const Batch& batch, const Place& at);
  void queue_attention(size_t layer, const Batch& batch, const Place& at);
  void queue_feed_forward(size_t layer, const Batch& batch, const Place& at);
  void queue_logits(const Batch& batch, const Place& at);  // of all its rows, to logits(); the likeliest to best()
  // After the last layer's queue_store() of runs: rows wanted[first, first + count) of them, as a batch; of x from
  // where it is complete.
  Batch queue_gather(const Batch& batch, int64_t first, int64_t count, kernels::DealtRows<const void> x,
                     const Place& at);

  // Whether attention stores one row's heads itself, after so many positions.
  bool stores_late(size_t layer, const Batch& batch, const Place& at);

  // Called with its name after each part is queued; empty: not at all.
  void set_mark(std::function<void(const char*)> mark) { mark_ = std::move(mark); }
  void mark(const char* part) const {
    if (mark_) mark_(part);
  }

  float* x(const Batch& batch) { return stage(batch).x.as(); }              // [rows, dim]
  float* partial(const Batch& batch) { return stage(batch).partial.as(); }  // [kStreamRows, dim]; zeros to begin with
  uint16_t* h(const Batch& batch) { return stage(batch).h.as<uint16_t>(); }
  // Of norms over all heads, [rows, kHeadSquares]: this GPU's part, and the sum that it is added to.
  static bool has_squares(const Config& config, int64_t gpus) { return gpus > 1 && config.family->whole_qk_norms; }
  float* square_parts() { return all_.square_parts.as(); }
  float* squares() { return all_.squares.as(); }

  GpuRows& rows() { return rows_; }
  const float* logits() const { return logits_.as(); }  // [kStreamRows, vocab], device
  using Best = kernels::ArgMax::Best;
  const Best* best() const { return best_.as<Best>(); }  // [kStreamRows], device; of the share's logits
  int64_t most_rows() const { return rows_.most; }
  static int64_t bytes(const Config& config, int64_t most_rows, int64_t gpus);  // of the buffers here

 private:
  // Some rows between the layers.
  struct Stage {
    Stage(const Config& config, int64_t rows, int64_t gpus);
    kernels::Buffer x;                      // [rows, dim] float32
    kernels::Buffer partial;                // the same of up to kStreamRows rows; none where nobody shares
    kernels::Buffer h;                      // [rows, dim] bf16, as all below
    kernels::Buffer q, q_turned, attended;  // [rows, n_heads * head_dim]
    kernels::Buffer k, v;                   // [rows, n_kv_heads * head_dim]
    kernels::Buffer index_q, index_q_turned, index_k;
    kernels::Buffer cos_sin;                     // [rows, rotary_dim] float32
    kernels::Buffer ids, counts;                 // [rows, n_kv_heads, top_blocks], [rows, n_kv_heads]
    kernels::Buffer expert_ids, expert_weights;  // [rows, top_k]
    kernels::Buffer square_parts, squares;       // [rows, kHeadSquares]; where norms want them
    kernels::Buffer seq, pos;                    // [rows]; of rows that were gathered
  };
  // The norm of one row is left to what reads it, and its heads to attention: they may do it in the same launch.
  kernels::RmsNormRows norm(const Batch& batch, const float* weights);
  void queue_late_norm(const Batch& batch, const Place& at);
  kernels::StoreHeads heads(size_t layer, const Batch& batch, const Place& at);
  kernels::PagedAttention attention_of(size_t layer, const Batch& batch, const Place& at);
  Stage& stage(const Batch& batch) { return batch.are_wanted ? some_ : all_; }
  // Whether queue_norm() rounds h as products of q8_0 want it (kernels/products/grid.cuh). The products of one row do
  // that themselves, beside turning it into integers, and the router is asked to.
  bool rounds(const Batch& batch) const { return rounds_ && batch.rows > 1 && batch.rows <= kStreamRows; }
  // Where what is added to the rows' sums goes: float32 that it is added to, or null for Place::partials.
  float* sums(const Batch& batch) {
    Stage& s = stage(batch);
    return s.partial.bytes() == 0 ? s.x.as() : batch.rows <= kStreamRows ? s.partial.as() : nullptr;
  }
  kernels::PagedRows attending(const Batch& batch, const Pages& pages) const;
  static int64_t workspace_bytes(const Config& config, const GpuWeights& weights, const Batch& batch, int64_t block);

  const Config& c_;
  const GpuWeights& w_;
  int64_t gpus_;
  bool rounds_;  // where rows are few: all matrices that read h are of a format that is rounded for
  GpuRows rows_;
  Stage all_, some_;
  kernels::Buffer logits_, best_;
  const float* late_norm_ = nullptr;  // the weights of a norm that was left
  bool are_heads_late_ = false;       // those of queue_store() were left
  std::function<void(const char*)> mark_;
};

}  // namespace corvid::model
