#include "model/engine.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <list>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <unordered_map>
#include <utility>

#include "model/backend.h"
#include "model/error.h"
#include "model/prefix_index.h"
#include "model/schedule.h"
#include "model/timeline.h"

namespace corvid::model {
namespace {

using Clock = std::chrono::steady_clock;

// A sequence that was used no longer ago is about to come back: its pages are not taken for others.
constexpr std::chrono::milliseconds kPause{100};
// How long to sleep when all work waits for memory: for what becomes idle meanwhile.
constexpr std::chrono::milliseconds kRetry{20};
// Who was served by the last pass samples now and is back soon: the next pass waits for it this part of the last one's
// time, at most kMostPatience, so that sequences stay together.
constexpr int kPatiencePart = 4;
constexpr std::chrono::milliseconds kMostPatience{5};
constexpr int64_t kPassesUntilForgotten = 8;
constexpr int64_t kCopiedPart = 8;  // of a block, at least, that a page is copied for
constexpr int64_t kKeptPart = 4;    // of the budget, for pages of sequences that ended

// Of a common beginning, what is taken over: a few tokens of a block are evaluated faster than the page is copied.
int64_t worth_sharing(int64_t n_tokens, int64_t block) {
  const int64_t in_block = n_tokens % block;
  return in_block < block / kCopiedPart ? n_tokens - in_block : n_tokens;
}

int64_t kept_bytes(const KvPool& pool) {
  return pool.budget_bytes() == KvPool::kNoLimit ? 0 : pool.budget_bytes() / kKeptPart;
}

}  // namespace

// What a waiting call wants; lives in its frame. The queue is made of nodes that orders bring along: moving one never
// needs memory, so that no order gets lost when memory is short.
struct Engine::Order {
  Timeline* timeline = nullptr;  // null: wants `job`
  int64_t keep = 0;              // tokens that it had before, whatever happens
  Wanted wanted = {};
  std::stop_token stop = {};
  const std::function<void(Backend&, kernels::Exec&)>* job = nullptr;

  int64_t reused = -1;  // tokens that were in a cache when its turn came
  bool is_done = false, is_complete = false;
  std::exception_ptr error = nullptr;
  std::condition_variable changed = {};  // is_done, or it is its thread's turn to run passes
  std::list<Order*> node = {this};       // becomes part of the queue
  std::list<Order*>::iterator place = node.begin();

  int64_t n_passes = 0;  // when it was queued, or last had rows

  int64_t left() const { return std::ssize(timeline->tokens) - timeline->held; }
};

struct Engine::Impl {
  std::shared_ptr<const Model> model;
  std::unique_ptr<kernels::Exec> own_exec;  // null when the caller lends its own
  kernels::Exec* exec;
  std::unique_ptr<Backend> backend;  // of the thread that runs passes
  Pace pace = {};

  std::mutex mutex = {};  // of everything below, and of all timelines' caches
  std::vector<Timeline*> timelines = {};
  std::list<Order*> queue = {};       // in the order of their turns
  bool is_running = false;            // a thread runs passes
  std::condition_variable news = {};  // for that thread: work, memory, or a stop
  int64_t ages = 0;
  int64_t n_awaited = 0;  // sequences that the last pass served and that are not back
  Clock::time_point pass_end = {};
  Clock::duration pass_time = {};
  EngineStats stats = {};
  std::atomic<int64_t> n_served = 0;  // sequences in the last pass
  PrefixIndex kept{kept_bytes(*backend->pool())};

  struct Turn {
    Order* order;
    int64_t rows;
    std::vector<int64_t> wanted = {};  // places in its rows
    int64_t first_wanted = 0;          // place in order->wanted
  };

  // Queues the order and returns when it is done; runs passes for all while nobody else does.
  void wait_for(Order& order, std::unique_lock<std::mutex>& lock) {
    queue.splice(queue.end(), order.node);
    news.notify_all();
    while (!order.is_done) {
      if (is_running) {
        order.changed.wait(lock);
        continue;
      }
      is_running = true;
      try {
        step(lock);
      } catch (...) {  // no memory for the plan itself
        if (!order.is_done) {
          order.error = std::current_exception();
          finish(order);
        }
      }
      is_running = false;
    }
    if (!is_running && !queue.empty()) queue.front()->changed.notify_one();
  }

