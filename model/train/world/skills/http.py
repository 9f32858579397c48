"""http.*: fetching, posting, status codes and headers, all by http_request: the shell has no network."""

import json

from world import content
from world.scene import Name, T, Value
from world.skills import skill
from world.skills.table import json_text, scalar, json_keys


def page(s, ext=None):
    """A path on the server."""
    n = s.names
    parts = [s.choice(["api", "v1", "data", "docs", "files", "static", "pub", n.noun(), n.word()]) for _ in range(s.number(0, 2))]
    last = n.stem() + "." + ext if ext else s.choice([n.noun, n.word, lambda: str(s.number(1, 999)), n.code])()
    return "/" + "/".join(parts + [last])


def other_routes(s):
    for _ in range(s.number(0, 2)):
        s.serve(page(s), content.sentence(s) + "\n")


NOT_THERE = ["{the server|$u} answered with status $c, so {nothing was saved|there is nothing to report|i have no result}.", "{that did not work:|it failed:} $u {gives|answers with} status $c.",
             "the request failed with status $c{ for $u|}."]
REFUSED = ["{i could not reach|i could not connect to|there is no server at} $u: connection refused.", "{that|it} failed: {the connection to $u was refused|connection refused}."]
REASONS = [(404, "not found"), (404, "no such page"), (500, "internal error"), (403, "forbidden"), (410, "gone"), (503, "try again later"), (401, "login needed")]

SAVE = ["{download|fetch|get} $u {and {save|store|put|keep} it {as|in|under} $f|to $f|into $f|as $f}", "{save|store} {the content of |what is at |}$u {as|in|to|into} $f",
        "{grab|pull} $u and {put it in|write it to|name it} $f", "i need {a copy of|the text at} $u {in|as} $f", "{could i have|i want} $u {saved|stored} as $f{, please|}.",
        "get me $u, {file name|as} $f", "$f should {hold|contain|become} what {is at|comes from} $u.", "{write|copy} what $u {returns|gives|sends} {to|into} $f",
        "{load|retrieve} $u into {the file|a file named|a file called} $f", "make a file $f {from|with the content of} $u", "{fetch|download} the {page|file|document} at $u; call it $f"]


@skill("http.save", weight=1.3)
def save(s):
    ext = s.choice(["txt", "json", "csv", "md", "html", "txt"])
    path = page(s, ext if s.chance(0.8) else None)
    folder = s.folder(0.75)
    name = path.rpartition("/")[2] if s.chance(0.35) and "." in path.rpartition("/")[2] else s.fresh("", ext)
    target = folder + "/" + name if folder else name
    s.require(target not in s.files, "taken")
    text = content.any_text(s, ext)
    s.clutter(0, 3)
    x = s.rng.random()
    if x < 0.86:
        url = s.serve(path, text)
    elif x < 0.95:
        code, reason = s.choice(REASONS)
        url = s.serve(path, reason + "\n", status=code)
    else:
        s.serve("/", "x")
        s.port, url = s.port, "http://127.0.0.1:%d%s" % (s.port + 1, path)
    other_routes(s)
    s.user(SAVE, u=Name(url), f=Name(target))
    if x < 0.86:
        s.will_write(target, text)
        out = s.http("GET", url, save_to=target)
        s.require("saved" in out, out)
        s.answer(["{i saved|i downloaded} $u {as|to} $f.", "done, {it|the file} is {saved as|in} $f.", "$f is saved."], u=Name(url), f=Name(target))
    elif x < 0.95:
        out = s.http("GET", url, save_to=target)
        s.require("not saved" in out, out)
        s.answer(NOT_THERE, u=Name(url), c=Value(str(code)))
        s.says(str(code))
    else:
        s.require("could not connect" in s.http("GET", url, save_to=target), "connected")
        s.answer(REFUSED, u=Name(url))


FIELD = ["{what is|what's|whats} the $k {at|in|from|that comes from} $u?", "{fetch|get|ask|call|query} $u and {tell me|give me|show me} the $k", "{which|what} $k does $u {give|return|report|show|send}?",
         "{look up|find} the $k {at|on|in} $u", "$k from $u?", "i need the $k that $u {returns|gives|reports}", "{read|take} the $k {from|out of} {the reply of |}$u",
         "according to $u, what is the $k?", "{tell me|give me} the $k from $u", "{check|open} $u: what is the $k?", "what does $u say {about|for} the $k?",
         "{can you ask|ask} $u for the $k?"]


