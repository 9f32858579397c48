#include "model/checkpoint.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <map>
#include <set>

#include "kernels/device_matrix/device_matrix.h"
#include "kernels/format.h"
#include "model/error.h"
#include "model/json_file.h"
#include "model/recode.h"

namespace corvid::model {
namespace {

int64_t product(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t dim : shape) count *= dim;  // shapes come from a checked Config, so this stays far below 2^63
  return count;
}

constexpr std::string_view kFp8 = "F8_E4M3";

// Of the matrices that share a scale.
struct Fp8Blocks {
  int64_t rows = 128, columns = 128;
};

// config.json's quantization_config. Throws std::runtime_error for a method that is not known.
Fp8Blocks read_fp8_blocks(const std::filesystem::path& path) {
  const nlohmann::json root = read_json_object(path);
  const std::string file = path.filename().string();
  const nlohmann::json* found = nullptr;
  for (const nlohmann::json* in : {&root, root.contains("text_config") ? &root["text_config"] : nullptr}) {
    if (in && in->is_object() && in->contains("quantization_config")) found = &(*in)["quantization_config"];
  }
  if (!found || found->is_null()) return {};
  if (!found->is_object()) fail(file, ": quantization_config: want an object, found ", printable(found->dump()));
  const nlohmann::json method = found->value("quant_method", nlohmann::json());
  if (method != "fp8") {
    fail(file, ": quantization_config: quant_method: ", printable(method.dump()), " is not supported, want \"fp8\"");
  }
  const nlohmann::json size = found->value("weight_block_size", nlohmann::json::array({128, 128}));
  const auto fits = [](const nlohmann::json& n) { return n.is_number_integer() && n >= 1 && n <= kMaxWidth; };
  if (!size.is_array() || size.size() != 2 || !fits(size[0]) || !fits(size[1])) {
    fail(file, ": quantization_config: weight_block_size: want two numbers from 1 to ", kMaxWidth, ", found ",
         printable(size.dump()));
  }
  return {size[0].get<int64_t>(), size[1].get<int64_t>()};
}

// The scales of a part's row `row`, counted through the matrices: one for each block_columns of its numbers. A row of
// blocks has them in common.
struct ScaleRow {
  const PlannedTensor::Part& part;
  std::vector<float> scales = std::vector<float>(static_cast<size_t>(part.scales->shape.back()));
  int64_t line = -1;  // of part.scales

  float at(int64_t row, int64_t column) {
    const int64_t rows = part.tensor->shape[part.tensor->shape.size() - 2];
    const int64_t lines = part.scales->shape[part.scales->shape.size() - 2];
    if (const int64_t wanted = row / rows * lines + row % rows / part.block_rows; wanted != line) {
      line = wanted;
      const kernels::Format format = *kernel_format(*part.scales->type());
      kernels::decode_row(format, part.scales->data.data() + kernels::row_bytes(format, line * std::ssize(scales)),
                          std::ssize(scales), scales.data());
    }
    return scales[static_cast<size_t>(column / part.block_columns)];
  }
};

// Whether a part of a tensor of matrices [n, k] fits f8_e4m3: its blocks, and that panels of 16 rows, counted from the
// first of each matrix, don't straddle two of them.
bool fits_f8(const PlannedTensor::Part& part, int64_t n, int64_t k) {
  if (!part.scales || k % kernels::kF8Block != 0 || part.block_columns % kernels::kF8Block != 0) return false;
  const bool is_whole = part.tensor->shape[part.tensor->shape.size() - 2] == n;
  return part.block_rows % kernels::kPanelRows == 0 && (is_whole || n % kernels::kPanelRows == 0);
}

// Block `index`, counted through the rows, of a part that fits. False where copy_f8() has to give up.
bool copy_block(ScaleRow& scales, int64_t index, kernels::BlockF8& out) {
  const PlannedTensor::Part& part = scales.part;
  const int64_t first = part.first + index * kernels::kF8Block, columns = part.tensor->shape.back();
  out.scale = scales.at(first / columns, first % columns);
  std::memcpy(out.q, part.tensor->data.data() + first, sizeof out.q);
  bool any_nan = false;
  for (const uint8_t code : out.q) any_nan |= (code & 0x7f) == 0x7f;
  return !any_nan && std::fabs(out.scale) < 0x1p119F;
}

// Numbers [first, first + count) of a part's tensor as float32.
void decode_part(const PlannedTensor::Part& part, int64_t first, int64_t count, float* out) {
  const std::byte* data = part.tensor->data.data();
  if (!part.scales) {
    const kernels::Format format = *kernel_format(*part.tensor->type());
    kernels::decode_row(format, data + kernels::row_bytes(format, first), count, out);
    return;
  }
  const int64_t columns = part.tensor->shape.back();
  ScaleRow scales{part};
  for (int64_t i = first; i < first + count;) {
    const int64_t column = i % columns, in_block = part.block_columns - column % part.block_columns;
    const int64_t end = std::min({first + count, i + in_block, i + columns - column});
    const float scale = scales.at(i / columns, column);
    for (; i < end; ++i) *out++ = kernels::f8_e4m3_to_f32(static_cast<uint8_t>(data[i])) * scale;
  }
}

// Makes the plan: looks up every tensor under its possible names, checks shapes, and keeps account of what was used.
class Planner {
 public:
  Planner(const Config& config, const Fp8Blocks& blocks, const SafeTensors& files, std::string where)
      : c_(config), blocks_(blocks), files_(files), where_(std::move(where)) {
    for (const char* prefix : {"language_model.model.", "model.language_model.", "model.", ""}) {
      if (!files_.find(concat(prefix, "embed_tokens.weight"))) continue;
      prefix_ = prefix;
      return;
    }
    fail(where_, ": tensor model.embed_tokens.weight is missing: want ", shape_text({{c_.vocab_size, c_.dim}}));
  }

