// A stored session in the forms that other programs and people read.
#pragma once
#include <string>
#include <vector>

#include "runtime/store.h"

namespace corvid::agents {

std::string iso_time(int64_t ms);  // since 1970, as 2026-01-31T12:00:00Z

// What it was started with, and its messages; with generated tokens when `is_whole`.
runtime::Json session_json(const runtime::SessionRecord& record, const std::vector<runtime::Entry>& entries,
                           bool is_whole);
// A line of what it was started with ("type": "session"), then one for each message ("type": "message").
std::string session_jsonl(const runtime::SessionRecord& record, const std::vector<runtime::Entry>& entries);
std::string session_markdown(const runtime::SessionRecord& record, const std::vector<runtime::Entry>& entries);
// One page without anything from elsewhere, and without scripts.
std::string session_html(const runtime::SessionRecord& record, const std::vector<runtime::Entry>& entries);

}  // namespace corvid::agents
