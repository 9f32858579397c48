/* corvid for C and for every language that can call C: agents with their language model inside the process.
 *
 *   corvid_engine* engine = NULL;
 *   corvid_error* error = NULL;
 *   if (corvid_engine_create(NULL, &engine, &error) != CORVID_OK) { ...corvid_error_message(error)... }
 *
 * Ownership: every `..._create`, `_open`, `_load`, `_start`, `_resume`, `_run` and `_call_tool` gives its caller an
 *   object through the pointer before the last, to be freed with the `_free` function of its type; on failure that
 *   pointer is set to NULL. Every `_free` accepts NULL. Objects may be freed in any order: a session keeps alive what
 *   it was made of. What a function returns as a corvid_text belongs to the object that it was asked of, and lives as
 *   long as that.
 * Text is UTF-8 with a length, and need not end with a NUL; text that corvid gives ends with one all the same, which
 *   its size does not count. {NULL, 0} is the empty text. Text that is no UTF-8 gives CORVID_INVALID. A NULL where an
 *   object is wanted does too.
 * Errors: a function that can fail returns a corvid_status. When it is not CORVID_OK and `error` is not NULL, *error
 *   is set to a description, which the caller frees. No errno, no last error of a thread.
 * Threads: any function may be called from any thread. One session is used by one thread at a time (a second one gets
 *   CORVID_BUSY), but for corvid_session_cancel; agents and stores likewise by one thread at a time; engines by any
 *   number at once. Callbacks come on the thread of the call that they belong to, unless it says otherwise, and must
 *   not free what they were called for.
 * The library has no global state, installs no signal handler, prints nothing and never ends the process.
 *
 * The ABI: functions and the values of enums stay; structs begin with their size and only grow at the end.
 */
#ifndef CORVID_H
#define CORVID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#define CORVID_ENUM : int /* so that a number that is none of an enum's can be looked at, and refused */
#else
#define CORVID_ENUM
#endif

#define CORVID_C_API __attribute__((visibility("default")))

typedef struct corvid_engine corvid_engine;
typedef struct corvid_store corvid_store;
typedef struct corvid_agent corvid_agent;
typedef struct corvid_session corvid_session;
typedef struct corvid_result corvid_result;
typedef struct corvid_output corvid_output;
typedef struct corvid_error corvid_error;
/* Valid during the callback that they are given to. */
typedef struct corvid_event corvid_event;
typedef struct corvid_request corvid_request;
typedef struct corvid_reply corvid_reply;

typedef struct corvid_text {
  const char* data;
  size_t size;
} corvid_text;

/* The text of a string that ends with a NUL; NULL gives the empty text. */
static inline corvid_text corvid_text_of(const char* string) {
  corvid_text text = {string, string != NULL ? strlen(string) : 0};
  return text;
}

typedef enum corvid_status CORVID_ENUM {
  CORVID_OK = 0,
  CORVID_INVALID = 1, /* an argument: a number out of range, no UTF-8, a folder or a tool that is not there */
  CORVID_FAILED = 2,  /* a file, the store, the model */
  CORVID_BUSY = 3,    /* the session is in use by another thread, or by the callback's own run */
  CORVID_NO_MEMORY = 4
} corvid_status;

/* "0.1.0": of the library that was loaded. */
CORVID_C_API corvid_text corvid_version(void);

/* ---- Errors. For people; names the thing, what was wanted and what was found. */

CORVID_C_API corvid_text corvid_error_message(const corvid_error* error);
CORVID_C_API void corvid_error_free(corvid_error* error);

/* ---- Engines: the model, and what computes. */

typedef enum corvid_log_level CORVID_ENUM {
  CORVID_DEBUG = 0,
  CORVID_INFO = 1,
  CORVID_WARNING = 2,
  CORVID_ERROR = 3
} corvid_log_level;

/* One line without a newline, valid during the call. From any thread, also from several at once. */
typedef void (*corvid_log_fn)(void* data, corvid_log_level level, corvid_text line);

/* Where the model computes. */
typedef enum corvid_device CORVID_ENUM {
  CORVID_DEVICE_AUTO = 0, /* a GPU that can, else the CPU */
  CORVID_DEVICE_CPU = 1,
  CORVID_DEVICE_CUDA = 2
} corvid_device;

