// Evaluated beginnings of prompts in a folder: instructions and tools are the same in every run, so that the first run
// evaluates them and the others map a file.
//
//   folder/<hash of program, identity and tokens>.kv      (snapshot_folder.h)
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "runtime/snapshot_folder.h"

namespace corvid::runtime {

class PrefixCache {
 public:
  static constexpr SnapshotFolder::Bounds kBounds{16, 256 << 20};
  PrefixCache(std::filesystem::path folder, std::string program, SnapshotFolder::Bounds bounds = kBounds);

  // Makes `sequence`, which is empty, hold what was stored under `prefix`, with the pages of another one of its engine
  // that has it already; false, and nothing changed, when nothing was. One at a time, so that agents that begin
  // together share the pages of the first.
  bool restore(std::span<const model::Token> prefix, model::Sequence& sequence) const noexcept;
  // Stores what `sequence` holds of `prefix`, its beginning, unless it is too large. What is there already was used
  // now.
  void store(std::span<const model::Token> prefix, const model::Sequence& sequence) const noexcept;

 private:
  std::string name_of(std::span<const model::Token> prefix, const model::Sequence& sequence) const;

  SnapshotFolder snapshots_;
  std::shared_ptr<std::mutex> one_at_a_time_ = std::make_shared<std::mutex>();
};

}  // namespace corvid::runtime
