// A loaded model: configuration, weights, tokenizer. Const after load; shared by any number of threads.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "kernels/exec.h"
#include "model/config.h"
#include "model/tokenizer.h"

namespace corvid::model {

struct Weights;
struct RandomShape;

// Where the weights of a GGUF file lie. Mapped they are read when they are first used, and shared with other processes;
// copied into this process's memory (weight_copies.h) they are read faster. automatic begins mapped and
// copies on a thread of its own what takes long to read and fits easily: least_copied bytes or more that are at most
// half of what is free. copied has done so when the model is loaded, whatever the size.
enum class WeightMemory : uint8_t { automatic, mapped, copied };

struct LoadOptions {
  WeightMemory memory = WeightMemory::automatic;
  int64_t least_copied = int64_t{128} << 20;
};

class Model {
 public:
  // `path` is a GGUF file, a Hugging Face folder, or one shard of a split GGUF. Throws std::runtime_error whose message
  // names the file, the thing, what was wanted and what was found.
  static std::shared_ptr<const Model> load(const std::filesystem::path& path, const LoadOptions& options = {});
  // For measuring: weights made up in memory (random_model.h). Throws std::runtime_error when the sizes do not fit.
  // `for_gpu`: with a few rows of each matrix in the host's memory, for nothing but a GPU.
  static std::shared_ptr<const Model> make_up(const RandomShape& shape, bool for_gpu = false);
  ~Model();
  void wait_until_copied() const;  // for measuring: returns when no thread copies weights any more
  // Of the memory that was free before, what weights leave that a thread copies: until it is done, the system still
  // calls free what is theirs. Nothing where none does.
  std::optional<int64_t> memory_left() const noexcept;

  const Config& config() const noexcept;
  const Weights& weights() const noexcept;
  bool has_tokenizer() const noexcept;
  const Tokenizer& tokenizer() const;        // throws std::runtime_error naming the file when the model has none
  const std::string& name() const noexcept;  // file name, for messages
  // Hex; changes with any header byte, the file's size, and samples of every tensor.
  const std::string& fingerprint() const noexcept;

 private:
  Model();
  struct Impl;
  std::unique_ptr<const Impl> impl_;
};

}  // namespace corvid::model
