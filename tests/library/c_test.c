/* corvid.h used from C11: every function once, and what it promises of ownership and errors. */
#define _POSIX_C_SOURCE 200809L /* mkdtemp */

#include <corvid.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Kept in builds without assertions too. */
#define WANT(claim)                                                    \
  do {                                                                 \
    if (!(claim)) {                                                    \
      fprintf(stderr, "%s:%d: want %s\n", __FILE__, __LINE__, #claim); \
      exit(1);                                                         \
    }                                                                  \
  } while (0)

#define OK(call)                                                                                     \
  do {                                                                                               \
    corvid_error* why = NULL;                                                                        \
    corvid_error** error = &why;                                                                     \
    if ((call) != CORVID_OK) {                                                                       \
      fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, corvid_error_message(why).data); \
      exit(1);                                                                                       \
    }                                                                                                \
    WANT(why == NULL);                                                                               \
  } while (0)

/* The call fails with this status and says this. */
#define FAILS(call, wanted, says)                                              \
  do {                                                                         \
    corvid_error* why = NULL;                                                  \
    corvid_error** error = &why;                                               \
    WANT((call) == (wanted));                                                  \
    WANT(why != NULL && strstr(corvid_error_message(why).data, says) != NULL); \
    corvid_error_free(why);                                                    \
    error = NULL;                                                              \
    WANT((call) == (wanted));                                                  \
  } while (0)

static corvid_text text(const char* string) { return corvid_text_of(string); }
static int equal(corvid_text found, const char* wanted) {
  return found.size == strlen(wanted) && memcmp(found.data, wanted, found.size) == 0 && found.data[found.size] == '\0';
}
static int has(corvid_text found, const char* wanted) { return strstr(found.data, wanted) != NULL; }

static const char* const kCount = "how many txt files are in notes?";
static char folder[] = "/tmp/corvid-c-XXXXXX";
static char work[64], file[64];

static void write_file(const char* name, const char* content) {
  FILE* out = fopen(name, "w");
  WANT(out != NULL && fputs(content, out) >= 0 && fclose(out) == 0);
}

struct heard {
  int log_lines, events[6], released, asked, tool_calls;
  size_t written;
  corvid_session* cancel; /* at the first call */
};

static void on_log(void* data, corvid_log_level level, corvid_text line) {
  WANT(level >= CORVID_DEBUG && level <= CORVID_ERROR && line.size > 0);
  ++((struct heard*)data)->log_lines;
}
static void on_event(void* data, const corvid_event* event) {
  struct heard* heard = data;
  const corvid_event_kind kind = corvid_event_kind_of(event);
  ++heard->events[kind];
  WANT(has(corvid_event_json(event), "{\"event\":\""));
  if (kind == CORVID_EVENT_TOKEN) heard->written += corvid_event_text(event).size;
  if (kind == CORVID_EVENT_TOOL_CALL) {
    WANT(equal(corvid_event_text(event), "shell"));
    corvid_session_cancel(heard->cancel); /* NULL: does nothing */
  }
}
static bool on_ask(void* data, corvid_text tool, corvid_text arguments) {
  ++((struct heard*)data)->asked;
  WANT(equal(tool, "shell") && arguments.data[0] == '{');
  return false;
}
static void on_release(void* data) { ++((struct heard*)data)->released; }

static void stock(void* data, const corvid_request* request, corvid_reply* reply) {
  ++((struct heard*)data)->tool_calls;
  WANT(equal(corvid_request_name(request), "stock"));
  WANT(has(corvid_request_workdir(request), "/work"));
  WANT(!corvid_request_is_stopped(request));
  WANT(corvid_request_argument(request, text("nothing")).data == NULL);
  const corvid_text article = corvid_request_argument(request, text("article"));
  const corvid_text least = corvid_request_argument(request, text("least"));
  WANT(has(corvid_request_arguments(request), article.data));
  const corvid_text broken = {NULL, 5};
  WANT(corvid_request_argument(request, broken).data == NULL);
  if (equal(article, "broken")) {
    corvid_reply_text(reply, broken);
    return;
  }
  if (equal(article, "trouble")) {
    corvid_reply_failure(reply, broken);
    corvid_reply_failure(reply, text("[error: the shelf is locked]"));
    return;
  }
  char answer[64];
  snprintf(answer, sizeof answer, "%s %s", article.data, least.data != NULL ? least.data : "-");
  corvid_reply_text(reply, text("replaced by the next"));
  corvid_reply_text(reply, text(answer));
}