  std::vector<PlannedTensor> plan(const Note& note) {
    const std::vector<int64_t> vocab_shape{c_.vocab_size, c_.dim};
    add("token_embd.weight", {prefix_ + "embed_tokens.weight"}, vocab_shape);
    norm("output_norm.weight", {prefix_ + "norm.weight"}, c_.dim);
    if (c_.tied_output && c_.family->tied_output) {
      // the embedding serves for both
    } else if (c_.tied_output) {  // written out, as llama.cpp wants an output matrix of its own
      add("output.weight", {prefix_ + "embed_tokens.weight"}, vocab_shape);
    } else {
      add("output.weight", {"lm_head.weight", "language_model.lm_head.weight", "model.lm_head.weight"}, vocab_shape);
    }
    for (int64_t i = 0; i < c_.n_layers(); ++i) layer(i);
    for (PlannedTensor& tensor : tensors_) {
      for (PlannedTensor::Part& part : tensor.parts) find_scales(part);
    }
    account_for_the_rest(note);
    return std::move(tensors_);
  }

 private:
  using Names = std::vector<std::string>;

  // The tensor with the first of these names that exists, checked and marked as used; null when there is none.
  const SafeTensor* find(const Names& names, const std::vector<int64_t>& shape) {
    for (const std::string& name : names) {
      const SafeTensor* tensor = files_.find(name);
      if (!tensor) continue;
      if (tensor->shape != shape) {
        fail(tensor->file, ": tensor ", name, ": want ", shape_text(shape), ", found ", shape_text(tensor->shape));
      }
      if (!tensor->type() && tensor->dtype != kFp8) {
        fail(tensor->file, ": tensor ", name, ": dtype ", printable(tensor->dtype),
             " is not supported, want F32, F16, BF16 or ", kFp8);
      }
      used_.insert(name);
      names_[tensor] = name;
      return tensor;
    }
    return nullptr;
  }
  const SafeTensor* require(const Names& names, const std::vector<int64_t>& shape) {
    if (const SafeTensor* tensor = find(names, shape)) return tensor;
    std::string all;
    for (const std::string& name : names) all += (all.empty() ? "" : " or ") + name;
    fail(where_, ": tensor ", all, " is missing: want ", shape_text(shape));
  }
  bool has(const std::string& name) const { return files_.find(name) != nullptr; }

  // An 8-bit float tensor "x" comes with "x_scale_inv": one scale for each block of its matrix, or of each of them.
  void find_scales(PlannedTensor::Part& part) {
    if (part.tensor->dtype != kFp8) return;
    std::vector<int64_t> shape = part.tensor->shape;
    const std::string name = names_[part.tensor] + "_scale_inv";
    if (shape.size() < 2) fail(part.tensor->file, ": tensor ", names_[part.tensor], ": want a matrix for ", kFp8);
    part.block_rows = blocks_.rows;
    part.block_columns = blocks_.columns;
    int64_t &rows = shape[shape.size() - 2], &columns = shape.back();
    rows = (rows + blocks_.rows - 1) / blocks_.rows;
    columns = (columns + blocks_.columns - 1) / blocks_.columns;
    part.scales = require({name}, shape);
    if (!part.scales->type()) fail(part.scales->file, ": tensor ", name, ": want F32, F16 or BF16, found ", kFp8);
  }

