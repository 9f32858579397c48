#include "kernels/device_matrix/part.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/check.h"

namespace corvid::kernels {

DeviceFormat device_format(Format file, const MatrixPart& part) {
  const bool is_cut = part.first_row % kPanelRows != 0 || part.first_column % format_block(file) != 0 ||
                      part.columns % format_block(file) != 0;
  return file == Format::f8_e4m3 && is_cut ? DeviceFormat::bf16 : device_format(file);
}

void repack(const Matrix& from, const MatrixPart& part, int64_t first, int64_t count, void* out) {
  const DeviceFormat format = device_format(from.format, part);
  // Blocks of f8_e4m3 that are cut are decoded.
  const bool decodes = format != device_format(from.format);
  const int64_t block = decodes ? 1 : format_block(from.format), panels = panels_of(part.rows);
  require(part.first_column % block == 0 && part.columns % block == 0 && part.first_column >= 0 &&
              part.first_column + part.columns <= part.k && part.first_row >= 0 && part.first_row + part.rows <= part.n,
          "repack: want a part of [", part.n, ", ", part.k, "] whose columns are whole blocks of ", block,
          ", found rows ", part.first_row, " + ", part.rows, ", columns ", part.first_column, " + ", part.columns);
  const Format between = decodes ? Format::f32 : from.format;
  const int64_t stride = row_bytes(from.format, part.k), bytes = row_bytes(between, part.columns);
  std::vector<char> rows(static_cast<size_t>(kPanelRows * bytes));
  std::vector<float> floats(decodes ? static_cast<size_t>(part.k) : 0);
  for (int64_t p = first; p < first + count; ++p) {
    const int64_t row = p % panels * kPanelRows, n = std::min(kPanelRows, part.rows - row);
    const char* at = static_cast<const char*>(from.data) +
                     ((part.first_expert + p / panels) * part.n + part.first_row + row) * stride;
    for (int64_t r = 0; r < n; ++r, at += stride) {
      if (decodes) decode_row(from.format, at, part.k, floats.data());
      const void* const cut = decodes ? static_cast<const void*>(floats.data() + part.first_column)
                                      : at + row_bytes(from.format, part.first_column);
      std::memcpy(rows.data() + r * bytes, cut, static_cast<size_t>(bytes));
    }
    repack({rows.data(), between}, n, part.columns, 0, 1,
           static_cast<char*>(out) + (p - first) * panel_bytes(format, part.columns));
  }
}

}  // namespace corvid::kernels
