#include "agents/inputs.h"

#include <glob.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <stdexcept>

#include "agents/paths.h"
#include "tools/text.h"

namespace corvid::agents {

namespace fs = std::filesystem;

namespace {

constexpr std::streamsize kMaxFileBytes = 256 << 20;
constexpr int kMaxDepth = 64;

std::string read_text(const YamlValue& where, const fs::path& file) {
  std::error_code failure;
  if (!fs::is_regular_file(file, failure)) where.fail("no such file: " + file.string());
  if (fs::file_size(file, failure) > static_cast<uintmax_t>(kMaxFileBytes))
    where.fail(file.string() + ": want at most 256 MiB, found more");
  std::ifstream in(file, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (in.bad()) where.fail(file.string() + ": cannot be read");
  if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
  if (const size_t bad = tools::first_bad_byte(text); bad != text.size()) {
    const auto line = std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(bad), '\n') + 1;
    where.fail(file.string() + ":" + std::to_string(line) + ": want UTF-8 without NULs, found another byte");
  }
  return text;
}

std::vector<Json> read_jsonl(const YamlValue& where, const fs::path& file) {
  std::vector<Json> records;
  std::istringstream lines(read_text(where, file));
  std::string line;
  for (int64_t number = 1; std::getline(lines, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const auto is_shallow = [](int depth, Json::parse_event_t, Json&) {
      if (depth > kMaxDepth) throw std::invalid_argument("want at most 64 levels, found more");
      return true;
    };
    Json record;
    try {
      record = Json::parse(line, is_shallow, false);
    } catch (const std::invalid_argument& error) {
      where.fail(file.string() + ":" + std::to_string(number) + ": " + error.what());
    }
    if (!record.is_object())
      where.fail(file.string() + ":" + std::to_string(number) + ": want a JSON object on the line, found " +
                 (record.is_discarded() ? "no JSON" : record.type_name()));
    records.push_back(std::move(record));
  }
  return records;
}

std::vector<Json> read_csv(const YamlValue& where, const fs::path& file) {
  std::vector<std::vector<std::string>> rows;
  try {
    rows = parse_csv(read_text(where, file));
  } catch (const std::invalid_argument& error) {
    where.fail(file.string() + ": " + error.what());
  }
  if (rows.empty()) where.fail(file.string() + ": want a first line that names the columns, found none");
  const std::vector<std::string>& names = rows[0];
  if (std::set<std::string>(names.begin(), names.end()).size() != names.size())
    where.fail(file.string() + ": line 1: a column's name stands there twice");
  std::vector<Json> records;
  for (size_t i = 1; i < rows.size(); ++i) {
    if (rows[i].size() != names.size())
      where.fail(file.string() + ": record " + std::to_string(i) + ": want " + std::to_string(names.size()) +
                 " fields, found " + std::to_string(rows[i].size()));
    Json record = Json::object();
    for (size_t k = 0; k < names.size(); ++k) record[names[k]] = rows[i][k];
    records.push_back(std::move(record));
  }
  return records;
}

std::vector<Json> read_glob(const YamlValue& where, const std::string& pattern, const fs::path& folder) {
  glob_t found{};
  const std::string full = resolve(pattern, folder).string();
  const int status = glob(full.c_str(), GLOB_BRACE | GLOB_TILDE, nullptr, &found);
  std::vector<std::string> paths(found.gl_pathv, found.gl_pathv + (status == 0 ? found.gl_pathc : 0));
  globfree(&found);
  if (status != 0 && status != GLOB_NOMATCH) where.fail("the pattern " + pattern + " could not be looked up");
  std::vector<Json> records;
  for (const std::string& path : paths) {
    if (!tools::is_text(path)) where.fail("want names in UTF-8, found " + tools::one_line(tools::to_valid_utf8(path)));
    const fs::path name = fs::path(path).filename();
    records.push_back({{"path", path}, {"name", name.string()}, {"stem", name.stem().string()}});
  }
  return records;
}

}  // namespace

std::vector<std::vector<std::string>> parse_csv(const std::string& text) {
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> row;
  std::string field;
  int64_t line = 1;
  bool is_quoted = false, was_quoted = false;
  const auto end_field = [&] {
    row.push_back(std::move(field));
    field.clear();
    was_quoted = false;
  };
  const auto end_row = [&] {
    if (row.empty() && field.empty() && !was_quoted) return;  // an empty line
    end_field();
    rows.push_back(std::move(row));
    row.clear();
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\n') ++line;
    if (is_quoted) {
      if (c != '"') {
        field += c;
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        field += text[++i];
      } else {
        is_quoted = false;
      }
    } else if (c == '"' && field.empty() && !was_quoted) {
      is_quoted = was_quoted = true;
    } else if (c == ',') {
      end_field();
    } else if (c == '\n') {
      end_row();
    } else if (c == '\r' && (i + 1 == text.size() || text[i + 1] == '\n')) {
      continue;
    } else if (was_quoted) {
      throw std::invalid_argument("line " + std::to_string(line) + ": want a comma behind the closing quote, found \"" +
                                  c + '"');
    } else {
      field += c;
    }
  }
  if (is_quoted) throw std::invalid_argument("line " + std::to_string(line) + ": want a closing quote, found the end");
  end_row();
  return rows;
}

std::vector<Json> read_inputs(const YamlValue& value, const fs::path& folder) {
  std::vector<Json> records;
  if (value.is_list()) {
    for (const YamlValue& item : value.items()) {
      if (!item.is_map()) item.fail("want a mapping such as { file: a.log }");
      records.push_back(item.json());
    }
  } else {
    const YamlMap map = value.map({"jsonl", "csv", "glob"});
    if (value.entries().size() != 1) value.fail("want a list, or one of jsonl, csv and glob");
    if (const auto file = map.find("jsonl")) records = read_jsonl(*file, resolve(file->text(), folder));
    if (const auto file = map.find("csv")) records = read_csv(*file, resolve(file->text(), folder));
    if (const auto pattern = map.find("glob")) records = read_glob(*pattern, pattern->text(), folder);
  }
  if (records.empty()) value.fail("want at least one input, found none");
  return records;
}

}  // namespace corvid::agents