  PlannedTensor& put(const std::string& name, std::vector<int64_t> shape, std::vector<PlannedTensor::Part> parts) {
    tensors_.push_back({name, std::move(shape), std::move(parts)});
    return tensors_.back();
  }
  PlannedTensor& add(const std::string& name, const Names& from, const std::vector<int64_t>& shape) {
    return put(name, shape, {{require(from, shape), 0, product(shape)}});
  }
  void norm(const std::string& name, const Names& from, int64_t size) {
    PlannedTensor& tensor = add(name, from, {size});
    tensor.add_one = c_.family->one_plus_norms;
  }

  void layer(int64_t i) {
    const std::string in = concat(prefix_, "layers.", i, "."), out = concat("blk.", i, ".");
    const std::string attn = in + "self_attn.";
    const int64_t q_rows = c_.n_heads * c_.head_dim, kv_rows = c_.n_kv_heads * c_.head_dim;
    norm(out + "attn_norm.weight", {in + "input_layernorm.weight"}, c_.dim);
    add(out + "attn_q.weight", {attn + "q_proj.weight"}, {q_rows, c_.dim});
    add(out + "attn_k.weight", {attn + "k_proj.weight"}, {kv_rows, c_.dim});
    add(out + "attn_v.weight", {attn + "v_proj.weight"}, {kv_rows, c_.dim});
    add(out + "attn_output.weight", {attn + "o_proj.weight"}, {c_.dim, q_rows});
    const bool whole = c_.family->whole_qk_norms;
    norm(out + "attn_q_norm.weight", {attn + "q_norm.weight"}, whole ? q_rows : c_.head_dim);
    norm(out + "attn_k_norm.weight", {attn + "k_norm.weight"}, whole ? kv_rows : c_.head_dim);
    if (c_.layers[static_cast<size_t>(i)].sparse_attention) {
      const auto names = [&](const char* part) { return Names{attn + "indexer." + part, attn + "index_" + part}; };
      add(out + "indexer.q_proj.weight", names("q_proj.weight"), {c_.n_index_heads * c_.index_dim, c_.dim});
      add(out + "indexer.k_proj.weight", names("k_proj.weight"), {c_.index_dim, c_.dim});
      norm(out + "indexer.q_norm.weight", names("q_norm.weight"), c_.index_dim);
      norm(out + "indexer.k_norm.weight", names("k_norm.weight"), c_.index_dim);
    }
    norm(out + "ffn_norm.weight", {in + "post_attention_layernorm.weight"}, c_.dim);
    const bool flat = !any_begins(in + "block_sparse_moe.");
    const std::string ffn = in + (flat ? "mlp." : "block_sparse_moe.");
    if (!c_.layers[static_cast<size_t>(i)].moe) {
      gated(out, "", ffn, c_.dense_ffn);
      return;
    }
    add(out + "ffn_gate_inp.weight", {ffn + "gate.weight"}, {c_.n_experts, c_.dim});
    if (c_.family->routing_bias) {
      std::vector<PlannedTensor::Part> bias;  // none: zeros
      if (c_.routing_bias) {
        const Names names{ffn + "gate.e_score_correction_bias", ffn + "e_score_correction_bias"};
        bias.push_back({require(names, {c_.n_experts}), 0, c_.n_experts});
      }
      put(out + "exp_probs_b.bias", {c_.n_experts}, std::move(bias));
    }
    experts(out, ffn + "experts.");
    if (c_.shared_ffn > 0) gated(out, "_shexp", ffn + "shared_experts.", c_.shared_ffn);
  }

  bool any_begins(const std::string& prefix) const {
    const auto at = files_.tensors().lower_bound(prefix);
    return at != files_.tensors().end() && at->first.starts_with(prefix);
  }

  // A dense feed-forward: gate and up fused below each other, or apart.
  void gated(const std::string& out, const std::string& suffix, const std::string& in, int64_t ffn) {
    const std::string gate = out + "ffn_gate" + suffix + ".weight", up = out + "ffn_up" + suffix + ".weight";
    if (has(in + "gate_up_proj.weight")) {
      const SafeTensor* both = require({in + "gate_up_proj.weight"}, {2 * ffn, c_.dim});
      put(gate, {ffn, c_.dim}, {{both, 0, ffn * c_.dim}});
      put(up, {ffn, c_.dim}, {{both, ffn * c_.dim, ffn * c_.dim}});
    } else {
      add(gate, {in + "gate_proj.weight", in + "w1.weight"}, {ffn, c_.dim});
      add(up, {in + "up_proj.weight", in + "w3.weight"}, {ffn, c_.dim});
    }
    add(out + "ffn_down" + suffix + ".weight", {in + "down_proj.weight", in + "w2.weight"}, {c_.dim, ffn});
  }

