// What tests of caches of sequences on disk begin with: a made-up model, sequences of it, and a folder not made yet.
#pragma once
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "model/sequence.h"
#include "tests/support/sequences.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace corvid::test {

class SequenceCacheTest : public ::testing::Test {
 protected:
  explicit SequenceCacheTest(std::string_view name) : folder_(dir_ / "cache" / name) {}

  model::Sequence empty() { return {model_, exec_, 200}; }
  model::Sequence holding(std::span<const model::Token> tokens) {
    model::Sequence sequence = empty();
    sequence.sync(tokens);
    return sequence;
  }
  std::vector<std::filesystem::path> files() const {
    std::vector<std::filesystem::path> found;
    if (std::filesystem::exists(folder_))
      for (const auto& entry : std::filesystem::directory_iterator(folder_)) found.push_back(entry.path());
    return found;
  }

  const TempDir dir_;
  const std::filesystem::path folder_;
  const std::shared_ptr<const model::Model> model_ = made_of({});
  kernels::Exec exec_{2};
  const std::vector<model::Token> tokens_ = prompt_of(60);
};

}  // namespace corvid::test