typedef struct corvid_engine_options {
  size_t size;               /* sizeof(corvid_engine_options) */
  corvid_text model;         /* a GGUF file or a Hugging Face folder; empty: the small model that comes with corvid */
  int threads;               /* 0: one for each core that this process may use */
  int64_t cache_bytes;       /* of the keys and values of all sessions together; 0: no limit */
  corvid_text prefix_folder; /* where evaluated instructions are kept for the next process; empty: nowhere. This
                                user's alone; tools cannot look into it */
  corvid_log_fn log;         /* may be NULL */
  void* log_data;            /* handed to `log`; must live as long as the engine and its sessions */
  corvid_device device;
} corvid_engine_options;

/* Loads a model and starts its threads, which have all signals blocked. `options` NULL: all zero. Fails with
 * CORVID_INVALID for numbers out of range, CORVID_FAILED for the model's file and for CORVID_DEVICE_CUDA where there is
 * no such device. */
CORVID_C_API corvid_status corvid_engine_create(const corvid_engine_options* options, corvid_engine** engine,
                                                corvid_error** error);
/* The model's file. */
CORVID_C_API corvid_text corvid_engine_model(const corvid_engine* engine);
/* CORVID_DEVICE_CPU or CORVID_DEVICE_CUDA; of NULL CORVID_DEVICE_AUTO. */
CORVID_C_API corvid_device corvid_engine_device(const corvid_engine* engine);
CORVID_C_API void corvid_engine_free(corvid_engine* engine);

/* ---- Stores: one SQLite file with every session in it. */

/* Opens the file, or creates it for this user alone. Fails with CORVID_FAILED when that is not possible. */
CORVID_C_API corvid_status corvid_store_open(corvid_text file, corvid_store** store, corvid_error** error);

typedef struct corvid_store_options {
  size_t size;                /* sizeof(corvid_store_options) */
  corvid_text session_folder; /* where what the model made of the last sessions is kept (16 of them, 1 GiB), so that a
                                 resumed one need not read its history again; written when a session that has run is
                                 freed. This user's alone; tools cannot look into it. Empty: nowhere */
} corvid_store_options;

/* The same with options; NULL: all zero. */
CORVID_C_API corvid_status corvid_store_open_with(corvid_text file, const corvid_store_options* options,
                                                  corvid_store** store, corvid_error** error);
/* The sessions, last touched first, at most `limit` (negative: all), as a JSON list of objects with id, created_ms,
 * updated_ms, workdir, agent, model, status, prompt, messages. */
CORVID_C_API corvid_status corvid_store_list(corvid_store* store, int64_t limit, corvid_output** list,
                                             corvid_error** error);
/* The messages of a session (an id, the unambiguous beginning of one, or "last") as a JSON list of objects as in
 * events of kind CORVID_EVENT_MESSAGE. Fails with CORVID_FAILED when there is no such session. */
CORVID_C_API corvid_status corvid_store_messages(corvid_store* store, corvid_text id, corvid_output** messages,
                                                 corvid_error** error);
/* Removes a session with all that belongs to it. Fails with CORVID_FAILED when there is no such session. */
CORVID_C_API corvid_status corvid_store_remove(corvid_store* store, corvid_text id, corvid_error** error);
CORVID_C_API void corvid_store_free(corvid_store* store);

/* ---- Agents: instructions, tools, what they may touch, limits. A session copies what the agent is when it begins. */

/* An agent file, or the name of an agent that comes with corvid; empty: "default", with the six tools shell, read_file,
 * write_file, edit_file, list_dir and http_request. Fails with CORVID_INVALID, naming file, line and column. */
CORVID_C_API corvid_status corvid_agent_load(corvid_text name_or_file, corvid_agent** agent, corvid_error** error);
CORVID_C_API corvid_status corvid_agent_set_name(corvid_agent* agent, corvid_text name, corvid_error** error);
CORVID_C_API corvid_status corvid_agent_set_instructions(corvid_agent* agent, corvid_text text, corvid_error** error);
/* Which of the six, in this order; `count` 0: none. */
CORVID_C_API corvid_status corvid_agent_set_tools(corvid_agent* agent, const corvid_text* names, size_t count,
                                                  corvid_error** error);
/* Numbers below 1 leave what is there (calls: below 0). */
CORVID_C_API corvid_status corvid_agent_set_limits(corvid_agent* agent, int64_t turns, int64_t tokens, int64_t calls,
                                                   int64_t wall_ms, corvid_error** error);
