// Tokens and their cache pages in a file, so that they need not be evaluated again. Little-endian, version 3:
//
//   header, 4096 bytes:
//     0  "corvidkv"   8  version u32   12  bytes of identity u32   16  tokens u64   24  block u64   32  bytes of a page
//     u64 40  identity (at most 1024 bytes), zeros    4088  hash of all before
//   pages, as KvCache lays them out: positions not in use and padding are zero
//   tokens, i32 each, and zeros up to a multiple of 8
//   hash of each page, u64 each
//   hash of tokens and page hashes, with the header's as its seed
//
// The identity names everything that the pages' bits depend on besides the tokens: model, number format, tier of the
// kernels (or that it was a GPU), attention. A hash is XXH64. The pages begin at a multiple of the memory page, so that
// they are used where they are mapped.
#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/exec.h"
#include "model/config.h"
#include "model/kv_cache.h"

namespace corvid::model {

// Writes the first tokens.size() positions of `cache`; atomic, readable by this user alone. `has_index`: the index keys
// were evaluated. Throws std::system_error naming the file.
void write_snapshot(const std::filesystem::path& file, std::string_view identity, std::span<const Token> tokens,
                    const KvCache& cache, bool has_index);

// Replaces the pages of `cache` with the file's, mapped (on a GPU: copied), and returns the tokens; nothing is changed
// when it throws: std::system_error when the file can't be read, std::runtime_error naming file, wanted and found when
// it is damaged, of another version or identity, or not for this model, std::length_error when it holds more than
// `max_tokens` or, on a GPU, than the pool has room for and make_room(), called again and again, can give. All
// checksums are verified, on the threads of `exec`. A file that another program shortens meanwhile ends this one
// (mapped_file.h): snapshots are replaced or removed, never rewritten.
std::vector<Token> read_snapshot(const std::filesystem::path& file, std::string_view identity, const Config& config,
                                 int64_t max_tokens, KvCache& cache, kernels::Exec& exec,
                                 const std::function<bool()>& make_room = {});

}  // namespace corvid::model
