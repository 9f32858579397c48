// A workflow's results in the forms that people and other programs read.
#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "agents/row.h"

namespace corvid::agents {

// Everything here returns the whole file's text.
std::string to_jsonl(const std::vector<Row>& rows);
// JUnit's XML: one suite a task, one case a run. What XML cannot hold (control characters, U+FFFE and U+FFFF, bytes
// that are not UTF-8) becomes U+FFFD.
std::string to_junit(const std::string& workflow, const std::vector<Row>& rows);
// RFC 4180. A text that a spreadsheet would take for a formula has an apostrophe before it.
std::string to_csv(const std::vector<Row>& rows);
std::string to_markdown(const std::string& workflow, const std::vector<Row>& rows);
// One file without anything from elsewhere: pass rates by task and matrix cell as a chart, a table with filters, and a
// timeline for each row. `timeline` gives a session's messages: [{"role", "text", "calls"?, "ms"?}, …].
std::string to_html(const std::string& workflow, const std::vector<Row>& rows,
                    const std::function<Json(const std::string& session_id)>& timeline);

// "file=a.log seed=2": which run of its task this is.
std::string cell_name(const Row& row);
Summary summarize(const std::vector<Row>& rows);

}  // namespace corvid::agents