  void step(std::unique_lock<std::mutex>& lock) {
    while (n_awaited > 0 &&
           news.wait_until(lock, pass_end + std::min<Clock::duration>(pass_time / kPatiencePart, kMostPatience)) !=
               std::cv_status::timeout) {
    }
    n_awaited = 0;
    const auto asks = [](const Order* order) { return order->job != nullptr; };
    if (const auto found = std::ranges::find_if(queue, asks); found != queue.end()) {
      run_job(**found, lock);
      return;
    }
    for (auto next = queue.begin(); next != queue.end();) {
      Order& order = **next++;
      if (order.stop.stop_requested()) finish(order);
    }
    admit();
    std::vector<Turn> turns = plan();
    if (!turns.empty()) {
      run_pass(turns, lock);
    } else if (!queue.empty()) {
      news.wait_for(lock, kRetry);
    }
  }

  void run_job(Order& order, std::unique_lock<std::mutex>& lock) {
    lock.unlock();
    try {
      (*order.job)(*backend, *exec);
    } catch (...) {
      order.error = std::current_exception();
    }
    lock.lock();
    finish(order);
  }

  // Takes the memory for as much of the queue as there is place for, the oldest sequences first.
  void admit() {
    std::vector<Order*> waiting;
    for (Order* order : queue) {
      if (!order->timeline->is_admitted) waiting.push_back(order);
    }
    std::ranges::sort(waiting, {}, [](const Order* order) { return order->timeline->age; });
    bool is_short = false;  // somebody older waits for memory: younger ones may use only what they have
    for (Order* order : waiting) {
      Timeline& t = *order->timeline;
      const int64_t n_tokens = std::ssize(t.tokens);
      if (order->left() > kShortRows && share_prefix(t, order->wanted.places)) continue;
      if (is_short && t.cache.n_pages() < t.cache.pages_for(n_tokens)) continue;
      while (!t.is_admitted && !order->is_done) {
        try {
          t.cache.prepare(t.held, n_tokens);
          t.is_admitted = true;
          if (order->reused < 0) order->reused = t.held;
        } catch (const std::length_error&) {
          if (!is_short && (evict_for(t) || drop_shared_part(t))) continue;
          is_short = true;
          break;
        } catch (...) {
          order->error = std::current_exception();
          finish(*order);
        }
      }
      if (t.is_admitted && order->left() == 0) finish(*order);
    }
  }

  // Takes over what another sequence holds of the same tokens; what lies in the middle of a block is copied when it is
  // written to. True when one that is being evaluated will soon hold a block more of them: waiting for that costs less
  // than doing the same.
  bool share_prefix(Timeline& t, std::span<const int64_t> wanted) {
    const int64_t block = t.cache.block();
    const int64_t most = wanted.empty() ? std::ssize(t.tokens) : wanted.front();  // whose logits nobody asks for
    const Timeline* best = nullptr;
    int64_t held = t.held, coming = 0;
    std::vector<KvPage> pages = kept.find(t.kind(), std::span(t.tokens).first(static_cast<size_t>(most)), block);
    const bool is_kept = std::ssize(pages) * block > held;
    if (is_kept) held = std::ssize(pages) * block;
    for (const Timeline* u : timelines) {
      if (u == &t || u->is_made_up || u->kind() != t.kind()) continue;
      const auto differ = std::mismatch(t.tokens.begin(), t.tokens.begin() + most, u->tokens.begin(), u->tokens.end());
      const int64_t same = differ.first - t.tokens.begin(), ready = worth_sharing(std::min(same, u->held), block);
      if (ready > held) {
        best = u;
        held = ready;
      }
      if (u->is_admitted) coming = std::max(coming, same);
    }
    if (coming >= held + block) return true;
    if (best == nullptr && is_kept) {
      t.cache.assign(std::move(pages));
      stats.kept_tokens += held - t.held;
      t.held = held;
    }
    if (best != nullptr) share(*best, held, t);
    return false;
  }

  static void share(const Timeline& from, int64_t n_tokens, Timeline& t) {
    KvCache shared = from.cache;
    shared.truncate(n_tokens);
    t.cache = std::move(shared);
    t.held = n_tokens;
  }

  // Lets go of a page that it shares and has filled in part: a copy beside it may be one page more than there are. True
  // when there was one.
  static bool drop_shared_part(Timeline& t) {
    const int64_t whole = t.held / t.cache.block();
    if (t.held % t.cache.block() == 0 || t.cache.pages()[static_cast<size_t>(whole)].is_exclusive()) return false;
    t.held = whole * t.cache.block();
    t.cache.truncate(t.held);
    return true;
  }

