/* The same agent in C11:  agent_c FOLDER PROMPT */
#include <corvid.h>
#include <stdio.h>

static void show(void* data, const corvid_event* event) {
  (void)data;
  const corvid_text text = corvid_event_text(event);
  if (corvid_event_kind_of(event) == CORVID_EVENT_TOOL_CALL) fprintf(stderr, "%s\n", corvid_event_json(event).data);
  if (corvid_event_kind_of(event) == CORVID_EVENT_TOKEN) fwrite(text.data, 1, text.size, stdout), fflush(stdout);
}

int main(int argc, char** argv) {
  if (argc != 3) return fprintf(stderr, "usage: agent_c FOLDER PROMPT\n"), 2;
  corvid_engine* engine = NULL;
  corvid_store* store = NULL;
  corvid_agent* agent = NULL;
  corvid_session* session = NULL;
  corvid_result* result = NULL;
  corvid_error* error = NULL;
  const corvid_run_options options = {.size = sizeof options, .on_event = show};
  const int is_run =
      corvid_engine_create(NULL, &engine, &error) == CORVID_OK &&
      corvid_store_open(corvid_text_of("agent.db"), &store, &error) == CORVID_OK &&
      corvid_agent_load(corvid_text_of("default"), &agent, &error) == CORVID_OK &&
      corvid_session_start(engine, store, agent, corvid_text_of(argv[1]), &session, &error) == CORVID_OK &&
      corvid_session_run(session, corvid_text_of(argv[2]), &options, &result, &error) == CORVID_OK;
  if (is_run) printf("\n");
  const int is_completed = is_run && corvid_result_status(result) == CORVID_COMPLETED;
  if (!is_completed)
    fprintf(stderr, "agent_c: %s\n", (is_run ? corvid_result_error(result) : corvid_error_message(error)).data);
  corvid_error_free(error);
  corvid_result_free(result);
  corvid_session_free(session);
  corvid_agent_free(agent);
  corvid_store_free(store);
  corvid_engine_free(engine);
  return is_completed ? 0 : 1;
}
