#include "kernels/device_matrix/part.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/check.h"

namespace corvid::kernels {

void repack(const Matrix& from, const MatrixPart& part, int64_t first, int64_t count, void* out) {
  const int64_t block = format_block(from.format), panels = panels_of(part.rows);
  require(part.first_column % block == 0 && part.columns % block == 0 && part.first_column >= 0 &&
              part.first_column + part.columns <= part.k && part.first_row >= 0 && part.first_row + part.rows <= part.n,
          "repack: want a part of [", part.n, ", ", part.k, "] whose columns are whole blocks of ", block,
          ", found rows ", part.first_row, " + ", part.rows, ", columns ", part.first_column, " + ", part.columns);
  const int64_t stride = row_bytes(from.format, part.k), bytes = row_bytes(from.format, part.columns);
  std::vector<char> rows(static_cast<size_t>(kPanelRows * bytes));
  for (int64_t p = first; p < first + count; ++p) {
    const int64_t row = p % panels * kPanelRows, n = std::min(kPanelRows, part.rows - row);
    const char* at = static_cast<const char*>(from.data) +
                     ((part.first_expert + p / panels) * part.n + part.first_row + row) * stride +
                     row_bytes(from.format, part.first_column);
    for (int64_t r = 0; r < n; ++r, at += stride) std::memcpy(rows.data() + r * bytes, at, static_cast<size_t>(bytes));
    repack({rows.data(), from.format}, n, part.columns, 0, 1,
           static_cast<char*>(out) + (p - first) * panel_bytes(device_format(from.format), part.columns));
  }
}

}  // namespace corvid::kernels
