#include "model/prefix_index.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "model/hash.h"

namespace corvid::model {
namespace {

uint64_t hash_of(std::span<const Token> tokens, uint64_t before) { return xxh64(std::as_bytes(tokens), before); }
uint64_t root_of(AttentionKind kind) { return (kind.dense ? 1 : 0) + (kind.bounds ? 2 : 0); }

}  // namespace

std::vector<PrefixIndex::Place> PrefixIndex::path_of(AttentionKind kind, std::span<const Token> tokens, int64_t block) {
  std::vector<Place> path;
  Node* parent = nullptr;
  uint64_t before = root_of(kind);
  for (const auto size = static_cast<size_t>(block); tokens.size() >= size; tokens = tokens.subspan(size)) {
    const std::span<const Token> own = tokens.first(size);
    const uint64_t hash = hash_of(own, before);
    const auto [begin, end] = places_.equal_range(hash);
    const auto found = std::find_if(begin, end, [&](const auto& entry) {
      const Node& node = *entry.second;
      return node.parent == parent && node.kind == kind && std::ranges::equal(node.tokens, own);
    });
    if (found == end) break;
    path.push_back(found->second);
    parent = &*found->second;
    before = hash;
  }
  touch(path);
  return path;
}

void PrefixIndex::keep(AttentionKind kind, std::span<const Token> tokens, const KvCache& cache) {
  const int64_t block = cache.block();
  const int64_t bytes = cache.page_bytes();
  const int64_t count = std::min(std::ssize(tokens) / block, most_bytes_ / bytes);
  tokens = tokens.first(static_cast<size_t>(count * block));
  std::vector<Place> path = path_of(kind, tokens, block);
  path.reserve(static_cast<size_t>(count));
  for (int64_t i = std::ssize(path); i < count; ++i) {
    const std::span<const Token> own = tokens.subspan(static_cast<size_t>(i * block), static_cast<size_t>(block));
    Node* const parent = path.empty() ? nullptr : &*path.back();
    const uint64_t hash = hash_of(own, parent != nullptr ? parent->hash : root_of(kind));
    std::list<Node> made;
    made.push_back({parent, kind, {own.begin(), own.end()}, hash, cache.pages()[static_cast<size_t>(i)], bytes});
    places_.emplace(hash, made.begin());
    if (parent != nullptr) ++parent->n_children;
    path.push_back(made.begin());
    nodes_.splice(parent != nullptr ? std::next(path[path.size() - 2]) : nodes_.begin(), made);
    bytes_ += bytes;
  }
  while (bytes_ > most_bytes_) remove(std::prev(nodes_.end()));
}

std::vector<KvPage> PrefixIndex::find(AttentionKind kind, std::span<const Token> tokens, int64_t block) {
  std::vector<KvPage> pages;
  for (const Place node : path_of(kind, tokens, block)) pages.push_back(node->page);
  return pages;
}

bool PrefixIndex::drop_unused() {
  for (Place node = nodes_.end(); node != nodes_.begin();) {
    --node;
    if (node->n_children > 0 || !node->page.is_exclusive()) continue;
    remove(node);
    return true;
  }
  return false;
}

bool PrefixIndex::drop_last() {
  if (nodes_.empty()) return false;
  remove(std::prev(nodes_.end()));
  return true;
}

// Backwards to the front, so that no page stands behind those that need it.
void PrefixIndex::touch(std::span<const Place> path) noexcept {
  for (auto node = path.rbegin(); node != path.rend(); ++node) nodes_.splice(nodes_.begin(), nodes_, *node);
}

void PrefixIndex::remove(Place node) noexcept {
  if (node->parent != nullptr) --node->parent->n_children;
  const auto [begin, end] = places_.equal_range(node->hash);
  places_.erase(std::find_if(begin, end, [&](const auto& entry) { return entry.second == node; }));
  bytes_ -= node->bytes;
  nodes_.erase(node);
}

}  // namespace corvid::model
