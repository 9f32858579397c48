// Keys and values of stored sessions in a folder, so that a resumed one need not read its history again.
//
//   folder/<session>-<hash of program and identity>.kv      (snapshot_folder.h), the last state of each
//
// A snapshot holds the session's tokens, which say what the store says: it is as private, and goes when its session
// does. Without it, or when it is damaged or of another build, the history is evaluated, to the same bits.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>

#include "runtime/snapshot_folder.h"

namespace corvid::runtime {

class SessionCache {
 public:
  static constexpr SnapshotFolder::Bounds kBounds{16, int64_t{1} << 30};
  SessionCache(std::filesystem::path folder, std::string program, SnapshotFolder::Bounds bounds = kBounds);

  // Makes `sequence` hold what was stored of the session; false, and nothing changed, when nothing was.
  bool restore(std::string_view session, model::Sequence& sequence) const noexcept;
  // Stores all that `sequence` holds, in the place of what was stored of the session, unless it is too large.
  void store(std::string_view session, const model::Sequence& sequence) const noexcept;
  void remove(std::string_view session) const noexcept;

 private:
  std::string name_of(std::string_view session, const model::Sequence& sequence) const;

  SnapshotFolder snapshots_;
};

}  // namespace corvid::runtime
