// What fuzz targets share. A target defines LLVMFuzzerTestOneInput and lives in NAME_fuzz.cpp; libFuzzer drives it
// (script/fuzz), and corpus.cpp feeds it the files in corpus/NAME as an ordinary test. A target returns when its input
// was read or refused with one of the documented errors; all else ends the process: a signal, a sanitizer's report, an
// exception that nobody promised, or a law that does not hold.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "model/sequence.h"
#include "model/tokenizer.h"
#include "model/utf8.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace corvid::fuzz {

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

inline void must(bool holds, const char* law) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", law);
  std::abort();
}

// False when `read` refuses its input with an `Error`, which has to say why.
template <class Error = std::runtime_error, class Read>
bool accepts(const Read& read) {
  try {
    read();
    return true;
  } catch (const Error& error) {
    must(*error.what() != '\0', "an error says what is wrong");
    return false;
  }
}

// Bytes that look random: as numbers, some are infinite or no numbers at all.
inline std::string noise(size_t size) {
  std::string bytes(size, '\0');
  uint64_t state = size;
  for (char& byte : bytes) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    byte = static_cast<char>(state >> 56);
  }
  return bytes;
}

inline std::string without_white_space(std::string_view text) {
  std::string rest;
  while (!text.empty()) {
    const int length = model::utf8_length(text);
    const std::string_view next = text.substr(0, static_cast<size_t>(std::max(length, 1)));
    if (length <= 0 || !model::is_white_space(model::utf8_decode(next, length))) rest += next;
    text.remove_prefix(next.size());
  }
  return rest;
}

// With `strips` there may be added tokens that take the white space beside them.
inline void must_be_lossless(const model::Tokenizer& tokenizer, std::string_view text, bool strips = false) {
  for (const bool special : {false, true}) {
    const std::string back = tokenizer.decode(tokenizer.encode(text, special));
    must(back == text || (strips && without_white_space(back) == without_white_space(text)),
         "decode(encode(text)) is text");
  }
  must(tokenizer.decode(tokenizer.encode_plain(text)) == text, "decode(encode_plain(text)) is text");
}

// Runs a few tokens through a model that was accepted: whatever its weights are, the pass ends and stays inside memory.
inline void evaluate(const std::shared_ptr<const model::Model>& loaded) {
  static kernels::Exec exec(1);
  constexpr int64_t kMostBytes = 16 << 20;  // pages of some models are large: no fault, but slow
  const auto last = static_cast<model::Token>(loaded->config().vocab_size - 1);
  model::Sequence sequence(loaded, exec, 64);
  if (sequence.cache_bytes(24) > kMostBytes) return;
  std::vector<model::Token> prompt(20, last);
  prompt[0] = 0;
  sequence.sync(prompt);
  sequence.append(last);
  must(std::ssize(sequence.logits()) == loaded->config().vocab_size, "a token has one logit for each token");
}

}  // namespace corvid::fuzz
