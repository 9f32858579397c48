// A loaded model: weights and tokenizer.
#pragma once
#include <corvid/export.hpp>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace corvid {
inline namespace v1 {

// Never changes after it was loaded; any number of threads may use it. A copy is another handle to the same model.
class CORVID_API Model {
 public:
  // A GGUF file, a Hugging Face folder, or one shard of a split GGUF. The weights are mapped; large
  // ones are copied into memory by a thread while the model already works. Throws
  // std::runtime_error whose message names the file, the thing, what was wanted and what was found.
  static Model load(const std::filesystem::path& file);
  // The small model that comes with corvid. Throws std::runtime_error when it was not installed.
  static Model shipped();

  const std::filesystem::path& file() const noexcept;  // as it was given
  const std::string& name() const noexcept;            // the file's name
  const std::string& fingerprint() const noexcept;     // hex; another model has another one
  int64_t context() const noexcept;                    // tokens, what the model was made for

  struct Impl;

 private:
  friend class Engine;
  explicit Model(std::shared_ptr<const Impl> impl) noexcept;
  std::shared_ptr<const Impl> impl_;
};

}  // namespace v1
}  // namespace corvid
