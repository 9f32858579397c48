#include "runtime/store.h"

#include <sqlite3.h>

#include <array>
#include <random>

#include "runtime/sampler_json.h"
#include "runtime/schema.h"

namespace corvid::runtime {

namespace {

constexpr std::array kRoles{"system", "user", "assistant", "tool"};
constexpr std::array kStatuses{"ok", "failed", "bad_args", "denied", "timed_out", "cancelled"};
constexpr std::array kThinking{"disabled", "enabled", "adaptive"};

template <class Enum, size_t N>
const char* word_of(Enum value, const std::array<const char*, N>& words) {
  return words.at(size_t(value));
}

template <class Enum, size_t N>
Enum enum_of(const std::string& word, const std::array<const char*, N>& words, const Database& db, const char* what) {
  for (size_t i = 0; i < N; ++i)
    if (word == words[i]) return Enum(i);
  throw StoreError(db.file() + ": " + what + ": want one of its words, found '" + word + "'", 0);
}

Json json_of(const std::string& text, const Database& db, const std::string& what) {
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded())
    throw StoreError(db.file() + ": " + what + ": want JSON, found '" + text.substr(0, 80) + "'", 0);
  return json;
}

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

int64_t now_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

// Nine characters of time (milliseconds, good until 2527) and four of chance. Crockford's alphabet in lower
// case: its order is that of the bytes, and without i, l, o, u no id reads as a word such as "last".
std::string make_id(int64_t ms) {
  constexpr char kAlphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";
  static thread_local std::random_device random;
  uint64_t bits = uint64_t(ms) << 20 | (random() & 0xfffff);
  std::string id(13, '0');
  for (auto at = id.rbegin(); at != id.rend(); ++at, bits >>= 5) *at = kAlphabet[bits & 31];
  return id;
}

Json tools_json(const std::vector<model::ToolDecl>& tools) {
  Json json = Json::array();
  for (const model::ToolDecl& tool : tools)
    json.push_back({{"name", tool.name}, {"description", tool.description}, {"parameters", tool.parameters}});
  return json;
}

constexpr const char* kRecordColumns =
    "id, created_ms, updated_ms, workdir, agent, model_name, model_fingerprint, instructions, tools, thinking, sampler,"
    " status, parent";

SessionRecord record_of(const Statement& row, const Database& db) {
  SessionRecord record;
  record.id = row.text(0);
  record.created_ms = row.integer(1);
  record.updated_ms = row.integer(2);
  record.workdir = row.text(3);
  record.agent = row.text(4);
  record.model_name = row.text(5);
  record.model_fingerprint = row.text(6);
  record.prompt.instructions = row.text(7);
  record.prompt.thinking = enum_of<model::Thinking>(row.text(9), kThinking, db, "thinking");
  record.status = row.text(11);
  record.parent = row.text(12);
  const std::string what = "session " + record.id;
  try {
    for (const Json& tool : json_of(row.text(8), db, what + ": tools"))
      record.prompt.tools.push_back({tool.at("name"), tool.at("description"), tool.at("parameters")});
    record.sampler = sampler_of(json_of(row.text(10), db, what + ": sampler"));
  } catch (const Json::exception& e) {  // valid JSON of another shape
    throw StoreError(db.file() + ": " + what + ": tools and sampler: " + e.what(), 0);
  }
  return record;
}

std::vector<std::byte> bytes_of(const std::vector<model::Token>& tokens) {
  std::vector<std::byte> bytes;
  bytes.reserve(tokens.size() * 4);
  for (const model::Token token : tokens)
    for (int shift = 0; shift < 32; shift += 8) bytes.push_back(std::byte(uint32_t(token) >> shift & 0xff));
  return bytes;
}

std::vector<model::Token> tokens_of(std::span<const std::byte> bytes, const Database& db) {
  if (bytes.size() % 4 != 0)
    throw StoreError(
        db.file() + ": tokens of a message: want a multiple of 4 bytes, found " + std::to_string(bytes.size()), 0);
  std::vector<model::Token> tokens;
  tokens.reserve(bytes.size() / 4);
  for (size_t i = 0; i < bytes.size(); i += 4) {
    uint32_t token = 0;
    for (size_t k = 0; k < 4; ++k) token |= uint32_t(bytes[i + k]) << (8 * k);
    tokens.push_back(model::Token(token));
  }
  return tokens;
}

}  // namespace

