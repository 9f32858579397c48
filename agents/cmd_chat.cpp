// corvid chat: a session, line by line.
#include <unistd.h>

#include <iostream>
#include <optional>

#include "agents/assemble.h"
#include "agents/commands.h"
#include "agents/line_editor.h"
#include "agents/paths.h"
#include "agents/progress.h"
#include "runtime/interrupt.h"

namespace corvid::agents {

int run_chat(const Args& args, const std::optional<std::string>& resume) {
  Assembly assembly(args, resume);
  runtime::Session& session = assembly.session();
  LineEditor lines("> ", data_folder() / "history");
  const bool colour = wants_colour(STDERR_FILENO);
  if (lines.is_interactive()) {
    std::cerr << coloured("session " + session.record().id + " in " + plain(session.record().workdir.string()) +
                              "; Ctrl-C cancels a turn, Ctrl-D ends",
                          Colour::dim, colour)
              << "\n";
  }
  // The watcher stays for the whole session, what a turn shows is new each time.
  std::optional<Progress> progress;
  session.watch([&](runtime::Event event) {
    if (progress) progress->show(event);
  });
  int status = 0;
  while (const std::optional<std::string> line = lines.next()) {
    if (line->find_first_not_of(" \t\r") == std::string::npos) continue;
    progress.emplace(isatty(STDOUT_FILENO) == 1);
    const runtime::Interrupt interrupt;
    const runtime::RunResult result = session.run(*line, assembly.run_options(interrupt.token()), interrupt.token());
    progress->print_answer(result);
    if (!result.error.empty()) progress->print_end(result);
    status = runtime::exit_code(result.status);
  }
  assembly.keep_cache();
  // A person has seen how each turn ended; a script that fed the lines learns of the last one.
  return lines.is_interactive() ? 0 : status;
}

}  // namespace corvid::agents