/* Temperature 0 takes the likeliest token. What else the agent file says of its sampler stays. */
CORVID_C_API corvid_status corvid_agent_set_sampler(corvid_agent* agent, double temperature, uint64_t seed,
                                                    corvid_error** error);

typedef struct corvid_policy {
  size_t size;                   /* sizeof(corvid_policy) */
  bool is_unconfined;            /* commands run even where the machine cannot confine them */
  const corvid_text* write_dirs; /* folders, besides the session's own */
  size_t n_write_dirs;
  const corvid_text* read_dirs;
  size_t n_read_dirs;
  const corvid_text* allow_hosts; /* HOST or HOST:PORT */
  size_t n_allow_hosts;
} corvid_policy;

/* What the six tools may touch. A host's own tools are not confined by it. */
CORVID_C_API corvid_status corvid_agent_set_policy(corvid_agent* agent, const corvid_policy* policy,
                                                   corvid_error** error);

/* A tool of the host. Reads the request, and writes the reply; without a reply the result is the empty text. On the
 * thread of the session's run, at the same time for several sessions of one agent. Must return soon once
 * corvid_request_is_stopped. */
typedef void (*corvid_tool_fn)(void* data, const corvid_request* request, corvid_reply* reply);
typedef void (*corvid_release_fn)(void* data);

typedef struct corvid_tool {
  size_t size;             /* sizeof(corvid_tool) */
  corvid_text name;        /* [a-z_][a-z0-9_]* */
  corvid_text description; /* one line */
  corvid_text parameters;  /* JSON Schema of type object */
  corvid_tool_fn run;
  void* data;                /* handed to `run` */
  corvid_release_fn release; /* called with `data`, once, when neither agents nor sessions need it; may be NULL. On
                                whatever thread freed the last of them. Not called when adding the tool fails. */
} corvid_tool;

/* Adds a tool behind those that are there. Fails with CORVID_INVALID for a name that is taken or none, and for
 * parameters that are no JSON Schema of type object. */
CORVID_C_API corvid_status corvid_agent_add_tool(corvid_agent* agent, const corvid_tool* tool, corvid_error** error);
/* The host's function behind the agent's own tool `tool->name`; description and parameters are not looked at: the
 * model sees what it has learnt. Fails with CORVID_INVALID when the agent has no such tool. */
CORVID_C_API corvid_status corvid_agent_replace_tool(corvid_agent* agent, const corvid_tool* tool,
                                                     corvid_error** error);
CORVID_C_API void corvid_agent_free(corvid_agent* agent);

/* The request: a JSON object of arguments that fits the schema. */
CORVID_C_API corvid_text corvid_request_name(const corvid_request* request);
CORVID_C_API corvid_text corvid_request_arguments(const corvid_request* request);
CORVID_C_API corvid_text corvid_request_workdir(const corvid_request* request);
/* One argument: a string's text, other values as JSON; valid during the callback. `data` is NULL when it is not there.
 */
CORVID_C_API corvid_text corvid_request_argument(const corvid_request* request, corvid_text name);
CORVID_C_API bool corvid_request_is_stopped(const corvid_request* request);
/* What the model will read. Bytes that are no UTF-8 become U+FFFD. A second call replaces the first. */
CORVID_C_API void corvid_reply_text(corvid_reply* reply, corvid_text text);
/* The call failed, and the text says why. */
CORVID_C_API void corvid_reply_failure(corvid_reply* reply, corvid_text text);

/* ---- Sessions: one conversation of an agent in a folder. */

/* `workdir`: the folder of the tools; empty: the current one. Fails with CORVID_INVALID for a folder that is none. */
CORVID_C_API corvid_status corvid_session_start(const corvid_engine* engine, const corvid_store* store,
                                                const corvid_agent* agent, corvid_text workdir,
                                                corvid_session** session, corvid_error** error);
/* Goes on with a stored one: an id, the unambiguous beginning of one, or "last". Instructions, tools and sampler are
 * the stored ones; of the agent its policy, limits and the host's functions count. Fails with CORVID_FAILED when there
 * is none, CORVID_INVALID when it had a tool that the agent lacks. */
CORVID_C_API corvid_status corvid_session_resume(const corvid_engine* engine, const corvid_store* store,
                                                 const corvid_agent* agent, corvid_text id, corvid_session** session,
                                                 corvid_error** error);