Store::Store(const std::filesystem::path& file, std::chrono::milliseconds busy) : db_(open_database(file, busy)) {}

std::string Store::create(const SessionRecord& record) {
  constexpr const char* kWanted = "create a session";
  Transaction transaction(db_, Transaction::Kind::write, kWanted);
  const int64_t now = now_ms();
  const auto is_taken = [&](const std::string& id) {
    return Statement(db_, "SELECT 1 FROM sessions WHERE id = ?", kWanted).bind(id).step();
  };
  std::string id = make_id(now);
  while (is_taken(id)) id = make_id(now);
  Statement insert(db_, "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", kWanted);
  insert.bind(id).bind(now).bind(now).bind(record.workdir.string()).bind(record.agent).bind(record.model_name);
  insert.bind(record.model_fingerprint).bind(record.prompt.instructions).bind(dump(tools_json(record.prompt.tools)));
  insert.bind(word_of(record.prompt.thinking, kThinking)).bind(dump(to_json(record.sampler))).bind("new");
  if (record.parent.empty())
    insert.bind_null();
  else
    insert.bind(record.parent);
  insert.run();
  transaction.commit();
  return id;
}

void Store::append(std::string_view session, int64_t seq, const Entry& entry) {
  constexpr const char* kWanted = "append a message";
  const model::Message& message = entry.message;
  const int64_t now = now_ms();
  Transaction transaction(db_, Transaction::Kind::write, kWanted);

  Statement touch(db_, "UPDATE sessions SET updated_ms = ? WHERE id = ?", kWanted);
  touch.bind(now).bind(session).run();
  if (sqlite3_changes(db_.handle()) != 1)
    throw StoreError(db_.file() + ": append a message: there is no session " + std::string(session), 0);
  Statement last(db_, "SELECT coalesce(max(seq), -1) FROM messages WHERE session = ?", kWanted);
  last.bind(session).step();
  if (last.integer(0) + 1 != seq)
    throw StoreError(db_.file() + ": session " + std::string(session) + ": want to append message " +
                         std::to_string(seq) + ", found " + std::to_string(last.integer(0) + 1) +
                         " messages stored: is another process using this session?",
                     0);

  Statement insert(db_, "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", kWanted);
  insert.bind(session).bind(seq).bind(now).bind(word_of(message.role, kRoles));
  insert.bind(message.text).bind(message.reasoning);
  if (message.tokens.empty())
    insert.bind_null();
  else
    insert.bind_blob(bytes_of(message.tokens));
  if (entry.model_fingerprint.empty())
    insert.bind_null();
  else
    insert.bind(entry.model_fingerprint);
  if (message.call_id.empty())
    insert.bind_null();
  else
    insert.bind(message.call_id);
  if (const std::optional<Usage>& usage = entry.usage) {
    insert.bind(usage->prompt_tokens).bind(usage->cached_tokens).bind(usage->completion_tokens);
    insert.bind(usage->prefill_ms).bind(usage->decode_ms);
  } else {
    for (int i = 0; i < 5; ++i) insert.bind_null();
  }
  insert.run();

  int64_t idx = 0;
  for (const model::Call& call : message.calls) {
    Statement row(db_, "INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?)", kWanted);
    row.bind(session).bind(call.id).bind(seq).bind(idx++).bind(call.name).bind(call.args).run();
  }
  if (entry.result) {
    Statement open(db_,
                   "SELECT 1 FROM calls WHERE session = ?1 AND id = ?2 AND NOT EXISTS"
                   " (SELECT 1 FROM results WHERE session = ?1 AND call_id = ?2)",
                   kWanted);
    if (!open.bind(session).bind(message.call_id).step())
      throw StoreError(db_.file() + ": session " + std::string(session) +
                           ": want a result of an unanswered call, found '" + message.call_id + "'",
                       0);
    const CallResult& result = *entry.result;
    Statement row(db_, "INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?)", kWanted);
    row.bind(session).bind(message.call_id).bind(seq).bind(word_of(result.status, kStatuses));
    if (result.exit_code)
      row.bind(int64_t(*result.exit_code));
    else
      row.bind_null();
    row.bind(result.duration_ms).bind(dump(result.detail)).run();
  }
  transaction.commit();
}

