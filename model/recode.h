// Tensors on their way from one type to another, a few MiB at a time: a model may be larger than memory.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>

#include "kernels/exec.h"
#include "model/config.h"
#include "model/gguf.h"
#include "model/mix.h"
#include "model/tensor_type.h"

namespace corvid::model {

// Gives numbers [first, first + count) as float32; called by several threads.
using RowReader = std::function<void(int64_t first, int64_t count, float* out)>;

// Asks `read` for `total` numbers, whole rows of `row` at a time, and gives them to `sink` in order as `type`.
void encode_rows(TensorType type, int64_t row, int64_t total, const RowReader& read, kernels::Pool& pool,
                 const GgufWriter::Sink& sink);

// The keys that say what a file's matrices are.
void set_mix(GgufWriter& out, const Mix& mix);

// What to tell people about a tensor that did not get the type of the mix.
std::string misfit(const std::string& tensor, std::span<const int64_t> shape, const Mix& mix, TensorType stored);

// Writes the model in GGUF file `from` (any of a split model's) as the single file `to`, its matrices as `mix` says and
// all else as it is. Atomic; returns the size in bytes. Throws std::runtime_error or std::system_error naming the file,
// the thing, wanted and found.
int64_t quantize(const std::filesystem::path& from, const std::filesystem::path& to, const Mix& mix,
                 const Note& note = {});

}  // namespace corvid::model
