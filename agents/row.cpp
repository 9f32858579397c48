#include "agents/row.h"

#include <stdexcept>

namespace corvid::agents {

namespace {

constexpr const char* kStatusNames[] = {"passed", "failed", "error", "skipped"};

RowStatus status_from(const std::string& text) {
  for (size_t i = 0; i < std::size(kStatusNames); ++i) {
    if (text == kStatusNames[i]) return static_cast<RowStatus>(i);
  }
  throw std::invalid_argument("status: want passed, failed, error or skipped, found \"" + text + '"');
}

}  // namespace

const char* to_text(RowStatus status) { return kStatusNames[static_cast<size_t>(status)]; }

Row row_of(const Run& run) {
  Row row;
  row.key = run.key;
  row.task = run.task->name;
  row.input = run.input;
  row.matrix = run.matrix;
  return row;
}

Json to_json(const Row& row) {
  Json json{{"task", row.task},
            {"input", row.input},
            {"matrix", row.matrix},
            {"status", to_text(row.status)},
            {"answer", row.answer},
            {"checks", row.checks},
            {"session_id", row.session_id},
            {"seconds", row.seconds},
            {"tries", row.tries},
            {"turns", row.turns},
            {"completion_tokens", row.completion_tokens},
            {"collected", row.collected},
            {"key", row.key}};
  if (!row.error.empty()) json["error"] = row.error;
  return json;
}

Row row_from(const Json& json) {
  try {
    Row row;
    row.key = json.at("key").get<std::string>();
    row.task = json.at("task").get<std::string>();
    row.input = json.at("input");
    row.matrix = json.at("matrix");
    row.status = status_from(json.at("status").get<std::string>());
    row.answer = json.at("answer").get<std::string>();
    row.error = json.value("error", "");
    row.checks = json.at("checks");
    row.session_id = json.at("session_id").get<std::string>();
    row.tries = json.value("tries", int64_t{0});
    row.turns = json.value("turns", int64_t{0});
    row.completion_tokens = json.value("completion_tokens", int64_t{0});
    row.seconds = json.at("seconds").get<double>();
    row.collected = json.value("collected", std::vector<std::string>());
    return row;
  } catch (const Json::exception& error) {
    throw std::invalid_argument(error.what());
  }
}

Json to_json(const Summary& summary) {
  return {{"total", summary.total},
          {"passed", summary.passed},
          {"failed", summary.failed},
          {"skipped", summary.skipped},
          {"seconds", summary.seconds}};
}

}  // namespace corvid::agents