int64_t Store::begin_run(std::string_view session, int64_t first_seq) {
  constexpr const char* kWanted = "begin a run";
  const int64_t now = now_ms();
  Transaction transaction(db_, Transaction::Kind::write, kWanted);
  Statement(
      db_,
      "UPDATE runs SET ended_ms = ?, status = 'interrupted', end = 'killed' WHERE session = ? AND ended_ms IS NULL",
      kWanted)
      .bind(now)
      .bind(session)
      .run();
  Statement(db_, "INSERT INTO runs (session, first_seq, started_ms) VALUES (?, ?, ?)", kWanted)
      .bind(session)
      .bind(first_seq)
      .bind(now)
      .run();
  const int64_t run = sqlite3_last_insert_rowid(db_.handle());
  Statement(db_, "UPDATE sessions SET status = 'running', updated_ms = ? WHERE id = ?", kWanted)
      .bind(now)
      .bind(session)
      .run();
  transaction.commit();
  return run;
}

void Store::end_run(int64_t run, RunStatus status, std::string_view end, std::string_view error) {
  constexpr const char* kWanted = "end a run";
  const int64_t now = now_ms();
  Transaction transaction(db_, Transaction::Kind::write, kWanted);
  Statement(db_, "UPDATE runs SET ended_ms = ?, status = ?, end = ?, error = ? WHERE id = ?", kWanted)
      .bind(now)
      .bind(to_text(status))
      .bind(end)
      .bind(error)
      .bind(run)
      .run();
  Statement(db_, "UPDATE sessions SET status = ?, updated_ms = ? WHERE id = (SELECT session FROM runs WHERE id = ?)",
            kWanted)
      .bind(to_text(status))
      .bind(now)
      .bind(run)
      .run();
  transaction.commit();
}

SessionRecord Store::find(std::string_view id_or_prefix) {
  constexpr const char* kWanted = "find a session";
  const std::string columns = std::string("SELECT ") + kRecordColumns + " FROM sessions ";
  if (id_or_prefix == "last") {
    Statement row(db_, columns + "ORDER BY updated_ms DESC, id DESC LIMIT 1", kWanted);
    if (!row.step()) throw StoreError(db_.file() + ": find the last session: there is none yet", 0);
    return record_of(row, db_);
  }
  const std::string wanted(id_or_prefix);
  if (wanted.empty()) throw StoreError(db_.file() + ": find a session: want an id or \"last\", found nothing", 0);
  Statement row(db_, columns + "WHERE substr(id, 1, length(?1)) = ?1 ORDER BY id LIMIT 6", kWanted);
  row.bind(wanted);
  std::vector<SessionRecord> found;
  while (row.step()) found.push_back(record_of(row, db_));
  if (found.empty()) throw StoreError(db_.file() + ": there is no session " + wanted, 0);
  if (found.size() > 1) {
    std::string message = db_.file() + ": several sessions begin with " + wanted + ":";
    for (size_t i = 0; i < found.size() && i < 5; ++i) message += " " + found[i].id;
    throw StoreError(message + (found.size() > 5 ? " and more" : ""), 0);
  }
  return std::move(found.front());
}

