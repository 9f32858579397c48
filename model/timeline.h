// What the engine knows of one sequence.
#pragma once
#include <chrono>
#include <cstdint>
#include <vector>

#include "model/kv_cache.h"
#include "model/prefix_index.h"

namespace corvid::model {

// Between its sequence's calls the engine alone, under its lock, touches the cache and `held`: it may take the pages
// away. The tokens stay.
struct Timeline {
  bool dense = false;
  KvCache cache;
  std::vector<Token> tokens = {};  // while a call waits, those that the sequence will hold
  int64_t held = 0;                // the first so many tokens are in the cache: fewer than all after an eviction

  int64_t age = 0;               // larger: began, or came back after a pause, later
  int64_t last_pass = -1;        // with which a call ended
  int64_t last_short_pass = -1;  // in which it had a few tokens to evaluate
  std::chrono::steady_clock::time_point last_use = {};
  bool is_queued = false;    // a call waits
  bool is_admitted = false;  // it has the memory for all its tokens
  bool is_made_up = false;   // no evaluation of these tokens gave the pages: they are nobody else's

  AttentionKind kind() const { return {dense, cache.has_bounds()}; }
};

}  // namespace corvid::model
