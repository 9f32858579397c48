#include "model/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>
#include <stdexcept>

namespace corvid::model {
namespace {

constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

}  // namespace

Bpe::Bpe(const std::array<Token, 256>& byte_tokens, std::span<const Merge> merges)
    : byte_tokens_(byte_tokens), slots_(std::bit_ceil(std::max<size_t>(16, merges.size() * 2))) {
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const Merge& merge = merges[rank];
    slots_[slot_of(merge.left, merge.right)] = {merge.left, merge.right, merge.result, static_cast<int32_t>(rank)};
  }
}

// The pair's slot, or the empty one where it would stand.
size_t Bpe::slot_of(Token left, Token right) const {
  uint64_t hash = static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  hash = (hash ^ hash >> 31) * 0x9E3779B97F4A7C15;
  hash ^= hash >> 32;
  for (size_t slot = hash & (slots_.size() - 1);; slot = (slot + 1) & (slots_.size() - 1)) {
    const Slot& s = slots_[slot];
    if (s.rank < 0 || (s.left == left && s.right == right)) return slot;
  }
}

void Bpe::encode(std::string_view bytes, Scratch& scratch, std::vector<Token>& out) const {
  if (bytes.size() >= kNone) throw std::length_error("text to tokenize: want less than 4 GiB in one word");
  if (bytes.size() == 1) {
    out.push_back(byte_token(bytes[0]));
    return;
  }
  auto& nodes = scratch.nodes;
  auto& heap = scratch.heap;
  const auto count = static_cast<uint32_t>(bytes.size());
  nodes.resize(count);
  heap.clear();
  for (uint32_t i = 0; i < count; ++i) nodes[i] = {byte_token(bytes[i]), -1, i == 0 ? kNone : i - 1, i + 1};
  if (count > 0) nodes[count - 1].next = kNone;

  // Sets node i's rank from its pair; true when the pair merges.
  const auto rate = [&](uint32_t i) {
    const uint32_t next = nodes[i].next;
    nodes[i].rank = next == kNone ? -1 : slots_[slot_of(nodes[i].token, nodes[next].token)].rank;
    return nodes[i].rank >= 0;
  };
  const auto key = [&](uint32_t i) { return static_cast<uint64_t>(nodes[i].rank) << 32 | i; };
  for (uint32_t i = 0; i < count; ++i) {
    if (rate(i)) heap.push_back(key(i));
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());

  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const uint64_t top = heap.back();
    heap.pop_back();
    const auto i = static_cast<uint32_t>(top);
    // A rank belongs to one pair, so an equal rank says that this entry still describes the node.
    if (nodes[i].rank != static_cast<int32_t>(top >> 32)) continue;
    const uint32_t gone = nodes[i].next;
    nodes[i].token = slots_[slot_of(nodes[i].token, nodes[gone].token)].result;
    nodes[i].next = nodes[gone].next;
    nodes[gone].rank = -1;
    if (nodes[i].next != kNone) nodes[nodes[i].next].previous = i;
    for (const uint32_t changed : {nodes[i].previous, i}) {
      if (changed == kNone || !rate(changed)) continue;
      heap.push_back(key(changed));
      std::push_heap(heap.begin(), heap.end(), std::greater<>());
    }
  }
  for (uint32_t i = count > 0 ? 0 : kNone; i != kNone; i = nodes[i].next) out.push_back(nodes[i].token);
}

}  // namespace corvid::model
