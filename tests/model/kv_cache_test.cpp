// Cache pages: shared by forks, copied on write, under a budget.
#include "model/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/asan.h"
#include "model/error.h"
#include "tests/support/sequences.h"
#include "tests/support/throws.h"

namespace corvid::model {
namespace {

using test::copy;
using test::fresh;
using test::made_of;
using test::message_of;
using test::prompt_of;
using test::TempDir;
using test::TinyCheckpoint;

std::vector<Token> joined(std::vector<Token> a, const std::vector<Token>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// Blocks of 8: forks in the middle of a block, at its end, and just behind it.
TEST(Fork, AForkAndItsParentGoOnLikeUnsharedSequences) {
  const auto model = made_of({});
  kernels::Exec exec(2);
  for (const int64_t at : {1, 43, 47, 48, 49}) {
    const std::vector<Token> shared = prompt_of(at, 5);
    const std::vector<Token> left = joined(shared, prompt_of(30, 6)), right = joined(shared, prompt_of(30, 7));
    Sequence parent(model, exec, 200);
    parent.sync(shared);
    Sequence fork = parent.fork();
    EXPECT_EQ(copy(fork.logits()), copy(parent.logits()));
    // In turns, so that each writes while the other's content counts.
    for (size_t i = static_cast<size_t>(at); i < left.size(); ++i) {
      parent.append(left[i]);
      fork.append(right[i]);
    }
    EXPECT_EQ(copy(parent.logits()), fresh(model, left)) << "forked at " << at;
    EXPECT_EQ(copy(fork.logits()), fresh(model, right)) << "forked at " << at;
  }
}

TEST(Fork, AForkStaysWhenItsParentChangesItsMindOrIsGone) {
  const auto model = made_of({});
  kernels::Exec exec(2);
  const std::vector<Token> shared = prompt_of(60, 5), right = joined(shared, prompt_of(9, 7));
  std::vector<Token> left = prompt_of(90, 6);
  std::copy_n(shared.begin(), 21, left.begin());
  auto parent = std::make_unique<Sequence>(model, exec, 200);
  parent->sync(shared);
  Sequence fork = parent->fork(), third = fork.fork();
  EXPECT_EQ(parent->sync(left), 21);
  EXPECT_EQ(copy(parent->logits()), fresh(model, left));
  parent.reset();
  EXPECT_EQ(fork.sync(right), 60);
  EXPECT_EQ(copy(fork.logits()), fresh(model, right));
  EXPECT_EQ(third.sync(shared), 59);
  EXPECT_EQ(copy(third.logits()), fresh(model, shared));
}

// In every format a prompt at once equals its tokens one by one, a fork an unshared sequence, and what is restored from
// a file what was evaluated.
TEST(CacheFormat, ChangesNoLawOfASequence) {
  const TempDir dir;
  kernels::Exec exec(2), three(3);
  const std::vector<Token> prompt = prompt_of(110);
  int64_t bytes = INT64_MAX;
  using kernels::Format;
  for (const CacheFormat format : {CacheFormat(Format::f32), CacheFormat(Format::f16, Format::bf16),
                                   CacheFormat(Format::f16), CacheFormat(Format::q8_0)}) {
    for (const TinyCheckpoint& shape :
         {TinyCheckpoint{}, TinyCheckpoint{.head_dim = 10, .rotary_dim = 6, .block = 5}}) {
      const auto model = made_of(shape);
      const auto make = [&](kernels::Exec& on) {
        return Sequence(model, on, 200, Attention::automatic, nullptr, format);
      };
      Sequence whole = make(three), parts = make(exec), restored = make(exec);
      whole.sync(prompt);
      parts.sync(std::span(prompt).first(43));
      parts.save(dir / "s.kv", 43);
      Sequence fork = parts.fork();
      EXPECT_EQ(fork.sync(prompt), 43);  // before its parent holds more of the prompt, which it would share
      for (size_t i = 43; i < prompt.size(); ++i) parts.append(prompt[i]);
      restored.restore(dir / "s.kv");
      EXPECT_EQ(restored.sync(prompt), 43);
      for (const Sequence* other : {&parts, &fork, &restored}) EXPECT_EQ(copy(whole.logits()), copy(other->logits()));
      EXPECT_THAT(whole.identity(), testing::HasSubstr(kernels::format_name(format.kv) + std::string(" ") +
                                                       kernels::format_name(format.index)));
    }
    const int64_t before = bytes;
    bytes = KvCache(made_of({})->config(), nullptr, format).page_bytes();
    EXPECT_LT(bytes, before);
  }
}

TEST(CacheFormat, AWrongOneIsNamedAndAnothersSnapshotRefused) {
  const TempDir dir;
  const auto model = made_of({});
  kernels::Exec exec(1);
  EXPECT_EQ(message_of([&] { KvCache(model->config(), nullptr, kernels::Format::q4_0); }),
            "KV cache: want f32, f16, bf16 or q8_0, found q4_0");
  Sequence half(model, exec, 50, Attention::automatic, nullptr, kernels::Format::f16), whole(model, exec, 50);
  half.sync(prompt_of(13));
  half.save(dir / "s.kv", 13);
  EXPECT_THAT(message_of([&] { whole.restore(dir / "s.kv"); }), testing::HasSubstr("s.kv: want a snapshot of "));
}

TEST(KvPool, CountsASharedPageOnceAndACopiedOneTwice) {
  const auto model = made_of({});
  const auto pool = KvPool::create();
  const int64_t page = KvCache(model->config()).page_bytes();
  kernels::Exec exec(1);
  {
    Sequence parent(model, exec, 200, Attention::automatic, pool);
    parent.sync(prompt_of(20));
    EXPECT_EQ(pool->used_bytes(), 3 * page);
    Sequence fork = parent.fork();
    EXPECT_EQ(pool->used_bytes(), 3 * page);
    fork.append(1);  // in the third block
    EXPECT_EQ(pool->used_bytes(), 4 * page);
    fork.append(1);
    parent.append(1);
    EXPECT_EQ(pool->used_bytes(), 4 * page);
    parent.sync(prompt_of(3));  // has its first page to itself only when it has copied it
    EXPECT_EQ(pool->used_bytes(), 4 * page);
  }
  EXPECT_EQ(pool->used_bytes(), 0);
}

TEST(KvPool, RefusesWhatCannotFitBeforeAnyWork) {
  const auto model = made_of({});
  const int64_t page = KvCache(model->config()).page_bytes();
  const auto pool = KvPool::create(3 * page + 100);
  kernels::Exec exec(1);
  Sequence sequence(model, exec, 200, Attention::automatic, pool);
  EXPECT_EQ(message_of([&] { sequence.sync(prompt_of(25)); }),
            concat("KV cache: want at most ", 3 * page + 100, " bytes, found 25 tokens, which take ", 4 * page));
  EXPECT_EQ(sequence.tokens().size(), 0u);
  EXPECT_EQ(pool->used_bytes(), 0);

  const std::vector<Token> prompt = prompt_of(24);
  sequence.sync(prompt);
  EXPECT_EQ(pool->used_bytes(), 3 * page);
  EXPECT_THROW(sequence.append(1), std::length_error);
  EXPECT_EQ(copy(sequence.logits()), fresh(model, prompt));
  EXPECT_EQ(sequence.tokens().size(), 24u);
}

// More than an arena holds, of two sizes, some given back and taken again: each has its bytes to itself.
TEST(KvPool, PagesDoNotOverlap) {
  const auto pool = KvPool::create();
  struct Held {
    KvPage page;
    size_t bytes;
    std::byte mark;
  };
  std::vector<Held> held;
  const auto take = [&](size_t bytes) {
    const auto mark = static_cast<std::byte>(held.size() * 37 + 1);
    held.push_back({pool->allocate(static_cast<int64_t>(bytes)), bytes, mark});
    EXPECT_EQ(reinterpret_cast<uintptr_t>(held.back().page.bytes.get()) % 64, 0);
    std::fill_n(held.back().page.bytes.get(), bytes, mark);
  };
  const size_t large = (size_t{5} << 20) + 128, small = 832;
  for (int i = 0; i < 30; ++i) take(i % 3 == 0 ? small : large);
  std::erase_if(held, [](const Held& h) { return static_cast<int>(h.mark) % 2 == 0; });
  for (int i = 0; i < 20; ++i) take(i % 3 == 0 ? large : small);
  int64_t used = 0;
  for (const Held& h : held) {
    const std::byte* at = h.page.bytes.get();
    EXPECT_TRUE(std::all_of(at, at + h.bytes, [&](std::byte b) { return b == h.mark; }));
    used += static_cast<int64_t>(h.bytes);
  }
  EXPECT_EQ(pool->used_bytes(), used);
  held.clear();
  EXPECT_EQ(pool->used_bytes(), 0);
}

// Pages of pieces, and one in a single stretch as in a file: read, written and copied as a whole, in every direction.
TEST(KvPool, PiecesLieBesideTheSameOfOtherPages) {
  const std::vector<PagePiece> pieces{{0, 64}, {64, 128}, {192, 128}, {320, 320}};
  constexpr int64_t kBytes = 640;
  const auto pool = KvPool::create();
  const auto content_of = [](size_t page) {
    std::vector<std::byte> bytes(kBytes);
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7 + page * 31);
    return bytes;
  };
  const auto read = [&](const KvPage& page) {
    std::vector<std::byte> bytes(kBytes);
    pool->read(bytes.data(), page, kBytes, pieces);
    return bytes;
  };
  std::vector<KvPage> pages;
  for (size_t i = 0; i < 20; ++i) {
    std::vector<std::byte> content = content_of(i);
    pages.push_back(pool->allocate(kBytes, pieces));
    if (i % 2 == 0) {
      pool->write(pages.back(), content.data(), kBytes, pieces);
      continue;
    }
    const KvPage whole{std::shared_ptr<std::byte>(std::shared_ptr<std::byte>(), content.data()), true, content.data()};
    pool->copy(pages.back(), whole, kBytes, pieces);
  }
  pages.erase(pages.begin() + 5);
  pages.push_back(pool->allocate(kBytes, pieces));
  pool->copy(pages.back(), pages[2], kBytes, pieces);
  for (size_t i = 0; i < 19; ++i) EXPECT_EQ(read(pages[i]), content_of(i < 5 ? i : i + 1)) << i;
  EXPECT_EQ(read(pages.back()), content_of(2));
  const std::vector<std::byte> content = content_of(7);
  for (const PagePiece& piece : pieces) {
    const std::byte* at = pages[6].begin_of(piece);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(at) % 64, 0);
    EXPECT_TRUE(std::equal(at, at + piece.bytes, content.begin() + piece.at));
#ifndef CORVID_ASAN  // where each page is memory of its own
    EXPECT_EQ(pages[7].begin_of(piece) - at, piece.bytes);
#endif
  }
  EXPECT_EQ(pool->used_bytes(), 20 * kBytes);
}

// Given back in any order, they are given out again as they lie.
TEST(KvPool, PagesComeInOrderFromAnArenaThatWasInUse) {
#ifdef CORVID_ASAN
  GTEST_SKIP() << "each page is memory of its own";
#endif
  const auto pool = KvPool::create();
  const std::vector<PagePiece> pieces{{0, 64}, {64, 576}};
  const KvPage held = pool->allocate(640, pieces);
  std::vector<KvPage> pages;
  const auto take = [&] {
    for (int i = 0; i < 10; ++i) pages.push_back(pool->allocate(640, pieces));
  };
  const auto is_in_order = [&] { return std::ranges::is_sorted(pages, {}, &KvPage::slot); };
  take();
  EXPECT_TRUE(is_in_order());
  std::ranges::rotate(pages, pages.begin() + 4);
  while (!pages.empty()) pages.erase(pages.begin());
  take();
  EXPECT_TRUE(is_in_order());
}

// Arenas are for the pages that are said to come, and no larger than what the budget leaves; where pages come one by
// one they grow with what there is of their kind.
TEST(KvPool, ArenasAreForWhatComes) {
  constexpr int64_t kBytes = int64_t{1} << 20;
  const std::vector<PagePiece> whole{{0, kBytes}}, halves{{0, kBytes / 2}, {kBytes / 2, kBytes / 2}};
  const auto pool = KvPool::create(1000 * kBytes);
  std::vector<KvPage> pages;
  const auto take = [&](int64_t n, bool says_so, std::span<const PagePiece> pieces) {
    for (int64_t i = 0; i < n; ++i) pages.push_back(pool->allocate(kBytes, pieces, says_so ? n - i : 1));
    return pages.back().n_slots;
  };
  const std::vector<int64_t> slots{take(2, false, whole),  take(130, true, whole), take(500, true, whole),
                                   take(1, false, halves), take(14, false, whole), take(300, true, halves)};
#ifndef CORVID_ASAN  // where each page is memory of its own
  EXPECT_EQ(slots, (std::vector<int64_t>{4, 128, 244, 4, 10, 41}));
#endif
  take(1000 - std::ssize(pages), false, halves);
  EXPECT_THROW(pool->allocate(kBytes), std::length_error);
}

TEST(KvPool, RefusesPiecesThatAreNotThePage) {
  const auto pool = KvPool::create();
  using Pieces = std::vector<PagePiece>;
  EXPECT_THROW(pool->allocate(640, Pieces{{0, 64}, {64, 128}}), std::invalid_argument);
  EXPECT_THROW(pool->allocate(640, Pieces{{0, 64}, {128, 576}}), std::invalid_argument);
  EXPECT_THROW(pool->allocate(640, Pieces{{0, 72}, {72, 568}}), std::invalid_argument);
  EXPECT_THROW(pool->allocate(640, Pieces{{0, 0}, {0, 640}}), std::invalid_argument);
  EXPECT_THROW(pool->allocate(100), std::invalid_argument);
  EXPECT_EQ(pool->used_bytes(), 0);
}

TEST(KvPool, RefusesANegativeBudget) { EXPECT_THROW(KvPool::create(-1), std::invalid_argument); }

}  // namespace
}  // namespace corvid::model