static const char* const kSchema =
    "{\"type\":\"object\",\"properties\":{\"article\":{\"type\":\"string\"},\"least\":{\"type\":\"integer\"}},"
    "\"required\":[\"article\"]}";

static void test_engine_and_store_errors(void) {
  corvid_engine* engine = (corvid_engine*)folder;
  corvid_engine_options options = {.size = sizeof options, .threads = -1};
  FAILS(corvid_engine_create(&options, &engine, error), CORVID_INVALID, "threads");
  WANT(engine == NULL);
  options.threads = 0;
  options.model = text("/no/such.gguf");
  FAILS(corvid_engine_create(&options, &engine, error), CORVID_FAILED, "/no/such.gguf");
  options.model = text("\xff");
  FAILS(corvid_engine_create(&options, &engine, error), CORVID_INVALID, "UTF-8");
  options.model = text("");
  options.device = 7;
  FAILS(corvid_engine_create(&options, &engine, error), CORVID_INVALID, "device");
  options.device = CORVID_DEVICE_AUTO;
  options.size = sizeof options + 8;
  FAILS(corvid_engine_create(&options, &engine, error), CORVID_INVALID, "size");
  FAILS(corvid_engine_create(NULL, NULL, error), CORVID_INVALID, "NULL");
  corvid_store* store = NULL;
  FAILS(corvid_store_open(text("/proc/no.db"), &store, error), CORVID_FAILED, "/proc/no.db");
  corvid_output* output = NULL;
  corvid_store_options kept = {.size = sizeof kept + 1};
  FAILS(corvid_store_open_with(text(file), &kept, &store, error), CORVID_INVALID, "size");
  FAILS(corvid_store_list(NULL, 1, &output, error), CORVID_INVALID, "store");
  corvid_engine_free(NULL);
  corvid_store_free(NULL);
  corvid_agent_free(NULL);
  corvid_session_free(NULL);
  corvid_result_free(NULL);
  corvid_output_free(NULL);
  corvid_error_free(NULL);
  corvid_session_cancel(NULL);
  WANT(corvid_session_id(NULL).size == 0 && corvid_error_message(NULL).size == 0);
  WANT(corvid_result_status(NULL) == CORVID_RUN_FAILED && corvid_output_text(NULL).size == 0);
  WANT(equal(corvid_result_answer(NULL), "") && equal(corvid_result_error(NULL), ""));
  WANT(equal(corvid_result_json(NULL), ""));
}

static void test_agent(struct heard* heard, corvid_agent** agent) {
  FAILS(corvid_agent_load(text("nobody"), agent, error), CORVID_INVALID, "nobody");
  OK(corvid_agent_load(text(""), agent, error));
  const corvid_text some[] = {text("shell"), text("read_file"), text("shel")};
  FAILS(corvid_agent_set_tools(*agent, some, 3, error), CORVID_INVALID, "shel");
  FAILS(corvid_agent_set_tools(*agent, NULL, 3, error), CORVID_INVALID, "NULL");
  OK(corvid_agent_set_tools(*agent, some, 2, error));
  OK(corvid_agent_set_name(*agent, text("clerk"), error));
  OK(corvid_agent_set_limits(*agent, 5, 0, -1, 60000, error));
  OK(corvid_agent_set_sampler(*agent, 0, 7, error));
  FAILS(corvid_agent_set_sampler(*agent, -1, 7, error), CORVID_INVALID, "temperature");
  const corvid_text dirs[] = {text(folder)};
  corvid_policy policy = {.size = sizeof policy, .read_dirs = dirs, .n_read_dirs = 1};
  OK(corvid_agent_set_policy(*agent, &policy, error));
  policy.allow_hosts = dirs, policy.n_allow_hosts = 1;
  FAILS(corvid_agent_set_policy(*agent, &policy, error), CORVID_INVALID, "HOST");

  corvid_tool tool = {.size = sizeof tool,
                      .name = text("stock"),
                      .description = text("What is in store"),
                      .parameters = text("[]"),
                      .run = stock,
                      .data = heard,
                      .release = on_release};
  FAILS(corvid_agent_add_tool(*agent, &tool, error), CORVID_INVALID, "parameters");
  tool.parameters = text(kSchema);
  tool.run = NULL;
  FAILS(corvid_agent_add_tool(*agent, &tool, error), CORVID_INVALID, "function");
  tool.run = stock;
  FAILS(corvid_agent_replace_tool(*agent, &tool, error), CORVID_INVALID, "stock");
  WANT(heard->released == 0); /* what could not be added is still the caller's */
  OK(corvid_agent_add_tool(*agent, &tool, error));
  FAILS(corvid_agent_add_tool(*agent, &tool, error), CORVID_INVALID, "already");
  WANT(heard->released == 0);
}

