#include "model/random_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <numeric>

#include "kernels/format.h"
#include "kernels/kv_pages/kv_pages.h"
#include "kernels/page_select/page_select.h"
#include "model/error.h"
#include "model/gguf.h"
#include "model/hash.h"
#include "model/mix.h"
#include "model/recode.h"

namespace corvid::model {
namespace {

// splitmix64's output function: neighbouring numbers give unrelated ones.
uint64_t scramble(uint64_t x) {
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

// Nearly normal, mean 0 and deviation 1: the sum of twelve even numbers in [0, 1), exact and so the same everywhere.
float deviate(uint64_t index) {
  float sum = -6;
  for (uint64_t i = 0; i < 3; ++i) {
    const uint64_t bits = scramble(3 * index + i);
    for (int part = 0; part < 64; part += 16) sum += static_cast<float>(bits >> part & 0xffffU) * 0x1p-16F;
  }
  return sum;
}

std::vector<float> deviates(uint64_t seed, int64_t count) {
  std::vector<float> numbers(static_cast<size_t>(count));
  const uint64_t first = scramble(seed);
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = deviate(first + i);
  return numbers;
}

constexpr int64_t kPiece = 256;  // numbers; whole groups of every format
constexpr int64_t kPieces = 512;

}  // namespace

std::span<const ShapeKey> shape_keys() {
  using S = RandomShape;
  static constexpr ShapeKey kKeys[] = {
      {"layers", &S::layers, 1, kMaxLayers},
      {"dim", &S::dim, 1, kMaxWidth},
      {"heads", &S::heads, 1, kMaxHeads},
      {"kv_heads", &S::kv_heads, 1, kMaxHeads},
      {"head_dim", &S::head_dim, 2, kMaxHeadDim},
      {"rotary", &S::rotary, 2, kMaxHeadDim},
      {"experts", &S::experts, 1, kMaxExperts},
      {"top_k", &S::top_k, 1, kMaxExperts},
      {"ffn", &S::ffn, 1, kMaxWidth},
      {"vocab", &S::vocab, 1, kMaxVocab},
      {"context", &S::context, 1, kMaxContext},
      {"seed", &S::seed, 0, kMaxContext},
      {"dense_layers", &S::dense_layers, 0, kMaxLayers, true},
      {"dense_ffn", &S::dense_ffn, 1, kMaxWidth, true},
      {"shared", &S::shared, 0, 64, true},
      {"index_heads", &S::index_heads, 1, kMaxHeads, true},
      {"index_dim", &S::index_dim, 1, kMaxHeadDim, true},
      {"block", &S::block, 1, kMaxBlock, true},
      {"top_blocks", &S::top_blocks, 1, kMaxContext, true},
      {"local_blocks", &S::local_blocks, 1, kMaxContext, true},
  };
  return kKeys;
}

Config RandomShape::config() const {
  const bool sparse = family->sparse_attention;
  Config c;
  c.family = family;
  c.name = concat("random ", family->architecture, " ", tensor_layout(type).name);
  c.vocab_size = vocab;
  c.context_length = context;
  c.dim = dim;
  for (int64_t i = 0; i < layers; ++i) {
    const bool moe = !sparse || i >= dense_layers;
    c.layers.push_back({sparse && moe, moe});
  }
  c.n_heads = heads;
  c.n_kv_heads = kv_heads;
  c.head_dim = head_dim;
  c.rotary_dim = rotary != 0 ? rotary : family == &kQwen3Moe ? head_dim : head_dim / 2;
  c.rope_theta = 5e6;
  c.norm_eps = 1e-6F;
  if (c.has_sparse_attention()) {
    c.n_index_heads = index_heads != 0 ? index_heads : kv_heads;
    c.index_dim = index_dim;
    c.block = block;
    c.top_blocks = top_blocks;
    c.local_blocks = local_blocks;
  }
  if (c.has_dense_ffn()) c.dense_ffn = dense_ffn;
  if (c.has_moe()) {
    c.n_experts = experts;
    c.top_k = top_k;
    c.expert_ffn = ffn;
    c.shared_ffn = family->shared_experts ? shared * ffn : 0;
    c.routed_scale = sparse ? 2.0F : 1.0F;
  }
  c.swiglu_alpha = kSwigluAlpha;
  c.swiglu_limit = kSwigluLimit;
  c.check(std::string(family->architecture));
  return c;
}

RandomModel::RandomModel(const RandomShape& shape) : shape_(shape), config_(shape.config()) {
  const Config& c = config_;
  // Sizes such that each layer's output is about as large as its input, and the sum of all layers' no larger than that.
  const auto in = [](int64_t columns) { return 1 / std::sqrt(static_cast<double>(columns)); };
  const double branch = 1 / std::sqrt(2.0 * static_cast<double>(c.n_layers()));
  const int64_t q = c.n_heads * c.head_dim, kv = c.n_kv_heads * c.head_dim;
  add("token_embd.weight", {c.vocab_size, c.dim}, 1);
  add("output_norm.weight", {c.dim}, 0);
  add("output.weight", {c.vocab_size, c.dim}, in(c.dim));
  for (int64_t i = 0; i < c.n_layers(); ++i) {
    const Config::Layer& layer = c.layers[static_cast<size_t>(i)];
    const auto matrix = [&](const char* name, std::vector<int64_t> shape_of, double factor = 1) {
      const double deviation = factor * in(shape_of.back());
      add(concat("blk.", i, ".", name, ".weight"), std::move(shape_of), deviation);
    };
    const auto norm = [&](const char* name, int64_t size) { add(concat("blk.", i, ".", name, ".weight"), {size}, 0); };
    norm("attn_norm", c.dim);
    matrix("attn_q", {q, c.dim});
    matrix("attn_k", {kv, c.dim});
    matrix("attn_v", {kv, c.dim});
    matrix("attn_output", {c.dim, q}, branch);
    norm("attn_q_norm", c.family->whole_qk_norms ? q : c.head_dim);
    norm("attn_k_norm", c.family->whole_qk_norms ? kv : c.head_dim);
    if (layer.sparse_attention) {
      matrix("indexer.q_proj", {c.n_index_heads * c.index_dim, c.dim});
      matrix("indexer.k_proj", {c.index_dim, c.dim});
      norm("indexer.q_norm", c.index_dim);
      norm("indexer.k_norm", c.index_dim);
    }
    norm("ffn_norm", c.dim);
    if (!layer.moe) {
      matrix("ffn_gate", {c.dense_ffn, c.dim});
      matrix("ffn_up", {c.dense_ffn, c.dim});
      matrix("ffn_down", {c.dim, c.dense_ffn}, branch);
      continue;
    }
    matrix("ffn_gate_inp", {c.n_experts, c.dim});
    if (c.family->routing_bias) add(concat("blk.", i, ".exp_probs_b.bias"), {c.n_experts}, 0.01);
    matrix("ffn_gate_exps", {c.n_experts, c.expert_ffn, c.dim});
    matrix("ffn_up_exps", {c.n_experts, c.expert_ffn, c.dim});
    matrix("ffn_down_exps", {c.n_experts, c.dim, c.expert_ffn}, branch);
    if (c.shared_ffn == 0) continue;
    matrix("ffn_gate_shexp", {c.shared_ffn, c.dim});
    matrix("ffn_up_shexp", {c.shared_ffn, c.dim});
    matrix("ffn_down_shexp", {c.dim, c.shared_ffn}, branch);
  }
}

void RandomModel::add(const std::string& name, std::vector<int64_t> shape, double deviation) {
  const TensorType type = Mix(shape_.type).choose(name, shape, config_.n_layers(), name == "output.weight").type;
  tensors_.push_back({name, type, std::move(shape), static_cast<float>(deviation)});
}

// Encoding a billion random numbers takes minutes in some formats. So a few are encoded, and tensors are put together
// from pieces of them, each tensor in an order of its own.
class RandomModel::Palette {
 public:
  Palette(uint64_t seed, kernels::Pool& pool) : seed_(seed), pool_(pool), numbers_(deviates(seed, kPieces * kPiece)) {}

