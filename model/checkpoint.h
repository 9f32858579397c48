// A Hugging Face checkpoint seen as the tensors of a GGUF file: the one mapping between the two, used to convert a
// folder and to load it directly.
//
// Both layouts of MiniMax-M3 are known, and may be mixed:
//
//   released checkpoint                                       flat ("text only") checkpoint
//   language_model.model.layers.N.                            model.layers.N.
//     block_sparse_moe.{gate,up,down}_proj                      mlp.{gate_up,down}_proj  (gate rows, then up)
//     block_sparse_moe.gate, .e_score_correction_bias           mlp.gate.{weight, e_score_correction_bias}
//     block_sparse_moe.experts.E.{w1,w3,w2}                     mlp.experts.{gate_up,down}_proj  [E, 2 ffn | dim, ...]
//     block_sparse_moe.shared_experts.{gate,up,down}_proj       mlp.shared_experts.{gate_up,down}_proj
//     self_attn.index_{q,k}_{proj,norm}                         self_attn.indexer.{q,k}_{proj,norm}
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "kernels/exec.h"
#include "model/config.h"
#include "model/gguf.h"
#include "model/safetensors.h"
#include "model/weights.h"

namespace corvid::model {

// One tensor of the GGUF file, put together from pieces of the checkpoint.
struct PlannedTensor {
  struct Part {
    const SafeTensor* tensor;
    int64_t first, count;  // numbers of the tensor, in its order; whole rows
    // Of an 8-bit float tensor: what its numbers are multiplied by, one scale for each block of rows and columns.
    const SafeTensor* scales = nullptr;
    int64_t block_rows = 0, block_columns = 0;
  };
  std::string name;
  std::vector<int64_t> shape;  // outermost first
  std::vector<Part> parts;     // one after the other; none: all zeros
  bool add_one = false;        // norms of a family that stores w and means 1 + w

  // The type of its pieces in the checkpoint; f32 when they differ. 8-bit floats with their scales are f8_e4m3 where
  // their blocks are such as it has: whole blocks of 128 columns, and of 16 rows or a multiple; others are bf16.
  TensorType source_type() const;
  // Writes an f8_e4m3 tensor as that to `out`. Returns false where a weight is NaN or a scale is too large for it
  // (kernels/format.h): then it has to be bf16 too.
  bool copy_f8(kernels::Pool& pool, std::byte* out) const;
  // Gives all bytes of the tensor as `type`, which is not f8_e4m3, in order, a few MiB at a time.
  void read(TensorType type, kernels::Pool& pool, const GgufWriter::Sink& sink) const;
};

class Checkpoint {
 public:
  // Opens a folder with config.json and its safetensors files. Tensors without a place in the language model (the
  // vision tower, prediction modules) are skipped with a note; one inside it that is not understood is an error.
  // Throws std::runtime_error naming file, tensor, wanted and found, std::system_error when a file can't be read.
  static Checkpoint open(const std::filesystem::path& folder, const Note& note);

  const Config& config() const { return config_; }
  const std::vector<PlannedTensor>& tensors() const { return tensors_; }

  // The type that keeps what the matrices hold: theirs, or f32 when they differ, as neither f16 nor bf16 holds the
  // other. bf16 for 8-bit floats.
  TensorType widest_type() const;

  // All tensors in memory, in their own types (source_type(), copy_f8()). What can be used in place stays in the mapped
  // files, the rest is put into `memory`; both, and this object, must outlive the table.
  TensorTable load(std::vector<kernels::Buffer>& memory) const;

 private:
  Config config_;
  SafeTensors files_;
  std::vector<PlannedTensor> tensors_;
};

}  // namespace corvid::model
