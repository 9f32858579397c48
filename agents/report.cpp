#include "agents/report.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "agents/report_page.h"
#include "runtime/events.h"

namespace corvid::agents {

namespace {

std::string fixed(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3f", seconds);
  return text;
}

// What went wrong, in a few lines.
std::string complaint(const Row& row) {
  std::string text = row.error;
  for (const Json& check : row.checks) {
    if (check.value("passed", false)) continue;
    text += (text.empty() ? "" : "\n") + check.value("check", "") + ": found " + check.value("found", "");
  }
  return text;
}

// Valid UTF-8, as the JSON library replaces what is not.
std::string utf8(const std::string& text) {
  return Json::parse(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace)).get<std::string>();
}

std::string xml(const std::string& text) {
  constexpr const char* kReplacement = "\xEF\xBF\xBD";
  std::string out;
  const std::string valid = utf8(text);
  for (size_t i = 0; i < valid.size(); ++i) {
    const char c = valid[i];
    if (valid.compare(i, 3, "\xEF\xBF\xBE") == 0 || valid.compare(i, 3, "\xEF\xBF\xBF") == 0) {  // U+FFFE, U+FFFF
      out += kReplacement;
      i += 2;
      continue;
    }
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\n':
        out += "&#10;";
        break;
      case '\t':
        out += "&#9;";
        break;
      case '\r':
        out += "&#13;";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F)
          out += kReplacement;
        else
          out += c;
    }
  }
  return out;
}

// A spreadsheet takes a cell that begins like this for a formula, unless it is a number.
bool is_formula(const std::string& text) {
  return !text.empty() && std::string_view("=+-@\t\r\n").find(text[0]) != std::string_view::npos && !parse_number(text);
}

std::string csv_field(std::string text) {
  if (is_formula(text)) text.insert(0, 1, '\'');
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + '"';
}

std::string markdown_cell(const std::string& text, size_t most = 120) {
  std::string out;
  for (const char c : utf8(text).substr(0, most)) {
    if (c == '|' || c == '\\' || c == '<' || c == '`' || c == '*' || c == '_') out += '\\';
    out += c == '\n' || c == '\r' ? ' ' : c;
  }
  return utf8(out) + (text.size() > most ? "…" : "");
}

// Rows by task, tasks in the order in which they first appear.
std::vector<std::pair<std::string, std::vector<const Row*>>> by_task(const std::vector<Row>& rows) {
  std::vector<std::pair<std::string, std::vector<const Row*>>> groups;
  for (const Row& row : rows) {
    auto group = std::ranges::find(groups, row.task, &std::pair<std::string, std::vector<const Row*>>::first);
    if (group == groups.end()) group = groups.insert(groups.end(), {row.task, {}});
    group->second.push_back(&row);
  }
  return groups;
}

int64_t count(const std::vector<const Row*>& rows, RowStatus status) {
  return std::ranges::count_if(rows, [&](const Row* row) { return row->status == status; });
}

}  // namespace

std::string cell_name(const Row& row) {
  std::string name;
  for (const Json* section : {&row.input, &row.matrix}) {
    for (const auto& [key, value] : section->items()) name += (name.empty() ? "" : " ") + key + "=" + text_of(value);
  }
  return name;
}

Summary summarize(const std::vector<Row>& rows) {
  Summary summary;
  for (const Row& row : rows) {
    ++summary.total;
    summary.passed += row.status == RowStatus::passed ? 1 : 0;
    summary.failed += row.status == RowStatus::failed || row.status == RowStatus::error ? 1 : 0;
    summary.skipped += row.status == RowStatus::skipped ? 1 : 0;
  }
  return summary;
}

std::string to_jsonl(const std::vector<Row>& rows) {
  std::string out;
  for (const Row& row : rows) out += runtime::to_line(to_json(row)) + "\n";
  return out;
}

