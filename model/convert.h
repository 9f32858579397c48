// A Hugging Face checkpoint becomes a GGUF file with llama.cpp's keys and tensor names.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string_view>

#include "model/checkpoint.h"
#include "model/tensor_type.h"

namespace corvid::model {

// f32, f16, bf16 or q8_0 as --type spells it. Throws std::invalid_argument for any other, naming those that come later.
TensorType parse_weight_type(std::string_view text);

// Reads `folder` (config.json, safetensors, and if they are there tokenizer.json and chat_template.jinja) and writes
// `file`, atomically and without holding more than a few tensors' rows in memory. Matrices become `type`; norms, the
// router and the index branch stay float32; a matrix whose rows do not fit the type becomes f16, with a note. Returns
// the size in bytes. Throws std::runtime_error or std::system_error naming the file, the thing, wanted and found.
int64_t convert(const std::filesystem::path& folder, const std::filesystem::path& file, TensorType type,
                const Note& note = {});

}  // namespace corvid::model
