// Prefill and decode through llama.cpp's C API, measured as `corvid model bench` measures: random tokens, nothing
// sampled, one JSON object with the same fields. tests/bench/cpu.py builds it against the headers and libraries of one
// release and runs it:
//   llama_cpp LIBRARIES MODEL FLASH_ATTENTION(0|1) THREADS CASE...       a case: prefill:512:4096 or decode:16:32768
#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "ggml-backend.h"
#include "llama.h"

namespace {

constexpr int kBatch = 512;  // tokens of one call; what the library computes at once
constexpr int kBase = 128;   // tokens that are really evaluated to fill a cache

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// "prefill:512:0": tokens to evaluate, and how many are there before.
struct Case {
  std::string phase;
  int tokens = 0, depth = 0;

  explicit Case(const std::string& text) {
    std::stringstream parts(text);
    char colon = 0;
    if (!std::getline(parts, phase, ':') || !(parts >> tokens >> colon >> depth) || tokens < 1 || depth < 0) {
      throw std::runtime_error("case: want prefill:TOKENS:DEPTH or decode:TOKENS:DEPTH, found " + text);
    }
  }
};

class Peer {
 public:
  Peer(const char* file, bool flash_attention, int threads, int context) {
    llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = 0;
    const double begin = now();
    model_ = llama_model_load_from_file(file, model_params);
    if (model_ == nullptr) throw std::runtime_error(std::string(file) + ": llama.cpp cannot load it");
    llama_context_params params = llama_context_default_params();
    params.n_ctx = static_cast<uint32_t>(context);
    params.n_batch = params.n_ubatch = kBatch;
    params.n_threads = params.n_threads_batch = threads;
    params.flash_attn_type = flash_attention ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    context_ = llama_init_from_model(model_, params);
    if (context_ == nullptr) throw std::runtime_error(std::string(file) + ": llama.cpp cannot make a context");
    vocab_ = llama_vocab_n_tokens(llama_model_get_vocab(model_));
    batch_ = llama_batch_init(kBatch, 0, 1);
    // Its threads would otherwise be started anew for every call.
    ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    const auto make_pool = reinterpret_cast<decltype(ggml_threadpool_new)*>(
        ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), "ggml_threadpool_new"));
    if (make_pool != nullptr) {
      ggml_threadpool_params pool = ggml_threadpool_params_default(threads);
      llama_attach_threadpool(context_, make_pool(&pool), nullptr);
    }
    feed(1, 0);
    first_token_ms_ = 1e3 * (now() - begin);
    for (int i = 0; i < vocab_; ++i) {
      if (!std::isfinite(llama_get_logits_ith(context_, -1)[i])) throw std::runtime_error("llama.cpp: bad logits");
    }
    cut(0);
  }

  double first_token_ms() const { return first_token_ms_; }  // load, context and one token

  // n random tokens from position `first` on; the logits of the last.
  void feed(int n, int first) {
    for (int done = 0; done < n; done += batch_.n_tokens) {
      batch_.n_tokens = std::min(kBatch, n - done);
      for (int i = 0; i < batch_.n_tokens; ++i) {
        state_ = state_ * 6364136223846793005U + 1442695040888963407U;
        batch_.token[i] = static_cast<llama_token>((state_ >> 33) % static_cast<uint64_t>(vocab_));
        batch_.pos[i] = first + done + i;
        batch_.n_seq_id[i] = 1;
        batch_.seq_id[i][0] = 0;
        batch_.logits[i] = done + i == n - 1;
      }
      if (llama_decode(context_, batch_) != 0) throw std::runtime_error("llama.cpp: llama_decode failed");
      llama_synchronize(context_);
    }
  }

  void cut(int n) { llama_memory_seq_rm(llama_get_memory(context_), 0, n, -1); }

  // Makes the first `base` positions into `times` times as many: their saved state is repeated at running positions
  // and loaded back. Speed does not depend on the values, and a long prompt would take the better part of an hour.
  void repeat(int base, int times);

 private:
  llama_model* model_ = nullptr;  // all kept until the process ends
  llama_context* context_ = nullptr;
  llama_batch batch_{};
  int vocab_ = 0;
  double first_token_ms_ = 0;
  uint64_t state_ = 1;
};

// The state of one sequence, copied piece by piece from one buffer to another (llama_kv_cache::state_write).
class StateCopy {
 public:
  StateCopy(std::vector<uint8_t> from) : from_(std::move(from)), at_(from_.data()) {}

