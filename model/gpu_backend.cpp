#include "model/gpu_backend.h"

#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <stdexcept>
#include <tuple>

#include "kernels/store_heads/store_heads.h"
#include "model/error.h"
#include "model/gpu_forward.h"
#include "model/schedule.h"

namespace corvid::model {
namespace {

using kernels::Buffer;
using kernels::Device;

constexpr int64_t kMostRows = 8192;      // of a chunk of prompts: enough for each expert to get some hundreds
constexpr int64_t kMostSequences = 128;  // in one pass over the weights
constexpr int64_t kLeastKeys = 4096;     // what a recorded step is made for; then twice as many, and so on
constexpr int64_t kLeastPages = 64;      // of the caches
constexpr int64_t kReserve = 512 << 20;  // of the GPU's memory: CUDA's own, recorded steps, workspaces that grow
constexpr double kCacheShare = 0.9;      // of what is left when nobody says how much the caches may take

// The lines of the page table: which slots the pages of a sequence are in, as the kernels read them.
class PageTable {
 public:
  PageTable(int64_t max_pages) : max_pages_(max_pages), table_(kMostSequences * max_pages * 4, Device::cuda) {}

  // The line of a cache, brought up to date. At most kMostSequences caches between two calls of next_pass().
  int32_t line_of(const KvCache& cache, CUstream_st* stream) {
    Line* line = &lines_[0];
    for (Line& other : lines_) {
      if (other.owner == &cache) {
        line = &other;
        break;
      }
      if (other.last_pass < line->last_pass) line = &other;
    }
    line->owner = &cache;
    line->last_pass = pass_;
    const std::span<const int32_t> slots = cache.slots();
    const auto differ = std::mismatch(slots.begin(), slots.end(), line->slots.begin(), line->slots.end()).first;
    const int64_t index = line - lines_.data(), same = differ - slots.begin();
    if (differ != slots.end()) {
      line->slots.assign(slots.begin(), slots.end());
      kernels::cuda::to_device(table_.as<int32_t>() + index * max_pages_ + same, line->slots.data() + same,
                               (std::ssize(slots) - same) * 4, stream);
    }
    return static_cast<int32_t>(index);
  }
  void next_pass() { ++pass_; }
  const int32_t* data() const { return table_.as<int32_t>(); }
  int64_t max_pages() const { return max_pages_; }

 private:
  struct Line {
    const KvCache* owner = nullptr;  // only compared
    int64_t last_pass = -1;
    std::vector<int32_t> slots = {};  // what the device has
  };
  const int64_t max_pages_;
  Buffer table_;
  std::array<Line, kMostSequences> lines_;
  int64_t pass_ = 0;
};

class GpuBackend final : public Backend {
 public:
  GpuBackend(std::shared_ptr<const Model> model, kernels::Exec& exec, std::unique_ptr<GpuWeights> weights,
             std::shared_ptr<KvPool> pool)
      : Backend(std::move(pool), kernels::Format::bf16),
        model_(std::move(model)),
        exec_(exec),
        weights_(std::move(weights)),
        forward_(model_->config(), *weights_, kMostRows),
        table_(this->pool()->n_slots()),
        logits_(kStreamRows * model_->config().vocab_size * 4) {
    const KvCache cache(model_->config(), this->pool(), kernels::Format::bf16);
    pages_.first_slot = this->pool()->first_slot();
    pages_.page_bytes = cache.page_bytes();
    pages_.table = table_.data();
    pages_.max_pages = table_.max_pages();
    for (int64_t i = 0; i < model_->config().n_layers(); ++i) pages_.layer_offsets.push_back(cache.layer_offset(i));
    pages_.values_offset = cache.values_offset();
    pages_.index_offset = cache.index_offset();
    pages_.block = cache.block();
  }

  int64_t most_rows() const override { return kMostRows; }

  // Few rows of a sequence go through the kernels of a decode step, many through those of prompts, whatever else is in
  // the pass; so their bits don't depend on it. Weights are read once for each kind that there is.
  void forward(std::span<const Segment> batch) override {
    std::vector<const Segment*> all;
    for (const Segment& segment : batch) {
      if (!segment.tokens.empty()) all.push_back(&segment);
    }
    const auto kind = [](const Segment* s) { return std::pair(s->dense, std::ssize(s->tokens) > kShortRows); };
    std::ranges::stable_sort(all, {}, kind);
    for (size_t first = 0; first < all.size();) {
      const auto [dense, is_long] = kind(all[first]);
      const int64_t most = is_long ? most_rows() : kStreamRows;
      std::vector<const Segment*> part;
      int64_t rows = 0;
      for (; first < all.size() && kind(all[first]) == std::pair(dense, is_long) && std::ssize(part) < kMostSequences;
           ++first) {
        if (rows + std::ssize(all[first]->tokens) > most) break;
        rows += std::ssize(all[first]->tokens);
        part.push_back(all[first]);
      }
      is_long ? run_prompts(part, rows, dense) : run_step(part, rows, dense);
    }
  }

