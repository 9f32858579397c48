#include "model/weight_copies.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <thread>

#include "kernels/matmul/interleaved.h"
#include "model/forward.h"
#include "model/gguf_files.h"
#include "model/model.h"
#include "model/random_model.h"
#include "tests/support/small_shape.h"
#include "tests/support/temp_dir.h"

namespace corvid::model {
namespace {

using kernels::Format;
using kernels::Isa;

// A model of several layers in a file, dense and experts, with sparse attention or without; and passes over it.
class Small {
 public:
  explicit Small(const Family& family, TensorType type = TensorType::q8_0) {
    RandomShape shape = test::small_shape(family);
    shape.type = type;
    shape.vocab = 208;  // whole groups of sixteen rows
    shape.layers = 4;
    file = dir_ / "small.gguf";
    RandomModel(shape).write(file);
    files_ = open_gguf_files(file);
    config = Config::from_gguf(files_[0]);
    config.tied_output = false;
    weights = Weights::bind(config, tensors_of(files_), "small.gguf");
    wanted = logits();
  }

  // Of a prompt's last token; its rows go through panels, and three more one by one.
  std::vector<float> logits(int threads = 1) const {
    kernels::Exec exec(threads);
    Activations activations(config, 40);
    KvCache cache(config);
    std::vector<Token> tokens(40);
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<Token>(i * 37 % 200);
    std::vector<float> found(static_cast<size_t>(config.vocab_size));
    for (const auto& [first, count] : {std::pair<size_t, size_t>{0, 37}, {37, 1}, {38, 2}}) {
      const int64_t last = static_cast<int64_t>(count) - 1;
      cache.prepare(static_cast<int64_t>(first), static_cast<int64_t>(first + count));
      const Segment segment{std::span(tokens).subspan(first, count),
                            static_cast<int64_t>(first),
                            &cache,
                            false,
                            {&last, 1},
                            found.data()};
      forward(config, weights, {&segment, 1}, activations, exec);
    }
    return found;
  }

  // Copies that read by `read`, or from memory; in pieces, of which matrices have several.
  std::shared_ptr<WeightCopies> copies(Isa isa, std::function<void()> before_read = {},
                                       std::function<void(std::span<const std::byte>)> forget = {}) {
    const auto read = [before_read](const std::byte* from, std::span<std::byte> to) {
      if (before_read) before_read();
      std::copy_n(from, to.size(), to.data());
    };
    if (!forget) forget = [](std::span<const std::byte>) {};
    weights.copies = std::make_shared<WeightCopies>(config, weights, WeightSource{read, forget}, isa, 4096);
    return weights.copies;
  }

  std::filesystem::path file;
  Config config;
  Weights weights;
  std::vector<float> wanted;