std::string to_junit(const std::string& workflow, const std::vector<Row>& rows) {
  const auto attributes = [](const std::vector<const Row*>& group) {
    double seconds = 0;
    for (const Row* row : group) seconds += row->seconds;
    return " tests=\"" + std::to_string(group.size()) + "\" failures=\"" +
           std::to_string(count(group, RowStatus::failed)) + "\" errors=\"" +
           std::to_string(count(group, RowStatus::error)) + "\" skipped=\"" +
           std::to_string(count(group, RowStatus::skipped)) + "\" time=\"" + fixed(seconds) + "\"";
  };
  std::vector<const Row*> all;
  for (const Row& row : rows) all.push_back(&row);
  std::string out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"" + xml(workflow) + "\"" +
                    attributes(all) + ">\n";
  for (const auto& [task, group] : by_task(rows)) {
    out += "  <testsuite name=\"" + xml(task) + "\"" + attributes(group) + ">\n";
    for (const Row* row : group) {
      const std::string cell = cell_name(*row);
      out += "    <testcase classname=\"" + xml(workflow + "." + task) + "\" name=\"" +
             xml(cell.empty() ? task : cell) + "\" time=\"" + fixed(row->seconds) + "\">\n";
      const std::string what = xml(complaint(*row));
      if (row->status == RowStatus::failed) out += "      <failure message=\"" + what + "\"/>\n";
      if (row->status == RowStatus::error) out += "      <error message=\"" + what + "\"/>\n";
      if (row->status == RowStatus::skipped) out += "      <skipped message=\"" + what + "\"/>\n";
      if (!row->answer.empty()) out += "      <system-out>" + xml(row->answer) + "</system-out>\n";
      out += "    </testcase>\n";
    }
    out += "  </testsuite>\n";
  }
  return out + "</testsuites>\n";
}

std::string to_csv(const std::vector<Row>& rows) {
  std::string out = "task,input,matrix,status,answer,seconds,tries,turns,completion_tokens,session_id,error\r\n";
  for (const Row& row : rows) {
    const std::string fields[] = {row.task,
                                  runtime::to_line(row.input),
                                  runtime::to_line(row.matrix),
                                  to_text(row.status),
                                  utf8(row.answer),
                                  fixed(row.seconds),
                                  std::to_string(row.tries),
                                  std::to_string(row.turns),
                                  std::to_string(row.completion_tokens),
                                  row.session_id,
                                  utf8(complaint(row))};
    for (size_t i = 0; i < std::size(fields); ++i) out += (i == 0 ? "" : ",") + csv_field(fields[i]);
    out += "\r\n";
  }
  return out;
}

std::string to_markdown(const std::string& workflow, const std::vector<Row>& rows) {
  const Summary all = summarize(rows);
  std::string out = "# " + markdown_cell(workflow) + "\n\n" + std::to_string(all.passed) + " of " +
                    std::to_string(all.total) + " passed, " + std::to_string(all.failed) + " failed, " +
                    std::to_string(all.skipped) + " skipped.\n\n";
  out += "| task | passed | failed | error | skipped | seconds |\n| --- | --- | --- | --- | --- | --- |\n";
  for (const auto& [task, group] : by_task(rows)) {
    double seconds = 0;
    for (const Row* row : group) seconds += row->seconds;
    out += "| " + markdown_cell(task);
    for (const RowStatus status : {RowStatus::passed, RowStatus::failed, RowStatus::error, RowStatus::skipped})
      out += " | " + std::to_string(count(group, status));
    out += " | " + fixed(seconds) + " |\n";
  }
  if (all.failed == 0) return out;
  out +=
      "\n## What did not pass\n\n| task | run | status | answer | why | session |\n| --- | --- | --- | --- | --- | --- "
      "|\n";
  for (const Row& row : rows) {
    if (row.status != RowStatus::failed && row.status != RowStatus::error) continue;
    out += "| " + markdown_cell(row.task) + " | " + markdown_cell(cell_name(row)) + " | " + to_text(row.status) +
           " | " + markdown_cell(row.answer) + " | " + markdown_cell(complaint(row)) + " | " + row.session_id + " |\n";
  }
  return out;
}

std::string to_html(const std::string& workflow, const std::vector<Row>& rows,
                    const std::function<Json(const std::string& session_id)>& timeline) {
  Json data{{"workflow", workflow}, {"rows", Json::array()}};
  for (const Row& row : rows) {
    Json one = to_json(row);
    one["cell"] = cell_name(row);
    one["timeline"] = row.session_id.empty() ? Json::array() : timeline(row.session_id);
    data["rows"].push_back(std::move(one));
  }
  // Inside a script element only "</" and "<!--" mean something; < as an escape is the same JSON.
  std::string json;
  for (const char c : runtime::to_line(data)) json += c == '<' ? std::string("\\u003c") : std::string(1, c);
  std::string page = kReportPage;
  const std::string_view place = "%DATA%";
  page.replace(page.find(place), place.size(), json);
  return page;
}

}  // namespace corvid::agents
