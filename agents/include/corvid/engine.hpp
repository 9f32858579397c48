// What computes: the threads, the memory and the queue of one model. All sessions of an engine are evaluated together.
#pragma once
#include <corvid/export.hpp>
#include <corvid/log.hpp>
#include <corvid/model.hpp>
#include <cstdint>
#include <filesystem>
#include <memory>

namespace corvid {
inline namespace v1 {

enum class CacheType : uint8_t { f32, f16, bf16, q8_0 };

struct EngineOptions {
  int threads = 0;  // 0: one for each core that this process may use
  // Of the keys and values of all sessions together; 0: no limit. With one, sessions that do not fit wait, and what
  // ended sessions had evaluated is kept in a part of it for those that begin alike.
  int64_t cache_bytes = 0;
  CacheType cache_type = CacheType::f16;  // of keys and values
  // Evaluated instructions and tools are kept in this folder, so that the next process need not evaluate them: at most
  // 16 files and 256 MB. It has to be this user's alone. Empty: nothing is kept.
  std::filesystem::path prefix_folder = {};
  Logger logger = {};  // what it and its sessions have to say
};

struct EngineStats {
  int64_t passes = 0;         // forward passes
  int64_t tokens = 0;         // evaluated
  int64_t most_sessions = 0;  // in one pass
  int64_t evictions = 0;      // sessions that lost their keys and values to others, and were evaluated again
};

// Any number of threads may use it at once, through sessions. A copy is another handle to the same engine, and every
// session holds one: an engine lives as long as its last session. Its threads have all signals blocked.
class CORVID_API Engine {
 public:
  // Throws std::invalid_argument for numbers out of range.
  explicit Engine(const Model& model, const EngineOptions& options = {});

  Model model() const;
  EngineStats stats() const;

  struct Impl;

 private:
  friend class Session;
  std::shared_ptr<Impl> impl_;
};

}  // namespace v1
}  // namespace corvid
