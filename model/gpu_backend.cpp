#include "model/gpu_backend.h"

#include <algorithm>
#include <array>
#include <map>
#include <stdexcept>
#include <tuple>

#include "kernels/comm/all_reduce.h"
#include "kernels/gpu.h"
#include "model/error.h"
#include "model/gpu_group.h"
#include "model/schedule.h"

namespace corvid::model {
namespace {

constexpr int64_t kMostRows = 8192;      // of a chunk of prompts: enough for each expert to get some hundreds
constexpr int64_t kMostSequences = 128;  // in one pass over the weights
constexpr int64_t kLeastPages = 64;      // of the caches
constexpr int64_t kReserve = 512 << 20;  // of the GPU's memory: CUDA's own, recorded steps
constexpr double kCacheShare = 0.9;      // of what is left when nobody says how much the caches may take
constexpr int64_t kMostContexts = 16;    // then; a small model leaves other programs their part of a large GPU

// The lines of the page table: which slots the pages of a sequence are in, as the kernels read them.
class PageTable {
 public:
  explicit PageTable(GpuGroup& group) : group_(group) {}

  // The line of a cache, brought up to date. At most kMostSequences caches between two calls of next_pass().
  int32_t line_of(const KvCache& cache) {
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
    const int64_t index = line - lines_.data();
    group_.set_line(index, cache.slots());
    return static_cast<int32_t>(index);
  }
  void next_pass() { ++pass_; }

 private:
  struct Line {
    const KvCache* owner = nullptr;  // only compared
    int64_t last_pass = -1;
  };
  GpuGroup& group_;
  std::array<Line, kMostSequences> lines_;
  int64_t pass_ = 0;
};

class GpuBackend final : public Backend {
 public:
  GpuBackend(std::shared_ptr<const Model> model, kernels::Exec& exec, std::unique_ptr<GpuGroup> group,
             std::shared_ptr<KvPool> pool, bool e4m3_index)
      : Backend(std::move(pool), CacheFormat::of_gpu(e4m3_index)),
        model_(std::move(model)),
        exec_(exec),
        group_(std::move(group)),
        table_(*group_) {
    group_->set_pool(*this->pool(), kMostSequences, e4m3_index);
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
    group_->fill(cache.slots());
  }

