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
// Where the model computes. `automatic`: on a GPU that can (compute capability 9.0, room for weights, workspaces and
// the cache, a build with CUDA), else on the CPU.
enum class Device : uint8_t { automatic, cpu, cuda };

struct EngineOptions {
  int threads = 0;  // 0: one for each core that this process may use
  // Of the keys and values of all sessions together; 0: no limit on the CPU, and on a GPU, which takes its cache at
  // once, 9/10 of what weights and workspaces leave of its memory, at most 16 contexts. With a limit, sessions that do
  // not fit wait, and what ended sessions had evaluated is kept in a part of it for those that begin alike.
  int64_t cache_bytes = 0;
  CacheType cache_type = CacheType::f16;  // of keys and values; a GPU keeps bf16 instead, and knows no other
  // Evaluated instructions and tools are kept in this folder, so that the next process need not evaluate them: at most
  // 16 files and 256 MB. It has to be this user's alone; tools cannot look into it. Empty: nothing is kept.
  std::filesystem::path prefix_folder = {};
  Logger logger = {};  // what it and its sessions have to say
  Device device = Device::automatic;
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
  // Throws std::invalid_argument for numbers out of range, and for Device::cuda with a cache_type of f32 or q8_0;
  // std::runtime_error when there is no such device here, or the model does not fit it: the message says why.
  explicit Engine(const Model& model, const EngineOptions& options = {});

  Model model() const;
  Device device() const noexcept;  // cpu or cuda
  EngineStats stats() const;

  struct Impl;

 private:
  friend class Session;
  std::shared_ptr<Impl> impl_;
};

}  // namespace v1
}  // namespace corvid
