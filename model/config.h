// What a model file says about its model. Every number is range-checked once, here; the rest of the code trusts it.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/family.h"
#include "model/message.h"

namespace corvid::model {

class Gguf;
class GgufWriter;
using Note = std::function<void(const std::string&)>;  // takes a line for people; may be empty

// What all families share: grouped-query attention with norms of q and k and partial RoPE; a feed-forward part that is
// dense, or routed experts and perhaps a shared one. In "sparse" layers an index branch selects blocks of keys (MSA).
struct Config {
  struct Layer {
    bool sparse_attention = false;  // selects blocks; otherwise attends to every position
    bool moe = false;               // routed and shared experts; otherwise one dense feed-forward
  };

  const Family* family = nullptr;  // never null in a config that was read
  std::string name;                // for people; may be empty
  int64_t vocab_size = 0;
  int64_t context_length = 0;  // tokens
  int64_t dim = 0;             // width of the residual stream
  std::vector<Layer> layers;

  int64_t n_heads = 0, n_kv_heads = 0;  // n_heads is a multiple of n_kv_heads
  int64_t head_dim = 0;
  int64_t rotary_dim = 0;  // even; the first dimensions of each head, rotated in pairs (i, i + rotary_dim / 2)
  double rope_theta = 0;
  float norm_eps = 0;

  int64_t n_index_heads = 0;  // of the index branch; n_kv_heads is a multiple of it. 0 without sparse layers
  int64_t index_dim = 0;
  int64_t block = 0;         // positions in a block of keys; also a page of the KV cache
  int64_t top_blocks = 0;    // blocks that a query may read, the local ones included
  int64_t local_blocks = 0;  // the query's own block and those just before it, always selected

  int64_t dense_ffn = 0;  // width of a dense layer's feed-forward; 0 when there is none
  int64_t n_experts = 0, top_k = 0;
  int64_t expert_ffn = 0;    // width of one routed expert
  int64_t shared_ffn = 0;    // width of all shared experts together
  bool routing_bias = true;  // of a checkpoint: added to the probabilities for the choice. Family::routing_bias: GGUF
                             // holds zeros for a model without
  bool normalised_weights = true;  // a token's chosen experts weigh 1 together (before routed_scale)
  float routed_scale = 1;          // of the routed experts' weighted sum
  float swiglu_alpha = 0, swiglu_limit = 0;

  bool tied_output = false;       // the output matrix is the embedding
  std::optional<Token> bos, eos;  // nothing too when the file names an id outside the vocabulary

  std::string_view architecture() const { return family->architecture; }
  int64_t n_layers() const { return static_cast<int64_t>(layers.size()); }
  // Throws std::runtime_error that begins with `file` when the numbers do not fit together.
  void check(const std::string& file) const;
  bool has_sparse_attention() const;
  bool has_moe() const;
  bool has_dense_ffn() const;

  // Both throw std::runtime_error naming file, key, wanted and found; for an architecture that is not supported too.
  static Config from_gguf(const Gguf& file);
  // config.json of a Hugging Face checkpoint, its keys at the top level or under text_config.
  static Config from_json_file(const std::filesystem::path& file);
  // Sets the architecture's keys. What other programs will not understand goes to `note`.
  void to_gguf(GgufWriter& out, const Note& note) const;
};

// Keys of our own, written only where a model differs from what llama.cpp takes for granted of its family: the layers'
// kinds (leading dense layers with full attention, then experts, in MiniMax-M3 with sparse attention), and swigluoai's
// constants 1.702 and 7.
inline constexpr char kSparseLayersKey[] = "corvid.sparse_attention_layers";  // array of bool
inline constexpr char kMoeLayersKey[] = "corvid.moe_layers";                  // array of bool
inline constexpr char kSwigluAlphaKey[] = "corvid.swiglu_alpha";              // float
inline constexpr char kSwigluLimitKey[] = "corvid.swiglu_limit";              // float
inline constexpr float kSwigluAlpha = 1.702f, kSwigluLimit = 7.0f;

// Limits of what a file may ask for: far above any model of these families, and far below what could overflow a product
// of two.
inline constexpr int64_t kMaxLayers = 1000;
inline constexpr int64_t kMaxWidth = 1 << 20;
inline constexpr int64_t kMaxVocab = 1 << 24;
inline constexpr int64_t kMaxContext = int64_t{1} << 31;
inline constexpr int64_t kMaxHeads = 4096;
inline constexpr int64_t kMaxHeadDim = 4096;
inline constexpr int64_t kMaxExperts = kernels::kMaxExperts;
inline constexpr int64_t kMaxBlock = 4096;  // a page of the KV cache is made whole, so it must stay small

// The block size of the KV cache for a model that has none of its own.
inline constexpr int64_t kDefaultBlock = 128;

}  // namespace corvid::model
