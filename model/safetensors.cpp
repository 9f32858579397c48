#include "model/safetensors.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "model/error.h"
#include "model/json_file.h"

namespace corvid::model {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr uint64_t kMaxHeader = 100'000'000;  // the format's own limit, in bytes

// Bytes of one number; 0 for a dtype that is not known here.
int64_t dtype_bytes(std::string_view dtype) {
  constexpr std::pair<std::string_view, int64_t> kBytes[] = {
      {"F64", 8}, {"I64", 8}, {"U64", 8}, {"F32", 4}, {"I32", 4},  {"U32", 4},     {"F16", 2},    {"BF16", 2},
      {"I16", 2}, {"U16", 2}, {"I8", 1},  {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};
  for (const auto& [name, bytes] : kBytes) {
    if (name == dtype) return bytes;
  }
  return 0;
}

uint64_t natural(const json& value, const std::string& what) {
  if (!value.is_number_unsigned()) fail(what, ": want a number from 0, found ", printable(value.dump()));
  return value.get<uint64_t>();
}

SafeTensor read_entry(const std::string& name, const std::string& file, const json& entry,
                      std::span<const std::byte> data) {
  const std::string what = concat(file, ": tensor ", printable(name));
  const auto member = [&](const char* key) -> const json& {
    const auto found = entry.find(key);
    if (found == entry.end()) fail(what, ": ", key, " is missing");
    return *found;
  };
  if (!entry.is_object()) fail(what, ": want an object, found ", entry.type_name());
  const json &dtype = member("dtype"), &shape = member("shape"), &offsets = member("data_offsets");
  if (!dtype.is_string()) fail(what, ": dtype: want a text, found ", dtype.type_name());
  if (!shape.is_array() || shape.size() > 16) fail(what, ": shape: want a list of at most 16 dimensions");
  if (!offsets.is_array() || offsets.size() != 2) fail(what, ": data_offsets: want two numbers");

  SafeTensor tensor;
  tensor.file = file;
  tensor.dtype = dtype.get<std::string>();
  uint64_t bytes = static_cast<uint64_t>(dtype_bytes(tensor.dtype));
  bool overflows = false;
  for (const json& value : shape) {
    const uint64_t dim = natural(value, what + ": shape");
    overflows = overflows || dim > uint64_t{INT64_MAX} || __builtin_mul_overflow(bytes, dim, &bytes);
    tensor.shape.push_back(static_cast<int64_t>(dim));
  }
  const uint64_t begin = natural(offsets[0], what + ": data_offsets");
  const uint64_t end = natural(offsets[1], what + ": data_offsets");
  if (overflows) fail(what, ": shape ", printable(shape.dump()), " is too large");
  if (begin > end || end > data.size()) {
    fail(what, ": data_offsets: want a range inside ", data.size(), " bytes, found ", begin, " to ", end);
  }
  if (dtype_bytes(tensor.dtype) != 0 && end - begin != bytes) {
    fail(what, ": want ", bytes, " bytes for ", printable(tensor.dtype), " ", shape_text(tensor.shape), ", found ",
         end - begin);
  }
  tensor.data = data.subspan(begin, end - begin);
  return tensor;
}

}  // namespace

std::optional<TensorType> SafeTensor::type() const {
  if (dtype == "F32") return TensorType::f32;
  if (dtype == "F16") return TensorType::f16;
  if (dtype == "BF16") return TensorType::bf16;
  return std::nullopt;
}

SafeTensors SafeTensors::open(const fs::path& folder) {
  SafeTensors all;
  const fs::path index_file = folder / "model.safetensors.index.json";
  if (!fs::exists(index_file)) {
    fs::path file = folder / "model.safetensors";
    if (!fs::exists(file)) {
      std::vector<fs::path> found;
      for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
        if (entry.path().extension() == ".safetensors") found.push_back(entry.path());
      }
      if (found.size() != 1) {
        fail(folder.string(), ": want model.safetensors or model.safetensors.index.json, found ",
             found.empty() ? "neither" : "several .safetensors files without an index");
      }
      file = found[0];
    }
    all.add_file(file, nullptr);
    return all;
  }
  const json index = read_json_object(index_file);
  const std::string what = index_file.filename().string() + ": weight_map";
  const auto map = index.find("weight_map");
  if (map == index.end() || !map->is_object()) fail(what, ": want an object from tensor to file");
  std::map<std::string, std::vector<std::string>> shards;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string()) fail(what, ": ", printable(tensor), ": want a file name, found ", file.type_name());
    shards[file.get<std::string>()].push_back(tensor);
  }
  for (const auto& [file, tensors] : shards) {
    if (file.empty() || file == "." || file == ".." || file.find_first_of(std::string("/\0", 2)) != std::string::npos) {
      fail(what, ": want a file name in the same folder, found ", printable(file));
    }
    all.add_file(folder / file, &tensors);
  }
  return all;
}

void SafeTensors::add_file(const fs::path& path, const std::vector<std::string>* wanted) {
  files_.emplace_back(path);
  const std::string file = path.filename().string();
  const std::span<const std::byte> bytes = files_.back().bytes();
  uint64_t length = 0;
  if (bytes.size() < sizeof length) fail(file, ": header length: want 8 bytes, found ", bytes.size());
  std::memcpy(&length, bytes.data(), sizeof length);
  const uint64_t longest = std::min<uint64_t>(kMaxHeader, bytes.size() - sizeof length);
  if (length > longest) fail(file, ": header length: want at most ", longest, ", found ", length);
  const std::span<const std::byte> data = bytes.subspan(sizeof length + length);

  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + sizeof length, length);
  const json header = parse_json(text, file + ": header");
  if (!header.is_object()) fail(file, ": header: want a JSON object, found ", header.type_name());
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    SafeTensor tensor = read_entry(name, file, entry, data);
    const auto begin = static_cast<uint64_t>(tensor.data.data() - data.data());
    if (!tensor.data.empty()) ranges.emplace_back(begin, begin + tensor.data.size());
    const bool keep = !wanted || std::binary_search(wanted->begin(), wanted->end(), name);
    if (keep && !tensors_.emplace(name, std::move(tensor)).second) {
      fail(file, ": tensor ", printable(name), ": found in two files");
    }
  }
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i - 1].second > ranges[i].first) fail(file, ": two tensors overlap at data offset ", ranges[i].first);
  }
  if (!wanted) return;
  for (const std::string& name : *wanted) {
    if (!find(name)) fail(file, ": tensor ", printable(name), " is missing: the index says that it is here");
  }
}

const SafeTensor* SafeTensors::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

}  // namespace corvid::model
