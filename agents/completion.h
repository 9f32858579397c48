// Completion scripts for bash and zsh, made from the table of commands.
#pragma once
#include <span>
#include <string>

#include "agents/args.h"

namespace corvid::agents {

std::string bash_completion(std::span<const Command> commands);
std::string zsh_completion(std::span<const Command> commands);

}  // namespace corvid::agents
