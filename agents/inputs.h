// What a workflow runs over: records from a list, a JSONL or CSV file, or the files that a pattern matches.
#pragma once
#include <filesystem>
#include <vector>

#include "agents/expression.h"
#include "agents/yaml.h"

namespace corvid::agents {

// `value`: a list of mappings, or one of { jsonl: FILE }, { csv: FILE }, { glob: PATTERN }; paths beneath `folder`.
//   jsonl  one object a line; empty lines are passed over
//   csv    RFC 4180; the first line names the columns; values are texts
//   glob   {"path": as the pattern was written, "name": "a.log", "stem": "a"} for each match, sorted
// Throws UsageError with the place in the YAML file or `FILE:LINE:`.
std::vector<Json> read_inputs(const YamlValue& value, const std::filesystem::path& folder);

// Rows of fields. Throws std::invalid_argument `line N: ...`.
std::vector<std::vector<std::string>> parse_csv(const std::string& text);

}  // namespace corvid::agents
