// One stop token out of two reasons to stop: the caller's token and a wall clock.
#pragma once
#include <chrono>
#include <memory>
#include <stop_token>

namespace corvid::runtime {

// The clock runs from construction, on a thread of its own.
class Deadline {
 public:
  Deadline(std::chrono::milliseconds wall, std::stop_token caller);
  Deadline(const Deadline&) = delete;
  ~Deadline();

  std::stop_token token() const;  // stops at the caller's request, or when the time is up
  bool is_over() const;           // the time is up

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace corvid::runtime