  // The routed experts: stacked with gate and up fused, or one tensor each.
  void experts(const std::string& out, const std::string& in) {
    const int64_t n = c_.n_experts, ffn = c_.expert_ffn, size = ffn * c_.dim;
    const std::vector<int64_t> wide{n, ffn, c_.dim}, tall{n, c_.dim, ffn};
    std::vector<PlannedTensor::Part> gate, up, down;
    for (const char* end : {"", ".weight"}) {
      if (!has(in + "gate_up_proj" + end)) continue;
      const SafeTensor* both = require({in + "gate_up_proj" + end}, {n, 2 * ffn, c_.dim});
      for (int64_t e = 0; e < n; ++e) {
        gate.push_back({both, 2 * e * size, size});
        up.push_back({both, (2 * e + 1) * size, size});
      }
      down.push_back({require({in + "down_proj" + end}, tall), 0, n * size});
    }
    for (int64_t e = 0; gate.empty() || static_cast<int64_t>(gate.size()) < n; ++e) {
      const std::string one = concat(in, e, ".");
      gate.push_back({require({one + "w1.weight", one + "gate_proj.weight"}, {ffn, c_.dim}), 0, size});
      up.push_back({require({one + "w3.weight", one + "up_proj.weight"}, {ffn, c_.dim}), 0, size});
      down.push_back({require({one + "w2.weight", one + "down_proj.weight"}, {c_.dim, ffn}), 0, size});
    }
    put(out + "ffn_gate_exps.weight", wide, std::move(gate));
    put(out + "ffn_up_exps.weight", wide, std::move(up));
    put(out + "ffn_down_exps.weight", tall, std::move(down));
  }

  // What the plan has no use for: other parts of the model are noted, by the first word of their names. A tensor among
  // the language model's own layers would change the result if it were left out.
  void account_for_the_rest(const Note& note) const {
    std::map<std::string, int64_t> skipped;
    for (const auto& [name, tensor] : files_.tensors()) {
      if (used_.contains(name)) continue;
      const bool harmless = name.ends_with("rotary_emb.inv_freq") || name.find("mtp.") != std::string::npos ||
                            (c_.tied_output && name.ends_with("lm_head.weight")) ||
                            (!c_.routing_bias && name.ends_with("e_score_correction_bias"));
      if (!harmless && name.starts_with(prefix_ + "layers.")) {
        const std::string rest = name.substr(prefix_.size() + 7);
        const int64_t index = std::isdigit(static_cast<unsigned char>(rest[0])) ? std::stoll(rest.substr(0, 9)) : 0;
        // Layers after the last are prediction modules.
        if (index < c_.n_layers()) fail(tensor.file, ": tensor ", printable(name), ": not known to this architecture");
      }
      ++skipped[name.find("mtp.") != std::string::npos ? "mtp" : name.substr(0, name.find('.'))];
    }
    for (const auto& [part, count] : skipped) {
      if (note)
        note(concat("skipped ", count, count == 1 ? " tensor" : " tensors", " of ", printable(part),
                    ": not part of the language model"));
    }
  }

  const Config& c_;
  const Fp8Blocks& blocks_;
  const SafeTensors& files_;
  std::string where_, prefix_;
  std::set<std::string, std::less<>> used_;
  std::map<const SafeTensor*, std::string> names_;
  std::vector<PlannedTensor> tensors_;
};

}  // namespace

TensorType PlannedTensor::source_type() const {
  if (parts.empty()) return TensorType::f32;
  const auto fits = [&](const Part& p) {
    return shape.size() > 1 && fits_f8(p, shape[shape.size() - 2], shape.back());
  };
  if (std::all_of(parts.begin(), parts.end(), fits)) return TensorType::f8_e4m3;
  const auto type_of = [](const Part& part) { return part.tensor->type().value_or(TensorType::bf16); };
  const TensorType first = type_of(parts[0]);
  return std::all_of(parts.begin(), parts.end(), [&](const Part& p) { return type_of(p) == first; }) ? first
                                                                                                     : TensorType::f32;
}

