// The model families: what tells one from another, as data. A family_*.cpp file holds each, with the keys of
// config.json that it alone has; the rest of the code asks Config::family.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/expert_ffn/expert_ffn.h"
#include "kernels/route/route.h"

namespace corvid::model {

class JsonKeys;
struct Config;

struct Family {
  std::string_view architecture;  // in GGUF: "minimax-m3"; also the prefix of its keys
  std::string_view model_types;   // of config.json, for messages: "minimax_m3_vl or minimax_m3_vl_text"
  std::string_view model_type;    // what model_type begins with, and
  std::string_view class_name;    // what the class in `architectures` begins with

  bool one_plus_norms = false;    // a Hugging Face checkpoint's norms hold w and mean 1 + w; GGUF holds the factor
  bool whole_qk_norms = false;    // q and k are normalised over all their heads together; otherwise head by head
  bool sparse_attention = false;  // layers with experts select blocks of keys, unless the file says otherwise
  bool routing_bias = false;      // GGUF holds a bias for the choice of experts
  bool shared_experts = false;    // GGUF holds their number
  bool tied_output = false;       // llama.cpp does without an output matrix when it is the embedding
  kernels::Gating gating = kernels::Gating::sigmoid;
  kernels::Activation::Kind activation = kernels::Activation::Kind::silu;

  // Reads what only this family has: the layers' kinds and all of the feed-forward part. Throws like JsonKeys.
  void (*read_json)(const JsonKeys& keys, Config& config) = nullptr;
};

extern const Family kMiniMaxM3, kMiniMaxM2, kQwen3Moe;
std::span<const Family* const> all_families();

}  // namespace corvid::model
