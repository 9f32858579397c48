#include "model/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <limits>
#include <numeric>

#include "tests/support/gguf_bytes.h"
#include "tests/support/temp_dir.h"
#include "tests/support/throws.h"

namespace corvid::model {
namespace {

using test::gguf_file;
using test::gguf_tensor;
using test::gguf_text;
using test::gguf_u32;
using test::message_of;
using test::raw;
using test::TempDir;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint32_t kF32 = 0, kQ80 = 8;

GgufWriter::Source bytes_of(std::vector<float> values) {
  return [values](const GgufWriter::Sink& sink) { sink(std::as_bytes(std::span(values))); };
}

// Every kind of key, and tensors whose sizes are no multiple of the alignment.
GgufWriter small_writer() {
  GgufWriter out;
  out.set_text("general.architecture", "minimax-m3");
  out.set_u32("a.number", 4000000000U);
  out.set_f32("a.float", 0.5F);
  out.set_bool("a.bool", true);
  out.set_texts("texts", std::vector<std::string>{"", "two words", std::string("nul\0inside", 10)});
  out.set_i32s("numbers", std::vector<int32_t>{-1, 0, 7});
  out.set_bools("flags", {true, false, true});
  out.add("vector", TensorType::f32, {3}, bytes_of({1, 2, 3}));
  out.add("matrix", TensorType::f32, {2, 5}, bytes_of({0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  return out;
}

std::string open_error(const TempDir& dir, const std::string& bytes) {
  const auto file = dir.write("bad.gguf", bytes);
  return message_of([&] { Gguf::open(file); });
}

TEST(Gguf, ReadsBackWhatWasWritten) {
  const TempDir dir;
  const int64_t bytes = small_writer().write(dir / "small.gguf");
  const Gguf file = Gguf::open(dir / "small.gguf");
  EXPECT_EQ(file.file_bytes(), bytes);
  EXPECT_EQ(file.name(), "small.gguf");
  EXPECT_EQ(file.text("general.architecture"), "minimax-m3");
  EXPECT_EQ(file.integer("a.number", 0, 5'000'000'000), 4'000'000'000);
  EXPECT_EQ(file.number("a.float", 0, 1), 0.5);
  EXPECT_TRUE(file.boolean("a.bool"));
  EXPECT_THAT(file.texts("texts"), ElementsAre("", "two words", std::string_view("nul\0inside", 10)));
  EXPECT_THAT(file.integers("numbers", -1, 7), ElementsAre(-1, 0, 7));
  EXPECT_THAT(file.integers("flags", 0, 1), ElementsAre(1, 0, 1));
  ASSERT_EQ(file.tensors().size(), 2U);
  const GgufTensor* matrix = file.find("matrix");
  ASSERT_NE(matrix, nullptr);
  EXPECT_THAT(matrix->shape, ElementsAre(2, 5));
  EXPECT_EQ(matrix->type, TensorType::f32);
  std::vector<float> values(10), wanted(10);
  std::iota(wanted.begin(), wanted.end(), 0.0F);
  ASSERT_EQ(matrix->data.size(), 40U);
  std::memcpy(values.data(), matrix->data.data(), 40);
  EXPECT_EQ(values, wanted);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(matrix->data.data()) % 32, 0U);
  EXPECT_EQ(file.find("absent"), nullptr);
}

TEST(Gguf, WritingTwiceGivesTheSameBytes) {
  const TempDir dir;
  small_writer().write(dir / "a.gguf");
  small_writer().write(dir / "b.gguf");
  EXPECT_EQ(dir.read("a.gguf"), dir.read("b.gguf"));
}

TEST(Gguf, AccessorsNameTheKeyAndWhatWasFound) {
  const TempDir dir;
  small_writer().write(dir / "small.gguf");
  const Gguf file = Gguf::open(dir / "small.gguf");
  EXPECT_EQ(message_of([&] { file.text("no.key"); }), "small.gguf: key no.key is missing: want a text");
  EXPECT_EQ(message_of([&] { file.text("a.number"); }), "small.gguf: key a.number: want a text, found u32");
  EXPECT_EQ(message_of([&] { file.integer("a.number", 1, 64); }),
            "small.gguf: key a.number: want 1 to 64, found 4000000000");
  EXPECT_EQ(message_of([&] { file.integer("a.float", 1, 64); }), "small.gguf: key a.float: want an integer, found f32");
  EXPECT_EQ(message_of([&] { file.number("a.float", 1, 2); }), "small.gguf: key a.float: want 1 to 2, found 0.5");
  EXPECT_EQ(message_of([&] { file.integer("numbers", 1, 2); }),
            "small.gguf: key numbers: want an integer, found an array of i32");
  EXPECT_EQ(message_of([&] { file.texts("numbers"); }),
            "small.gguf: key numbers: want an array of texts, found of i32");
  EXPECT_EQ(message_of([&] { file.boolean("a.number"); }), "small.gguf: key a.number: want a bool, found u32");
}

TEST(Gguf, AFileCutAnywhereIsAnError) {
  const TempDir dir;
  small_writer().write(dir / "small.gguf");
  const std::string whole = dir.read("small.gguf");
  const Gguf file = Gguf::open(dir / "small.gguf");
  const GgufTensor& last = file.tensors().back();
  const auto end = static_cast<size_t>(last.data.data() + last.data.size() - file.header().data());
  for (size_t length = 0; length < end; ++length) {
    EXPECT_THAT(open_error(dir, whole.substr(0, length)), HasSubstr("bad.gguf: ")) << length;
  }
  dir.write("bad.gguf", whole.substr(0, end));  // only the padding after the last tensor is missing
  EXPECT_NO_THROW(Gguf::open(dir / "bad.gguf"));
}

TEST(Gguf, AnotherMagicOrVersionIsNamed) {
  const TempDir dir;
  EXPECT_THAT(open_error(dir, "GGML" + std::string(60, '\0')), HasSubstr("not a GGUF file"));
  EXPECT_THAT(open_error(dir, gguf_file(0, "", 0, "", 0, 2)), HasSubstr("version: want 3, found 2"));
  EXPECT_THAT(open_error(dir, gguf_file(0, "", 0, "", 0, 0x03000000)), HasSubstr("big-endian"));
}

TEST(Gguf, AbsurdCountsAreErrorsBeforeAnythingIsAllocated) {
  const TempDir dir;
  constexpr uint64_t kHuge = std::numeric_limits<uint64_t>::max();
  EXPECT_THAT(open_error(dir, gguf_file(0, "", kHuge, "", 64)), HasSubstr("number of tensors"));
  EXPECT_THAT(open_error(dir, gguf_file(kHuge / 8, "", 0, "", 64)), HasSubstr("number of keys"));
  EXPECT_THAT(open_error(dir, gguf_file(1, raw(kHuge), 0, "", 64)), HasSubstr("name of key 0"));
  EXPECT_THAT(open_error(dir, gguf_file(1, gguf_text("k") + raw<uint32_t>(8) + raw(kHuge - 3), 0, "", 64)),
              HasSubstr("key k"));
  const std::string array = gguf_text("k") + raw<uint32_t>(9);
  EXPECT_THAT(open_error(dir, gguf_file(1, array + raw<uint32_t>(10) + raw(kHuge / 4), 0, "", 64)),
              HasSubstr("key k: want 4611686018427387903 values of 8 bytes"));
  EXPECT_THAT(open_error(dir, gguf_file(1, array + raw<uint32_t>(8) + raw(kHuge), 0, "", 64)), HasSubstr("key k"));
  EXPECT_THAT(open_error(dir, gguf_file(1, array + raw<uint32_t>(9) + raw<uint64_t>(1), 0, "", 64)),
              HasSubstr("array of arrays"));
  EXPECT_THAT(open_error(dir, gguf_file(1, gguf_text("k") + raw<uint32_t>(13) + raw<uint64_t>(0), 0, "", 64)),
              HasSubstr("want a type below 13, found 13"));
}

TEST(Gguf, ATensorOutsideTheFileOrOutOfShapeIsNamed) {
  const TempDir dir;
  const auto with = [&](const std::string& tensors, uint64_t count = 1) {
    return open_error(dir, gguf_file(0, "", count, tensors, 256));
  };
  constexpr uint64_t kHuge = uint64_t{1} << 62;
  EXPECT_THAT(with(gguf_tensor("t", {8, 9}, kF32, 0)), HasSubstr("tensor t: want 288 bytes at offset 0, found 256"));
  EXPECT_THAT(with(gguf_tensor("t", {8}, kF32, 256)), HasSubstr("want 32 bytes at offset 256, found 256"));
  EXPECT_THAT(with(gguf_tensor("t", {8}, kF32, ~uint64_t{31})), HasSubstr("at offset 18446744073709551584"));
  EXPECT_THAT(with(gguf_tensor("t", {8}, kF32, 4)), HasSubstr("want an offset that is a multiple of 32, found 4"));
  EXPECT_THAT(with(gguf_tensor("t", {kHuge, kHuge}, kF32, 0)), HasSubstr("is too large"));
  EXPECT_THAT(with(gguf_tensor("t", {4, 1, 1, 1, 1}, kF32, 0)), HasSubstr("want 1 to 4 dimensions, found 5"));
  EXPECT_THAT(with(gguf_tensor("t", {}, kF32, 0) + std::string(8, '\0')), HasSubstr("want 1 to 4 dimensions, found 0"));
  EXPECT_THAT(with(gguf_tensor("t", {0, 4}, kF32, 0)), HasSubstr("dimension 0: found 0"));
  EXPECT_THAT(with(gguf_tensor("t", {33}, kQ80, 0)), HasSubstr("want rows of a multiple of 32 for q8_0, found 33"));
  EXPECT_THAT(with(gguf_tensor("t", {4}, 99, 0)), HasSubstr("type 99 is not supported"));
  EXPECT_THAT(with(gguf_tensor("t", {4}, kF32, 0) + gguf_tensor("t", {4}, kF32, 32), 2), HasSubstr("found twice"));
  EXPECT_THAT(with(gguf_tensor("t", {9}, kF32, 0) + gguf_tensor("u", {4}, kF32, 32), 2), HasSubstr("t and u overlap"));
}

TEST(Gguf, TheAlignmentIsAPowerOfTwo) {
  const TempDir dir;
  EXPECT_THAT(open_error(dir, gguf_file(1, gguf_u32("general.alignment", 48), 0, "", 0)), HasSubstr("power of two"));
  EXPECT_THAT(open_error(dir, gguf_file(1, gguf_u32("general.alignment", 0), 0, "", 0)),
              HasSubstr("general.alignment"));
  EXPECT_THAT(open_error(dir, gguf_file(2, gguf_u32("k", 1) + gguf_u32("k", 2), 0, "", 0)),
              HasSubstr("k: found twice"));
}

TEST(Gguf, SomethingElseThanAFileIsAnError) {
  const TempDir dir;
  EXPECT_THAT(message_of([&] { Gguf::open(dir / "absent.gguf"); }), HasSubstr("absent.gguf"));
  EXPECT_THAT(message_of([&] { Gguf::open(dir.path()); }), HasSubstr("want a file, found a folder"));
  EXPECT_THAT(open_error(dir, ""), HasSubstr("not a GGUF file"));
}

TEST(GgufWriter, LeavesNothingBehindWhenItFails) {
  const TempDir dir;
  GgufWriter out;
  out.add("t", TensorType::f32, {4}, bytes_of({1, 2, 3}));
  EXPECT_THAT(message_of([&] { out.write(dir / "short.gguf"); }),
              HasSubstr("tensor t: want 16 bytes from its source, found 12"));
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
  EXPECT_THAT(message_of([&] { small_writer().write(dir / "no-such-folder" / "x.gguf"); }),
              HasSubstr("no-such-folder"));
}

TEST(GgufWriter, AFullDiskIsNamedAndTheOldFileStays) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  EXPECT_THAT(message_of([&] { small_writer().write("/dev/full/x.gguf"); }), HasSubstr("/dev/full"));
  const TempDir dir;
  dir.write("model.gguf", "old");
  GgufWriter out;
  out.add("t", TensorType::f32, {4}, bytes_of({1}));
  EXPECT_ANY_THROW(out.write(dir / "model.gguf"));
  EXPECT_EQ(dir.read("model.gguf"), "old");
}

TEST(GgufWriter, RefusesATensorTwiceOrOfAShapeThatDoesNotFit) {
  GgufWriter out = small_writer();
  EXPECT_THROW(out.add("matrix", TensorType::f32, {1}, {}), std::invalid_argument);
  EXPECT_THROW(out.add("x", TensorType::q8_0, {2, 33}, {}), std::invalid_argument);
  EXPECT_THROW(out.add("x", TensorType::f32, {0}, {}), std::invalid_argument);
}

TEST(Gguf, FlippedBytesGiveAFileOrAnException) {
  const TempDir dir;
  small_writer().write(dir / "small.gguf");
  const std::string whole = dir.read("small.gguf");
  const size_t header = Gguf::open(dir / "small.gguf").header().size();
  uint64_t state = 1;
  const auto random = [&](uint64_t below) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    return (state >> 33) % below;
  };
  int opened = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = whole;
    for (uint64_t flips = 1 + random(3); flips > 0; --flips) bytes[random(header)] = static_cast<char>(random(256));
    dir.write("flipped.gguf", bytes);
    try {
      const Gguf file = Gguf::open(dir / "flipped.gguf");
      ++opened;
      unsigned sum = 0;
      for (const GgufTensor& tensor : file.tensors()) {
        for (const std::byte byte : tensor.data) sum += static_cast<unsigned>(byte);
      }
      for (const std::string& key : file.keys()) sum += file.is_array(key);
      for (const char* key : {"texts", "numbers", "flags"}) {
        if (file.has(key)) sum += static_cast<unsigned>(file.texts(key).size());
      }
      EXPECT_GE(sum, 0U);
    } catch (const std::exception&) {
    }
  }
  EXPECT_GT(opened, 0);
}

}  // namespace
}  // namespace corvid::model
