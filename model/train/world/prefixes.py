"""The agents that trajectories are shown under: the default agent, and a limited number of variants.

A variant has other instructions, a subset of the tools in another order, other descriptions, sometimes other names for
tools and arguments, sometimes tools that the trajectory does not need. So the schemas have to be read. The default is
configs/agents/default.yaml with the six tools exactly as the runtime declares them.
"""

import random

from .execute import ARGUMENTS

VARIANTS = 59

INSTRUCTIONS = (
    "You do chores in the user's working folder. Look with the tools before you answer, do what is asked and nothing else, "
    "and never invent: if something is missing or fails, say so. Answer in one or two short sentences.")


def _tool(name, description, required, **properties):
    return {"name": name, "description": description,
            "parameters": {"type": "object", "properties": {k: v if isinstance(v, dict) else {"type": v} for k, v in properties.items()},
                           "required": required}}


DEFAULT_TOOLS = [
    _tool("shell", "Run a bash command in the working folder; it has no network", ["command"], command="string", timeout_s="integer"),
    _tool("read_file", "Read a text file", ["path"], path="string", offset="integer", limit="integer", numbers="boolean"),
    _tool("write_file", "Write a file, replacing what it held", ["path", "content"], path="string", content="string"),
    _tool("edit_file", "Replace exact text in a file", ["path", "old", "new"], path="string", old="string", new="string", all="boolean"),
    _tool("list_dir", "List a folder", [], path="string", depth="integer"),
    _tool("http_request", "Fetch a URL", ["method", "url"], method="string", url="string",
          headers={"type": "object", "additionalProperties": {"type": "string"}}, body="string", save_to="string"),
]

DEFAULT = {"id": 0, "instructions": INSTRUCTIONS, "tools": DEFAULT_TOOLS, "rename": {}}

OTHER_INSTRUCTIONS = [
    "You are a helpful assistant with access to the user's files.",
    "Help the user with files, commands and web requests. Be brief and honest.",
    "You work in one folder for the user. Use the tools, check the results, then answer shortly.",
    "Answer the user's request. Never make things up. If a tool fails, report the error.",
    "You are an office helper. Use a tool whenever the answer depends on the folder or on the network.",
    "Carry out the user's chores with the tools below and report the outcome in plain English.",
    "You are a careful system administrator. Change nothing that you were not asked to change.",
    "Do the task with as few steps as possible. Report exactly what the tools said.",
    "You help people who do not know the command line. Keep answers to one sentence.",
    "Be a quiet, exact assistant: act, verify, answer.",
]
DESCRIPTIONS = {
    "shell": ["Execute a command with bash", "Runs a shell command in the current folder and returns its output", "Bash in the working folder",
              "Run a program or a pipeline; returns stdout, stderr and the exit code"],
    "read_file": ["Show the contents of a file", "Returns a file's text, or some of its lines", "Open a file and read it"],
    "write_file": ["Create or overwrite a file", "Save text to a file", "Puts the given text into a file"],
    "edit_file": ["Change a file by replacing text", "Substitute one exact piece of text for another", "Find and replace in one file"],
    "list_dir": ["Show the entries of a directory", "Lists names and sizes", "Names of files and folders"],
    "http_request": ["Send an HTTP request", "Talks to a web server", "HTTP client; can save the reply to a file"],
}
NAMES = {
    "shell": ["run_command", "bash", "execute", "terminal", "run", "exec_shell"],
    "read_file": ["cat_file", "open_file", "get_file", "view", "file_read"],
    "write_file": ["create_file", "save_file", "put_file", "file_write"],
    "edit_file": ["replace_text", "str_replace", "modify_file", "file_edit"],
    "list_dir": ["ls", "list_files", "show_folder", "dir"],
    "http_request": ["fetch", "web_request", "http", "curl_url", "url_fetch"],
}
ARGUMENT_NAMES = {
    "command": ["cmd", "script", "line", "bash_command"], "timeout_s": ["timeout", "max_seconds"],
    "path": ["file", "filename", "file_path", "target"], "offset": ["start", "first_line"], "limit": ["lines", "max_lines"],
    "numbers": ["line_numbers"], "content": ["text", "contents", "data"], "old": ["old_text", "find", "search"],
    "new": ["new_text", "replacement"], "all": ["replace_all", "everywhere"], "depth": ["levels"],
    "method": ["verb"], "url": ["address", "link"], "headers": ["request_headers"], "body": ["payload"],
    "save_to": ["output_file", "save_path"],
}
STRANGERS = [
    _tool("get_weather", "Weather forecast of a city", ["city"], city="string", days="integer"),
    _tool("send_mail", "Send an e-mail", ["to", "subject"], to="string", subject="string", body="string"),
    _tool("set_timer", "Start a timer", ["seconds"], seconds="integer", label="string"),
    _tool("translate", "Translate text", ["text", "language"], text="string", language="string"),
    _tool("add_event", "Add an event to the calendar", ["title", "date"], title="string", date="string"),
    _tool("play_music", "Play a song", ["song"], song="string", volume="number"),
    _tool("query_db", "Run an SQL query", ["sql"], sql="string"),
    _tool("make_chart", "Draw a chart of numbers", ["values"], values={"type": "array", "items": {"type": "number"}}, title="string"),
    _tool("lookup_word", "Dictionary look-up", ["word"], word="string"),
    _tool("take_note", "Remember a note for later", ["note"], note="string"),
]


