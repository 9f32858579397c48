// corvid model bench: how fast a model is here, and what bounds it.
#include <chrono>
#include <cstdio>
#include <iostream>
#include <optional>

#include "agents/assemble.h"
#include "agents/bench.h"
#include "agents/commands.h"
#include "agents/device.h"
#include "agents/progress.h"
#include "agents/random_shape.h"
#include "kernels/gpu.h"
#include "kernels/read_speed/gpu.h"
#include "kernels/read_speed/read_speed.h"

namespace corvid::agents {

namespace {

namespace fs = std::filesystem;
using runtime::Json;

constexpr int64_t kMostTokens = 1 << 24;
constexpr int64_t kMostSequences = 512;

const char* name_of(model::Attention attention) { return attention == model::Attention::dense ? "dense" : "sparse"; }

// What --attention asks for: kinds of attention of the model, and whether MiniMax-M2's is wanted beside them.
struct Attentions {
  std::vector<model::Attention> of_model;
  bool m2 = false;
};

// None of them: what suits the model.
Attentions attentions_from(const Args& args) {
  const auto text = args.text("attention");
  if (!text) return {};
  Attentions wanted;
  for (size_t at = 0; at <= text->size();) {
    const size_t end = std::min(text->find(',', at), text->size());
    const std::string item = text->substr(at, end - at);
    if (item == "m2") {
      wanted.m2 = true;
    } else if (item == "sparse" || item == "dense") {
      wanted.of_model.push_back(item == "dense" ? model::Attention::dense : model::Attention::sparse);
    } else {
      throw UsageError("--attention: want sparse, dense or m2, or several with commas between, found \"" + *text + '"');
    }
    at = end + 1;
  }
  if (wanted.m2 && !args.text("random")) throw UsageError("--attention m2 is for a made-up model: --random is missing");
  return wanted;
}

// The same shape with the attention that MiniMax-M2 has in every layer: 48 heads over 8 key-value heads, to all keys.
model::RandomShape with_m2_attention(model::RandomShape shape) {
  shape.heads = 48;
  shape.kv_heads = shape.index_heads = 8;
  return shape;
}

double ms_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

// How fast the memory is that the model's weights and caches are in.
class Memory {
 public:
  Memory(kernels::Exec& exec, size_t gpus) : exec_(exec), gpus_(gpus) {
    if (exec.device() == kernels::Device::cuda)
      gpu_.emplace();
    else
      cpu_.emplace();
  }
  double measure() const {  // of GPUs that share the model, all together, as fast as the first
    return gpu_ ? gpu_->measure(exec_.stream()) * static_cast<double>(gpus_) : cpu_->measure(exec_);
  }
  int64_t host_bytes() const { return cpu_ ? cpu_->bytes() : 0; }
  std::string machine() const {
    const std::string count = gpus_ > 1 ? std::to_string(gpus_) + " x " : "";
    if (gpu_) return count + kernels::cuda::gpu_info().name;
    return std::to_string(exec_.pool().threads()) + " threads, " + kernels::isa_name(exec_.isa());
  }