  void fill(int64_t n_tokens, KvCache& cache) override {
    cache.prepare(0, n_tokens);
    const Config& c = model_->config();
    const std::span<const int32_t> slots = cache.slots();
    Buffer on_device(std::ssize(slots) * 4, Device::cuda);
    if (slots.empty()) return;
    kernels::cuda::to_device(on_device.as<int32_t>(), slots.data(), on_device.bytes(), exec_.stream());
    for (int64_t i = 0; i < c.n_layers(); ++i) {
      std::byte* const layer = pages_.first_slot + pages_.layer_offsets[static_cast<size_t>(i)];
      const auto make_up = [&](int64_t offset, int64_t count, uint64_t seed) {
        kernels::cuda::make_up({layer + offset, on_device.as<int32_t>(), std::ssize(slots), pages_.page_bytes, count, 1,
                                static_cast<uint64_t>(3 * i) + seed},
                               exec_.stream());
      };
      make_up(0, c.n_kv_heads * pages_.block * c.head_dim, 0);
      make_up(pages_.values_offset, c.n_kv_heads * pages_.block * c.head_dim, 1);
      if (c.layers[static_cast<size_t>(i)].sparse_attention)
        make_up(pages_.index_offset, pages_.block * c.index_dim, 2);
    }
    exec_.wait();
  }

  std::optional<StepProfile> profile_last_step() override {
    if (last_step_.rows == 0) return std::nullopt;
    constexpr int kTimes = 20;
    StepProfile profile;
    profile.rows = last_step_.rows;
    // Replays write what is there already.
    const kernels::Graph& step = record_step(last_step_);
    kernels::Event begin, end;
    std::vector<double> ms;
    for (int i = 0; i < kTimes; ++i) {
      begin.record(exec_.stream());
      step.launch(exec_.stream());
      end.record(exec_.stream());
      exec_.wait();
      ms.push_back(end.ms_since(begin));
    }
    profile.ms = median(ms);

    std::vector<std::pair<std::string, kernels::Event>> marks;
    forward_.set_mark([&](const char* part) {
      marks.emplace_back(part, kernels::Event());
      marks.back().second.record_in_graph(exec_.stream());
    });
    const kernels::Graph marked(exec_.stream(), [&] {
      forward_.rows().queue_copy(exec_.stream());
      marks.emplace_back("", kernels::Event());
      marks.back().second.record_in_graph(exec_.stream());
      forward_.queue_layers(last_step_, pages_, workspace_.as<std::byte>(), exec_.stream());
      forward_.queue_logits(last_step_, workspace_.as<std::byte>(), exec_.stream());
    });
    forward_.set_mark({});
    std::vector<std::vector<double>> times(marks.size());
    for (int i = 0; i < kTimes; ++i) {
      marked.launch(exec_.stream());
      exec_.wait();
      for (size_t m = 1; m < marks.size(); ++m) times[m].push_back(marks[m].second.ms_since(marks[m - 1].second));
    }
    for (size_t m = 1; m < marks.size(); ++m) {
      auto part = std::ranges::find(profile.parts, marks[m].first, &StepProfile::Part::name);
      if (part == profile.parts.end()) part = profile.parts.insert(part, {marks[m].first, 0});
      part->ms += median(times[m]);
    }
    return profile;
  }

 private:
  using Batch = GpuForward::Batch;

  static double median(std::vector<double> values) {
    std::ranges::nth_element(values, values.begin() + std::ssize(values) / 2);
    return values[values.size() / 2];
  }

  // The rows of the segments, and idle ones up to `padded`. Returns how many positions there are, at most.
  int64_t place_rows(std::span<const Segment* const> part, int64_t padded) {
    GpuRows& rows = forward_.rows();
    table_.next_pass();
    int64_t at = 0, n_wanted = 0, max_keys = 0;
    for (const Segment* segment : part) {
      const int32_t line = table_.line_of(*segment->cache, exec_.stream());
      for (const int64_t i : segment->wanted) rows.wanted()[n_wanted++] = static_cast<int32_t>(at + i);
      for (size_t i = 0; i < segment->tokens.size(); ++i, ++at) {
        rows.tokens()[at] = segment->tokens[i];
        rows.seq()[at] = line;
        rows.pos()[at] = static_cast<int32_t>(segment->first + static_cast<int64_t>(i));
      }
      max_keys = std::max(max_keys, segment->first + std::ssize(segment->tokens));
    }
    for (; at < padded; ++at) {
      rows.tokens()[at] = -1;
      rows.seq()[at] = 0;
      rows.pos()[at] = -1;
    }
    return max_keys;
  }