  // Bytes [first piece, ...) of a tensor; out.size() may end within the last piece.
  void fill(const Tensor& tensor, int64_t first, std::span<std::byte> out) {
    const std::vector<std::byte>& pieces = encoded(tensor);
    const int64_t bytes = piece_bytes(tensor.type), size = std::ssize(out);
    const uint64_t order = scramble(xxh64(tensor.name, seed_));
    constexpr int64_t kTask = 1 << 20;  // bytes, about
    const int64_t per_task = std::max<int64_t>(1, kTask / bytes);
    pool_.run((size + per_task * bytes - 1) / (per_task * bytes), [&](int64_t task, int) {
      for (int64_t i = task * per_task; i < (task + 1) * per_task && i * bytes < size; ++i) {
        const uint64_t piece = scramble(order + static_cast<uint64_t>(first + i)) % kPieces;
        std::memcpy(out.data() + i * bytes, pieces.data() + static_cast<int64_t>(piece) * bytes,
                    static_cast<size_t>(std::min(bytes, size - i * bytes)));
      }
    });
  }
  static int64_t piece_bytes(TensorType type) { return kernels::row_bytes(kernel_format(type).value(), kPiece); }

 private:
  const std::vector<std::byte>& encoded(const Tensor& tensor) {
    std::vector<std::byte>& pieces = encoded_[{tensor.type, tensor.deviation}];
    if (!pieces.empty()) return pieces;
    const int64_t bytes = piece_bytes(tensor.type);
    pieces.resize(static_cast<size_t>(kPieces * bytes));
    pool_.run(kPieces, [&](int64_t piece, int) {
      float scaled[kPiece];
      for (int64_t i = 0; i < kPiece; ++i) {
        scaled[i] = tensor.deviation == 0 ? 1 : numbers_[static_cast<size_t>(piece * kPiece + i)] * tensor.deviation;
      }
      kernels::encode_row(*kernel_format(tensor.type), scaled, kPiece, pieces.data() + piece * bytes);
    });
    return pieces;
  }

