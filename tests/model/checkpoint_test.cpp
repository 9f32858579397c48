// Checkpoints in block fp8: what they are in memory, and that they say what their numbers say.
#include "model/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "model/convert.h"
#include "model/gpu_weights.h"
#include "model/model.h"
#include "model/recode.h"
#include "tests/support/fp8_checkpoint.h"
#include "tests/support/sequences.h"
#include "tests/support/throws.h"

namespace corvid::model {
namespace {

using kernels::DeviceFormat;
using kernels::Format;
using test::message_of;
using test::TempDir;
using test::TinyCheckpoint;

// fp8_shape() in `dir`, in either layout.
void write_fp8(const TempDir& dir, bool flat = true) {
  TinyCheckpoint shape = test::fp8_shape();
  shape.flat = flat;
  shape.write(dir);
  test::write_fp8(dir.path(), dir);
}

// Changes bytes of tensor `name` of the checkpoint in `dir`, from `at` on.
void overwrite(const TempDir& dir, const std::string& name, size_t at, const std::string& with) {
  std::string bytes = dir.read("model.safetensors");
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  const nlohmann::json header = nlohmann::json::parse(bytes.substr(8, length));
  bytes.replace(8 + length + header[name]["data_offsets"][0].get<size_t>() + at, with.size(), with);
  dir.write("model.safetensors", bytes);
}

std::vector<float> decoded(const TensorView& tensor) {
  const Format format = *kernel_format(tensor.type);
  int64_t count = 1;
  for (const int64_t dim : tensor.shape) count *= dim;
  std::vector<float> values(static_cast<size_t>(count));
  kernels::decode_row(format, tensor.data.data(), count, values.data());
  return values;
}

// The tensor as the checkpoint has it.
std::vector<float> exact(const PlannedTensor& tensor) {
  kernels::Exec exec(2);
  std::vector<float> values;
  tensor.read(TensorType::f32, exec.pool(), [&](std::span<const std::byte> bytes) {
    const size_t have = values.size();
    values.resize(have + bytes.size() / sizeof(float));
    std::memcpy(values.data() + have, bytes.data(), bytes.size());
  });
  return values;
}

TEST(CheckpointFp8, WeightsKeepTheirByteInMemory) {
  for (const bool flat : {true, false}) {
    const TempDir dir;
    write_fp8(dir, flat);
    const Checkpoint checkpoint = Checkpoint::open(dir.path(), {});
    EXPECT_EQ(checkpoint.widest_type(), TensorType::bf16);
    std::vector<kernels::Buffer> memory;
    const TensorTable table = checkpoint.load(memory);
    std::set<std::string> kept;
    double weights = 0, bytes = 0, held = 0;
    for (const PlannedTensor& tensor : checkpoint.tensors()) {
      const TensorView& view = table.at(tensor.name);
      if (view.type != TensorType::f8_e4m3) continue;
      EXPECT_EQ(tensor.source_type(), TensorType::f8_e4m3);
      kept.insert(tensor.name.substr(tensor.name.find('.', 4) + 1));
      EXPECT_EQ(decoded(view), exact(tensor)) << tensor.name;
      weights += static_cast<double>(exact(tensor).size());
      bytes += static_cast<double>(view.data.size());
    }
    EXPECT_THAT(kept, testing::ElementsAre("attn_k.weight", "attn_output.weight", "attn_q.weight", "attn_v.weight",
                                           "ffn_down.weight", "ffn_down_exps.weight", "ffn_down_shexp.weight",
                                           "ffn_gate.weight", "ffn_gate_exps.weight", "ffn_gate_shexp.weight",
                                           "ffn_up.weight", "ffn_up_exps.weight", "ffn_up_shexp.weight"));
    EXPECT_EQ(bytes / weights, 1 + 4 / 128.0);
    // What else is held is not theirs: norms, router and index branch.
    for (const kernels::Buffer& buffer : memory) held += static_cast<double>(buffer.bytes());
    EXPECT_LT(held, 1.25 * weights);
  }
}

TEST(CheckpointFp8, ComputesWithTheBitsOfItsNumbers) {
  const TempDir dir;
  write_fp8(dir);
  convert(dir.path(), dir / "f32.gguf", TensorType::f32);
  const auto prompt = test::prompt_of(200, 3, 250);
  const auto folder = Model::load(dir.path()), file = Model::load(dir / "f32.gguf");
  EXPECT_EQ(folder->weights().layers[1].expert_down.format, Format::f8_e4m3);
  const auto found = test::fresh_rows(folder, prompt);
  EXPECT_EQ(found, test::fresh_rows(file, prompt));
  // One by one, so that products are of single rows.
  kernels::Exec exec(2);
  Sequence one_by_one(folder, exec, 200);
  for (const Token token : prompt) one_by_one.append(token);
  EXPECT_EQ(test::copy(one_by_one.logits()), found.back());
}

TEST(CheckpointFp8, BecomesTheSameFilesByEveryWay) {
  const TempDir dir;
  write_fp8(dir);
  convert(dir.path(), dir / "f32.gguf", TensorType::f32);
  for (const char* mix : {"q8_0", "q4_k_m", "bf16"}) {
    convert(dir.path(), dir / "straight.gguf", Mix::parse(mix));
    quantize(dir / "f32.gguf", dir / "twice.gguf", Mix::parse(mix));
    const Gguf straight = Gguf::open(dir / "straight.gguf"), twice = Gguf::open(dir / "twice.gguf");
    ASSERT_EQ(straight.tensors().size(), twice.tensors().size());
    for (const GgufTensor& tensor : straight.tensors()) {
      const GgufTensor& other = *twice.find(tensor.name);
      EXPECT_EQ(tensor.type, other.type) << tensor.name;
      EXPECT_TRUE(std::equal(tensor.data.begin(), tensor.data.end(), other.data.begin(), other.data.end()))
          << mix << ' ' << tensor.name;
    }
  }
}

TEST(CheckpointFp8, GgufFilesDoNotGetTheType) {
  GgufWriter out;
  EXPECT_EQ(message_of([&] {
              out.add("x", TensorType::f8_e4m3, {16, 128}, [](const GgufWriter::Sink&) {});
            }),
            "tensor x: type f8_e4m3 is not of GGUF files");
  EXPECT_EQ(tensor_layout(static_cast<uint32_t>(TensorType::f8_e4m3)), std::nullopt);
}

// NaN, and scales that the kernels would not compute with.
TEST(CheckpointFp8, WhatDoesNotFitIsBf16) {
  const std::string name = "model.layers.1.self_attn.q_proj.weight";
  const float large = 0x1p119F;
  const struct {
    std::string tensor;
    size_t at;
    std::string bytes;
  } changes[] = {{name, 300, "\x7f"}, {name, 65535, "\xff"}, {name + "_scale_inv", 4, test::raw(large)}};
  for (const auto& change : changes) {
    const TempDir dir;
    write_fp8(dir);
    overwrite(dir, change.tensor, change.at, change.bytes);
    const Checkpoint checkpoint = Checkpoint::open(dir.path(), {});
    std::vector<kernels::Buffer> memory;
    const TensorTable table = checkpoint.load(memory);
    EXPECT_EQ(table.at("blk.1.attn_q.weight").type, TensorType::bf16);
    EXPECT_EQ(table.at("blk.1.attn_k.weight").type, TensorType::f8_e4m3);
    for (const PlannedTensor& tensor : checkpoint.tensors()) {
      if (tensor.name != "blk.1.attn_q.weight") continue;
      std::vector<float> wanted = exact(tensor), found = decoded(table.at(tensor.name));
      for (float& value : wanted) value = kernels::bf16_to_f32(kernels::f32_to_bf16(value));
      EXPECT_EQ(std::memcmp(found.data(), wanted.data(), wanted.size() * sizeof(float)), 0);
    }
  }
}

// Rows that are no whole blocks, and panels of 16 rows that would have two scales.
TEST(CheckpointFp8, MatricesThatDoNotFitAreBf16) {
  const auto type = [](TinyCheckpoint shape, const std::string& name) {
    const TempDir dir;
    shape.write(dir);
    test::write_fp8(dir.path(), dir);
    const Checkpoint checkpoint = Checkpoint::open(dir.path(), {});
    std::vector<kernels::Buffer> memory;
    return checkpoint.load(memory).at(name).type;
  };
  TinyCheckpoint shape = test::fp8_shape();
  shape.expert_ffn = 72;  // gate and up lie fused below each other, the second from row 72 on
  EXPECT_EQ(type(shape, "blk.1.ffn_gate_exps.weight"), TensorType::bf16);
  EXPECT_EQ(type(shape, "blk.1.ffn_up_exps.weight"), TensorType::bf16);
  EXPECT_EQ(type(shape, "blk.1.ffn_down_exps.weight"), TensorType::bf16);
  EXPECT_EQ(type(shape, "blk.1.ffn_up_shexp.weight"), TensorType::f8_e4m3);
  shape.flat = false;
  EXPECT_EQ(type(shape, "blk.1.ffn_up_exps.weight"), TensorType::f8_e4m3);
  shape.flat = true;
  shape.expert_ffn = 80;
  EXPECT_EQ(type(shape, "blk.1.ffn_gate_exps.weight"), TensorType::f8_e4m3);
  EXPECT_EQ(type(shape, "blk.1.ffn_up_exps.weight"), TensorType::f8_e4m3);
}

TEST(CheckpointFp8, AGpuKeepsTheByteToo) {
  const TempDir dir;
  write_fp8(dir);
  const auto model = Model::load(dir.path());
  const Config& c = model->config();
  const auto formats = [&](const GpuShare& share) {
    const GpuWeights shapes = GpuWeights::shapes(c, model->weights(), share);
    const GpuWeights::Layer& l = shapes.layers[1];
    return std::vector{l.q.format, l.attn_output.format, l.expert_gate.format, l.expert_down.format};
  };
  constexpr DeviceFormat kF8 = DeviceFormat::f8_e4m3, kBf16 = DeviceFormat::bf16;
  EXPECT_EQ(formats({}), (std::vector{kF8, kF8, kF8, kF8}));
  // Halves of a width of 256 are whole blocks.
  const auto halves = shares_of(c, model->weights(), 2);
  EXPECT_FALSE(halves[1].whole_experts);
  EXPECT_EQ(formats(halves[1]), (std::vector{kF8, kF8, kF8, kF8}));

  // Of 384 they are not: whole experts, and bf16 where there is an odd number of those.
  for (const int64_t experts : {6, 7}) {
    const TempDir other;
    TinyCheckpoint shape = test::fp8_shape();
    shape.expert_ffn = 384, shape.experts = experts;
    shape.head_dim = 32;  // half of the heads' outputs: 64 columns
    shape.write(other);
    test::write_fp8(other.path(), other);
    const auto odd = Model::load(other.path());
    const GpuShare share = shares_of(odd->config(), odd->weights(), 2)[1];
    const GpuWeights::Layer l = GpuWeights::shapes(odd->config(), odd->weights(), share).layers[1];
    EXPECT_EQ(share.whole_experts, experts == 6);
    EXPECT_EQ(l.expert_down.format, experts == 6 ? kF8 : kBf16);
    EXPECT_EQ(l.expert_down.k, experts == 6 ? 384 : 192);
    EXPECT_EQ(l.expert_gate.format, kF8);
    EXPECT_EQ(l.attn_output.format, kBf16);
  }
}

}  // namespace
}  // namespace corvid::model
