// Tensors of a Hugging Face checkpoint: one .safetensors file, or many with their index, read by mmap.
//
//   header length u64 | header: JSON {name: {dtype, shape, data_offsets: [begin, end]}} | data
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/mapped_file.h"
#include "model/tensor_type.h"

namespace corvid::model {

struct SafeTensor {
  std::string file;   // name of the file that holds it, for messages
  std::string dtype;  // as the file spells it: "BF16"
  std::vector<int64_t> shape;
  std::span<const std::byte> data;  // any alignment

  // F32, F16 and BF16; nothing for any other dtype.
  std::optional<TensorType> type() const;
};

// Const after open(); any number of threads may read it. Views live as long as this object.
class SafeTensors {
 public:
  using Tensors = std::map<std::string, SafeTensor, std::less<>>;

  // `folder` holds model.safetensors.index.json and the files it names, or model.safetensors, or one *.safetensors file
  // of another name. Throws std::system_error when a file can't be read, std::runtime_error naming file, thing, wanted
  // and found when the content is wrong.
  static SafeTensors open(const std::filesystem::path& folder);

  const Tensors& tensors() const { return tensors_; }
  const SafeTensor* find(std::string_view name) const;  // null when there is none

 private:
  // Adds the file's tensors, or only `wanted` ones (sorted) when it is given; every wanted one must be there.
  void add_file(const std::filesystem::path& file, const std::vector<std::string>* wanted);

  std::vector<MappedFile> files_;
  Tensors tensors_;
};

}  // namespace corvid::model