CORVID_C_API corvid_text corvid_session_id(const corvid_session* session);

typedef enum corvid_event_kind CORVID_ENUM {
  CORVID_EVENT_SESSION = 0,     /* a run begins; text: what a resume had to change */
  CORVID_EVENT_TOKEN = 1,       /* text: what the assistant wrote */
  CORVID_EVENT_TOOL_CALL = 2,   /* text: the tool's name; about to run */
  CORVID_EVENT_TOOL_RESULT = 3, /* text: what the model will read */
  CORVID_EVENT_MESSAGE = 4,     /* text: the message's; stored */
  CORVID_EVENT_DONE = 5         /* text: the answer; the last event of a run */
} corvid_event_kind;

CORVID_C_API corvid_event_kind corvid_event_kind_of(const corvid_event* event);
CORVID_C_API corvid_text corvid_event_text(const corvid_event* event);
/* All of it: the object that `corvid run --output jsonl` prints. */
CORVID_C_API corvid_text corvid_event_json(const corvid_event* event);

typedef void (*corvid_event_fn)(void* data, const corvid_event* event);
/* True: the call may run. `arguments` is JSON. May take as long as a person needs. */
typedef bool (*corvid_ask_fn)(void* data, corvid_text tool, corvid_text arguments);

typedef enum corvid_approve CORVID_ENUM {
  CORVID_APPROVE_NEVER = 0, /* no call needs an approval */
  CORVID_APPROVE_RISKY = 1, /* all do but corvid's own read_file and list_dir; every function of the host's does */
  CORVID_APPROVE_ALWAYS = 2
} corvid_approve;

typedef struct corvid_run_options {
  size_t size;              /* sizeof(corvid_run_options) */
  int64_t timeout_ms;       /* the run ends as a limit then; 0: the agent's own limit alone */
  corvid_event_fn on_event; /* may be NULL */
  void* event_data;
  corvid_approve approve;
  corvid_ask_fn ask; /* NULL: what needs an approval is denied */
  void* ask_data;
} corvid_run_options;

/* Appends the prompt and works until the model answers or a limit is reached; blocks. `options` NULL: all zero. What
 * goes wrong in the run itself is in its result. Fails with CORVID_INVALID for an empty prompt, CORVID_BUSY. */
CORVID_C_API corvid_status corvid_session_run(corvid_session* session, corvid_text prompt,
                                              const corvid_run_options* options, corvid_result** result,
                                              corvid_error** error);
/* Ends the run that goes on soon, as interrupted; without one it does nothing. From any thread, also from a callback
 * or a signal handler's thread (not from the handler itself). */
CORVID_C_API void corvid_session_cancel(corvid_session* session);
/* One call by hand, through the same checks and the same policy as the model's; not stored. A call that fails is no
 * error: *output is an object {"status": "ok"|"error"|"denied"|"timeout", "text": ..., "detail": {...}} as JSON. */
CORVID_C_API corvid_status corvid_session_call_tool(corvid_session* session, corvid_text name, corvid_text arguments,
                                                    corvid_output** output, corvid_error** error);
/* Not while a run goes on. */
CORVID_C_API void corvid_session_free(corvid_session* session);

/* ---- Results and other output. NULL in the place of one gives the empty text, and CORVID_RUN_FAILED. */

typedef enum corvid_run_status CORVID_ENUM {
  CORVID_COMPLETED = 0,
  CORVID_LIMIT = 1,
  CORVID_RUN_FAILED = 2,
  CORVID_INTERRUPTED = 3
} corvid_run_status;

CORVID_C_API corvid_run_status corvid_result_status(const corvid_result* result);
CORVID_C_API corvid_text corvid_result_answer(const corvid_result* result);
/* Why it is not completed; empty when it is. */
CORVID_C_API corvid_text corvid_result_error(const corvid_result* result);
/* All of it: the object that `corvid run --output json` prints. */
CORVID_C_API corvid_text corvid_result_json(const corvid_result* result);
CORVID_C_API void corvid_result_free(corvid_result* result);

CORVID_C_API corvid_text corvid_output_text(const corvid_output* output);
CORVID_C_API void corvid_output_free(corvid_output* output);

#undef CORVID_ENUM
#ifdef __cplusplus
}
#endif

#endif
