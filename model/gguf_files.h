// A model in one GGUF file, or split into several: "name-00002-of-00003.gguf".
#pragma once
#include <filesystem>
#include <span>
#include <vector>

#include "model/gguf.h"
#include "model/weights.h"

namespace corvid::model {

// All files of the model that `file` is or belongs to, in order; the keys are in the first. Throws like Gguf::open, and
// std::runtime_error when the files do not fit together.
std::vector<Gguf> open_gguf_files(const std::filesystem::path& file);

// The tensors of all files by name; `files` must outlive the table. Throws std::runtime_error for a name found twice.
TensorTable tensors_of(std::span<const Gguf> files);

}  // namespace corvid::model