  // What a recorded step is made for when it must serve so many positions.
  static int64_t keys_for(int64_t max_keys) {
    return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max(max_keys, kLeastKeys))));
  }

  std::byte* workspace(int64_t bytes) {
    if (bytes > workspace_.bytes()) {
      steps_.clear();  // they have the old one's place
      workspace_ = Buffer();
      workspace_ = Buffer(bytes, Device::cuda);
    }
    return workspace_.as<std::byte>();
  }

  // A decode step of so many rows, recorded when it is first asked for.
  const kernels::Graph& record_step(const Batch& batch) {
    const std::tuple key(batch.rows, batch.max_keys, batch.dense);
    if (const auto step = steps_.find(key); step != steps_.end()) return step->second;
    std::byte* const space = workspace(forward_.workspace_bytes(batch, pages_));
    kernels::Graph recorded(exec_.stream(), [&] {
      forward_.rows().queue_copy(exec_.stream());
      forward_.queue_layers(batch, pages_, space, exec_.stream());
      forward_.queue_logits(batch, space, exec_.stream());
    });
    return steps_.emplace(key, std::move(recorded)).first->second;
  }

  void run_step(std::span<const Segment* const> part, int64_t rows, bool dense) {
    const int64_t padded = rows <= 16 ? rows : (rows + 7) / 8 * 8;
    Batch batch;
    batch.max_keys = keys_for(place_rows(part, padded));
    batch.rows = padded;
    batch.dense = dense;
    record_step(batch).launch(exec_.stream());
    last_step_ = batch;
    int64_t at = 0;
    for (const Segment* segment : part) {
      for (size_t i = 0; i < segment->wanted.size();) {
        size_t end = i + 1;  // neighbours are copied together
        while (end < segment->wanted.size() && segment->wanted[end] == segment->wanted[end - 1] + 1) ++end;
        take_logits(at + segment->wanted[i], static_cast<int64_t>(end - i), segment->logits + vocab() * i);
        i = end;
      }
      at += std::ssize(segment->tokens);
    }
    hand_out();
  }

  void run_prompts(std::span<const Segment* const> part, int64_t rows, bool dense) {
    Batch batch;
    batch.real_rows = rows;
    batch.rows = std::max(rows, kStreamRows + 1);  // as many as the kernels of large products take
    batch.max_keys = place_rows(part, batch.rows);
    batch.dense = dense;
    std::vector<kernels::PrefillRun> runs;
    int64_t at = 0, n_wanted = 0;
    for (const Segment* segment : part) {
      runs.push_back({at, std::ssize(segment->tokens), segment->first + std::ssize(segment->tokens)});
      at += std::ssize(segment->tokens);
      n_wanted += std::ssize(segment->wanted);
    }
    batch.runs = runs;
    Batch few = batch;
    few.runs = {};
    few.rows = std::min(n_wanted, kStreamRows);
    std::byte* const space =
        workspace(std::max(forward_.workspace_bytes(batch, pages_), forward_.workspace_bytes(few, pages_)));
    forward_.rows().queue_copy(exec_.stream());
    forward_.queue_layers(batch, pages_, space, exec_.stream());
    if (n_wanted == 0) exec_.wait();

    std::vector<float*> targets;
    for (const Segment* segment : part) {
      for (size_t i = 0; i < segment->wanted.size(); ++i) targets.push_back(segment->logits + vocab() * i);
    }
    for (int64_t first = 0; first < n_wanted; first += kStreamRows) {
      const int64_t count = std::min(kStreamRows, n_wanted - first);
      forward_.queue_wanted(batch, first, count, pages_, space, exec_.stream());
      for (int64_t i = 0; i < count; ++i) take_logits(i, 1, targets[static_cast<size_t>(first + i)]);
      hand_out();
    }
  }

  size_t vocab() const { return static_cast<size_t>(model_->config().vocab_size); }

  // Rows of logits to where they are wanted: queued, and handed out when the stream is done.
  void take_logits(int64_t row, int64_t count, float* to) {
    const auto size = static_cast<int64_t>(vocab());
    float* const staged = logits_.as() + n_staged_ * size;
    kernels::cuda::queue_to_host(staged, forward_.logits() + row * size, count * size * 4, exec_.stream());
    taken_.push_back({staged, to, count * size});
    n_staged_ += count;
  }
  void hand_out() {
    exec_.wait();
    for (const auto& [from, to, count] : taken_) std::copy_n(from, count, to);
    taken_.clear();
    n_staged_ = 0;
  }

  struct Taken {
    const float* from;
    float* to;
    int64_t count;
  };

  std::shared_ptr<const Model> model_;
  kernels::Exec& exec_;
  std::unique_ptr<GpuWeights> weights_;
  GpuForward forward_;
  PageTable table_;
  GpuForward::Pages pages_;
  Buffer workspace_;
  std::map<std::tuple<int64_t, int64_t, bool>, kernels::Graph> steps_;  // by rows, positions, dense
  kernels::PinnedBuffer logits_;                                        // [kStreamRows, vocab]
  Batch last_step_;
  std::vector<Taken> taken_;
  int64_t n_staged_ = 0;
};