def reply_object(s):
    d = {k: scalar(s, k) for k in json_keys(s, s.number(1, 4))}
    d.update({k: v() for k, v in s.sample([("name", s.names.person), ("city", s.names.city), ("id", lambda: s.number(1, 9999)), ("email", lambda: s.names.word() + "@mail.example"),
                                           ("age", lambda: s.number(1, 99)), ("price", lambda: s.number(100, 99999) / 100), ("title", lambda: s.names.adjective() + " " + s.names.noun())],
                                          s.number(0, 3))})
    top = list(d.items())
    if s.chance(0.45):
        top.insert(s.number(0, len(top)), (s.choice(["address", "owner", "data", "result", "details", "user", "item", "weather", "status_info"]),
                                           {k: scalar(s, k) for k in json_keys(s, s.number(1, 3))}))
    return dict(top)


def fields(d):
    for k, v in d.items():
        if isinstance(v, dict):
            yield from (((k, i), j) for i, j in v.items())
        else:
            yield (k,), v


def spoken(s, path):
    if len(path) == 1:
        return Value(path[0])
    return T(s.say_rng.choice(["$a_ {of|in|under} {the |}$b_", "$b_ $a_", "$b_.$a_", "$a_ {of|inside} $b_"]), a_=Value(path[1]), b_=Value(path[0]))


@skill("http.field", weight=1.4)
def field(s):
    d = reply_object(s)
    path, v = s.choice(list(fields(d)))
    x = s.rng.random()
    code, reason = s.choice(REASONS)
    url = s.serve(page(s), d) if x < 0.9 else s.serve(page(s), reason + "\n", status=code)
    other_routes(s)
    s.clutter(0, 3)
    s.user(FIELD, u=Name(url), k=spoken(s, path))
    s.http("GET", url)
    if x >= 0.9:
        s.answer(NOT_THERE[1:], u=Name(url), c=Value(str(code)))
        return s.says(str(code))
    s.answer(["the $k is $v.", "it is $v.", "$u gives $v as {the |}$k."], u=Name(url), k=Value(path[-1]), v=Value(json_text(v)))
    s.says(json_text(v))


STATUS = ["{which|what} status {code|} does $u {give|return|answer with|send|have}?", "{what is|what's} the {http |}status {code |}of $u?", "{tell me|give me|show me} the {http |}status code {of|for|from} $u",
          "{check|test} {the status of|which status code} $u{ gives|}", "status {code |}of $u?", "{does|is} $u {work|up|ok|reachable}? {tell me the status code|which code does it give?}",
          "{what|which} {http |}code do i get {from|at|for} $u?", "with which status code does $u {answer|reply|respond}?", "{call|request|fetch} $u and {tell me|report} the status code",
          "i need {to know |}the status code of $u", "how does $u respond? {i mean the status code|just the code}.", "$u: which http status?"]


@skill("http.status", weight=1.2)
def status(s):
    code = s.choice([200, 200, 201, 202, 204, 400, 401, 403, 404, 404, 405, 409, 410, 418, 422, 429, 451, 500, 501, 502, 503, 504])
    url = s.serve(page(s), "" if code == 204 else s.choice([content.sentence(s) + "\n", {"status": "x"}, "no\n"]), status=code)
    other_routes(s)
    s.clutter(0, 3)
    s.user(STATUS, u=Name(url))
    s.require(s.http("GET", url).startswith("HTTP %d" % code), "other status")
    s.answer(["$u {answers with|gives|returns} status {code |}$c.", "the status {code |}is $c.", "it is $c."], u=Name(url), c=Value(str(code)))
    s.says(str(code))


