// The commands of the program, one function a family; cli.cpp puts them together.
#pragma once
#include <string>
#include <vector>

#include "agents/args.h"

namespace corvid::agents {

std::vector<Command> run_commands();           // run, chat
std::vector<Command> batch_commands();         // batch, batch validate
std::vector<Command> sessions_commands();      // sessions list, show, resume, rm, and those of the next line
std::vector<Command> session_copy_commands();  // sessions fork, merge, export, replay
std::vector<Command> model_commands();         // model info, convert, logits, tokenize
std::vector<Command> bench_commands();         // model bench
std::vector<Command> tools_commands();         // tools list, call; policy show; sandbox
std::vector<Command> doctor_commands();        // doctor

// Flags that several commands share.
Flag model_flag();
Flag gpus_flag();
Flag device_flag(const char* standard = "auto, or what config.yaml says");
Flag attention_flag();
Flag cache_type_flag(const char* standard);
Flag index_type_flag();
Flag weights_flag();
Flag cache_memory_flag();
Flag threads_flag();
Flag db_flag();
Flag output_flag(std::vector<std::string> choices);
std::vector<Flag> confinement_flags();  // --workdir, --policy, --allow-host, --allow-write
std::vector<Flag> session_flags();      // what run and chat share

// One task; used by `run` and by `sessions resume ID PROMPT`. Returns the exit status.
int run_task(const Args& args, const std::string& prompt, const std::optional<std::string>& resume);
int run_chat(const Args& args, const std::optional<std::string>& resume);

// The object that consumers of --output json or jsonl get when a run fails before it has a session.
void print_failed_run(const std::string& error, bool is_jsonl);

std::string read_stdin();  // all of it

}  // namespace corvid::agents