 private:
  kernels::Exec& exec_;
  size_t gpus_;
  mutable std::optional<kernels::ReadSpeed> cpu_;
  mutable std::optional<kernels::GpuReadSpeed> gpu_;
};

BenchPlan plan_from(const Args& args) {
  BenchPlan plan;
  plan.prompts = args.integers("prompt", 0, kMostTokens).value_or(std::vector<int64_t>{512});
  std::erase(plan.prompts, 0);
  plan.gen = args.integer("gen", 0, kMostTokens).value_or(32);
  plan.depths = args.integers("depth", 0, kMostTokens).value_or(std::vector<int64_t>{0});
  plan.batches = args.integers("batch", 1, kMostSequences).value_or(std::vector<int64_t>{1});
  plan.repeats = args.integer("repeat", 1, 1000).value_or(5);
  if (plan.prompts.empty() && plan.gen == 0) throw UsageError("--prompt 0 --gen 0: nothing is left to measure");
  return plan;
}

// One case that was measured, and what it is called.
struct Measured {
  std::string attention;
  BenchResult result;
  double attention_ms = 0;  // of one layer's attention in a decode step, as its profile has it; 0 where there is none
};

Json json_of(const Measured& measured) {
  const BenchResult& result = measured.result;
  const double speed = result.speed(), bandwidth = result.bandwidth();
  Json json = {{"phase", result.is_prefill ? "prefill" : "decode"},
               {"attention", measured.attention},
               {"depth", result.depth},
               {"batch", result.batch},
               {"tokens", result.tokens},
               {"tokens_per_second", speed},
               {"samples", result.speeds},
               {"memory_bytes_per_second", bandwidth},
               {"multiply_adds_per_second", speed * result.cost.multiply_adds}};
  if (result.is_prefill) return json;
  const model::TokenCost& cost = result.cost;
  json["bytes_per_token"] = {{"experts", cost.expert_bytes},   {"weights", cost.weight_bytes},
                             {"output", cost.output_bytes},    {"kv", cost.kv_bytes},
                             {"index_keys", cost.index_bytes}, {"total", cost.bytes()}};
  json["rows_per_pass"] = result.rows_per_pass;
  json["memory_share"] = speed * cost.bytes() / bandwidth;
  if (!result.profile) return json;
  // Every row of a step reads its part of the step's bytes.
  const double step_bytes = cost.bytes() * static_cast<double>(result.profile->rows);
  Json parts = Json::array();
  for (const model::StepProfile::Part& part : result.profile->parts)
    parts.push_back({{"name", part.name}, {"ms", part.ms}});
  json["step"] = {{"rows", result.profile->rows},
                  {"ms", result.profile->ms},
                  {"bytes", step_bytes},
                  {"memory_share", step_bytes / (result.profile->ms * 1e-3) / bandwidth},
                  {"parts", parts}};
  return json;
}

void print_head() {
  std::printf("%-14s %-9s %7s %6s %10s %7s %12s %8s %8s\n", "", "attention", "depth", "batch", "tokens/s", "+-",
              "MB/token", "GB/s", "of read");
}

void print_row(const Measured& measured) {
  const BenchResult& result = measured.result;
  const auto [least, most] = std::minmax_element(result.speeds.begin(), result.speeds.end());
  const double speed = result.speed(), bytes = result.cost.bytes();
  const std::string test = (result.is_prefill ? "prefill " : "decode ") + std::to_string(result.tokens);
  std::printf("%-14s %-9s %7lld %6lld %10.2f %6.1f%%", test.c_str(), measured.attention.c_str(),
              static_cast<long long>(result.depth), static_cast<long long>(result.batch), speed,
              50 * (*most - *least) / speed);
  if (!result.is_prefill) {
    std::printf(" %12.1f %8.2f %7.0f%%", bytes / 1e6, speed * bytes / 1e9, 100 * speed * bytes / result.bandwidth());
  }
  std::printf("\n");
  if (const auto& profile = result.profile) {
    const double step_bytes = bytes * static_cast<double>(profile->rows);
    std::printf("  the step alone, %lld rows: %.3f ms, %.0f%% of read;", static_cast<long long>(profile->rows),
                profile->ms, 100 * step_bytes / (profile->ms * 1e-3) / result.bandwidth());
    for (const model::StepProfile::Part& part : profile->parts) std::printf(" %s %.3f", part.name.c_str(), part.ms);
    std::printf("\n");
  }
  std::fflush(stdout);
}

Measured measured(const std::string& attention, const BenchResult& result, const model::Config& config) {
  Measured m{attention, result};
  if (!result.profile) return m;
  const auto n_sparse = std::ranges::count_if(config.layers, &model::Config::Layer::sparse_attention);
  const bool is_sparse = attention == "sparse" && n_sparse > 0;
  for (const model::StepProfile::Part& part : result.profile->parts) {
    if (part.name == (is_sparse ? "sparse attention" : "dense attention"))
      m.attention_ms = part.ms / static_cast<double>(is_sparse ? n_sparse : config.n_layers());
  }
  return m;
}

// How much longer attending to everything takes than choosing blocks, wherever both were measured.
Json ratios_of(const std::vector<Measured>& all) {
  Json ratios = Json::array();
  for (const Measured& sparse : all) {
    for (const Measured& other : all) {
      const BenchResult &a = sparse.result, &b = other.result;
      if (sparse.attention != "sparse" || other.attention == "sparse" || a.is_prefill != b.is_prefill ||
          a.depth != b.depth || a.batch != b.batch || a.tokens != b.tokens)
        continue;
      Json ratio{{"phase", a.is_prefill ? "prefill" : "decode"},
                 {"of", other.attention},
                 {"depth", a.depth},
                 {"batch", a.batch},
                 {"tokens", a.tokens},
                 {"time", a.speed() / b.speed()}};
      if (a.profile && b.profile) ratio["step"] = b.profile->ms / a.profile->ms;
      if (sparse.attention_ms > 0 && other.attention_ms > 0)
        ratio["attention"] = other.attention_ms / sparse.attention_ms;
      ratios.push_back(ratio);
    }
  }
  return ratios;
}

void print_ratios(const Json& ratios) {
  for (const Json& ratio : ratios) {
    std::printf("%s %lld at %lld, batch %lld: %s / sparse %.2f", ratio["phase"].get<std::string>().c_str(),
                ratio["tokens"].get<long long>(), ratio["depth"].get<long long>(), ratio["batch"].get<long long>(),
                ratio["of"].get<std::string>().c_str(), ratio["time"].get<double>());
    if (ratio.contains("step")) std::printf(", the step alone %.2f", ratio["step"].get<double>());
    if (ratio.contains("attention")) std::printf(", attention alone %.2f", ratio["attention"].get<double>());
    std::printf("\n");
  }
}

int run_bench_command(const Args& args) {
  const Config defaults = load_config();
  const DeviceWish wish = device_wish(args, defaults);
  const auto path = args.positional(0), random = args.text("random"), save = args.text("save");
  if (path.has_value() == random.has_value()) throw UsageError("want MODEL or --random SHAPE, and not both");
  if (save) {
    if (!random) throw UsageError("--save writes a made-up model: --random is missing");
    const int64_t bytes = model::RandomModel(parse_shape(*random)).write(*save);
    std::cerr << "wrote " << plain(*save) << ": " << bytes << " bytes\n";
    return 0;
  }
  BenchPlan plan = plan_from(args);
  Attentions wanted = attentions_from(args);
  std::error_code failure;
  if (path && !fs::exists(*path, failure)) throw UsageError("no such file or folder: " + *path);

  const auto loading = std::chrono::steady_clock::now();
  auto loaded = random ? model::Model::make_up(parse_shape(*random), wish.name == "cuda")
                       : model::Model::load(*path, load_options_from(args, wish));
  const double load_ms = ms_since(loading);
  if (wanted.of_model.empty() && !wanted.m2)
    wanted.of_model = {loaded->config().has_sparse_attention() ? model::Attention::sparse : model::Attention::dense};
  const kernels::Device device = device_for(wish, *loaded, args);
  const auto exec = device == kernels::Device::cuda ? std::make_unique<kernels::Exec>(device)
                                                    : std::make_unique<kernels::Exec>(threads_from(args, defaults));
  const Memory memory(*exec, wish.gpus.size());
  const bool is_json = args.text("output") == "json";
  const std::string machine = memory.machine(), name = loaded->name();
  const std::string architecture(loaded->config().architecture());
  double first_token_ms = 0;  // load and one token
  model::CacheFormat cache_format;
  std::vector<Measured> all;
  Json results = Json::array();
  // The model goes before the next comes: a GPU may not hold both.
  const auto measure = [&](std::shared_ptr<const model::Model> model, std::vector<model::Attention> attentions,
                           const char* called) {
    const auto begin = std::chrono::steady_clock::now();
    const auto engine =
        model::Engine::create(model, *exec, nullptr, cache_format_from(args, kernels::Format::f16), wish.gpus);
    model::Sequence(engine, 1).append(0);  // a mapped file is read when it is first used
    if (first_token_ms == 0) first_token_ms = load_ms + ms_since(begin);
    model->wait_until_copied();
    cache_format = engine->cache_format();
    if (!is_json && all.empty()) {
      std::printf("%s: %s, memory read at %.1f GB/s\n\n", plain(name).c_str(), plain(machine).c_str(),
                  memory.measure() / 1e9);
      print_head();
    }
    plan.attentions = std::move(attentions);
    run_bench(
        engine, plan, [&] { return memory.measure(); },
        [&](const BenchResult& result) {
          const std::string attention = called != nullptr ? called : name_of(result.attention);
          all.push_back(measured(attention, result, model->config()));
          if (is_json)
            results.push_back(json_of(all.back()));
          else
            print_row(all.back());
        });
  };
  if (!wanted.of_model.empty()) measure(std::move(loaded), wanted.of_model, nullptr);
  loaded.reset();
  if (wanted.m2)
    measure(model::Model::make_up(with_m2_attention(parse_shape(*random)), wish.name == "cuda"),
            {model::Attention::dense}, "m2");

  const Json ratios = ratios_of(all);
  if (is_json) {
    Json json{{"model", name},
              {"architecture", architecture},
              {"load_ms", load_ms},
              {"first_token_ms", first_token_ms},
              {"peak_bytes", std::max<int64_t>(0, peak_memory() - memory.host_bytes())},
              {"results", results}};
    if (!ratios.empty()) json["ratios"] = ratios;
    json["cache_type"] = kernels::format_name(cache_format.kv);
    json["index_type"] = cache_format.index_name();
    if (device == kernels::Device::cuda) {
      json["gpu"] = machine;
    } else {
      json["threads"] = exec->pool().threads();
      json["tier"] = kernels::isa_name(exec->isa());
    }
    std::cout << to_output_line(json) << "\n";
  } else if (!ratios.empty()) {
    std::printf("\n");
    print_ratios(ratios);
  }
  return 0;
}

}  // namespace

std::vector<Command> bench_commands() {
  return {
      {.name = "model bench",
       .summary = "Measure a model: tokens per second, and how near that is to what memory allows.",
       .positionals = {{"MODEL", "a GGUF file or a Hugging Face folder", false, false, Completes::files}},
       .flags = {{"random", "SHAPE", "make a model up in memory instead"},
                 {"save", "FILE", "write the made-up model as a GGUF file and measure nothing", {}, Completes::files},
                 {"prompt", "N,...", "tokens to prefill (default: 512; 0: none)"},
                 {"gen", "N", "tokens to decode (default: 32; 0: none)"},
                 {"depth", "N,...", "tokens that are there before (default: 0)"},
                 {"batch", "N,...", "sequences that decode at once (default: 1)"},
                 {"attention", "KIND,...", "sparse, dense, m2 (default: sparse where the model selects blocks)"},
                 cache_type_flag("f16"),
                 index_type_flag(),
                 {"repeat", "N", "measure each case so often, and take the median (default: 5)"},
                 device_flag(),
                 gpus_flag(),
                 weights_flag(),
                 threads_flag(),
                 output_flag({"table", "json"})},
       .examples = {"corvid model bench corvid-small.gguf --prompt 512,4096 --depth 0,16384",
                    "corvid model bench --random minimax-m3:layers=4,type=q4_0 --depth 32768 --output json"},
       .notes =
           shape_help() +
           "\n\nTokens are random and nothing is sampled. What lies before a depth is made up: keys and values are\n"
           "random numbers, as reading them takes as long whatever they are. --attention m2 measures a made-up model\n"
           "with MiniMax-M2's attention in its place, 48 heads over 8 key-value heads that attend to everything, and\n"
           "gives the ratio. A decoded token's bytes are those of\n"
           "the weights that it uses, the keys and values that it attends to, the index keys that it scans and the\n"
           "output matrix; they are compared with how fast the same threads read memory just before. Peak memory\n"
           "is that of the process without the 256 MiB which that takes.",
       .run = run_bench_command}};
}

}  // namespace corvid::agents