  template <class T>
  T skip() {
    T value;
    std::memcpy(&value, at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  template <class T>
  void put(T value) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(&value);
    to_.insert(to_.end(), bytes, bytes + sizeof value);
  }
  template <class T>
  T copy() {
    const T value = skip<T>();
    put(value);
    return value;
  }
  void repeat(uint64_t bytes, int times) {
    for (int i = 0; i < times; ++i) to_.insert(to_.end(), at_, at_ + bytes);
    at_ += bytes;
  }
  bool at_end() const { return at_ == from_.data() + from_.size(); }
  const std::vector<uint8_t>& result() const { return to_; }

 private:
  std::vector<uint8_t> from_, to_;
  const uint8_t* at_;
};

void Peer::repeat(int base, int times) {
  const auto want = [](bool holds) {
    if (!holds) throw std::runtime_error("llama.cpp: the saved state is not laid out as this release's is");
  };
  std::vector<uint8_t> state(llama_state_seq_get_size(context_, 0));
  state.resize(llama_state_seq_get_data(context_, state.data(), state.size(), 0));
  StateCopy copy(std::move(state));
  copy.copy<uint32_t>();               // mark
  copy.copy<int32_t>();                // sequence
  while (!copy.at_end()) {             // a cache; a model with index keys has two
    want(copy.copy<uint32_t>() == 1);  // streams
    const auto cells = copy.skip<uint32_t>();
    want(cells == static_cast<uint32_t>(base));
    copy.put<uint32_t>(cells * static_cast<uint32_t>(times));
    for (uint32_t i = 0; i < cells; ++i) {
      want(copy.skip<int32_t>() == static_cast<int32_t>(i));  // position
      want(copy.skip<uint32_t>() == 1);                       // sequences that hold it
      want(copy.skip<int32_t>() == 0);                        // the first of them
    }
    for (int32_t i = 0; i < base * times; ++i) {
      copy.put(i);
      copy.put<uint32_t>(1);
      copy.put<int32_t>(0);
    }
    const bool transposed = copy.copy<uint32_t>() != 0;
    const auto layers = copy.copy<uint32_t>();
    const auto rows = [&] {
      copy.copy<int32_t>();  // type
      copy.repeat(copy.copy<uint64_t>() * cells, times);
    };
    for (uint32_t i = 0; i < layers; ++i) rows();
    for (uint32_t i = 0; i < layers && !copy.at_end(); ++i) {  // index keys have no values
      if (!transposed) {
        rows();
        continue;
      }
      copy.copy<int32_t>();
      const auto bytes = copy.copy<uint32_t>(), columns = copy.copy<uint32_t>();
      for (uint32_t column = 0; column < columns; ++column) copy.repeat(uint64_t{bytes} * cells, times);
    }
  }
  cut(0);
  const std::vector<uint8_t>& all = copy.result();
  want(llama_state_seq_set_data(context_, all.data(), all.size(), 0) == all.size());
}

void reset_peak() {
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << 5;
}

int64_t peak_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoll(line.substr(6)) * 1024;
  }
  return 0;
}

int run(std::span<char*> words) {
  std::vector<Case> cases;
  int context = 0;
  for (const char* word : words.subspan(5)) {
    const Case& one = cases.emplace_back(word);
    context = std::max(context, one.depth + one.tokens + 1);
  }
  // The deepest first: the cache is filled once and then cut.
  std::stable_sort(cases.begin(), cases.end(), [](const Case& a, const Case& b) { return a.depth > b.depth; });
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
      },
      nullptr);
  ggml_backend_load_all_from_path(words[1]);
  llama_backend_init();
  Peer peer(words[2], words[3][0] == '1', std::stoi(words[4]), (context + 255) / 256 * 256);
  const int deepest = cases.front().depth;
  if (deepest % kBase != 0) throw std::runtime_error("case: want the largest depth to be a multiple of 128");
  if (deepest > 0) {
    peer.feed(kBase, 0);
    if (deepest > kBase) peer.repeat(kBase, deepest / kBase);
    reset_peak();  // what filling took is not what running takes
  }
  std::string results;
  for (const Case& one : cases) {
    peer.cut(one.depth);
    int done = 0;
    if (one.phase == "decode") peer.feed(done = 1, one.depth);  // the first step at a depth may build its graph anew
    const double begin = now();
    if (one.phase == "decode") {
      for (int i = 0; i < one.tokens; ++i) peer.feed(1, one.depth + done + i);
    } else {
      peer.feed(one.tokens, one.depth);
    }
    char text[160];
    std::snprintf(text, sizeof text, "%s{\"phase\":\"%s\",\"depth\":%d,\"tokens\":%d,\"tokens_per_second\":%.4f}",
                  results.empty() ? "" : ",", one.phase.c_str(), one.depth, one.tokens, one.tokens / (now() - begin));
    results += text;
  }
  std::printf("{\"version\":\"%s\",\"first_token_ms\":%.1f,\"peak_bytes\":%lld,\"results\":[%s]}\n", llama_version(),
              peer.first_token_ms(), static_cast<long long>(peak_bytes()), results.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) {
    std::fputs("usage: llama_cpp LIBRARIES MODEL FLASH_ATTENTION THREADS CASE...\n", stderr);
    return 2;
  }
  try {
    const int status = run({argv, static_cast<size_t>(argc)});
    std::fflush(stdout);
    std::_Exit(status);  // its threads are still there
  } catch (const std::exception& error) {
    std::fprintf(stderr, "llama_cpp: %s\n", error.what());
    return 1;
  }
}
