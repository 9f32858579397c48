// How several GPUs share a model, as far as that needs none.
#include "model/gpu_share.h"

#include <gtest/gtest.h>

#include <cstring>

#include "model/gpu_group.h"
#include "model/model.h"
#include "model/random_model.h"
#include "tests/support/sequences.h"
#include "tests/support/weights.h"

namespace corvid::model {
namespace {

using kernels::DeviceFormat;
using kernels::Format;
using kernels::MatrixPart;
using test::TestWeights;

std::shared_ptr<const Model> made_up(TensorType type, int64_t ffn, int64_t experts = 8) {
  RandomShape shape{.family = &kMiniMaxM3, .type = type, .vocab = 1000, .context = 1024, .dim = 256, .layers = 3};
  shape.heads = 8, shape.kv_heads = 4, shape.head_dim = 64, shape.experts = experts, shape.top_k = 2, shape.ffn = ffn;
  shape.dense_ffn = 1024, shape.index_dim = 64, shape.shared = 1024 / ffn;
  return Model::make_up(shape);
}

// float32 [n_experts][n, padded k] of a repacked matrix.
std::vector<float> decoded(DeviceFormat format, const std::vector<char>& bytes, int64_t n, int64_t k, int64_t experts) {
  const int64_t columns = padded_k(format, k), panels = kernels::panels_of(n);
  std::vector<float> rows(size_t(experts * panels * kernels::kPanelRows * columns));
  for (int64_t p = 0; p < experts * panels; ++p)
    decode_panel(format, bytes.data() + p * panel_bytes(format, k), k, rows.data() + p * kernels::kPanelRows * columns);
  std::vector<float> values;
  for (int64_t e = 0; e < experts; ++e)
    for (int64_t r = 0; r < n; ++r) {
      const float* row = rows.data() + (e * panels * kernels::kPanelRows + r) * columns;
      values.insert(values.end(), row, row + k);
    }
  return values;
}

std::vector<char> packed(const TestWeights& w, const MatrixPart& part) {
  const DeviceFormat to = kernels::device_format(w.format, part);
  std::vector<char> bytes(size_t(kernels::device_bytes(to, part.rows, part.columns, part.n_experts)), char{0x55});
  const int64_t panels = part.n_experts * kernels::panels_of(part.rows);
  for (int64_t p = 0; p < panels; p += 3)
    repack(w.view(), part, p, std::min<int64_t>(3, panels - p),
           bytes.data() + p * kernels::panel_bytes(to, part.columns));
  return bytes;
}

TEST(GpuShareTest, PartsOfAMatrixHaveTheWeightsOfTheWhole) {
  constexpr int64_t kExperts = 4, kRows = 40, kColumns = 1024;
  for (const Format format : test::kAllFormats) {
    const TestWeights w(format, kExperts * kRows, kColumns, 7, kExperts * kRows);
    const DeviceFormat to = kernels::device_format(format);
    const auto whole =
        decoded(to, packed(w, {kRows, kColumns, 0, kExperts, 0, kRows, 0, kColumns}), kRows, kColumns, kExperts);
    for (const Cut cut : {Cut::whole, Cut::rows, Cut::columns, Cut::experts, Cut::logits}) {
      for (int64_t i = 0; i < 2; ++i) {
        const MatrixPart part = part_of(GpuShare{i, 2}, cut, kRows, kColumns, kExperts);
        std::vector<float> wanted;
        for (int64_t e = 0; e < part.n_experts; ++e)
          for (int64_t r = 0; r < part.rows; ++r) {
            const auto row = whole.begin() + ((part.first_expert + e) * kRows + part.first_row + r) * kColumns;
            wanted.insert(wanted.end(), row + part.first_column, row + part.first_column + part.columns);
          }
        const DeviceFormat as = kernels::device_format(format, part);  // f8_e4m3 from row 20 on: bf16
        if (as != to)
          for (float& value : wanted) value = kernels::bf16_to_f32(kernels::f32_to_bf16(value));
        EXPECT_EQ(decoded(as, packed(w, part), part.rows, part.columns, part.n_experts), wanted)
            << kernels::format_name(format) << " cut " << int(cut) << " of GPU " << i;
      }
    }
  }
}

TEST(GpuShareTest, PartsThatCutBlocksOfFp8AreBf16) {
  const TestWeights w(Format::f8_e4m3, 3 * 32, 384, 8, 16);
  std::vector<float> all = w.decoded(), wanted;
  const MatrixPart part{32, 384, 1, 2, 0, 32, 192, 192};
  EXPECT_EQ(kernels::device_format(w.format, part), DeviceFormat::bf16);
  for (int64_t row = 32; row < 96; ++row)
    for (int64_t column = 192; column < 384; ++column)
      wanted.push_back(kernels::bf16_to_f32(kernels::f32_to_bf16(all[size_t(row * 384 + column)])));
  EXPECT_EQ(decoded(DeviceFormat::bf16, packed(w, part), 32, 192, 2), wanted);
}

TEST(GpuShareTest, SharesAreTheWholeTogether) {
  const auto model = made_up(TensorType::bf16, 512);
  const Config& c = model->config();
  for (const int64_t gpus : {1, 2, 4}) {
    int64_t heads = 0, kv_heads = 0, index_heads = 0, ffn = 0, dense = 0, shared = 0, logits = 0;
    for (const GpuShare& share : shares_of(c, model->weights(), gpus)) {
      const Config part = share.config(c);
      EXPECT_EQ(share.first_logit(c.vocab_size), logits);
      heads += part.n_heads, kv_heads += part.n_kv_heads, index_heads += part.n_index_heads, ffn += part.expert_ffn;
      dense += part.dense_ffn, shared += part.shared_ffn, logits += part.vocab_size;
      EXPECT_EQ(part.dim, c.dim);
      EXPECT_EQ(part.n_experts, c.n_experts);
      EXPECT_EQ(part.n_heads / part.n_kv_heads, c.n_heads / c.n_kv_heads);
    }
    EXPECT_EQ(heads, c.n_heads);
    EXPECT_EQ(kv_heads, c.n_kv_heads);
    EXPECT_EQ(index_heads, c.n_index_heads);
    EXPECT_EQ(ffn, c.expert_ffn);
    EXPECT_EQ(dense, c.dense_ffn);
    EXPECT_EQ(shared, c.shared_ffn);
    EXPECT_EQ(logits, c.vocab_size);
  }
}

TEST(GpuShareTest, ExpertsStayWholeWhereBlocksCannotBeCut) {
  const auto whole = [](TensorType type, int64_t ffn) {
    const auto model = made_up(type, ffn);
    return shares_of(model->config(), model->weights(), 2).back().whole_experts;
  };
  EXPECT_FALSE(whole(TensorType::q4_k, 512));
  EXPECT_TRUE(whole(TensorType::q4_k, 256));  // a block is 256
  EXPECT_FALSE(whole(TensorType::q8_0, 256));
  EXPECT_FALSE(whole(TensorType::bf16, 256));
}

TEST(GpuShareTest, WhatDoesNotDivideIsSaid) {
  const auto obstacle = [](const std::shared_ptr<const Model>& model, int64_t gpus) {
    return share_obstacle(model->config(), model->weights(), gpus).value_or("");
  };
  const auto odd = made_up(TensorType::q4_k, 256, 7);
  EXPECT_EQ(obstacle(odd, 1), "");
  EXPECT_EQ(obstacle(odd, 2), "want experts, or widths of experts, that 2 GPUs can share evenly, found 7 of 256");
  const auto model = made_up(TensorType::q4_k, 512);
  EXPECT_EQ(obstacle(model, 2), "");
  EXPECT_EQ(obstacle(model, 3), "want key-value heads that 3 GPUs can share evenly, found 4");
  EXPECT_EQ(obstacle(model, 4),
            "want a width of the attention heads that 4 GPUs can share in multiples of 256, found 512");
  EXPECT_THROW(shares_of(model->config(), model->weights(), 3), std::runtime_error);
}

// Every byte of a page is one GPU's, but the index keys', which all have; and a GPU's pieces lie as its sizes ask.
TEST(GpuShareTest, PagesAreCutByHeads) {
  const auto model = made_up(TensorType::bf16, 512);
  const Config& c = model->config();
  for (const int64_t gpus : {1, 2, 4}) {
    const auto shares = shares_of(c, model->weights(), gpus);
    const std::vector<int> places(size_t(gpus), 0);
    std::vector<int> owners(size_t(GpuGroup::page_bytes(c)), 0);
    for (const KvPool::Share& pages : GpuGroup::page_shares(c, shares, places)) {
      for (const auto& piece : pages.pieces)
        for (int64_t i = 0; i < piece.bytes; ++i) ++owners.at(size_t(piece.at + i));
      EXPECT_EQ(pages.page_bytes(), GpuGroup::page_bytes(shares.front().config(c)));
    }
    const int64_t kv = 2 * c.n_kv_heads * c.block * c.head_dim * 2, index = c.block * c.index_dim * 2;
    auto at = owners.begin();
    for (const Config::Layer& layer : c.layers) {
      EXPECT_EQ(std::count(at, at + kv, 1), kv);
      at += kv;
      if (!layer.sparse_attention) continue;
      EXPECT_EQ(std::count(at, at + index, int(gpus)), index);
      at += index;
    }
    EXPECT_EQ(at, owners.end());
  }
}

TEST(GpuShareTest, HalfOfAModelIsHalfOfItsBytes) {
  const auto model = made_up(TensorType::q8_0, 1024);
  const Config& c = model->config();
  const int64_t embedding = kernels::device_bytes(DeviceFormat::q8_0, c.vocab_size, c.dim);
  const int64_t whole = GpuWeights::bytes(c, model->weights()) - embedding;
  const auto shares = shares_of(c, model->weights(), 2);
  for (const GpuShare& share : shares) {
    const double part = static_cast<double>(GpuWeights::bytes(c, model->weights(), share) - embedding);
    EXPECT_NEAR(part / static_cast<double>(whole), 0.5, 0.02);
  }
}

}  // namespace
}  // namespace corvid::model