def _variant(number):
    r = random.Random("prefix %d" % number)
    rename, tools = {}, []
    subset = r.random() < 0.35
    rename_some = r.random() < 0.6
    order = DEFAULT_TOOLS[:]
    if r.random() < 0.7:
        r.shuffle(order)
    for tool in order:
        name = tool["name"]
        if subset and name != "shell" and r.random() < 0.35:
            continue
        new_name, arguments = name, {}
        if rename_some and r.random() < 0.6:
            new_name = r.choice(NAMES[name])
        if rename_some and r.random() < 0.5:
            for a in ARGUMENTS[name]:
                if a in ARGUMENT_NAMES and r.random() < 0.7:
                    arguments[a] = r.choice(ARGUMENT_NAMES[a])
        parameters = tool["parameters"]
        properties = {arguments.get(k, k): v for k, v in parameters["properties"].items()}
        if len(properties) != len(parameters["properties"]):
            arguments, properties = {}, parameters["properties"]
        required = [arguments.get(k, k) for k in parameters["required"]]
        description = r.choice(DESCRIPTIONS[name]) if r.random() < 0.6 else tool["description"]
        tools.append({"name": new_name, "description": description,
                      "parameters": {"type": "object", "properties": properties, "required": required}})
        rename[name] = [new_name, arguments]
    for stranger in r.sample(STRANGERS, r.choice([0, 0, 0, 1, 2, 3])):
        tools.insert(r.randrange(len(tools) + 1), stranger)
    instructions = INSTRUCTIONS if r.random() < 0.3 else r.choice(OTHER_INSTRUCTIONS)
    return {"id": number, "instructions": instructions, "tools": tools, "rename": rename}


def all_prefixes():
    """[prefix]; a prefix's place in the list is its id."""
    return [DEFAULT] + [_variant(n) for n in range(1, VARIANTS + 1)]


def translate(prefix, messages):
    """The messages as they look under a prefix, or None where it lacks a tool that they call."""
    if prefix["id"] == 0:
        return messages
    out = []
    for m in messages:
        if m.get("calls"):
            calls = []
            for c in m["calls"]:
                if c["name"] not in prefix["rename"]:
                    return None
                name, arguments = prefix["rename"][c["name"]]
                calls.append({"id": c["id"], "name": name, "args": {arguments.get(k, k): v for k, v in c["args"].items()}})
            m = {**m, "calls": calls}
        out.append(m)
    return out
