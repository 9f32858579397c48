// A Hugging Face checkpoint becomes a GGUF file with llama.cpp's keys and tensor names.
#pragma once
#include <cstdint>
#include <filesystem>

#include "model/checkpoint.h"
#include "model/mix.h"

namespace corvid::model {

// Reads `folder` (config.json, safetensors, and if they are there tokenizer.json and chat_template.jinja) and writes
// `file`, atomically and without holding more than a few tensors' rows in memory. Matrices become what `mix` says; a
// matrix whose rows do not fit its type becomes another, with a note. Returns the size in bytes. Throws
// std::runtime_error or std::system_error naming the file, the thing, wanted and found.
int64_t convert(const std::filesystem::path& folder, const std::filesystem::path& file, const Mix& mix,
                const Note& note = {});

}  // namespace corvid::model
