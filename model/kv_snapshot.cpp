#include "model/kv_snapshot.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>
#include <string>
#include <system_error>

#include "model/error.h"
#include "model/hash.h"
#include "model/json_file.h"
#include "model/mapped_file.h"
#include "model/new_file.h"

namespace corvid::model {
namespace {

constexpr std::string_view kMagic = "corvidkv";
constexpr uint32_t kVersion = 3;
constexpr int64_t kHeaderBytes = 4096, kHashAt = kHeaderBytes - 8, kIdentityAt = 40, kLongestIdentity = 1024;

using Header = std::array<std::byte, kHeaderBytes>;

template <class T>
void put(std::byte* at, T value) {
  std::memcpy(at, &value, sizeof value);
}
template <class T>
T get(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

std::span<const std::byte> bytes_of(const void* data, int64_t bytes) {
  return {static_cast<const std::byte*>(data), static_cast<size_t>(bytes)};
}

// Everything behind the pages but the last hash.
std::vector<std::byte> make_table(std::span<const Token> tokens, std::span<const uint64_t> page_hashes) {
  std::vector<std::byte> table((tokens.size_bytes() + 7) / 8 * 8 + page_hashes.size_bytes());
  std::memcpy(table.data(), tokens.data(), tokens.size_bytes());
  std::memcpy(table.data() + table.size() - page_hashes.size_bytes(), page_hashes.data(), page_hashes.size_bytes());
  return table;
}

Header make_header(std::string_view identity, int64_t n_tokens, const KvCache& cache) {
  if (std::ssize(identity) > kLongestIdentity) {
    throw std::invalid_argument(
        concat("snapshot: want an identity of at most ", kLongestIdentity, " bytes, found ", identity.size()));
  }
  Header header{};
  std::memcpy(header.data(), kMagic.data(), kMagic.size());
  put(header.data() + 8, kVersion);
  put(header.data() + 12, static_cast<uint32_t>(identity.size()));
  put(header.data() + 16, n_tokens);
  put(header.data() + 24, cache.block());
  put(header.data() + 32, cache.page_bytes());
  std::memcpy(header.data() + kIdentityAt, identity.data(), identity.size());
  put(header.data() + kHashAt, xxh64(std::span(header).first(kHashAt)));
  return header;
}

}  // namespace

void write_snapshot(const std::filesystem::path& file, std::string_view identity, std::span<const Token> tokens,
                    const KvCache& cache, bool has_index) {
  const Header header = make_header(identity, std::ssize(tokens), cache);
  NewFile out(file, NewFile::Access::owner);
  out.write(header);
  std::vector<uint64_t> hashes;
  kernels::Buffer copy(cache.page_bytes());
  for (int64_t p = 0; p < cache.pages_for(std::ssize(tokens)); ++p) {
    // What others said, or memory's former content, must not get into a file about these tokens.
    cache.pool().read(copy.as<std::byte>(), cache.pages()[static_cast<size_t>(p)], cache.page_bytes(), cache.pieces());
    cache.clear_unused(copy.as<std::byte>(), std::min(cache.block(), std::ssize(tokens) - p * cache.block()),
                       has_index);
    const std::span<const std::byte> page = bytes_of(copy.as<std::byte>(), cache.page_bytes());
    hashes.push_back(xxh64(page));
    out.write(page);
  }
  const std::vector<std::byte> table = make_table(tokens, hashes);
  out.write(table);
  const uint64_t hash = xxh64(table, get<uint64_t>(header.data() + kHashAt));
  out.write(bytes_of(&hash, sizeof hash));
  out.finish(/*durable=*/false);  // a file torn by a power failure has the wrong hashes
}

std::vector<Token> read_snapshot(const std::filesystem::path& file, std::string_view identity, const Config& config,
                                 int64_t max_tokens, KvCache& cache, kernels::Exec& exec,
                                 const std::function<bool()>& make_room) {
  const auto mapped = std::make_shared<const MappedFile>(file);
  const std::span<const std::byte> bytes = mapped->bytes();
  const std::string name = last_name(file);
  if (std::ssize(bytes) < kHeaderBytes) {
    fail(name, ": want a snapshot, at least ", kHeaderBytes, " bytes, found ", bytes.size());
  }
  if (std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0)
    fail(name, ": want a snapshot, found something else");
  if (const auto version = get<uint32_t>(bytes.data() + 8); version != kVersion) {
    fail(name, ": snapshot version: want ", kVersion, ", found ", version);
  }
  const auto header_hash = get<uint64_t>(bytes.data() + kHashAt);
  if (xxh64(bytes.first(kHashAt)) != header_hash) fail(name, ": damaged: the header has another hash than it says");
  const auto identity_bytes = get<uint32_t>(bytes.data() + 12);
  const std::string found(reinterpret_cast<const char*>(bytes.data()) + kIdentityAt,
                          std::min<size_t>(identity_bytes, kLongestIdentity));
  if (found != identity) fail(name, ": want a snapshot of ", identity, ", found one of ", printable(found));
  const auto block = get<int64_t>(bytes.data() + 24), page_bytes = get<int64_t>(bytes.data() + 32);
  if (block != cache.block() || page_bytes != cache.page_bytes()) {
    fail(name, ": want pages of ", cache.block(), " positions in ", cache.page_bytes(), " bytes, found ", block, " in ",
         page_bytes);
  }
  const auto n_tokens = get<int64_t>(bytes.data() + 16);
  if (n_tokens < 0 || n_tokens > std::ssize(bytes))
    fail(name, ": found ", n_tokens, " tokens, more than the file holds");
  const int64_t n_pages = cache.pages_for(n_tokens);
  const int64_t token_bytes = (n_tokens * int64_t{sizeof(Token)} + 7) / 8 * 8;
  const int64_t table_bytes = token_bytes + n_pages * 8;
  // Division first: the product could overflow.
  if (n_pages > std::ssize(bytes) / page_bytes ||
      kHeaderBytes + n_pages * page_bytes + table_bytes + 8 != std::ssize(bytes)) {
    fail(name, ": want ", n_pages, " pages and ", n_tokens, " tokens, found a file of ", bytes.size(), " bytes");
  }
  const std::byte* const pages_at = bytes.data() + kHeaderBytes;
  const std::byte* const table = pages_at + n_pages * page_bytes;
  if (xxh64(bytes_of(table, table_bytes), header_hash) != get<uint64_t>(table + table_bytes)) {
    fail(name, ": damaged: tokens and page hashes have another hash than they should");
  }
  if (n_tokens > max_tokens) {
    throw std::length_error(concat(name, ": want at most ", max_tokens, " tokens, found ", n_tokens));
  }
  std::vector<Token> tokens(static_cast<size_t>(n_tokens));
  std::memcpy(tokens.data(), table, tokens.size() * sizeof(Token));
  for (const Token token : tokens) {
    if (token < 0 || token >= config.vocab_size) {
      fail(name, ": want token ids from 0 to ", config.vocab_size - 1, ", found ", token);
    }
  }
  std::vector<char> is_good(static_cast<size_t>(n_pages));
  exec.pool().run(n_pages, [&](int64_t p, int) {
    is_good[static_cast<size_t>(p)] =
        xxh64(bytes_of(pages_at + p * page_bytes, page_bytes)) == get<uint64_t>(table + token_bytes + p * 8);
  });
  if (const auto bad = std::find(is_good.begin(), is_good.end(), 0); bad != is_good.end()) {
    fail(name, ": damaged: page ", bad - is_good.begin(), " has another hash than it should");
  }
  std::vector<KvPage> pages;
  for (int64_t p = 0; p < n_pages; ++p) {
    if (cache.pool().device() == kernels::Device::cuda) {
      for (bool is_there = false; !is_there;) {
        try {
          pages.push_back(cache.pool().allocate(page_bytes));
          is_there = true;
        } catch (const std::length_error&) {
          if (!make_room || !make_room()) throw;
        }
      }
      try {
        cache.pool().write(pages.back(), pages_at + p * page_bytes, page_bytes);
      } catch (const std::runtime_error& error) {  // the GPU's, not the file's
        throw std::system_error(std::make_error_code(std::errc::io_error), concat(name, ": ", error.what()));
      }
      continue;
    }
    // Only read as long as is_mapped says so; the cache's pointers serve writable pages as well.
    auto* at = const_cast<std::byte*>(pages_at + p * page_bytes);
    pages.push_back({std::shared_ptr<std::byte>(mapped, at), true, at});
  }
  cache.assign(std::move(pages));
  return tokens;
}

}  // namespace corvid::model
