// Model, engine and store.
#include <stdexcept>

#include "agents/embed/parts.h"
#include "agents/paths.h"
#include "model/gpu_backend.h"
#include "runtime/no_signals.h"

namespace corvid {
inline namespace v1 {

namespace fs = std::filesystem;

namespace {

kernels::Format format_of(CacheType type) {
  switch (type) {
    case CacheType::f32:
      return kernels::Format::f32;
    case CacheType::f16:
      return kernels::Format::f16;
    case CacheType::bf16:
      return kernels::Format::bf16;
    case CacheType::q8_0:
      return kernels::Format::q8_0;
  }
  throw std::invalid_argument("cache_type: want f32, f16, bf16 or q8_0, found " + std::to_string(int(type)));
}

// Where the model computes; throws when it cannot be where the host wants it.
kernels::Device device_for(const EngineOptions& options, const model::Model& model) {
  if (options.device == Device::cpu) return kernels::Device::cpu;
  const bool is_wanted = options.device == Device::cuda;
  if (!is_wanted && options.device != Device::automatic)
    throw std::invalid_argument("device: want automatic, cpu or cuda, found " + std::to_string(int(options.device)));
  // The standard type stands for "whatever is usual".
  if (options.cache_type != CacheType::f16 && options.cache_type != CacheType::bf16) {
    if (is_wanted) throw std::invalid_argument("cache_type: want bf16 on a GPU, found another");
    return kernels::Device::cpu;
  }
  const std::optional<std::string> obstacle = model::gpu_obstacle(model, model::kFirstGpu);
  if (!obstacle) return kernels::Device::cuda;
  if (is_wanted) throw std::runtime_error("device: cuda: " + model.name() + ": " + *obstacle);
  return kernels::Device::cpu;
}

// As it is now, without links: what a link leads to is hidden from tools, and one that a tool redirects must not lead
// us elsewhere later. Absolute, since every session opens the store anew, and the host may be in another folder by
// then.
fs::path settled(const fs::path& path) { return path.empty() ? path : fs::weakly_canonical(fs::absolute(path)); }

std::shared_ptr<model::Engine> make_engine(const Model::Impl& model, model::EngineOptions options, Device wish) {
  try {
    return model::Engine::create(model.model, options);
  } catch (const std::runtime_error&) {  // others have taken what there was a moment ago
    if (wish != Device::automatic || options.device == kernels::Device::cpu) throw;
  }
  options.device = kernels::Device::cpu;
  return model::Engine::create(model.model, options);
}

std::chrono::system_clock::time_point time_of(int64_t ms) {
  return std::chrono::system_clock::time_point(std::chrono::milliseconds(ms));
}

}  // namespace

std::string_view version() noexcept { return CORVID_VERSION; }

Model::Model(std::shared_ptr<const Impl> impl) noexcept : impl_(std::move(impl)) {}

Model Model::load(const fs::path& file) {
  const runtime::NoSignals quiet;  // large weights are copied by a thread
  return Model(std::make_shared<const Impl>(Impl{file, model::Model::load(file)}));
}

Model Model::shipped() {
  const std::vector<fs::path> folders = agents::shipped_folders("models");
  if (const auto file = agents::model_in(folders)) return load(*file);
  throw std::runtime_error("no model: want the one that ships in " + folders.front().string());
}

const fs::path& Model::file() const noexcept { return impl_->file; }
const std::string& Model::name() const noexcept { return impl_->model->name(); }
const std::string& Model::fingerprint() const noexcept { return impl_->model->fingerprint(); }
int64_t Model::context() const noexcept { return impl_->model->config().context_length; }

void Engine::Impl::log(LogLevel level, const std::string& line) const noexcept {
  if (!logger) return;
  try {
    logger(level, line);
  } catch (...) {
  }
}

Engine::Engine(const Model& model, const EngineOptions& options) {
  if (options.cache_bytes < 0)
    throw std::invalid_argument("cache_bytes: want 0 or more, found " + std::to_string(options.cache_bytes));
  model::EngineOptions inner;
  inner.threads = options.threads;
  if (options.cache_bytes > 0) inner.cache_bytes = options.cache_bytes;
  inner.cache_format = format_of(options.cache_type);
  const runtime::NoSignals quiet;
  inner.device = device_for(options, *model.impl_->model);
  const fs::path prefix_folder = settled(options.prefix_folder);
  impl_ = std::make_shared<Impl>(
      Impl{model.impl_, make_engine(*model.impl_, inner, options.device), prefix_folder, std::nullopt, options.logger});
  if (!prefix_folder.empty()) impl_->prefixes.emplace(prefix_folder, agents::code_identity());
  impl_->log(LogLevel::info, "engine: " + model.name() + " from " + model.file().string());
}

Model Engine::model() const { return Model(impl_->model); }

Device Engine::device() const noexcept {
  return impl_->engine->device() == kernels::Device::cuda ? Device::cuda : Device::cpu;
}

EngineStats Engine::stats() const {
  const model::EngineStats stats = impl_->engine->stats();
  return {stats.passes, stats.rows, stats.most_sequences, stats.evictions};
}

Store::Store(const fs::path& file) : Store(file, StoreOptions()) {}

Store::Store(const fs::path& file, const StoreOptions& options)
    : impl_(std::make_shared<Impl>(settled(file), settled(options.session_folder))) {}

Store::Impl::Impl(const fs::path& file_in, const fs::path& session_folder_in)
    : file(file_in), session_folder(session_folder_in), store(file_in) {
  if (!session_folder.empty()) sessions.emplace(session_folder, agents::code_identity());
}

const fs::path& Store::file() const noexcept { return impl_->file; }

std::vector<SessionInfo> Store::list(int64_t limit) const {
  const std::lock_guard lock(impl_->mutex);
  std::vector<SessionInfo> sessions;
  for (runtime::SessionSummary& found : impl_->store.list(limit)) {
    sessions.push_back({std::move(found.id), time_of(found.created_ms), time_of(found.updated_ms),
                        std::move(found.workdir), std::move(found.agent), std::move(found.model_name),
                        std::move(found.status), std::move(found.prompt), found.messages});
  }
  return sessions;
}

std::vector<Message> Store::messages(std::string_view id) const {
  const std::lock_guard lock(impl_->mutex);
  std::vector<Message> messages;
  for (const runtime::Entry& entry : impl_->store.load(impl_->store.find(id).id))
    messages.push_back(to_public(entry.message));
  return messages;
}

void Store::remove(std::string_view id) const {
  const std::lock_guard lock(impl_->mutex);
  const std::string whole = impl_->store.find(id).id;
  impl_->store.remove(whole);
  if (impl_->sessions) impl_->sessions->remove(whole);
}

}  // namespace v1
}  // namespace corvid
