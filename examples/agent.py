#!/usr/bin/env python3
"""The agent from Python, through corvid.h and ctypes:  agent.py LIBCORVID FOLDER PROMPT

Shows what any language with a C interface needs: the structs, the prototypes, and a callback that stays alive.
"""

import ctypes
import json
import sys
from ctypes import POINTER, byref, c_int, c_int64, c_size_t, c_void_p


class Text(ctypes.Structure):
    # Not c_char_p: Python would read that up to the first NUL alone.
    _fields_ = [("data", c_void_p), ("size", c_size_t)]

    @classmethod
    def of(cls, string):
        data = string.encode()
        text = cls(ctypes.cast(data, c_void_p), len(data))
        text.keeps = data  # the struct has but its address
        return text

    def __str__(self):
        return ctypes.string_at(self.data, self.size).decode() if self.size else ""


EventFn = ctypes.CFUNCTYPE(None, c_void_p, c_void_p)


class RunOptions(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("timeout_ms", c_int64), ("on_event", EventFn), ("event_data", c_void_p),
                ("approve", c_int), ("ask", c_void_p), ("ask_data", c_void_p)]


def load(path):
    """The library with the prototypes of what is used here. Handles are opaque: void pointers."""
    lib = ctypes.CDLL(path)
    out, error = POINTER(c_void_p), POINTER(c_void_p)
    prototypes = {
        "corvid_version": (Text, []),
        "corvid_error_message": (Text, [c_void_p]),
        "corvid_engine_create": (c_int, [c_void_p, out, error]),
        "corvid_store_open": (c_int, [Text, out, error]),
        "corvid_agent_load": (c_int, [Text, out, error]),
        "corvid_session_start": (c_int, [c_void_p, c_void_p, c_void_p, Text, out, error]),
        "corvid_session_run": (c_int, [c_void_p, Text, POINTER(RunOptions), out, error]),
        "corvid_event_json": (Text, [c_void_p]),
        "corvid_result_json": (Text, [c_void_p]),
    }
    for kind in ("error", "engine", "store", "agent", "session", "result"):
        prototypes["corvid_%s_free" % kind] = (None, [c_void_p])
    for name, (result, arguments) in prototypes.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


class Failure(Exception):
    pass


class Agent:
    """One engine, one store, one session. Closed by `with`."""

    def __init__(self, lib, folder, store="agent.db"):
        self.lib, self.handles = lib, []
        try:
            engine = self._make("engine", lib.corvid_engine_create, None)
            opened = self._make("store", lib.corvid_store_open, Text.of(store))
            agent = self._make("agent", lib.corvid_agent_load, Text.of("default"))
            self.session = self._make("session", lib.corvid_session_start, engine, opened, agent, Text.of(folder))
        except Failure:
            self.close()
            raise

    def _call(self, function, *arguments):
        made, error = c_void_p(), c_void_p()
        if function(*arguments, byref(made), byref(error)) != 0:
            message = str(self.lib.corvid_error_message(error))
            self.lib.corvid_error_free(error)
            raise Failure(message)
        return made

    def _make(self, kind, function, *arguments):
        handle = self._call(function, *arguments)
        self.handles.append((kind, handle))
        return handle

    def run(self, prompt, on_event):
        """The result as a dict; on_event gets every event as a dict."""
        handler = EventFn(lambda data, event: on_event(json.loads(str(self.lib.corvid_event_json(event)))))
        options = RunOptions(size=ctypes.sizeof(RunOptions), on_event=handler)
        result = self._call(self.lib.corvid_session_run, self.session, Text.of(prompt), byref(options))
        try:
            return json.loads(str(self.lib.corvid_result_json(result)))
        finally:
            self.lib.corvid_result_free(result)

    def close(self):
        while self.handles:
            kind, handle = self.handles.pop()
            getattr(self.lib, "corvid_%s_free" % kind)(handle)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


def show(event):
    if event["event"] == "tool_call":
        print(event["name"], json.dumps(event["arguments"]), file=sys.stderr)
    elif event["event"] == "token":
        print(event["text"], end="", flush=True)


def main():
    if len(sys.argv) != 4:
        sys.exit("usage: agent.py LIBCORVID FOLDER PROMPT")
    try:
        with Agent(load(sys.argv[1]), sys.argv[2]) as agent:
            result = agent.run(sys.argv[3], show)
    except (Failure, OSError) as failure:
        sys.exit("agent.py: %s" % failure)
    print()
    return 0 if result["status"] == "completed" else 1


if __name__ == "__main__":
    sys.exit(main())
