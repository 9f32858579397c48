#include "runtime/prefix_cache.h"

#include <utility>

#include "model/hash.h"

namespace corvid::runtime {

PrefixCache::PrefixCache(std::filesystem::path folder, std::string program, SnapshotFolder::Bounds bounds)
    : snapshots_(std::move(folder), std::move(program), bounds) {}

std::string PrefixCache::name_of(std::span<const model::Token> prefix, const model::Sequence& sequence) const {
  return model::hex(model::xxh64(std::as_bytes(prefix), snapshots_.maker(sequence)));
}

bool PrefixCache::restore(std::span<const model::Token> prefix, model::Sequence& sequence) const noexcept try {
  const std::lock_guard lock(*one_at_a_time_);
  return sequence.adopt(prefix) || snapshots_.restore(name_of(prefix, sequence), sequence);
} catch (const std::exception&) {  // no memory for the name
  return false;
}

void PrefixCache::store(std::span<const model::Token> prefix, const model::Sequence& sequence) const noexcept try {
  const std::string name = name_of(prefix, sequence);
  if (snapshots_.touch(name)) return;
  snapshots_.store(name, std::ssize(prefix), sequence);
} catch (const std::exception&) {
}

}  // namespace corvid::runtime
