#include "agents/cli.h"

int main(int argc, char** argv) { return corvid::agents::run_program(std::vector<std::string>(argv + 1, argv + argc)); }