  // An empty timeline takes over `prefix` from a sequence that holds all of it.
  bool adopt(Timeline& t, std::span<const Token> prefix) {
    const auto holds = [&](const Timeline* u) {
      return u != &t && !u->is_made_up && u->kind() == t.kind() && u->held >= std::ssize(prefix) &&
             std::ranges::equal(prefix, std::span(u->tokens).first(prefix.size()));
    };
    const auto found = std::ranges::find_if(timelines, holds);
    if (found == timelines.end()) return false;
    t.tokens.assign(prefix.begin(), prefix.end());
    share(**found, std::ssize(prefix), t);
    t.last_use = Clock::now();
    return true;
  }

  // Takes a page that is kept, or the pages of one sequence that is not used, or that waits and is younger than `t`.
  // False when no memory would come back, now or after some more of these: pages may be shared with those that stay, or
  // lie in a mapped file.
  bool evict_for(const Timeline& t) {
    if (kept.drop_unused()) return true;
    const Clock::time_point now = Clock::now();
    const auto rank = [](const Timeline& u) {  // the lowest goes first
      return std::pair(u.is_queued, u.is_queued ? -u.age : int64_t{u.last_use.time_since_epoch().count()});
    };
    std::vector<Timeline*> candidates;
    std::unordered_map<const std::byte*, int64_t> uses;  // of pages, by those who could let go of them
    for (Timeline* u : timelines) {
      if (u == &t || (u->is_queued ? u->age <= t.age : u->last_use > now - kPause)) continue;
      candidates.push_back(u);
      for (const KvPage& page : u->cache.pages()) ++uses[page.bytes.get()];
    }
    for (const PrefixIndex::Node& node : kept.nodes()) ++uses[node.page.bytes.get()];
    const auto comes_back = [&](const KvPage& page) {
      return !page.is_mapped && page.bytes.use_count() == uses[page.bytes.get()];
    };
    Timeline* victim = nullptr;
    for (Timeline* u : candidates) {
      if (victim != nullptr && rank(*victim) < rank(*u)) continue;
      if (std::ranges::any_of(u->cache.pages(), comes_back)) victim = u;
    }
    if (victim == nullptr) return kept.drop_last();  // for one that is not the last of its prefix, or that `t` shares
    // What stands before the first page that helps stays.
    const auto first = std::ranges::find_if(victim->cache.pages(), comes_back);
    const int64_t stays = (first - victim->cache.pages().begin()) * victim->cache.block();
    victim->cache.truncate(stays);
    victim->held = std::min(victim->held, stays);
    victim->is_admitted = false;
    ++stats.evictions;
    return true;
  }

  std::vector<Turn> plan() {
    std::vector<Turn> turns;
    std::vector<int64_t> left;
    for (Order* order : queue) {
      if (!order->timeline->is_admitted) continue;
      turns.push_back({order, 0});
      left.push_back(order->left());
      order->timeline->last_short_pass = left.back() <= kShortRows ? stats.passes : -1;
    }
    const bool somebody_decodes = std::ranges::any_of(timelines, [&](const Timeline* t) {
      return t->last_short_pass >= std::max<int64_t>(0, stats.passes - kPassesUntilForgotten);
    });
    const int64_t most = backend->most_rows();
    const std::vector<int64_t> rows = share_rows(left, most, pace.prompt_rows(most, somebody_decodes));
    for (size_t i = 0; i < turns.size(); ++i) turns[i].rows = rows[i];
    std::erase_if(turns, [](const Turn& turn) { return turn.rows == 0; });
    for (Turn& turn : turns) {
      const Timeline& t = *turn.order->timeline;
      const std::span<const int64_t> wanted = turn.order->wanted.places;
      const auto begin = std::ranges::lower_bound(wanted, t.held);
      const auto end = std::ranges::lower_bound(wanted, t.held + turn.rows);
      for (auto place = begin; place != end; ++place) turn.wanted.push_back(*place - t.held);
      turn.first_wanted = begin - wanted.begin();
    }
    return turns;
  }

