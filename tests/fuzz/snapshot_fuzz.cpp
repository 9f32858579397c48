// Snapshots of the cache: refused, or restored and gone on with, whatever the pages hold.
//
//   first byte of the input: what the target repairs, so that mutations get past the checksums
//     bit 0: the rest is a header's first 40 bytes, pages, tokens and hashes; the identity is this model's, and the
//            header's hash is right. Otherwise the rest is the file.
//     bit 1: the hashes of pages and tokens are right as well, as far as the header says where they are
#include <algorithm>
#include <cstring>

#include "model/hash.h"
#include "tests/fuzz/snapshot.h"
#include "tests/fuzz/target.h"
#include "tests/support/gguf_bytes.h"

namespace corvid {
namespace {

using test::raw;

std::string with_header(std::string_view input, const std::string& identity) {
  std::string header(input.substr(0, fuzz::kSnapshotFields));
  header.resize(fuzz::kSnapshotFields);
  header += identity;
  header.resize(fuzz::kSnapshotHeader - 8);
  header += raw(model::xxh64(header));
  return header + std::string(input.substr(std::min(input.size(), fuzz::kSnapshotFields)));
}

uint64_t number_at(const std::string& bytes, size_t at) {
  uint64_t number = 0;
  std::memcpy(&number, bytes.data() + at, sizeof number);
  return number;
}

// The table behind the pages ends with a hash for each page, then the hash of the table.
void repair_hashes(std::string& bytes) {
  const uint64_t tokens = number_at(bytes, 16), block = number_at(bytes, 24), page_bytes = number_at(bytes, 32);
  if (tokens > bytes.size() || block == 0 || block > bytes.size() || page_bytes > bytes.size()) return;
  const uint64_t pages = (tokens + block - 1) / block, table = fuzz::kSnapshotHeader + pages * page_bytes;
  if (bytes.size() < table + pages * 8 + 8) return;
  const std::string_view view = bytes;
  const size_t hashes = bytes.size() - 8 - pages * 8;
  for (uint64_t p = 0; p < pages; ++p) {
    const uint64_t hash = model::xxh64(view.substr(fuzz::kSnapshotHeader + p * page_bytes, page_bytes));
    std::memcpy(bytes.data() + hashes + p * 8, &hash, sizeof hash);
  }
  const uint64_t seed = number_at(bytes, fuzz::kSnapshotHeader - 8);
  const uint64_t hash = model::xxh64(view.substr(table, bytes.size() - 8 - table), seed);
  std::memcpy(bytes.data() + bytes.size() - 8, &hash, sizeof hash);
}

}  // namespace
}  // namespace corvid

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace corvid;
  static const test::TempDir dir;
  static kernels::Exec exec(1);
  static const std::shared_ptr<const model::Model> loaded = test::made_of(fuzz::snapshot_model());
  if (size == 0) return 0;
  model::Sequence sequence(loaded, exec, fuzz::kSnapshotMaxTokens);
  std::string bytes(fuzz::text_of(data + 1, size - 1));
  if ((data[0] & 1) != 0) bytes = with_header(bytes, sequence.identity());
  if ((data[0] & 2) != 0 && bytes.size() >= fuzz::kSnapshotHeader) repair_hashes(bytes);
  const std::filesystem::path file = dir.write("file.kv", bytes);
  sequence.append(1);
  try {
    sequence.restore(file);
  } catch (const std::length_error&) {  // longer than the sequence may be
    fuzz::must(sequence.tokens().size() == 1, "a snapshot that is refused changes nothing");
    return 0;
  } catch (const std::runtime_error& error) {
    fuzz::must(*error.what() != '\0', "an error says what is wrong");
    fuzz::must(sequence.tokens().size() == 1, "a snapshot that is refused changes nothing");
    return 0;
  }
  model::Sequence fork = sequence.fork();
  while (std::ssize(sequence.tokens()) < sequence.max_tokens()) sequence.append(2);
  if (!fork.tokens().empty()) fork.save(dir / "copy.kv", std::ssize(fork.tokens()));
  return 0;
}
