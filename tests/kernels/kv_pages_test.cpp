#include "kernels/kv_pages/kv_pages.h"

#include <gtest/gtest.h>

#include "tests/support/pages.h"

namespace corvid::test {
namespace {

using kernels::Exec;

TEST(KvPages, EveryRowIsFoundWhereTheLayoutSaysSo) {
  Exec exec(3);
  for (const int64_t block : {1, 4, 16, 20, 128})
    for (const int64_t dim : {1, 7, 16, 40}) {
      const Pages pages(2 * block + 1, 3, dim, block, 1, exec);
      for (int64_t j = 0; j < pages.n_keys; ++j)
        for (int64_t h = 0; h < 3; ++h)
          for (int64_t i = 0; i < dim; ++i) {
            const auto at = static_cast<size_t>((j * 3 + h) * dim + i), page = static_cast<size_t>(j / block);
            ASSERT_EQ(kernels::key_at(pages.keys[page], h, j % block, i, dim, block), pages.key_rows[at]);
            ASSERT_EQ(kernels::value_at(pages.values[page], h, j % block, i, dim, block), pages.value_rows[at]);
          }
    }
}

TEST(KvPages, StoringARowLeavesItsNeighboursAlone) {
  Exec exec(1);
  const Pages pages(10, 2, 5, 4, 1, exec);
  std::vector<float> before(pages.keys[1], pages.keys[1] + kernels::key_page_floats(2, 5, 4));
  const std::vector<float> row(10, 7.0F);
  const int64_t pos = 6;
  store_keys({row.data(), &pos, pages.keys.data(), 1, 2, 5, 4}, exec);
  for (int64_t slot = 0; slot < 4; ++slot)
    for (int64_t h = 0; h < 2; ++h)
      for (int64_t i = 0; i < 5; ++i)
        EXPECT_EQ(kernels::key_at(pages.keys[1], h, slot, i, 5, 4),
                  slot == 2 ? 7.0F : kernels::key_at(before.data(), h, slot, i, 5, 4));
}

TEST(KvPages, NamesAPositionWithoutAPage) {
  Exec exec(1);
  const float row = 1;
  float* pages[2] = {nullptr, nullptr};
  const int64_t pos = 5, below = -1;
  EXPECT_THROW(store_keys({&row, &pos, pages, 1, 1, 1, 4}, exec), std::invalid_argument);
  EXPECT_THROW(store_values({&row, &below, pages, 1, 1, 1, 4}, exec), std::invalid_argument);
}

}  // namespace
}  // namespace corvid::test
