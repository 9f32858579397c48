#include "model/model.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <optional>
#include <stop_token>
#include <system_error>
#include <thread>
#include <vector>

#include "model/checkpoint.h"
#include "model/error.h"
#include "model/gguf_files.h"
#include "model/hash.h"
#include "model/json_file.h"
#include "model/memory_room.h"
#include "model/random_model.h"
#include "model/weight_copies.h"
#include "model/weights.h"

namespace corvid::model {
namespace {

namespace fs = std::filesystem;

class Fingerprint {
 public:
  void add(std::span<const std::byte> bytes) { hash_ = xxh64(bytes, hash_); }
  void add(int64_t number) { add(std::as_bytes(std::span(&number, 1))); }
  // A little of every tensor: models trained further keep their header and their size, and change every tensor. All of
  // them would be read from the disk otherwise.
  void add_samples(const TensorTable& table) {
    constexpr size_t kSampleBytes = 256;
    for (const auto& [name, tensor] : table) {
      const size_t size = tensor.data.size(), length = std::min(size, kSampleBytes);
      add(tensor.data.first(length));
      add(tensor.data.subspan((size - length) / 2, length));
    }
  }
  std::string hex() const { return model::hex(hash_); }

 private:
  uint64_t hash_ = 0;
};

}  // namespace

struct Model::Impl {
  fs::path path;
  std::string name, fingerprint;
  Config config;
  std::vector<Gguf> files;               // of a GGUF model; its keys are in the first
  std::optional<Checkpoint> checkpoint;  // of a Hugging Face folder
  std::vector<kernels::Buffer> memory;   // tensors that are made up, or can't be used in place in the checkpoint
  Weights weights;
  bool has_tokenizer = false;
  // Made when first asked for: reading hundreds of thousands of tokens takes longer than starting the model.
  mutable std::once_flag tokenizer_once;
  mutable std::optional<Tokenizer> tokenizer;
  std::optional<int64_t> memory_left;
  std::atomic<bool> is_copying{false};
  std::jthread copier;  // the last member: it ends before what it copies

  void open_gguf(const LoadOptions& options) {
    files = open_gguf_files(path);
    config = Config::from_gguf(files[0]);
    const TensorTable table = tensors_of(files);
    Fingerprint print;
    for (const Gguf& file : files) {
      print.add(file.header());
      print.add(file.file_bytes());
    }
    print.add_samples(table);
    config.tied_output = table.find("output.weight") == table.end();
    weights = Weights::bind(config, table, name);
    fingerprint = print.hex();
    const bool named = files[0].has("tokenizer.ggml.model");
    const std::string_view kind = named ? files[0].text("tokenizer.ggml.model") : "none";
    has_tokenizer = kind != "none" && kind != "no_vocab";
    copy_weights(options);
  }

  void copy_weights(const LoadOptions& options) {
    int64_t bytes = 0;
    for (const Gguf& file : files) bytes += file.file_bytes();
    if (options.memory == WeightMemory::mapped) return;
    const int64_t available = available_memory().value_or(0);
    const bool is_worth_it = bytes >= options.least_copied && bytes <= available / 2;
    if (options.memory == WeightMemory::automatic && !is_worth_it) return;
    const auto holder = [this](const std::byte* at) {
      return std::ranges::find_if(files, [&](const Gguf& file) { return file.has_byte(at); });
    };
    weights.read_embedding = [&file = *holder(static_cast<const std::byte*>(weights.embedding.data))](
                                 const std::byte* from, std::span<std::byte> to) { return file.read(from, to); };
    const auto read = [this, holder](const std::byte* from, std::span<std::byte> to) {
      const auto file = holder(from);
      if (file == files.end()) {  // decoded when it was bound
        std::ranges::copy_n(from, std::ssize(to), to.data());
      } else if (!file->read(from, to)) {
        fail(file->name(), ": can't be read any more: it was shortened, or its disk failed");
      }
    };
    const auto forget = [this, holder](std::span<const std::byte> pages) {
      if (const auto file = holder(pages.data()); file != files.end()) file->forget(pages);
    };
    const auto copies = std::make_shared<WeightCopies>(config, weights, WeightSource{read, forget});
    weights.copies = copies;
    if (options.memory == WeightMemory::copied) return copies->copy({});
    memory_left = available - bytes;
    is_copying = true;
    // What can't be copied, or by no thread, is used where it is mapped.
    try {
      copier = std::jthread([this, copies](const std::stop_token& stop) {
        try {
          copies->copy(stop);
        } catch (const std::exception&) {
        }
        is_copying = false;
        is_copying.notify_all();
      });
    } catch (const std::system_error&) {
      is_copying = false;
      memory_left.reset();
    }
  }

