#include "model/hash.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace corvid::model {
namespace {

// Expected values: libxxhash 0.8.1.
TEST(Hash, IsXxh64) {
  EXPECT_EQ(xxh64(""), 0xef46db3751d8e999);
  EXPECT_EQ(xxh64("", 2026), 0xf6cf42b7763825c2);
  EXPECT_EQ(xxh64("abc"), 0x44bc2cf5ad770999);
  EXPECT_EQ(xxh64("a corvid is a bird that uses tools, and this text is longer than thirty-two bytes", 2026),
            0x843fd1a57aa5b115);
  std::vector<unsigned char> bytes(256);
  std::iota(bytes.begin(), bytes.end(), static_cast<unsigned char>(0));
  const auto of_first = [&](size_t n) { return xxh64(std::as_bytes(std::span(bytes).first(n)), n); };
  EXPECT_EQ(of_first(1), 0x771917c7f6ee2451);
  EXPECT_EQ(of_first(4), 0xbbc1c9489fc87eba);
  EXPECT_EQ(of_first(7), 0x54640963b8c77fa9);
  EXPECT_EQ(of_first(8), 0x0dfc1d486cf5e934);
  EXPECT_EQ(of_first(31), 0xba30fb3300bd71ca);
  EXPECT_EQ(of_first(32), 0x35dee9a72ef74939);
  EXPECT_EQ(of_first(33), 0x4d3992b427942d69);
  EXPECT_EQ(of_first(255), 0xb6f0b42a225554a);
}

TEST(Hash, IsWrittenInSixteenDigits) { EXPECT_EQ(hex(0x0dfc1d486cf5e934), "0dfc1d486cf5e934"); }

}  // namespace
}  // namespace corvid::model
