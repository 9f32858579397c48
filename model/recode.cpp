#include "model/recode.h"

#include <algorithm>
#include <vector>

#include "kernels/format.h"
#include "model/error.h"
#include "model/gguf_files.h"

namespace corvid::model {
namespace {

constexpr uint32_t kQuantizationVersion = 2;

// Of a type that is computed with, and written.
kernels::Format format_of(TensorType type) {
  const std::optional<kernels::Format> format = kernel_format(type);
  if (!format || *format == kernels::Format::f8_e4m3)
    throw std::invalid_argument(concat("tensor type ", tensor_layout(type).name, ": can't be written"));
  return *format;
}

}  // namespace

void encode_rows(TensorType type, int64_t row, int64_t total, const RowReader& read, kernels::Pool& pool,
                 const GgufWriter::Sink& sink) {
  constexpr int64_t kPieces = 16;  // handed to the threads at a time
  const kernels::Format format = format_of(type);
  const int64_t piece = std::max<int64_t>(1, 65536 / row) * row, step = kPieces * piece;
  std::vector<float> values(static_cast<size_t>(std::min(step, total)));
  std::vector<std::byte> encoded(static_cast<size_t>(kernels::row_bytes(format, std::ssize(values))));
  for (int64_t first = 0; first < total; first += step) {
    const int64_t count = std::min(step, total - first);
    pool.run((count + piece - 1) / piece, [&](int64_t task, int) {
      const int64_t at = task * piece, n = std::min(piece, count - at);
      read(first + at, n, values.data() + at);
      kernels::encode_row(format, values.data() + at, n, encoded.data() + kernels::row_bytes(format, at));
    });
    sink(std::span(encoded).first(static_cast<size_t>(kernels::row_bytes(format, count))));
  }
}

void set_mix(GgufWriter& out, const Mix& mix) {
  out.set_u32("general.file_type", mix.file_type);
  out.set_u32("general.quantization_version", kQuantizationVersion);
}

std::string misfit(const std::string& tensor, std::span<const int64_t> shape, const Mix& mix, TensorType stored) {
  return concat(tensor, ": rows of ", shape.back(), " do not fit ", mix.name, ", stored as ",
                tensor_layout(stored).name);
}

int64_t quantize(const std::filesystem::path& from, const std::filesystem::path& to, const Mix& mix, const Note& note) {
  kernels::Exec exec;
  const std::vector<Gguf> files = open_gguf_files(from);
  const Config config = Config::from_gguf(files[0]);
  GgufWriter out;
  for (const std::string& key : files[0].keys()) {
    if (!key.starts_with("split.") && key != "general.alignment") out.set_encoded(key, files[0].encoded(key));
  }
  set_mix(out, mix);
  const TensorTable table = tensors_of(files);
  const bool tied = table.find("output.weight") == table.end();
  int64_t rounded_again = 0;
  for (const Gguf& file : files) {
    for (const GgufTensor& tensor : file.tensors()) {
      const std::optional<kernels::Format> format = kernel_format(tensor.type);
      if (!format) {
        fail(file.name(), ": tensor ", printable(tensor.name), ": type ", tensor_layout(tensor.type).name,
             " is not supported");
      }
      const bool is_output = tensor.name == (tied ? "token_embd.weight" : "output.weight");
      const Mix::Choice choice = mix.choose(tensor.name, tensor.shape, config.n_layers(), is_output);
      if (!choice.fits && note) note(misfit(tensor.name, tensor.shape, mix, choice.type));
      if (choice.type != tensor.type && tensor_layout(tensor.type).group > 1) ++rounded_again;
      out.add(tensor.name, choice.type, tensor.shape, [&exec, &tensor, choice, format](const GgufWriter::Sink& sink) {
        if (choice.type == tensor.type) return sink(tensor.data);
        int64_t total = 1;
        for (const int64_t dim : tensor.shape) total *= dim;  // the data is there, so this is far below 2^63
        const auto read = [&](int64_t first, int64_t count, float* values) {
          kernels::decode_row(*format, tensor.data.data() + kernels::row_bytes(*format, first), count, values);
        };
        encode_rows(choice.type, tensor.shape.back(), total, read, exec.pool(), sink);
      });
    }
  }
  if (rounded_again > 0 && note) {
    note(concat(rounded_again, " tensors were rounded before: the errors add up, so start from f32, f16 or bf16"));
  }
  return out.write(to);
}

}  // namespace corvid::model