  std::optional<StepProfile> profile_last_step() override {
    if (last_step_.rows == 0) return std::nullopt;
    constexpr int kTimes = 20;
    StepProfile profile;
    profile.rows = last_step_.rows;
    // Replays write what is there already.
    const std::vector<kernels::Graph>& step = record_step(last_step_);
    kernels::Event begin, end;
    std::vector<double> ms;
    for (int i = 0; i < kTimes; ++i) {
      begin.record(exec_.stream());
      group_->launch(step);
      end.record(exec_.stream());
      exec_.wait();
      ms.push_back(end.ms_since(begin));
    }
    profile.ms = median(ms);

    std::vector<std::pair<std::string, kernels::Event>> marks;
    group_->set_mark([&](const char* part) {
      marks.emplace_back(part, kernels::Event());
      marks.back().second.record_in_graph(exec_.stream());
    });
    const std::vector<kernels::Graph> marked = group_->record([&] {
      group_->queue_rows(last_step_.rows);
      marks.emplace_back("", kernels::Event());
      marks.back().second.record_in_graph(exec_.stream());
      group_->queue_layers(last_step_);
      group_->queue_logits(last_step_);
    });
    group_->set_mark({});
    std::vector<std::vector<double>> times(marks.size());
    for (int i = 0; i < kTimes; ++i) {
      group_->launch(marked);
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
  using Batch = GpuGroup::Batch;

  static double median(std::vector<double> values) {
    std::ranges::nth_element(values, values.begin() + std::ssize(values) / 2);
    return values[values.size() / 2];
  }

  // The rows of the segments, and idle ones up to `padded`. Returns how many positions there are, at most.
  int64_t place_rows(std::span<const Segment* const> part, int64_t padded) {
    GpuRows& rows = group_->rows();
    table_.next_pass();
    int64_t at = 0, n_wanted = 0, max_keys = 0;
    for (const Segment* segment : part) {
      const int32_t line = table_.line_of(*segment->cache);
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

  void reserve(std::span<const Batch> batches) {
    if (group_->has_room(batches)) return;
    steps_.clear();  // they have the old workspace's place, which is gone even where there is no room for a larger one
    group_->make_room(batches);
  }

  // A decode step of so many rows, recorded when it is first asked for.
  const std::vector<kernels::Graph>& record_step(const Batch& batch) {
    const std::tuple key(batch.rows, batch.max_keys, batch.dense);
    if (const auto step = steps_.find(key); step != steps_.end()) return step->second;
    reserve({&batch, 1});
    auto recorded = group_->record([&] {
      group_->queue_rows(batch.rows);
      group_->queue_layers(batch);
      group_->queue_logits(batch);
      group_->queue_best(batch.rows);
    });
    return steps_.emplace(key, std::move(recorded)).first->second;
  }

  void run_step(std::span<const Segment* const> part, int64_t rows, bool dense) {
    const int64_t padded = rows <= 16 ? rows : (rows + 7) / 8 * 8;
    Batch batch;
    batch.max_keys = kernels::cuda::keys_of_step(place_rows(part, padded), padded == 1 && knows_spans(dense));
    batch.rows = padded;
    batch.dense = dense;
    group_->launch(record_step(batch));
    last_step_ = batch;
    int64_t at = 0;
    for (const Segment* segment : part) {
      for (size_t i = 0; segment->best != nullptr && i < segment->wanted.size(); ++i)
        group_->take_best(at + segment->wanted[i], segment->best + i);
      for (size_t i = 0; segment->logits != nullptr && i < segment->wanted.size();) {
        size_t end = i + 1;  // neighbours are copied together
        while (end < segment->wanted.size() && segment->wanted[end] == segment->wanted[end - 1] + 1) ++end;
        group_->take_logits(at + segment->wanted[i], static_cast<int64_t>(end - i), segment->logits + vocab() * i);
        i = end;
      }
      at += std::ssize(segment->tokens);
    }
    group_->wait();
  }

  void run_prompts(std::span<const Segment* const> part, int64_t rows, bool dense) {
    last_step_ = {};  // its rows are written over
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
    reserve(std::array{batch, few});
    group_->queue_rows(batch.rows);
    group_->queue_layers(batch);
    if (n_wanted == 0) group_->wait();

    std::vector<std::pair<float*, Token*>> targets;  // one of the two
    for (const Segment* segment : part) {
      for (size_t i = 0; i < segment->wanted.size(); ++i) {
        if (segment->best != nullptr)
          targets.emplace_back(nullptr, segment->best + i);
        else
          targets.emplace_back(segment->logits + vocab() * i, nullptr);
      }
    }
    for (int64_t first = 0; first < n_wanted; first += kStreamRows) {
      const int64_t count = std::min(kStreamRows, n_wanted - first);
      group_->queue_logits(group_->queue_wanted(batch, first, count));
      group_->queue_best(count);
      for (int64_t i = 0; i < count; ++i) {
        const auto& [logits, best] = targets[static_cast<size_t>(first + i)];
        if (best != nullptr)
          group_->take_best(i, best);
        else
          group_->take_logits(i, 1, logits);
      }
      group_->wait();
    }
  }

  bool knows_spans(bool dense) {
    std::optional<bool>& known = knows_spans_[dense ? 1 : 0];
    if (!known) known = group_->knows_spans(dense);
    return *known;
  }

  size_t vocab() const { return static_cast<size_t>(model_->config().vocab_size); }

  std::shared_ptr<const Model> model_;
  kernels::Exec& exec_;
  std::unique_ptr<GpuGroup> group_;
  PageTable table_;
  std::map<std::tuple<int64_t, int64_t, bool>, std::vector<kernels::Graph>> steps_;  // by rows, positions, dense
  Batch last_step_;
  std::array<std::optional<bool>, 2> knows_spans_;  // dense: the second
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

// Weights, what lies between the layers, the workspace of the largest chunk of a prompt, and a little for caches: on
// one GPU with so many bytes free.
int64_t bytes_wanted(const Model& model, const GpuShare& share, const KvPool::Share& pages, int64_t free) {
  const Config& c = model.config();
  const int64_t block = c.block != 0 ? c.block : kDefaultBlock;
  const int64_t wanted = GpuGroup::bytes(model, share, kMostRows) + kReserve + kLeastPages * pages.page_bytes();
  // No more positions than the caches would have if there were no workspace.
  const int64_t n_pages = kLeastPages + std::max<int64_t>(0, free - wanted) / pages.page_bytes();
  return wanted +
         GpuGroup::workspace_bytes(model, share, kMostRows, std::min(c.context_length + kMostRows, n_pages * block));
}

// Bytes free for one of those that share a model.
int64_t free_bytes(int gpu, std::span<const int> gpus) {
  const kernels::cuda::GpuScope on(gpu);
  return kernels::cuda::gpu_info().free_bytes / std::ranges::count(gpus, gpu);
}

}  // namespace

std::optional<std::string> gpu_obstacle(const Model& model, std::span<const int> gpus, bool selects_untrained) {
  if (auto obstacle = kernels::cuda::gpu_obstacle(gpus)) return obstacle;
  const Config& c = model.config();
  if (auto obstacle = share_obstacle(c, model.weights(), std::ssize(gpus))) return obstacle;
  const auto shares = shares_of(c, model.weights(), std::ssize(gpus));
  if (auto obstacle = shape_obstacle(shares.front().config(c))) return obstacle;
  if (selects_untrained && !c.has_sparse_attention())
    return concat("want a model that selects blocks for --attention sparse, found ", c.architecture());
  if (auto obstacle = kernels::AllReduce::obstacle(gpus)) return obstacle;
  const auto pages = GpuGroup::page_shares(c, shares, gpus, false);
  for (size_t i = 0; i < gpus.size(); ++i) {
    const int64_t free = free_bytes(gpus[i], gpus), wanted = bytes_wanted(model, shares[i], pages[i], free);
    if (wanted <= free) continue;
    const int count = kernels::cuda::gpu_count();
    return concat("want ", wanted >> 20, " MB of ", gpus.size() == 1 ? "its" : "each GPU's", " memory, found ",
                  free >> 20, " MB free",
                  count > std::ssize(gpus) ? concat(" (--gpus ", count, " shares a model)") : "");
  }
  return std::nullopt;
}

std::unique_ptr<Backend> make_gpu_backend(std::shared_ptr<const Model> model, kernels::Exec& exec,
                                          std::span<const int> gpus, int64_t budget_bytes, bool e4m3_index) {
  if (const auto obstacle = gpu_obstacle(*model, gpus)) fail(model->name(), " on the GPU: ", *obstacle);
  const Config& c = model->config();
  const auto shares = shares_of(c, model->weights(), std::ssize(gpus));
  const int64_t page_bytes = GpuGroup::page_bytes(c, e4m3_index);
  auto pages = GpuGroup::page_shares(c, shares, gpus, e4m3_index);
  int64_t n_pages = budget_bytes / page_bytes;
  for (size_t i = 0; i < gpus.size(); ++i) {
    const int64_t free = free_bytes(gpus[i], gpus), left = free - bytes_wanted(*model, shares[i], pages[i], free);
    n_pages = std::min(
        n_pages, static_cast<int64_t>(static_cast<double>(left) * kCacheShare) / pages[i].page_bytes() + kLeastPages);
  }
  if (budget_bytes == KvPool::kNoLimit) {
    const int64_t block = c.block != 0 ? c.block : kDefaultBlock;
    n_pages = std::min(n_pages, kMostContexts * ((c.context_length + block - 1) / block) + kLeastPages);
  }
  n_pages = std::max<int64_t>(1, n_pages);
  auto group = std::make_unique<GpuGroup>(*model, exec, gpus, kMostRows);
  std::shared_ptr<KvPool> pool;
  for (; pool == nullptr; n_pages /= 2) {
    try {
      pool = KvPool::create_on_gpus(n_pages, page_bytes, pages);
    } catch (const kernels::cuda::OutOfMemory&) {  // another program took it since: with less, if that will do
      if (n_pages <= kLeastPages) throw;
    }
  }
  return std::make_unique<GpuBackend>(std::move(model), exec, std::move(group), std::move(pool), e4m3_index);
}

}  // namespace corvid::model
