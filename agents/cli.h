// The corvid program: picks the command, turns exceptions into messages and exit statuses.
#pragma once
#include <string>
#include <vector>

#include "agents/args.h"

namespace corvid::agents {

// Every command, in the order of the help.
const std::vector<Command>& commands();

// `words`: the command line without the program's name. Returns the exit status: 0 completed, 1 failed, 2 wrong usage
// or configuration, 3 a limit ended it, 130 interrupted. Throws nothing.
int run_program(const std::vector<std::string>& words);

}  // namespace corvid::agents
