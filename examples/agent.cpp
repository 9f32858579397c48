// An agent in forty lines:  agent FOLDER PROMPT
#include <corvid/corvid.hpp>
#include <iostream>

namespace {

// What happens on standard error, the answer on standard output as it comes.
void show(const corvid::Event& event) {
  if (const auto* call = std::get_if<corvid::ToolCallEvent>(&event))
    std::cerr << call->call.name << " " << call->call.arguments << "\n";
  if (const auto* token = std::get_if<corvid::TokenEvent>(&event)) std::cout << token->text << std::flush;
}

int work(const char* folder, const char* prompt) {
  const corvid::Engine engine(corvid::Model::shipped());
  const corvid::Store store("agent.db");
  corvid::Session session = corvid::Session::start(engine, store, corvid::Agent(), {.workdir = folder});
  const corvid::Result result = session.run(prompt, {.on_event = show});
  std::cout << "\n";
  if (result.status == corvid::Status::completed) return 0;
  std::cerr << "agent: " << result.error << "\n";
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: agent FOLDER PROMPT\n";
    return 2;
  }
  try {
    return work(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::cerr << "agent: " << error.what() << "\n";
    return 1;
  }
}
