#include "model/gguf_files.h"

#include <limits>
#include <string>
#include <utility>

#include "model/error.h"

namespace corvid::model {

std::vector<Gguf> open_gguf_files(const std::filesystem::path& path) {
  std::vector<Gguf> files;
  files.push_back(Gguf::open(path));
  if (!files[0].has("split.count")) return files;
  constexpr int64_t kMaxSplits = 99999;
  const int64_t count = files[0].integer("split.count", 1, kMaxSplits);
  if (count == 1) return files;
  const std::string name = path.filename().string();
  const size_t tail = std::string("-00001-of-00001.gguf").size();
  const std::string of = concat("-of-", std::string(5 - std::to_string(count).size(), '0'), count, ".gguf");
  if (name.size() <= tail || !name.ends_with(of)) {
    fail(name, ": split.count is ", count, ": want a file name that ends with -00001", of);
  }
  files.clear();
  for (int64_t i = 1; i <= count; ++i) {
    const std::string number = std::to_string(i);
    const std::string file =
        concat(name.substr(0, name.size() - tail), "-", std::string(5 - number.size(), '0'), number, of);
    files.push_back(Gguf::open(path.parent_path() / file));
    if (files.back().integer("split.no", 0, kMaxSplits) != i - 1 ||
        files.back().integer("split.count", 1, kMaxSplits) != count) {
      fail(file, ": want split.no ", i - 1, " of ", count, ", found another");
    }
  }
  if (files[0].has("split.tensors.count")) {
    const int64_t wanted = files[0].integer("split.tensors.count", 0, std::numeric_limits<int64_t>::max());
    size_t found = 0;
    for (const Gguf& file : files) found += file.tensors().size();
    if (std::cmp_not_equal(found, wanted)) {
      fail(name, ": split.tensors.count: want ", wanted, " tensors in all files, found ", found);
    }
  }
  return files;
}

TensorTable tensors_of(std::span<const Gguf> files) {
  TensorTable table;
  for (const Gguf& file : files) {
    for (const GgufTensor& tensor : file.tensors()) {
      if (!table.emplace(tensor.name, TensorView{tensor.type, tensor.shape, tensor.data}).second) {
        fail(file.name(), ": tensor ", printable(tensor.name), ": found in two files");
      }
    }
  }
  return table;
}

}  // namespace corvid::model
