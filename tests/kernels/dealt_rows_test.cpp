// Rows that are dealt out to GPUs: where they lie, and kernels that write and read them so, with all the GPUs' memory
// on one. SKIPPED without it.
#include "kernels/comm/dealt_rows.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/feed_forward/feed_forward.h"
#include "kernels/products/products.h"
#include "kernels/store_heads/store_heads.h"
#include "tests/support/device_weights.h"

namespace corvid::test {
namespace {

using kernels::Buffer;
using kernels::DealtRows;
using kernels::Device;
using kernels::DeviceFormat;
using kernels::Exec;

TEST(DealtRowsTest, EveryRowHasOnePlace) {
  for (const int gpus : {1, 2, 3, 8}) {
    const kernels::Deal deal{gpus};
    for (const int64_t rows : {1, 127, 128, 129, 300, 1024, 5000}) {
      std::vector<int64_t> seen(size_t(gpus), 0);
      for (int64_t r = 0; r < rows; ++r) {
        const int gpu = deal.owner(r);
        EXPECT_EQ(deal.place(r), seen[size_t(gpu)]++);
        EXPECT_EQ(deal.row(deal.place(r), gpu), r);
      }
      for (int gpu = 0; gpu < gpus; ++gpu) EXPECT_EQ(deal.count(rows, gpu), seen[size_t(gpu)]);
    }
  }
}

class DealtRowsGpuTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!kernels::cuda::available()) GTEST_SKIP() << "this machine has no GPU";
    exec_ = std::make_unique<Exec>(Device::cuda);
  }
  // What `write` writes to rows [rows, n] that are dealt out to so many, put together; NaN where it wrote nothing.
  template <class Fn>
  std::vector<uint16_t> dealt(int gpus, int64_t rows, int64_t n, const Fn& write) {
    DealtRows<void> to;
    to.gpus = gpus;
    std::vector<Buffer> parts;
    for (int gpu = 0; gpu < gpus; ++gpu) {
      const int64_t count = to.count(rows, gpu);
      parts.push_back(on_gpu(std::vector<uint16_t>(size_t(std::max<int64_t>(1, count * n)), 0xffff)));
      to.of[gpu] = parts.back().as<void>();
    }
    write(to);
    std::vector<std::vector<uint16_t>> values;
    for (const Buffer& part : parts) {
      values.emplace_back(size_t(part.bytes() / 2));
      kernels::cuda::to_host(values.back().data(), part.as<void>(), part.bytes(), exec_->stream());
    }
    std::vector<uint16_t> all;
    for (int64_t r = 0; r < rows; ++r) {
      const auto& from = values[size_t(to.owner(r))];
      const auto at = from.begin() + to.place(r) * n;
      all.insert(all.end(), at, at + n);
    }
    return all;
  }
  template <class T>
  Buffer on_gpu(const std::vector<T>& values) {
    Buffer buffer(std::ssize(values) * int64_t{sizeof(T)}, Device::cuda);
    kernels::cuda::to_device(buffer.as<void>(), values.data(), buffer.bytes(), exec_->stream());
    return buffer;
  }
  std::unique_ptr<Exec> exec_;
};

TEST_F(DealtRowsGpuTest, ProductsHaveTheBitsOfRowsThatLieTogether) {
  for (const DeviceFormat format : kDeviceFormats) {
    for (const int64_t n : {256, 1000, 2051}) {
      const DeviceWeights w(format, n, 256, 3);
      for (const int64_t rows : {129, 300, 1100}) {
        const Buffer x = on_gpu(to_bf16(random_floats(rows * 256, uint32_t(rows))));
        const auto product = [&](int gpus) {
          return dealt(gpus, rows, n, [&](const DealtRows<void>& y) {
            const kernels::Product p{w.view, y};
            const Buffer workspace(kernels::products_workspace_bytes({&p, 1}, rows) + 256, Device::cuda);
            kernels::cuda::products(x.as<uint16_t>(), rows, {&p, 1}, const_cast<Buffer&>(workspace).as<void>(),
                                    exec_->stream());
            exec_->wait();
          });
        };
        const auto together = product(1);
        for (const int gpus : {2, 3, 8}) EXPECT_EQ(product(gpus), together) << int(format) << ' ' << n << ' ' << rows;
      }
    }
  }
}

