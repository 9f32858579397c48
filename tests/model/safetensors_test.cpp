#include "model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "tests/support/gguf_bytes.h"
#include "tests/support/temp_dir.h"
#include "tests/support/throws.h"

namespace corvid::model {
namespace {

using test::message_of;
using test::raw;
using test::TempDir;
using testing::ElementsAre;
using testing::HasSubstr;

std::string safetensors(const std::string& header, size_t data_bytes) {
  return raw<uint64_t>(header.size()) + header + std::string(data_bytes, '\1');
}

std::string open_error(const std::string& bytes) {
  const TempDir dir;
  dir.write("model.safetensors", bytes);
  return message_of([&] { SafeTensors::open(dir.path()); });
}

constexpr char kTwo[] = R"({"__metadata__":{"format":"pt"},
  "a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[],"data_offsets":[24,26]}})";

TEST(SafeTensors, ReadsOneFile) {
  const TempDir dir;
  dir.write("model.safetensors", safetensors(kTwo, 26));
  const SafeTensors files = SafeTensors::open(dir.path());
  ASSERT_EQ(files.tensors().size(), 2U);
  EXPECT_THAT(files.find("a")->shape, ElementsAre(2, 3));
  EXPECT_EQ(files.find("a")->type(), TensorType::f32);
  EXPECT_EQ(files.find("a")->data.size(), 24U);
  EXPECT_EQ(files.find("b")->type(), TensorType::bf16);
  EXPECT_EQ(files.find("c"), nullptr);
}

TEST(SafeTensors, ReadsManyFilesThroughTheirIndex) {
  const TempDir dir;
  dir.write("one.safetensors", safetensors(R"({"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},
    "unlisted":{"dtype":"F16","shape":[1],"data_offsets":[2,4]}})",
                                           4));
  dir.write("two.safetensors", safetensors(R"({"b":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}})", 4));
  dir.write("model.safetensors.index.json", R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})");
  const SafeTensors files = SafeTensors::open(dir.path());
  ASSERT_EQ(files.tensors().size(), 2U);
  EXPECT_EQ(files.find("a")->file, "one.safetensors");
  EXPECT_EQ(files.find("b")->file, "two.safetensors");
}

TEST(SafeTensors, AnIndexMustBeTrue) {
  const auto with = [](const std::string& index) {
    const TempDir dir;
    dir.write("one.safetensors", safetensors("{}", 0));
    dir.write("model.safetensors.index.json", index);
    return message_of([&] { SafeTensors::open(dir.path()); });
  };
  EXPECT_THAT(with(R"({"weight_map":{"a":"one.safetensors"}})"), HasSubstr("one.safetensors: tensor a is missing"));
  EXPECT_THAT(with(R"({"weight_map":{"a":"three.safetensors"}})"), HasSubstr("three.safetensors"));
  EXPECT_THAT(with(R"({"weight_map":{"a":"../x.safetensors"}})"), HasSubstr("want a file name in the same folder"));
  EXPECT_THAT(with(R"({"weight_map":{"a":1}})"), HasSubstr("a: want a file name, found number"));
  EXPECT_THAT(with(R"({"weight_map":[]})"), HasSubstr("weight_map: want an object"));
  EXPECT_THAT(with(R"({)"), HasSubstr("model.safetensors.index.json: not valid JSON"));
}

TEST(SafeTensors, AFolderWithoutTensorsSaysSo) {
  const TempDir dir;
  EXPECT_THAT(message_of([&] { SafeTensors::open(dir.path()); }), HasSubstr("found neither"));
}

TEST(SafeTensors, WrongHeadersAreNamed) {
  EXPECT_THAT(open_error("abc"), HasSubstr("header length: want 8 bytes, found 3"));
  EXPECT_THAT(open_error(raw(~uint64_t{0}) + "{}"), HasSubstr("header length: want at most 2"));
  EXPECT_THAT(open_error(safetensors("{\"a\":", 0)), HasSubstr("not valid JSON"));
  EXPECT_THAT(open_error(safetensors(std::string(100000, '['), 0)), HasSubstr("not valid JSON"));
  EXPECT_THAT(open_error(safetensors("[]", 0)), HasSubstr("want a JSON object, found array"));
  const std::string deep = std::string(200000, '[') + std::string(200000, ']');
  EXPECT_THAT(open_error(safetensors(R"({"a":{"dtype":"F32","data_offsets":[0,0],"shape":)" + deep + "}}", 0)),
              HasSubstr("header: not valid JSON: want at most 64 levels of nesting, found 200002"));
  const auto tensor = [](const std::string& entry) { return open_error(safetensors("{\"a\":" + entry + "}", 8)); };
  EXPECT_THAT(tensor("3"), HasSubstr("tensor a: want an object, found number"));
  EXPECT_THAT(tensor(R"({"shape":[2],"data_offsets":[0,8]})"), HasSubstr("dtype is missing"));
  EXPECT_THAT(tensor(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"), HasSubstr("shape: want a number from 0"));
  EXPECT_THAT(tensor(R"({"dtype":"F32","shape":[2.5],"data_offsets":[0,8]})"), HasSubstr("shape: want a number"));
  EXPECT_THAT(tensor(R"({"dtype":"F32","shape":[2],"data_offsets":[0,16]})"), HasSubstr("a range inside 8 bytes"));
  EXPECT_THAT(tensor(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"), HasSubstr("a range inside 8 bytes"));
  EXPECT_THAT(tensor(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})"),
              HasSubstr("want 12 bytes for F32 [3], found 8"));
  EXPECT_THAT(tensor(R"({"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]})"),
              HasSubstr("too large"));
  EXPECT_THAT(open_error(safetensors(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
                                         "b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                                     8)),
              HasSubstr("two tensors overlap at data offset 4"));
}

TEST(SafeTensors, FlippedBytesGiveAFileOrAnException) {
  const TempDir dir;
  const std::string whole = safetensors(kTwo, 26);
  uint64_t state = 7;
  const auto random = [&](uint64_t below) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    return (state >> 33) % below;
  };
  int opened = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = whole;
    bytes[random(bytes.size() - 26)] = static_cast<char>(random(256));
    dir.write("model.safetensors", bytes);
    try {
      const SafeTensors files = SafeTensors::open(dir.path());
      ++opened;
      for (const auto& [name, tensor] : files.tensors()) EXPECT_LE(tensor.data.size(), 26U);
    } catch (const std::exception&) {
    }
  }
  EXPECT_GT(opened, 0);
}

}  // namespace
}  // namespace corvid::model