 private:
  test::TempDir dir_;
  std::vector<Gguf> files_;
};

TEST(WeightCopies, AreInterleavedWhereTheTierLikesIt) {
  for (const TensorType type : {TensorType::q8_0, TensorType::q4_0}) {
    Small model(kMiniMaxM3, type);
    const Format plain = model.weights.layers[1].expert_up.format;
    const auto vnni = model.copies(Isa::vnni);
    EXPECT_EQ(vnni->layer(1)->expert_up.data, model.weights.layers[1].expert_up.data);
    vnni->copy({});
    const std::string_view in_gates[] = {"ffn_up", "ffn_up_exps", "ffn_up_shexp"};
    for (int64_t i = 0; i < model.config.n_layers(); ++i) {
      const auto layer = vnni->layer(i);
      const Weights::Layer& before = model.weights.layers[static_cast<size_t>(i)];
      for (const auto& m : Weights::matrices_of(model.config, i)) {
        const kernels::Matrix now = (*layer).*m.place, was = before.*m.place;
        if (std::ranges::find(in_gates, m.name) != std::end(in_gates)) {
          EXPECT_EQ(now.data, nullptr) << m.name;
          continue;
        }
        const auto wanted = kernels::interleaved_format(was.format, m.shape[m.shape.size() - 2], Isa::vnni);
        EXPECT_EQ(now.format, wanted.value_or(was.format)) << m.name;
        EXPECT_NE(now.data, was.data) << m.name;
      }
      for (const auto& v : Weights::vectors_of(model.config, i)) {
        EXPECT_NE((*layer).*v.place, before.*v.place) << v.name;
        EXPECT_TRUE(std::equal((*layer).*v.place, (*layer).*v.place + v.size, before.*v.place)) << v.name;
      }
    }
    EXPECT_TRUE(is_interleaved(vnni->layer(1)->expert_gate.format));
    EXPECT_TRUE(is_interleaved(vnni->layer(0)->q.format));
    EXPECT_TRUE(is_interleaved(vnni->end()->output.format));
    EXPECT_EQ(model.logits(), model.wanted);
    model.copies(Isa::avx2)->copy({});
    EXPECT_EQ(model.weights.layer(1)->expert_up.format, plain);
    EXPECT_EQ(model.logits(), model.wanted);
  }
}

TEST(WeightCopies, AGateAndAnUpOfDifferentFormatsStayApart) {
  Small model(kMiniMaxM3);
  const int64_t dim = model.config.dim, rows = model.config.n_experts * model.config.expert_ffn;
  const int64_t from_bytes = kernels::row_bytes(Format::q8_0, dim), to_bytes = kernels::row_bytes(Format::q4_0, dim);
  kernels::Matrix& up = model.weights.layers[1].expert_up;
  ASSERT_EQ(up.format, Format::q8_0);
  std::vector<float> row(static_cast<size_t>(dim));
  std::vector<char> rounded(static_cast<size_t>(rows * to_bytes));
  for (int64_t r = 0; r < rows; ++r) {
    kernels::decode_row(up.format, static_cast<const char*>(up.data) + r * from_bytes, dim, row.data());
    kernels::encode_row(Format::q4_0, row.data(), dim, rounded.data() + r * to_bytes);
  }
  up = {rounded.data(), Format::q4_0};
  const std::vector<float> wanted = model.logits();
  EXPECT_NE(wanted, model.wanted);
  const auto copies = model.copies(Isa::vnni);
  copies->copy({});
  EXPECT_EQ(copies->layer(1)->expert_gate.format, Format::q8_0x96);
  EXPECT_EQ(copies->layer(1)->expert_up.format, Format::q4_0x96);
  EXPECT_EQ(model.logits(), wanted);
}

// A pass before everything that is read: so with every number of tensors copied.
TEST(WeightCopies, PassesGiveTheSameBitsAtEveryStep) {
  for (const Family* family : all_families()) {
    Small model(*family);
    int64_t passes = 0;
    model
        .copies(Isa::vnni,
                [&] {
                  ++passes;
                  ASSERT_EQ(model.logits(), model.wanted) << family->architecture << ", pass " << passes;
                })
        ->copy({});
    EXPECT_GT(passes, 40);
    EXPECT_EQ(model.logits(), model.wanted);
  }
}

TEST(WeightCopies, PassesOnOtherThreadsGiveTheSameBitsMeanwhile) {
  Small model(kMiniMaxM3);
  std::atomic<int> passes{0}, wrong{0};
  std::atomic<bool> is_done{false};
  const auto copies = model.copies(Isa::vnni, [&] {
    const int before = passes;
    while (passes < before + 1) std::this_thread::yield();
  });
  std::vector<std::jthread> readers;
  for (int i = 0; i < 2; ++i)
    readers.emplace_back([&] {
      while (!is_done) {
        if (model.logits() != model.wanted) ++wrong;
        ++passes;
      }
    });
  copies->copy({});
  is_done = true;
  readers.clear();
  EXPECT_EQ(wrong, 0);
}

// What is forgotten is no longer what passes use, and in the end all has been that was copied.
TEST(WeightCopies, ForgetWhatTheyReplaced) {
  Small model(kMiniMaxM3);
  std::vector<std::span<const std::byte>> forgotten;
  const auto copies = model.copies(Isa::vnni, {}, [&](std::span<const std::byte> bytes) {
    const auto is_inside = [&](const void* at) { return at == bytes.data(); };
    for (int64_t i = 0; i < model.config.n_layers(); ++i) {
      for (const auto& m : Weights::matrices_of(model.config, i))
        EXPECT_FALSE(is_inside(((*model.weights.layer(i)).*m.place).data)) << m.name;
      for (const auto& v : Weights::vectors_of(model.config, i))
        EXPECT_FALSE(is_inside((*model.weights.layer(i)).*v.place)) << v.name;
    }
    EXPECT_FALSE(is_inside(model.weights.end()->output.data));
    forgotten.push_back(bytes);
  });
  copies->copy({});
  const auto times = [&](const void* at, int64_t bytes) {
    return std::ranges::count_if(forgotten, [&](auto span) { return span.data() == at && std::ssize(span) == bytes; });
  };
  for (int64_t i = 0; i < model.config.n_layers(); ++i)
    for (const auto& m : Weights::matrices_of(model.config, i)) {
      const kernels::Matrix was = model.weights.layers[static_cast<size_t>(i)].*m.place;
      int64_t rows = 1;
      for (size_t d = 0; d + 1 < m.shape.size(); ++d) rows *= m.shape[d];
      EXPECT_EQ(times(was.data, rows * kernels::row_bytes(was.format, m.shape.back())), 2) << m.name;
    }
  EXPECT_EQ(times(model.weights.output.data, 208 * kernels::row_bytes(model.weights.output.format, 64)), 2);
}

// A pass that is in a layer when it is replaced may have brought mapped pages back: they are forgotten when it is out.
TEST(WeightCopies, WaitForPassesInFormerLayers) {
  Small model(kQwen3Moe);
  auto held = model.weights.layer(0);
  const auto copies = model.copies(Isa::vnni);
  held = model.weights.layer(2);
  std::atomic<bool> is_done{false};
  std::jthread copier([&](const std::stop_token& stop) {
    copies->copy(stop);
    is_done = true;
  });
  while (model.weights.end()->output.data == model.weights.output.data) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(is_done);
  held.reset();
  while (!is_done) std::this_thread::yield();
  EXPECT_EQ(model.logits(), model.wanted);
}

TEST(WeightCopies, AStopOrAnErrorLeavesTheRestWhereItIs) {
  Small model(kMiniMaxM3);
  std::stop_source stop;
  int reads = 0;
  model
      .copies(Isa::vnni,
              [&] {
                if (++reads == 20) stop.request_stop();
              })
      ->copy(stop.get_token());
  EXPECT_EQ(reads, 20);
  EXPECT_NE(model.weights.layer(0)->q.data, model.weights.layers[0].q.data);
  EXPECT_EQ(model.weights.layer(3)->q.data, model.weights.layers[3].q.data);
  EXPECT_EQ(model.logits(), model.wanted);
  reads = 0;
  const auto failing = model.copies(Isa::vnni, [&] {
    if (++reads == 20) throw std::runtime_error("no disk");
  });
  EXPECT_THROW(failing->copy({}), std::runtime_error);
  EXPECT_EQ(model.logits(), model.wanted);
}

}  // namespace
}  // namespace corvid::model
