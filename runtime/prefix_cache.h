// Evaluated beginnings of prompts in a folder: instructions and tools are the same in every run, so that the first run
// evaluates them and the others map a file.
//
//   folder/<hash of program, identity and tokens>.kv      snapshots (model/kv_snapshot.h), the last used ones
//
// Best effort: whatever is wrong with the folder or a file, the work goes on without it. Any number of processes may
// use a folder. It has to be this user's alone, since what it holds is believed.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "model/sequence.h"

namespace corvid::runtime {

class PrefixCache {
 public:
  struct Bounds {
    int64_t files = 16, bytes = 256 << 20;
  };
  // The folder is made when something is stored. `program` names what made the bits besides the sequence's identity:
  // another build of the kernels may round otherwise.
  PrefixCache(std::filesystem::path folder, std::string program, Bounds bounds);
  PrefixCache(std::filesystem::path folder, std::string program)
      : PrefixCache(std::move(folder), std::move(program), Bounds()) {}

  // Makes `sequence` hold what was stored under `prefix`; false, and nothing changed, when nothing was. A damaged file
  // is removed.
  bool restore(std::span<const model::Token> prefix, model::Sequence& sequence) const noexcept;
  // Stores what `sequence` holds of `prefix`, its beginning, unless it is there or too large; then removes the least
  // recently used files beyond the bounds.
  void store(std::span<const model::Token> prefix, const model::Sequence& sequence) const noexcept;

 private:
  std::filesystem::path file_of(std::span<const model::Token> prefix, const model::Sequence& sequence) const;
  void prune() const;

  std::filesystem::path folder_;
  std::string program_;
  Bounds bounds_;
};

}  // namespace corvid::runtime
