// A folder of snapshots (model/kv_snapshot.h), the last used ones.
//
// Best effort: whatever is wrong with the folder or a file, the work goes on without it. Any number of processes may
// use a folder. It has to be this user's alone, since what it holds is believed.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "model/sequence.h"

namespace corvid::runtime {

class SnapshotFolder {
 public:
  struct Bounds {
    int64_t files, bytes;
  };
  // The folder is made when something is stored. `program` names what made the bits besides the sequence's identity:
  // another build of the kernels may round otherwise.
  SnapshotFolder(std::filesystem::path folder, std::string program, Bounds bounds);

  // Of everything that a snapshot's bits depend on besides its tokens; part of names.
  uint64_t maker(const model::Sequence& sequence) const;
  // Makes `sequence` hold what was stored as `name`; false, and nothing changed, when nothing was. A damaged file is
  // removed.
  bool restore(const std::string& name, model::Sequence& sequence) const noexcept;
  // What was stored as `name` is used now; false when nothing was.
  bool touch(const std::string& name) const noexcept;
  // Stores the first `n_tokens` tokens that `sequence` holds, in the place of what was stored as `name`, unless they
  // are too large; then removes the least recently used files beyond the bounds.
  void store(const std::string& name, int64_t n_tokens, const model::Sequence& sequence) const noexcept;
  // Removes all whose name begins so, but for `except`.
  void remove(std::string_view beginning, const std::string& except = "") const noexcept;

 private:
  std::filesystem::path file_of(const std::string& name) const;
  void prune(const std::filesystem::path& stored) const;  // which counts as the last used

  std::filesystem::path folder_;
  std::string program_;
  Bounds bounds_;
};

}  // namespace corvid::runtime
