#include <csignal>

#include "agents/cli.h"

int main(int argc, char** argv) {
  std::signal(SIGCHLD, SIG_DFL);  // whoever ignored it before us: we want to know how our children end
  return corvid::agents::run_program(std::vector<std::string>(argv + 1, argv + argc));
}
