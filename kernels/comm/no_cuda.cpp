#include "kernels/no_cuda.h"

#include "kernels/comm/all_reduce.h"

namespace corvid::kernels {

struct AllReduce::Impl {};
std::optional<std::string> AllReduce::obstacle(std::span<const int>) { return "this build of corvid has no CUDA"; }
AllReduce::AllReduce(std::span<const int>, int64_t, int64_t, Way, int64_t) { no_cuda(); }
AllReduce::~AllReduce() = default;
DealtRows<void> AllReduce::partials(int) const { no_cuda(); }
bool AllReduce::are_dealt(int64_t) const { return false; }
void AllReduce::queue(std::span<const Share>, int64_t, float) { no_cuda(); }
int64_t AllReduce::bytes(int64_t, int64_t, int64_t) { return 0; }

}  // namespace corvid::kernels