bool PlannedTensor::copy_f8(kernels::Pool& pool, std::byte* out) const {
  constexpr int64_t kBlocksPerTask = 1024;
  struct Task {
    const Part* part;
    int64_t first, count;  // blocks
    kernels::BlockF8* to;
  };
  std::vector<Task> tasks;
  auto* to = reinterpret_cast<kernels::BlockF8*>(out);
  for (const Part& part : parts) {
    const int64_t blocks = part.count / kernels::kF8Block;
    for (int64_t first = 0; first < blocks; first += kBlocksPerTask) {
      tasks.push_back({&part, first, std::min(kBlocksPerTask, blocks - first), to + first});
    }
    to += blocks;
  }
  std::atomic<bool> fits = true;
  pool.run(std::ssize(tasks), [&](int64_t i, int) {
    const Task& task = tasks[static_cast<size_t>(i)];
    ScaleRow scales{*task.part};
    for (int64_t b = 0; fits && b < task.count; ++b) {
      if (!copy_block(scales, task.first + b, task.to[b])) fits = false;
    }
  });
  return fits;
}

void PlannedTensor::read(TensorType type, kernels::Pool& pool, const GgufWriter::Sink& sink) const {
  if (parts.empty()) {
    encode_rows(
        type, shape.back(), product(shape),
        [](int64_t, int64_t count, float* values) { std::fill_n(values, count, 0.0F); }, pool, sink);
  }
  for (const Part& part : parts) {
    if (part.tensor->type() == type && !add_one) {
      const int64_t each = tensor_layout(type).bytes;
      sink(part.tensor->data.subspan(static_cast<size_t>(part.first * each), static_cast<size_t>(part.count * each)));
      continue;
    }
    encode_rows(
        type, shape.back(), part.count,
        [&](int64_t first, int64_t count, float* values) {
          decode_part(part, part.first + first, count, values);
          if (add_one) std::for_each_n(values, count, [](float& value) { value += 1; });
        },
        pool, sink);
  }
}

Checkpoint Checkpoint::open(const std::filesystem::path& folder, const Note& note) {
  Checkpoint checkpoint;
  checkpoint.config_ = Config::from_json_file(folder / "config.json");
  checkpoint.config_.name = last_name(folder);
  checkpoint.files_ = SafeTensors::open(folder);
  const Fp8Blocks blocks = read_fp8_blocks(folder / "config.json");
  checkpoint.tensors_ = Planner(checkpoint.config_, blocks, checkpoint.files_, checkpoint.config_.name).plan(note);
  // Where the plan writes the output matrix out, it is one of its own from here on.
  if (!checkpoint.config_.family->tied_output) checkpoint.config_.tied_output = false;
  return checkpoint;
}

TensorType Checkpoint::widest_type() const {
  std::optional<TensorType> widest;
  for (const PlannedTensor& tensor : tensors_) {
    if (is_kept_f32(tensor.name, tensor.shape)) continue;
    for (const PlannedTensor::Part& part : tensor.parts) {
      const TensorType type = part.tensor->type().value_or(TensorType::bf16);
      if (type != widest.value_or(type)) return TensorType::f32;
      widest = type;
    }
  }
  return widest.value_or(TensorType::bf16);
}

TensorTable Checkpoint::load(std::vector<kernels::Buffer>& memory) const {
  kernels::Exec exec;
  TensorTable table;
  for (const PlannedTensor& tensor : tensors_) {
    TensorType type = is_kept_f32(tensor.name, tensor.shape) ? TensorType::f32 : tensor.source_type();
    if (type == TensorType::f8_e4m3) {
      kernels::Buffer buffer(tensor_bytes(type, tensor.shape).value());
      if (tensor.copy_f8(exec.pool(), buffer.as<std::byte>())) {
        const std::span<const std::byte> data(buffer.as<std::byte>(), static_cast<size_t>(buffer.bytes()));
        table.emplace(tensor.name, TensorView{type, tensor.shape, data});
        memory.push_back(std::move(buffer));
        continue;
      }
      type = TensorType::bf16;
    }
    const auto bytes = static_cast<size_t>(tensor_bytes(type, tensor.shape).value());
    TensorView view{type, tensor.shape, {}};
    if (tensor.parts.size() == 1 && tensor.parts[0].tensor->type() == type && !tensor.add_one) {
      const PlannedTensor::Part& part = tensor.parts[0];
      view.data = part.tensor->data.subspan(static_cast<size_t>(part.first * tensor_layout(type).bytes), bytes);
    } else {
      kernels::Buffer& buffer = memory.emplace_back(static_cast<int64_t>(bytes));
      std::byte* at = buffer.as<std::byte>();
      tensor.read(type, exec.pool(), [&](std::span<const std::byte> piece) {
        std::memcpy(at, piece.data(), piece.size());
        at += piece.size();
      });
      view.data = {buffer.as<std::byte>(), bytes};
    }
    table.emplace(tensor.name, std::move(view));
  }
  return table;
}

}  // namespace corvid::model