  void open_folder() {
    if (!fs::exists(path / "config.json")) {
      fail(path.string(), ": want a GGUF file, or a folder with config.json and safetensors files; found neither");
    }
    checkpoint = Checkpoint::open(path, {});
    config = checkpoint->config();
    const TensorTable table = checkpoint->load(memory);
    weights = Weights::bind(config, table, name);
    Fingerprint print;
    print.add_samples(table);
    const std::string text = read_whole(path / "config.json");
    print.add(std::as_bytes(std::span(text)));
    for (const PlannedTensor& tensor : checkpoint->tensors()) {
      print.add(std::as_bytes(std::span(tensor.name)));
      for (const PlannedTensor::Part& part : tensor.parts) {
        print.add(std::as_bytes(std::span(part.tensor->file)));
        print.add(std::as_bytes(std::span(part.tensor->dtype)));
        print.add(part.first);
        print.add(part.count);
      }
    }
    fingerprint = print.hex();
    has_tokenizer = fs::exists(path / "tokenizer.json");
  }

  void make_up(const RandomShape& shape, bool for_gpu) {
    constexpr int64_t kHeldRows = 1024;
    const RandomModel random(shape);
    config = random.config();
    name = config.name;
    const TensorTable table = random.load(memory, for_gpu ? kHeldRows : 0);
    weights = Weights::bind(config, table, name);
    if (for_gpu) weights.held_rows = kHeldRows;
    Fingerprint print;
    for (const ShapeKey& key : shape_keys()) print.add(shape.*key.value);
    print.add_samples(table);
    fingerprint = print.hex();
  }
};

Model::Model() = default;
Model::~Model() = default;

std::shared_ptr<const Model> Model::load(const fs::path& path, const LoadOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  impl->name = last_name(path);
  if (fs::is_directory(path)) {
    impl->open_folder();
  } else {
    impl->open_gguf(options);
  }
  const std::shared_ptr<Model> model(new Model);
  model->impl_ = std::move(impl);
  return model;
}

std::shared_ptr<const Model> Model::make_up(const RandomShape& shape, bool for_gpu) {
  auto impl = std::make_unique<Impl>();
  impl->make_up(shape, for_gpu);
  const std::shared_ptr<Model> model(new Model);
  model->impl_ = std::move(impl);
  return model;
}

void Model::wait_until_copied() const { impl_->is_copying.wait(true); }
std::optional<int64_t> Model::memory_left() const noexcept { return impl_->memory_left; }
const Config& Model::config() const noexcept { return impl_->config; }
const Weights& Model::weights() const noexcept { return impl_->weights; }
bool Model::has_tokenizer() const noexcept { return impl_->has_tokenizer; }
const std::string& Model::name() const noexcept { return impl_->name; }
const std::string& Model::fingerprint() const noexcept { return impl_->fingerprint; }

const Tokenizer& Model::tokenizer() const {
  const Impl& m = *impl_;
  if (!m.has_tokenizer) fail(m.name, ": has no tokenizer, so it can't be used with text");
  std::call_once(m.tokenizer_once, [&] {
    m.tokenizer =
        m.checkpoint ? Tokenizer::from_json_file(m.path / "tokenizer.json") : Tokenizer::from_gguf(m.files[0]);
  });
  if (m.tokenizer->vocab_size() > m.config.vocab_size) {
    fail(m.name, ": tokenizer: want at most ", m.config.vocab_size, " tokens, found ", m.tokenizer->vocab_size());
  }
  return *m.tokenizer;
}

}  // namespace corvid::model