  uint64_t seed_;
  kernels::Pool& pool_;
  std::vector<float> numbers_;
  std::map<std::pair<TensorType, float>, std::vector<std::byte>> encoded_;
};

TensorTable RandomModel::load(std::vector<kernels::Buffer>& memory, int64_t held_rows) const {
  kernels::Exec exec;
  Palette palette(static_cast<uint64_t>(shape_.seed), exec.pool());
  TensorTable table;
  for (const Tensor& tensor : tensors_) {
    std::vector<int64_t> held = tensor.shape;
    if (held_rows > 0 && held.size() > 1 && held[held.size() - 2] % 16 == 0 &&
        !tensor.name.ends_with("ffn_gate_inp.weight")) {  // the router is repacked as a whole
      const int64_t rows = std::accumulate(held.begin(), held.end() - 1, int64_t{1}, std::multiplies<>());
      held = {std::min(rows, held_rows), held.back()};
    }
    kernels::Buffer& buffer = memory.emplace_back(tensor_bytes(tensor.type, held).value());
    const std::span<std::byte> bytes(buffer.as<std::byte>(), static_cast<size_t>(buffer.bytes()));
    palette.fill(tensor, 0, bytes);
    table.emplace(tensor.name, TensorView{tensor.type, tensor.shape, bytes});
  }
  return table;
}

int64_t RandomModel::write(const std::filesystem::path& file) const {
  kernels::Exec exec;
  Palette palette(static_cast<uint64_t>(shape_.seed), exec.pool());
  GgufWriter out;
  config_.to_gguf(out, {});
  set_mix(out, Mix(shape_.type));
  out.set_text("tokenizer.ggml.model", "none");
  for (const Tensor& tensor : tensors_) {
    out.add(tensor.name, tensor.type, tensor.shape, [&palette, &tensor](const GgufWriter::Sink& sink) {
      constexpr int64_t kPiecesAtOnce = 1 << 14;
      const int64_t size = tensor_bytes(tensor.type, tensor.shape).value();
      const int64_t step = kPiecesAtOnce * Palette::piece_bytes(tensor.type);
      std::vector<std::byte> bytes;
      for (int64_t done = 0; done < size; done += step) {
        bytes.resize(static_cast<size_t>(std::min(step, size - done)));
        palette.fill(tensor, done / step * kPiecesAtOnce, bytes);
        sink(bytes);
      }
    });
  }
  return out.write(file);
}

void fill_cache(const Config& c, int64_t n_tokens, KvCache& cache, kernels::Exec& exec) {
  constexpr int64_t kRows = 512, kNumbers = 1 << 18;
  constexpr uint64_t kSeed = 7;
  cache.prepare(0, n_tokens);
  const int64_t kv_size = c.n_kv_heads * c.head_dim, index_size = c.index_dim;
  const int64_t widest = std::max(kv_size, index_size);
  const std::vector<float> numbers = deviates(kSeed, kNumbers + widest);
  kernels::Buffer rows(kRows * widest * int64_t{sizeof(float)});
  std::vector<int64_t> pos(kRows);
  uint64_t row_seed = kSeed;
  for (int64_t first = 0; first < n_tokens; first += kRows) {
    const int64_t n = std::min(kRows, n_tokens - first);
    std::iota(pos.begin(), pos.end(), first);
    const auto made_up = [&](int64_t size) {
      const uint64_t seed = row_seed;
      row_seed += kRows;
      exec.pool().run(n, [&](int64_t r, int) {
        const uint64_t bits = scramble(seed + static_cast<uint64_t>(r));
        const float* from = numbers.data() + bits % kNumbers;
        const float scale = 0.75F + static_cast<float>(bits >> 40) * 0x1p-25F;  // two that begin alike differ in this
        for (int64_t i = 0; i < size; ++i) rows.as()[r * size + i] = from[i] * scale;
      });
      return rows.as();
    };
    for (int64_t i = 0; i < c.n_layers(); ++i) {
      const KvCache::Layer& kv = cache.layer(i);
      kernels::store_keys(
          {made_up(kv_size), pos.data(), kv.keys.data(), n, c.n_kv_heads, c.head_dim, cache.block(), cache.format()},
          exec);
      kernels::store_values(
          {made_up(kv_size), pos.data(), kv.values.data(), n, c.n_kv_heads, c.head_dim, cache.block(), cache.format()},
          exec);
      if (cache.has_bounds()) {
        const kernels::KeyBounds bounds{
            kv.keys.data(), kv.bounds.data(), first / cache.block(), (first + n) / cache.block(),
            c.n_kv_heads,   c.head_dim,       cache.block(),         cache.format()};
        kernels::key_bounds({&bounds, 1}, exec);
      }
      if (!c.layers[static_cast<size_t>(i)].sparse_attention) continue;
      kernels::store_keys({made_up(index_size), pos.data(), kv.index_keys.data(), n, 1, c.index_dim, cache.block(),
                           cache.index_format()},
                          exec);
    }
  }
}

}  // namespace corvid::model