std::vector<Entry> Store::load(std::string_view id) {
  constexpr const char* kWanted = "load a session";
  Transaction transaction(db_, Transaction::Kind::read, kWanted);
  std::vector<Entry> entries;
  Statement row(
      db_,
      "SELECT seq, created_ms, role, text, reasoning, tokens, call_id, prompt_tokens, cached_tokens,"
      " completion_tokens, prefill_ms, decode_ms, model_fingerprint FROM messages WHERE session = ? ORDER BY seq",
      kWanted);
  row.bind(id);
  while (row.step()) {
    if (row.integer(0) != int64_t(entries.size()))
      throw StoreError(db_.file() + ": session " + std::string(id) + ": want message " +
                           std::to_string(entries.size()) + ", found " + std::to_string(row.integer(0)),
                       0);
    Entry& entry = entries.emplace_back();
    entry.created_ms = row.integer(1);
    entry.message.role = enum_of<model::Role>(row.text(2), kRoles, db_, "role of a message");
    entry.message.text = row.text(3);
    entry.message.reasoning = row.text(4);
    entry.message.tokens = tokens_of(row.blob(5), db_);
    entry.message.call_id = row.text(6);
    if (!row.is_null(7)) entry.usage = {row.integer(7), row.integer(8), row.integer(9), row.real(10), row.real(11)};
    entry.model_fingerprint = row.text(12);
  }
  const auto entry_at = [&](int64_t seq) -> Entry& {
    if (seq < 0 || seq >= int64_t(entries.size()))
      throw StoreError(db_.file() + ": session " + std::string(id) + ": a call or result of message " +
                           std::to_string(seq) + ", which is not there",
                       0);
    return entries[size_t(seq)];
  };
  Statement call(db_, "SELECT seq, id, name, args FROM calls WHERE session = ? ORDER BY seq, idx", kWanted);
  call.bind(id);
  while (call.step()) entry_at(call.integer(0)).message.calls.push_back({call.text(1), call.text(2), call.text(3)});
  Statement result(db_, "SELECT seq, status, exit_code, duration_ms, detail FROM results WHERE session = ?", kWanted);
  result.bind(id);
  while (result.step()) {
    CallResult& into = entry_at(result.integer(0)).result.emplace();
    into.status = enum_of<tools::Status>(result.text(1), kStatuses, db_, "status of a result");
    if (!result.is_null(2)) into.exit_code = int(result.integer(2));
    into.duration_ms = result.real(3);
    into.detail = json_of(result.text(4), db_, "detail of a result");
  }
  return entries;
}

std::vector<SessionSummary> Store::list(int64_t limit) {
  std::vector<SessionSummary> sessions;
  Statement row(db_,
                "SELECT id, created_ms, updated_ms, workdir, agent, model_name, status,"
                " (SELECT text FROM messages WHERE session = s.id AND role = 'user' ORDER BY seq LIMIT 1),"
                " (SELECT count(*) FROM messages WHERE session = s.id)"
                " FROM sessions s ORDER BY updated_ms DESC, id DESC LIMIT ?",
                "list the sessions");
  row.bind(limit);
  while (row.step())
    sessions.push_back({row.text(0), row.integer(1), row.integer(2), row.text(3), row.text(4), row.text(5), row.text(6),
                        row.text(7), row.integer(8)});
  return sessions;
}

void Store::remove(std::string_view id) {
  constexpr const char* kWanted = "remove a session";
  Transaction transaction(db_, Transaction::Kind::write, kWanted);
  Statement(db_, "DELETE FROM sessions WHERE id = ?", kWanted).bind(id).run();
  if (sqlite3_changes(db_.handle()) != 1)
    throw StoreError(db_.file() + ": remove a session: there is no session " + std::string(id), 0);
  transaction.commit();
}

}  // namespace corvid::runtime