  void run_pass(std::span<Turn> turns, std::unique_lock<std::mutex>& lock) {
    std::vector<Segment> batch;
    int64_t rows = 0, prompt_rows = 0;
    for (const Turn& turn : turns) {
      Timeline& t = *turn.order->timeline;
      batch.push_back({std::span(t.tokens).subspan(static_cast<size_t>(t.held), static_cast<size_t>(turn.rows)), t.held,
                       &t.cache, t.dense, turn.wanted});
      const Wanted& wanted = turn.order->wanted;
      if (wanted.logits != nullptr)
        batch.back().logits = wanted.logits + turn.first_wanted * model->config().vocab_size;
      else if (wanted.best != nullptr)
        batch.back().best = wanted.best + turn.first_wanted;
      rows += turn.rows;
      if (turn.rows > kShortRows) prompt_rows += turn.rows;
    }
    std::vector<std::exception_ptr> errors(batch.size());
    const int64_t pass = stats.passes;
    lock.unlock();
    const Clock::time_point begin = Clock::now();
    evaluate(batch, errors);
    const Clock::time_point end = Clock::now();
    pace.note_pass(prompt_rows, end - begin);
    lock.lock();

    pass_end = end;
    pass_time = end - begin;
    ++stats.passes;
    stats.rows += rows;
    stats.most_sequences = std::max(stats.most_sequences, std::ssize(turns));
    n_served = std::ssize(turns);
    for (size_t i = 0; i < turns.size(); ++i) {
      Order& order = *turns[i].order;
      Timeline& t = *order.timeline;
      queue.splice(queue.end(), queue, order.place);  // behind those that had no turn
      stats.longest_wait = std::max(stats.longest_wait, stats.passes - order.n_passes);
      order.n_passes = stats.passes;
      order.error = errors[i];
      if (!order.error) t.held += turns[i].rows;
      if (!order.error && order.left() > 0) continue;
      t.last_pass = pass;
      ++n_awaited;
      finish(order);
    }
  }

  // A failure is its own sequence's: the others are evaluated without it.
  void evaluate(std::span<const Segment> batch, std::span<std::exception_ptr> errors) noexcept {
    try {
      backend->forward(batch);
    } catch (...) {
      errors[0] = std::current_exception();
      for (size_t i = 0; batch.size() > 1 && i < batch.size(); ++i) {
        errors[i] = nullptr;
        try {
          backend->forward(batch.subspan(i, 1));
        } catch (...) {
          errors[i] = std::current_exception();
        }
      }
    }
  }

  void finish(Order& order) noexcept {
    queue.erase(order.place);
    order.is_done = true;
    if (Timeline* t = order.timeline) {
      order.is_complete = t->is_admitted && !order.error && order.left() == 0;
      if (!order.is_complete) {
        t->tokens.resize(static_cast<size_t>(std::max(order.keep, t->held)));
        t->cache.truncate(t->held);
      }
      t->is_queued = t->is_admitted = false;
      t->last_use = Clock::now();
    }
    order.changed.notify_one();
  }

  // Of a sequence that ends.
  void keep(const Timeline& t) noexcept try {
    if (!t.is_made_up) kept.keep(t.kind(), std::span(t.tokens).first(static_cast<size_t>(t.held)), t.cache);
  } catch (const std::exception&) {  // no memory to remember it
  }

  void check_fits(const Timeline& t, int64_t n_tokens) const {
    const int64_t bytes = t.cache.pages_for(n_tokens) * t.cache.page_bytes();
    const int64_t budget = backend->pool()->budget_bytes();
    if (bytes > budget) {
      throw std::length_error(
          concat("KV cache: want at most ", budget, " bytes, found ", n_tokens, " tokens, which take ", bytes));
    }
  }

  void drop(Timeline& t, int64_t n_tokens) {
    t.tokens.resize(static_cast<size_t>(n_tokens));
    t.cache.truncate(n_tokens);
    t.held = std::min(t.held, n_tokens);
    if (n_tokens == 0) t.is_made_up = false;
    news.notify_all();  // there may be memory now
  }

  void come_back(Timeline& t) {
    const bool was_away = t.cache.n_pages() == 0 || Clock::now() - t.last_use > kPause;
    if (was_away) t.age = ++ages;
    leave_pass(t);
    t.is_queued = true;
  }

