// Flags that several commands share.
#include "agents/commands.h"
#include "agents/sampler_options.h"

namespace corvid::agents {

Flag model_flag() {
  return {"model",
          "FILE",
          "the model: a GGUF file or a Hugging Face folder (default: CORVID_MODEL, config.yaml, the one that ships)",
          {},
          Completes::files};
}

Flag device_flag(const char* standard) {
  return {"device",
          "DEVICE",
          std::string("where the model computes; auto: a GPU that can, else the CPU (default: ") + standard + ")",
          {"auto", "cpu", "cuda"}};
}

Flag gpus_flag() {
  return {"gpus", "N", "GPUs that share the model, the first so many (default: 1, or what config.yaml says)"};
}

Flag attention_flag() {
  return {"attention",
          "KIND",
          "auto as the model was trained, dense reads everything, sparse selects blocks, if need be without training",
          {"auto", "sparse", "dense"}};
}

Flag cache_type_flag(const char* standard) {
  return {"cache-type",
          "TYPE",
          std::string("how keys and values are kept: fewer bytes are read sooner, and are less exact (default: ") +
              standard + ")",
          {"f32", "f16", "bf16", "q8_0"}};
}

Flag index_type_flag() {
  return {"index-type",
          "TYPE",
          "how the keys that blocks are chosen by are kept (default: q8_0, with --cache-type f32 or bf16 the same; "
          "e4m3 on a GPU)",
          {"f32", "bf16", "q8_0", "e4m3"}};
}

Flag weights_flag() {
  return {
      "weights",
      "WHERE",
      "mapped: read when first used; copied: into memory first, then faster; auto copies 128 MiB and more meanwhile",
      {"auto", "mapped", "copied"}};
}

Flag cache_memory_flag() {
  return {
      "cache-memory", "SIZE",
      "memory for keys and values: 512MiB, 4GiB (default: half of what is free once the model is loaded; of a GPU's "
      "what is left, at most 16 contexts)"};
}

Flag threads_flag() { return {"threads", "N", "threads that compute (default: one for each core)"}; }

Flag db_flag() { return {"db", "FILE", "the store (default: $XDG_DATA_HOME/corvid/corvid.db)", {}, Completes::files}; }

Flag output_flag(std::vector<std::string> choices) {
  return {"output", "FORMAT", "how results are printed", std::move(choices)};
}

std::vector<Flag> confinement_flags() {
  return {{"workdir", "DIR", "the folder to work in (default: this one)", {}, Completes::folders},
          {"policy", "FILE", "a policy file: what tools may touch", {}, Completes::files},
          {"allow-host", "HOST[:PORT]", "a host that the HTTP tool may reach", {}, Completes::nothing, true},
          {"allow-write", "DIR", "a further folder that tools may write", {}, Completes::folders, true}};
}

std::vector<Flag> session_flags() {
  std::vector<Flag> flags{model_flag(), device_flag(), gpus_flag()};
  for (const Flag& flag : confinement_flags()) flags.push_back(flag);
  for (const Flag& flag : std::initializer_list<Flag>{
           {"agent", "NAME|FILE", "the agent (default: default)", {}, Completes::files},
           {"max-turns", "N", "replies of the model, at most"},
           {"max-tokens", "N", "tokens that the model writes, at most"},
           {"timeout", "DURATION", "time for one task: 30s, 5m, 500ms"},
           {"context", "N", "tokens of context, at most"},
           attention_flag(),
           cache_type_flag("f16"),
           index_type_flag(),
           {"approve", "WHEN", "which calls a person at the terminal is asked about", {"never", "risky", "always"}},
           {"speculate", "N|off", "tokens guessed ahead and verified in one pass, at most (default: 16)"},
           weights_flag(),
           cache_memory_flag(),
           threads_flag(),
           db_flag()}) {
    flags.push_back(flag);
  }
  for (const Flag& flag : sampler_flags()) flags.push_back(flag);
  return flags;
}

}  // namespace corvid::agents
