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

TEST(KvPages, ClearingKeepsTheRowsInUseAndNothingElse) {
  Exec exec(1);
  constexpr int64_t heads = 2, dim = 5, block = 4;
  for (int64_t used = 0; used <= block; ++used) {
    const Pages pages(block, heads, dim, block, 1, exec);  // the padding is NaN
    const std::vector<float> keys(pages.keys[0], pages.keys[0] + kernels::key_page_floats(heads, dim, block));
    const std::vector<float> values(pages.values[0], pages.values[0] + kernels::value_page_floats(heads, dim, block));
    std::vector<float> kept_keys(keys.size()), kept_values(values.size());
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t slot = 0; slot < used; ++slot)
        for (int64_t i = 0; i < dim; ++i) {
          const auto key = static_cast<size_t>((h * dim + i) * kernels::padded(block) + slot);
          const auto value = static_cast<size_t>((h * block + slot) * kernels::padded(dim) + i);
          kept_keys[key] = keys[key];
          kept_values[value] = values[value];
        }
    kernels::clear_unused_keys(pages.keys[0], heads, dim, block, used);
    kernels::clear_unused_values(pages.values[0], heads, dim, block, used);
    EXPECT_EQ(std::vector<float>(pages.keys[0], pages.keys[0] + keys.size()), kept_keys) << used;
    EXPECT_EQ(std::vector<float>(pages.values[0], pages.values[0] + values.size()), kept_values) << used;
  }
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