POST = ["{post|send} $j {as json |}to $u and {tell me|give me|show me} the $k {from|in|of} the {reply|answer|response}", "{send|post} {the json |}$j {by post |with post |}to $u{.|;} what is the $k in the {reply|answer|response}?",
        "{do|make} a post {request |}to $u with {the json |the body |}$j and {read|report|tell me} the $k {of|from} the {reply|response}", "what $k {comes back|do i get} when i post $j to $u?",
        "$j should be posted to $u, {and|then} {tell me|i need} the $k {that comes back|of the reply}.", "post to $u: $j and {give me|tell me} the $k it {returns|replies|answers}",
        "{submit|deliver} $j to $u (post, json) and {say|tell me} which $k it {answers|gives back|returns}", "i need the $k {from|of} the reply when $j is posted to $u",
        "use post to send $j to $u, then {read out|tell me} the $k", "$u takes json by post. {send it|send} $j and {tell me|report} the $k."]


@skill("http.post", weight=1.3)
def post(s):
    n = s.names
    source = [("name", n.first), ("city", n.city), ("item", n.product), ("count", lambda: s.number(1, 99)), ("seats", lambda: s.number(1, 9)), ("amount", lambda: s.number(1, 9999)), ("title", n.noun),
              ("user", lambda: n.first().lower()), ("color", n.color), ("price", lambda: s.number(100, 9999) / 100), ("active", lambda: s.chance(0.5)), ("room", lambda: s.number(1, 400)), ("date", n.date),
              (n.word(), n.word), (n.word(), lambda: s.number(0, 5000))]
    sent = {k: f() for k, f in s.sample(source, s.number(1, 4))}
    reply = {k: v() for k, v in s.sample([("id", lambda: s.number(1, 99999)), ("number", lambda: s.number(1, 99999)), ("code", n.code), ("status", n.word), ("token", n.code), ("booking", lambda: s.number(1000, 99999)),
                                          ("total", lambda: s.number(1, 9999)), ("ticket", lambda: n.code().upper()), ("message", lambda: n.adjective() + " " + n.noun()), ("place", n.city), (n.word(), n.word)], s.number(1, 4))}
    if s.chance(0.2):
        reply = {"ok": True, **reply}
    key = s.choice([k for k in reply if k != "ok"])
    body = json.dumps(sent) if s.chance(0.6) else json.dumps(sent, separators=(",", ":"))
    url = s.serve(page(s), reply, status=s.choice([200, 200, 201]), method="POST", expect=lambda headers, text: json.loads(text) == sent)
    s.clutter(0, 3)
    s.user(POST, u=Name(url), j=Value(body), k=Value(key))
    out = s.http("POST", url, body=body)
    s.require("bad request" not in out, out)
    s.answer(["the $k is $v.", "the reply {says|has} {the |}$k $v.", "it is $v."], k=Value(key), v=Value(json_text(reply[key])))
    s.says(json_text(reply[key]))


SEND = ["{fetch|get|request|call} $u with the {request |}header {$h: $v|$h set to $v} and {tell me|give me|show me} the $k", "what $k does $u {give|return|answer} {when|if} {i send|the request has} the header $h: $v?",
        "{send|use} the header $h: $v {to|when you ask|in a request to} $u and {tell me|report} the $k {in the reply|of the reply|}", "$u wants the header $h: $v. {what is|tell me} the $k {it gives|in the reply}?",
        "ask $u for the $k, with {header|the header} $h: $v", "i need the $k from $u; it {needs|wants} the header $h with {the value |}$v", "with {a header|the header} $h: $v, what $k comes from $u?",
        "get the $k from $u, sending $h: $v as {a header|header}", "{query|open} $u, header $h: $v, and {read|tell me} the $k", "call $u. {add|set|put in} the header $h: $v. what is the $k?"]
SEND_ALL = ["{fetch|get|request|call} $u with the {request |}header {$h: $v|$h set to $v} and {tell me|show me} what {comes back|it says|the reply is}", "what does $u {say|answer|return} {when|if} {i send|the request has} the header $h: $v?",
            "{send|use} the header $h: $v {to|when you ask|in a request to} $u and {tell me|show me} {the reply|the answer|what it says}", "$u wants the header $h: $v. what does it {say|answer|return} then?", "with {a header|the header} $h: $v, what comes from $u?",
            "ask $u, with {header|the header} $h: $v. what is the {reply|answer}?", "{query|open} $u, header $h: $v, and read me the {reply|answer|text}", "get $u, sending $h: $v as {a header|header}, and {tell me|show me} {the text|what you get}"]