TEST_F(DealtRowsGpuTest, FewRowsAreRefused) {
  const DeviceWeights w(DeviceFormat::bf16, 64, 64, 3);
  DealtRows<void> y;
  y.gpus = 2;
  const kernels::Product p{w.view, y};
  EXPECT_THROW(kernels::cuda::products(nullptr, 128, {&p, 1}, nullptr, exec_->stream()), std::invalid_argument);
}

// The bits of float32 sums that are rounded afterwards.
TEST_F(DealtRowsGpuTest, AFeedForwardLayerIsRoundedOnce) {
  constexpr int64_t kDim = 256, kFfn = 512, kExperts = 6, kTopK = 2;
  for (const DeviceFormat format : kDeviceFormats) {
    const DeviceWeights gate(format, kFfn, kDim, 1, kExperts), up(format, kFfn, kDim, 2, kExperts),
        down(format, kDim, kFfn, 3, kExperts), one(format, kFfn, kDim, 4), one_down(format, kDim, kFfn, 5);
    for (const int64_t rows : {130, 700}) {
      const Buffer h = on_gpu(to_bf16(random_floats(rows * kDim, 7)));
      std::vector<int32_t> ids;
      for (int64_t r = 0; r < rows; ++r) {
        const auto first = static_cast<int32_t>(r * 7 % (kExperts - 1));
        ids.push_back(first), ids.push_back(first + 1 + static_cast<int32_t>(r % (kExperts - 1 - first)));
      }
      const Buffer on_ids = on_gpu(ids), weights = on_gpu(random_floats(rows * kTopK, 8));
      for (const bool is_routed : {true, false}) {
        for (const bool is_shared : {false, true}) {
          if (is_shared && !is_routed) continue;
          kernels::FeedForward a{};
          a.h = h.as<uint16_t>(), a.rows = rows, a.top_k = is_routed ? kTopK : 1;
          a.experts = {gate.view, up.view, down.view};
          if (is_routed) a.ids = on_ids.as<int32_t>(), a.weights = weights.as();
          if (!is_routed) a.experts = {one.view, one.view, one_down.view};
          if (is_shared) a.shared = {one.view, one.view, one_down.view};
          Buffer workspace = on_gpu(std::vector<char>(size_t(feed_forward_workspace_bytes(a, rows)), char(0xff)));
          Buffer x = on_gpu(std::vector<float>(size_t(rows * kDim)));
          a.x = x.as();
          kernels::cuda::feed_forward(a, workspace.as<void>(), exec_->stream());
          std::vector<float> sums(size_t(rows * kDim));
          kernels::cuda::to_host(sums.data(), x.as<void>(), x.bytes(), exec_->stream());
          a.x = nullptr;
          const auto found = dealt(2, rows, kDim, [&](const DealtRows<void>& y) {
            a.dealt = y;
            kernels::cuda::feed_forward(a, workspace.as<void>(), exec_->stream());
          });
          EXPECT_EQ(found, to_bf16(sums)) << int(format) << ' ' << rows << is_routed << is_shared;
        }
      }
    }
  }
}

TEST_F(DealtRowsGpuTest, RowsAreGatheredFromAll) {
  constexpr int64_t kRows = 700, kWidth = 36;
  const std::vector<float> all = random_floats(kRows * kWidth, 1);
  DealtRows<const void> from;
  from.gpus = 3;
  std::vector<std::vector<float>> parts(3, std::vector<float>(all.size()));
  for (int64_t r = 0; r < kRows; ++r)
    std::copy_n(all.begin() + r * kWidth, kWidth, parts[size_t(from.owner(r))].begin() + r * kWidth);
  std::vector<Buffer> on;
  for (size_t i = 0; i < 3; ++i) on.push_back(on_gpu(parts[i])), from.of[i] = on[i].as<void>();
  const std::vector<int32_t> rows{0, 127, 128, 383, 384, 699, 5};
  const Buffer on_rows = on_gpu(rows);
  Buffer out = on_gpu(std::vector<float>(rows.size() * kWidth));
  kernels::cuda::gather_rows({from, on_rows.as<int32_t>(), out.as<void>(), std::ssize(rows), kWidth * 4},
                             exec_->stream());
  std::vector<float> found(rows.size() * kWidth), wanted;
  kernels::cuda::to_host(found.data(), out.as<void>(), out.bytes(), exec_->stream());
  for (const int32_t r : rows) wanted.insert(wanted.end(), all.begin() + r * kWidth, all.begin() + (r + 1) * kWidth);
  EXPECT_EQ(found, wanted);
}

}  // namespace
}  // namespace corvid::test
