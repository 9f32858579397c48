// Contract checks that stay on in release builds: a broken contract throws std::invalid_argument saying what was found.
#pragma once
#include <sstream>
#include <stdexcept>

namespace corvid::kernels {

// require(a.k >= 1, "matmul: want k >= 1, found ", a.k). The parts become text only when the check fails.
template <class... Parts>
inline void require(bool ok, const Parts&... parts) {
  if (ok) [[likely]]
    return;
  std::ostringstream text;
  (text << ... << parts);
  throw std::invalid_argument(text.str());
}

}  // namespace corvid::kernels
