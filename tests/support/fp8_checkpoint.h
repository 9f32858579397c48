// Checkpoints in block fp8, made of others.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/json_file.h"
#include "model/safetensors.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_checkpoint.h"
#include "tests/support/weights.h"

namespace corvid::test {

// One whose rows are all whole blocks of 128, of sizes that a GPU takes and two share.
inline TinyCheckpoint fp8_shape() {
  return {.vocab = 250,
          .dim = 256,
          .kv_heads = 2,
          .head_dim = 64,
          .rotary_dim = 32,
          .index_dim = 64,
          .block = 16,
          .top_blocks = 16,
          .dense_ffn = 384,
          .expert_ffn = 256,
          .shared_ffn = 256,
          .dtype = "BF16"};
}

// Makes 8-bit floats of the matrices of the checkpoint in folder `from` that such checkpoints round: not of embedding,
// output, router and index branch. Scales are for blocks of 128 x 128, and no powers of two. Writes it to `dir`, which
// may be `from`.
inline void write_fp8(const std::filesystem::path& from, const TempDir& dir) {
  nlohmann::json config = model::read_json_object(from / "config.json"), header;
  std::string data;
  const auto add = [&](const std::string& name, const std::string& dtype, const std::vector<int64_t>& shape,
                       const std::string& bytes) {
    header[name] = {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {data.size(), data.size() + bytes.size()}}};
    data += bytes;
  };
  const model::SafeTensors files = model::SafeTensors::open(from);
  for (const auto& [name, tensor] : files.tensors()) {
    const auto has = [&, name = std::string_view(name)](const char* part) {
      return name.find(part) != std::string_view::npos;
    };
    const bool is_kept = has("embed_tokens") || has("lm_head") || has("gate.weight") || has("index") || has("vision");
    const std::string bytes(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
    if (tensor.shape.size() < 2 || is_kept) {
      add(name, tensor.dtype, tensor.shape, bytes);
      continue;
    }
    const int64_t rows = tensor.shape[tensor.shape.size() - 2], columns = tensor.shape.back();
    const int64_t matrices = tensor.shape.size() == 3 ? tensor.shape[0] : 1;
    std::vector<float> values(static_cast<size_t>(matrices * rows * columns));
    kernels::decode_row(*model::kernel_format(*tensor.type()), bytes.data(), std::ssize(values), values.data());
    std::string codes(values.size(), '\0'), scales;
    for (int64_t m = 0; m < matrices; ++m)
      for (int64_t r = 0; r < rows; r += 128)
        for (int64_t c = 0; c < columns; c += 128) {
          const auto each = [&](auto use) {
            for (int64_t i = r; i < std::min(rows, r + 128); ++i)
              for (int64_t j = c; j < std::min(columns, c + 128); ++j) use(size_t((m * rows + i) * columns + j));
          };
          float most = 0;
          each([&](size_t i) { most = std::max(most, std::fabs(values[i])); });
          const float scale = most / 448;
          each([&](size_t i) { codes[i] = static_cast<char>(to_e4m3(values[i] / scale)); });
          scales += raw(scale);
        }
    std::vector<int64_t> shape = tensor.shape;
    shape[shape.size() - 2] = (rows + 127) / 128, shape.back() = (columns + 127) / 128;
    add(name, "F8_E4M3", tensor.shape, codes);
    add(name + "_scale_inv", "F32", shape, scales);
  }
  config["quantization_config"] = {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}};
  const std::string text = header.dump();
  dir.write("model.safetensors.new", raw<uint64_t>(text.size()) + text + data);
  std::filesystem::rename(dir / "model.safetensors.new", dir / "model.safetensors");
  dir.write("config.json", config.dump());
}

}  // namespace corvid::test