// What of a model's shape the kernels don't take.
std::optional<std::string> shape_obstacle(const Config& c) {
  const int64_t block = c.block != 0 ? c.block : kDefaultBlock;
  if (c.head_dim % 16 != 0 || c.head_dim > 256)
    return concat("want heads of a multiple of 16 and at most 256, found ", c.head_dim);
  if (block % 16 != 0) return concat("want blocks of a multiple of 16 positions, found ", block);
  for (const int64_t width : {c.dim, c.dense_ffn, c.expert_ffn, c.shared_ffn}) {
    if (width % 8 != 0) return concat("want widths of a multiple of 8, found ", width);
  }
  if (!c.has_sparse_attention()) return std::nullopt;
  if (c.index_dim % 16 != 0 || c.index_dim > 256)
    return concat("want index keys of a multiple of 16 and at most 256, found ", c.index_dim);
  if (c.top_blocks > 64) return concat("want a choice of at most 64 blocks, found ", c.top_blocks);
  if (c.n_index_heads != c.n_kv_heads)
    return concat("want an index head for each of ", c.n_kv_heads, " key-value heads, found ", c.n_index_heads);
  return std::nullopt;
}

int64_t page_bytes_of(const Config& c) {
  const auto on_128 = [](int64_t bytes) { return (bytes + 127) / 128 * 128; };
  const int64_t block = c.block != 0 ? c.block : kDefaultBlock;
  int64_t bytes = 0;
  for (const Config::Layer& layer : c.layers) {
    bytes += 2 * on_128(c.n_kv_heads * block * c.head_dim * 2) +
             (layer.sparse_attention ? on_128(block * c.index_dim * 2) : 0);
  }
  return bytes;
}

// Weights, what lies between the layers, and a little for caches.
int64_t bytes_wanted(const Model& model) {
  const Config& c = model.config();
  return GpuWeights::bytes(c, model.weights()) + GpuForward::bytes(c, kMostRows) + kReserve +
         kLeastPages * page_bytes_of(c);
}

}  // namespace

std::optional<std::string> gpu_obstacle(const Model& model, bool selects_untrained) {
  if (const auto obstacle = kernels::cuda::gpu_obstacle()) return obstacle;
  if (const auto obstacle = shape_obstacle(model.config())) return obstacle;
  if (selects_untrained && !model.config().has_sparse_attention())
    return concat("want a model that selects blocks for --attention sparse, found ", model.config().architecture());
  const int64_t wanted = bytes_wanted(model), free = kernels::cuda::gpu_info().free_bytes;
  if (wanted > free) return concat("want ", wanted >> 20, " MB of its memory, found ", free >> 20, " MB free");
  return std::nullopt;
}

std::unique_ptr<Backend> make_gpu_backend(std::shared_ptr<const Model> model, kernels::Exec& exec,
                                          int64_t budget_bytes) {
  if (const auto obstacle = gpu_obstacle(*model)) fail(model->name(), " on the GPU: ", *obstacle);
  const Config& c = model->config();
  const int64_t page_bytes = page_bytes_of(c), free = kernels::cuda::gpu_info().free_bytes;
  const auto most =
      static_cast<int64_t>(static_cast<double>(free - bytes_wanted(*model)) * kCacheShare) + kLeastPages * page_bytes;
  const int64_t n_pages = std::max<int64_t>(1, std::min(budget_bytes, most) / page_bytes);
  auto weights = std::make_unique<GpuWeights>(GpuWeights::upload(c, model->weights(), exec));
  return std::make_unique<GpuBackend>(std::move(model), exec, std::move(weights),
                                      KvPool::create_on_gpu(n_pages, page_bytes));
}

}  // namespace corvid::model
