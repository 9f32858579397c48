// The JSON Schema of an `answer_schema` check, read strictly: a keyword that is not looked at would let every answer
// pass.
#pragma once
#include "agents/expression.h"
#include "agents/yaml.h"

namespace corvid::agents {

// The schema as tools/schema.h takes it: type, properties, required, enum, items and additionalProperties; title,
// description, default, examples and $schema, which say nothing about an answer, may stand beside them. Throws
// UsageError at whatever else there is.
Json read_answer_schema(const YamlValue& value);

}  // namespace corvid::agents