READ = ["{what is|what's} the {value of the |}$h {response |reply |}header of $u?", "{which|what} $h {header |}does $u {send|return|give|answer with}?", "{fetch|get|request|call} $u and {tell me|give me|show me} the $h header",
        "{read|show me|tell me} the $h header {from|of} {the reply of |}$u", "$h header of $u?", "i need the {value of the |}$h header that $u {sends|returns}", "look at the {response|reply} headers of $u: what is $h?",
        "what does $u {send|say} in the header $h?", "check the header $h of $u", "in the {reply|response} of $u, what is the header $h?"]
HEADER_NAMES = ["X-Token", "X-Key", "X-Client", "X-Team", "X-Request-Id", "X-Version", "X-Mode", "Accept-Language", "X-Trace", "X-Room", "X-User", "X-Api-Version", "X-Region", "X-Tenant", "X-Color", "Accept", "User-Agent", "X-Auth"]


def header_value(s):
    n = s.names
    return s.choice([n.word, n.code, lambda: n.digits(s.number(1, 6)), n.city, lambda: "%s-%d" % (n.word(), s.number(1, 99)), lambda: "v%d.%d" % (s.number(0, 9), s.number(0, 9))])()


@skill("http.header", weight=0.7)
def send_header(s):
    name = s.choice(HEADER_NAMES) if s.chance(0.5) else "X-" + s.names.noun().capitalize()
    value = header_value(s)
    d = reply_object(s)
    path, v = s.choice([(p, v) for p, v in fields(d) if len(p) == 1] or [((None,), None)])
    s.require(path[0], "no plain field")
    url = s.serve(page(s), d, expect=lambda headers, body: headers.get(name) == value)
    s.clutter(0, 3)
    s.user(SEND, u=Name(url), h=Value(name), v=Value(value), k=Value(path[0]))
    out = s.http("GET", url, headers={name: value})
    s.require("bad request" not in out, out)
    s.answer(["the $k is $v.", "it is $v.", "with that header $u gives $v as {the |}$k."], u=Name(url), k=Value(path[0]), v=Value(json_text(v)))
    s.says(json_text(v))


@skill("http.header", weight=0.4)
def send_header_all(s):
    """A short text comes back, and is wanted whole."""
    name = s.choice(HEADER_NAMES) if s.chance(0.5) else "X-" + s.names.noun().capitalize()
    value, text = header_value(s), content.line(s)
    url = s.serve(page(s), text + s.choice(["", "\n"]), expect=lambda headers, body: headers.get(name) == value)
    s.clutter(0, 3)
    s.user(SEND_ALL, u=Name(url), h=Value(name), v=Value(value))
    out = s.http("GET", url, headers={name: value})
    s.require(text in out, out)
    s.answer(["$t", "it says: $t", "the reply is: $t"], t=Value(text))
    s.says(text)


@skill("http.header", weight=0.7)
def read_header(s):
    more = []
    for name in s.names.words(s.number(1, 3), lambda: s.choice(["X-Version", "X-Powered-By", "X-Build", "ETag", "X-Limit", "X-Count", "Retry-After", "Cache-Control", "Content-Language", "X-Served-By", "X-Region", "X-Total", "X-Next-Page", "X-" + s.names.noun().capitalize()])):
        more.append((name, '"%s"' % s.names.code() if name == "ETag" else s.choice(["no-cache", "no-store", "max-age=%d" % s.number(1, 9999)]) if name == "Cache-Control" else header_value(s)))
    url = s.serve(page(s), s.choice([content.sentence(s) + "\n", reply_object(s)]), headers=more)
    name, value = s.choice(more)
    s.clutter(0, 3)
    s.user(READ, u=Name(url), h=Value(name))
    out = s.http("GET", url)
    s.require("%s: %s" % (name, value) in out, out)
    s.answer(["the $h header {of $u |}is $v.", "$h is $v.", "$u sends $h: $v."], u=Name(url), h=Value(name), v=Value(value))
