// Cache pages of sequences that ended, found by the tokens that they hold: the next session that begins alike does not
// evaluate them again.
//
//   kind --[first block's tokens]--> page --[second block's tokens]--> page ...    a tree: what begins alike is one
//   path
//
// Blocks are looked up by the hash of their tokens and of the block before, and compared, so that a page is found for
// exactly its tokens. The least recently used end of a path goes first: a page is worth nothing without those before
// it.
#pragma once
#include <cstdint>
#include <list>
#include <span>
#include <unordered_map>
#include <vector>

#include "model/kv_cache.h"

namespace corvid::model {

// Pages of sequences that attend alike; those of others have other bits, or lack index keys.
struct AttentionKind {
  bool dense = false, bounds = false;
  bool operator==(const AttentionKind&) const = default;
};

// Used by one thread at a time; all caches are of one model and format.
class PrefixIndex {
 public:
  // Keeps pages of at most `most_bytes`, which they also count as when they lie in a mapped file.
  explicit PrefixIndex(int64_t most_bytes) : most_bytes_(most_bytes) {}

  // Keeps the whole blocks of `tokens`, which `cache` holds; lets go of what has not been used for longest.
  void keep(AttentionKind kind, std::span<const Token> tokens, const KvCache& cache);
  // The pages of the longest beginning of `tokens` that is kept, in whole blocks.
  std::vector<KvPage> find(AttentionKind kind, std::span<const Token> tokens, int64_t block);
  // Let go of the least recently used page: of those that nobody else uses, so that memory comes back, or of all. False
  // when there is none.
  bool drop_unused();
  bool drop_last();

  struct Node {
    Node* parent;  // null: the first block
    AttentionKind kind;
    std::vector<Token> tokens;
    uint64_t hash;  // of these tokens and all before
    KvPage page;
    int64_t bytes;  // of the page
    int64_t n_children = 0;
  };
  const std::list<Node>& nodes() const { return nodes_; }  // the last used first, and a page before those behind it

 private:
  using Place = std::list<Node>::iterator;
  // The nodes of the longest beginning of `tokens` that is kept, which are then the last used ones.
  std::vector<Place> path_of(AttentionKind kind, std::span<const Token> tokens, int64_t block);
  void touch(std::span<const Place> path) noexcept;
  void remove(Place node) noexcept;

  int64_t most_bytes_, bytes_ = 0;
  std::list<Node> nodes_;
  std::unordered_multimap<uint64_t, Place> places_;  // by hash
};

}  // namespace corvid::model