static void test_runs(corvid_session* session, struct heard* heard) {
  corvid_run_options options = {.size = sizeof options, .on_event = on_event, .event_data = heard};
  corvid_result* result = NULL;
  FAILS(corvid_session_run(session, text(" "), &options, &result, error), CORVID_INVALID, "prompt");
  WANT(result == NULL);
  OK(corvid_session_run(session, text(kCount), &options, &result, error));
  WANT(corvid_result_status(result) == CORVID_COMPLETED && corvid_result_error(result).size == 0);
  WANT(has(corvid_result_answer(result), "2"));
  WANT(has(corvid_result_json(result), "\"status\":\"completed\""));
  WANT(has(corvid_result_json(result), corvid_session_id(session).data));
  WANT(heard->written == corvid_result_answer(result).size);
  WANT(heard->events[CORVID_EVENT_SESSION] == 1 && heard->events[CORVID_EVENT_DONE] == 1);
  WANT(heard->events[CORVID_EVENT_MESSAGE] == 4);
  WANT(heard->events[CORVID_EVENT_TOOL_CALL] == 1 && heard->events[CORVID_EVENT_TOOL_RESULT] == 1);
  corvid_result_free(result);

  options.approve = CORVID_APPROVE_RISKY;
  options.ask = on_ask, options.ask_data = heard;
  OK(corvid_session_run(session, text("how many md files are in notes?"), &options, &result, error));
  WANT(heard->asked >= 1 && has(corvid_result_json(result), "\"status\":\"denied\""));
  corvid_result_free(result);
  options.approve = 7;
  FAILS(corvid_session_run(session, text(kCount), &options, &result, error), CORVID_INVALID, "approve");
  options.approve = CORVID_APPROVE_NEVER;

  heard->cancel = session;
  OK(corvid_session_run(session, text("run the command sleep 30"), &options, &result, error));
  WANT(corvid_result_status(result) == CORVID_INTERRUPTED && corvid_result_error(result).size > 0);
  corvid_result_free(result);
  heard->cancel = NULL;
  options.timeout_ms = -1;
  FAILS(corvid_session_run(session, text(kCount), &options, &result, error), CORVID_INVALID, "timeout_ms");
  options.timeout_ms = 1;
  OK(corvid_session_run(session, text(kCount), &options, &result, error));
  WANT(corvid_result_status(result) == CORVID_LIMIT);
  corvid_result_free(result);
}

static void test_calls(corvid_session* session, const struct heard* heard) {
  corvid_output* output = NULL;
  OK(corvid_session_call_tool(session, text("stock"), text("{\"article\":\"b\xc3\xb6lts\",\"least\":3}"), &output,
                              error));
  WANT(equal(corvid_output_text(output), "{\"status\":\"ok\",\"text\":\"b\xc3\xb6lts 3\",\"detail\":{}}"));
  corvid_output_free(output);
  OK(corvid_session_call_tool(session, text("stock"), text("{\"article\":\"trouble\"}"), &output, error));
  WANT(has(corvid_output_text(output), "\"status\":\"error\"") && has(corvid_output_text(output), "locked"));
  corvid_output_free(output);
  OK(corvid_session_call_tool(session, text("stock"), text("{\"article\":\"broken\"}"), &output, error));
  WANT(has(corvid_output_text(output), "\"status\":\"error\"") && has(corvid_output_text(output), "NULL"));
  corvid_output_free(output);
  const int before = heard->tool_calls;
  OK(corvid_session_call_tool(session, text("stock"), text("{}"), &output, error));
  WANT(has(corvid_output_text(output), "\"status\":\"error\"") && heard->tool_calls == before);
  corvid_output_free(output);
}