  // The next pass need not wait for it.
  void leave_pass(Timeline& t) {
    if (n_awaited > 0 && t.last_pass == stats.passes - 1) --n_awaited;
    t.last_pass = -1;
  }
};

std::shared_ptr<Engine> Engine::create(std::shared_ptr<const Model> model, const EngineOptions& options) {
  auto exec = options.device == kernels::Device::cuda ? std::make_unique<kernels::Exec>(options.device)
                                                      : std::make_unique<kernels::Exec>(options.threads);
  kernels::Exec* const lent = exec.get();
  auto backend = Backend::create(model, *exec, KvPool::create(options.cache_bytes), options.cache_format, options.gpus);
  return std::shared_ptr<Engine>(
      new Engine(std::unique_ptr<Impl>(new Impl{std::move(model), std::move(exec), lent, std::move(backend)})));
}

std::shared_ptr<Engine> Engine::create(std::shared_ptr<const Model> model, kernels::Exec& exec,
                                       std::shared_ptr<KvPool> pool, CacheFormat cache_format,
                                       std::span<const int> gpus) {
  auto backend = Backend::create(model, exec, std::move(pool), cache_format, gpus);
  return std::shared_ptr<Engine>(
      new Engine(std::unique_ptr<Impl>(new Impl{std::move(model), nullptr, &exec, std::move(backend)})));
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

const std::shared_ptr<const Model>& Engine::model() const noexcept { return impl_->model; }
kernels::Device Engine::device() const noexcept { return impl_->exec->device(); }
kernels::Isa Engine::isa() const noexcept { return impl_->exec->isa(); }
CacheFormat Engine::cache_format() const noexcept { return impl_->backend->cache_format(); }
std::shared_ptr<KvPool> Engine::pool() const { return impl_->backend->pool(); }

EngineStats Engine::stats() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->stats;
}

std::optional<StepProfile> Engine::profile_step(std::span<Timeline* const> sequences) {
  std::optional<StepProfile> profile;
  if (device() == kernels::Device::cpu) return profile;
  between_passes([&](Backend& backend, kernels::Exec&) {
    std::vector<Segment> batch;
    for (Timeline* const t : sequences) {
      const std::lock_guard lock(impl_->mutex);
      if (t->held == 0) return;
      t->cache.prepare(t->held - 1, t->held);
      batch.push_back(
          {std::span(t->tokens).subspan(static_cast<size_t>(t->held - 1), 1), t->held - 1, &t->cache, t->dense, {}});
    }
    backend.forward(batch);
    profile = backend.profile_last_step();
  });
  return profile;
}

void Engine::enter(Timeline& timeline) {
  const std::lock_guard lock(impl_->mutex);
  timeline.last_use = Clock::now();
  impl_->timelines.push_back(&timeline);
  timeline.age = ++impl_->ages;
}

void Engine::leave(Timeline& timeline) noexcept {
  const std::lock_guard lock(impl_->mutex);
  impl_->leave_pass(timeline);
  impl_->keep(timeline);
  impl_->drop(timeline, 0);
  std::erase(impl_->timelines, &timeline);
}

Engine::Evaluated Engine::evaluate(Timeline& timeline, int64_t keep, std::span<const Token> more, const Wanted& wanted,
                                   const std::stop_token& stop) {
  Impl& e = *impl_;
  const std::stop_callback wake(stop, [&e] {
    const std::lock_guard lock(e.mutex);
    e.news.notify_all();
  });
  std::unique_lock lock(e.mutex);
  e.check_fits(timeline, keep + std::ssize(more));
  Order order{&timeline, keep, wanted, stop};
  const size_t needed = static_cast<size_t>(keep) + more.size();
  if (timeline.tokens.capacity() < needed) timeline.tokens.reserve(std::max(needed, 2 * timeline.tokens.size()));
  e.drop(timeline, keep);
  timeline.tokens.insert(timeline.tokens.end(), more.begin(), more.end());
  e.come_back(timeline);
  order.n_passes = e.stats.passes;
  e.wait_for(order, lock);
  lock.unlock();  // before `wake` goes, which may be waiting for it
  if (order.error) std::rethrow_exception(order.error);
  return {order.is_complete, std::max<int64_t>(0, order.reused)};
}

void Engine::truncate(Timeline& timeline, int64_t n_tokens) {
  const std::lock_guard lock(impl_->mutex);
  impl_->drop(timeline, n_tokens);
}

bool Engine::adopt(Timeline& timeline, std::span<const Token> prefix) {
  const std::lock_guard lock(impl_->mutex);
  return impl_->adopt(timeline, prefix);
}

void Engine::rest(Timeline& timeline) {
  const std::lock_guard lock(impl_->mutex);
  impl_->leave_pass(timeline);
  impl_->news.notify_all();
}

int64_t Engine::company() const noexcept { return std::max<int64_t>(0, impl_->n_served - 1); }

int64_t Engine::most_tokens(const KvCache& cache) const {
  return impl_->backend->pool()->budget_bytes() / cache.page_bytes() * cache.block();
}

void Engine::locked(const std::function<void()>& look) const {
  const std::lock_guard lock(impl_->mutex);
  look();
}

bool Engine::make_room(const Timeline& timeline) {
  const std::lock_guard lock(impl_->mutex);
  return impl_->evict_for(timeline);
}

void Engine::between_passes(const std::function<void(Backend&, kernels::Exec&)>& job) {
  std::unique_lock lock(impl_->mutex);
  Order order;
  order.job = &job;
  impl_->wait_for(order, lock);
  if (order.error) std::rethrow_exception(order.error);
}

}  // namespace corvid::model
