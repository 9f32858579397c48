#include "runtime/session_cache.h"

#include <exception>
#include <utility>

#include "model/hash.h"

namespace corvid::runtime {

SessionCache::SessionCache(std::filesystem::path folder, std::string program, SnapshotFolder::Bounds bounds)
    : snapshots_(std::move(folder), std::move(program), bounds) {}

std::string SessionCache::name_of(std::string_view session, const model::Sequence& sequence) const {
  return std::string(session) + "-" + model::hex(snapshots_.maker(sequence));
}

bool SessionCache::restore(std::string_view session, model::Sequence& sequence) const noexcept try {
  return snapshots_.restore(name_of(session, sequence), sequence);
} catch (const std::exception&) {  // no memory for the name
  return false;
}

void SessionCache::store(std::string_view session, const model::Sequence& sequence) const noexcept try {
  if (sequence.tokens().empty()) return;
  const std::string name = name_of(session, sequence);
  snapshots_.store(name, std::ssize(sequence.tokens()), sequence);
  snapshots_.remove(std::string(session) + "-", name);  // of another build or format: out of date
} catch (const std::exception&) {
}

void SessionCache::remove(std::string_view session) const noexcept try {
  snapshots_.remove(std::string(session) + "-");
} catch (const std::exception&) {
}

}  // namespace corvid::runtime