int main(void) {
  WANT(mkdtemp(folder) != NULL);
  snprintf(work, sizeof work, "%s/work", folder);
  snprintf(file, sizeof file, "%s/agents.db", folder);
  char notes[96], note[128];
  snprintf(notes, sizeof notes, "%s/notes", work);
  WANT(mkdir(work, 0700) == 0 && mkdir(notes, 0700) == 0);
  for (const char* name = "ab"; *name != '\0'; ++name) {
    snprintf(note, sizeof note, "%s/%c.txt", notes, *name);
    write_file(note, "one\n");
  }
  WANT(corvid_version().size > 0);
  test_engine_and_store_errors();

  struct heard heard = {0};
  corvid_engine_options options = {.size = sizeof options, .threads = 2, .log = on_log, .log_data = &heard};
  corvid_engine* engine = NULL;
  corvid_store* store = NULL;
  corvid_agent* agent = NULL;
  corvid_session* session = NULL;
  OK(corvid_engine_create(&options, &engine, error));
  WANT(has(corvid_engine_model(engine), "corvid-small.gguf"));
  WANT(corvid_engine_device(engine) != CORVID_DEVICE_AUTO && corvid_engine_device(NULL) == CORVID_DEVICE_AUTO);
  char sessions[64];
  snprintf(sessions, sizeof sessions, "%s/sessions", folder);
  const corvid_store_options kept = {.size = sizeof kept, .session_folder = text(sessions)};
  OK(corvid_store_open_with(text(file), &kept, &store, error));
  test_agent(&heard, &agent);
  FAILS(corvid_session_start(engine, store, agent, text("/no/folder"), &session, error), CORVID_INVALID, "/no/folder");
  FAILS(corvid_session_start(NULL, store, agent, text(work), &session, error), CORVID_INVALID, "engine");
  FAILS(corvid_session_resume(engine, store, agent, text("none"), &session, error), CORVID_FAILED, "none");
  OK(corvid_session_start(engine, store, agent, text(work), &session, error));
  /* In any order: the session keeps what it needs. */
  corvid_agent_free(agent);
  corvid_engine_free(engine);
  WANT(heard.released == 0);
  test_calls(session, &heard);
  corvid_session_free(session);
  WANT(heard.released == 1);
  WANT(heard.log_lines >= 2);

  OK(corvid_engine_create(NULL, &engine, error));
  OK(corvid_agent_load(text("default"), &agent, error));
  OK(corvid_session_start(engine, store, agent, text(work), &session, error));
  test_runs(session, &heard);
  char id[32];
  snprintf(id, sizeof id, "%s", corvid_session_id(session).data);
  corvid_session_free(session);
  struct stat info;
  WANT(stat(sessions, &info) == 0 && S_ISDIR(info.st_mode));
  OK(corvid_session_resume(engine, store, agent, text(id), &session, error));
  WANT(equal(corvid_session_id(session), id));
  corvid_session_free(session);

  corvid_output* output = NULL;
  OK(corvid_store_list(store, -1, &output, error));
  WANT(has(corvid_output_text(output), id) && has(corvid_output_text(output), "\"agent\":\"clerk\""));
  corvid_output_free(output);
  OK(corvid_store_messages(store, text(id), &output, error));
  WANT(corvid_output_text(output).data[0] == '[' && has(corvid_output_text(output), kCount));
  corvid_output_free(output);
  OK(corvid_store_remove(store, text(id), error));
  FAILS(corvid_store_messages(store, text(id), &output, error), CORVID_FAILED, id);
  corvid_agent_free(agent);
  corvid_engine_free(engine);
  corvid_store_free(store);

  char command[64];
  snprintf(command, sizeof command, "rm -r %s", folder);
  WANT(system(command) == 0);
  return 0;
}
