// What index keys and queries are made with, where these are rounded to 8 bits afterwards.
#pragma once
#include <cstdint>
#include <vector>

#include "kernels/exec.h"
#include "kernels/format.h"
#include "model/config.h"
#include "model/weights.h"

namespace corvid::model {

// The format in which passes on the CPU read a matrix of the index branch that the file has in `stored`, for caches
// that keep index keys in `index_keys`: q8_0 in the place of float32 where keys are in q8_0, unless rows of `dim` are
// no whole blocks.
kernels::Format index_matrix_format(kernels::Format stored, kernels::Format index_keys, int64_t dim);

// The index branch's matrices in that format. Files have them in float32, which made them a tenth of what a token
// reads; what rounding changes in the choice of blocks is a tenth of what rounding its keys and queries does
// (docs/attention.md). Const after construction; shared by any number of threads.
class IndexWeights {
 public:
  IndexWeights() = default;  // rounds nothing
  // Needs the weights only while it is made. Throws std::bad_alloc.
  IndexWeights(const Config& config, const Weights& weights, kernels::Format index_keys, kernels::Exec& exec);

  // Of a layer: what is rounded, or what the layer has.
  kernels::Matrix q(int64_t layer, const Weights::Layer& l) const { return of(2 * layer, l.index_q); }
  kernels::Matrix k(int64_t layer, const Weights::Layer& l) const { return of(2 * layer + 1, l.index_k); }

 private:
  struct Rounded {
    kernels::Buffer data;
    kernels::Format format;
  };
  kernels::Matrix of(int64_t i, const kernels::Matrix& stored) const;

  std::vector<Rounded> rounded_;  // q and k of each layer; without data where nothing is rounded
};

}  // namespace corvid::model
