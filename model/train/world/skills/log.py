"""log.*: counting lines of a level, the first or last line of a kind, the address that comes most often."""

import collections

from world import content
from world.scene import Name, T, Value
from world.skills import skill
from world.skills.table import gone, is_missing


def log_path(s):
    folder = s.folder(0.55)
    return s.fresh(folder, s.choice(["log", "log", "log", "txt", "out"]))


COUNT = ["how many $l {lines|entries|messages} {are there |are |}in $f?", "count the $l {lines|entries|messages} in $f", "how {often|many times} {does|did} $l {appear|occur|come up} in $f?",
         "{give me|tell me} the number of $l {lines|entries|messages} in $f", "number of $l {lines|messages} in $f?", "$f: how many $l?", "how many {lines|entries} {of|in} $f {have|are at} level $l?",
         "how many $l do we have in $f?", "in $f, how many {lines|entries} are $l?", "{look|check} {in|through} $f and {count|tell me how many} $l {lines|entries}{ there are|}",
         "what is the $l count in $f?", "i need to know how many $l {lines|messages} $f has", "does $f have many $l lines? how many {exactly|}?",
         "how many {entries|lines} with {level |}$l {has|does} $f {got|have}?"]


@skill("log.count", weight=1.2)
def count(s):
    path = log_path(s)
    rows = content.level_log(s, s.number(3, 60 if s.chance(0.8) else 300))
    level = s.choice([r.split()[2] for r in rows]) if s.chance(0.93) else s.choice(content.LEVELS)
    absent = is_missing(s, path)
    if not absent:
        s.put(path, "\n".join(rows) + "\n")
    s.clutter(0, 3)
    said = Value(level) if s.chance(0.65) else T({"ERROR": "error", "WARN": "{warn|warning}", "INFO": "info", "DEBUG": "debug", "FATAL": "fatal"}[level])
    s.user(COUNT, f=Name(path), l=said)
    command = "grep -cw %s %s" % (level, path)
    if absent:
        return gone(s, path, command)
    n = s.shell(command).split("\n")[0]
    s.require(int(n) == sum(level in r.split() for r in rows), n)
    if n == "0":
        s.answer(["there are 0 $l lines in $f.", "$f has 0 $l lines."], l=Value(level), f=Name(path))
    else:
        s.answer(["there are $n $l lines in $f." if n != "1" else "there is 1 $l line in $f.", "$f has $n $l line%s." % ("" if n == "1" else "s")],
                 l=Value(level), f=Name(path), n=Value(n))
    s.says(n)


FIRST_LEVEL = ["{when|at what time} {was|is|did we get} the first $l {in|of} $f?", "{what is|what's|tell me|give me} the time of the first $l {line|entry|message} in $f?",
               "at {what|which} time {did|does} the first $l {appear|occur|happen|show up} in $f?", "when did the first $l {happen|come|occur} according to $f?",
               "find the first $l in $f and tell me {its time|when it was}", "{look|check} in $f: when was the first $l?", "$f: time of the first $l?",
               "the first $l line in $f, when was that?", "i need the time of the first $l in $f", "when does $f show its first $l?", "{how early|when} was the first $l in $f?"]
LAST_LEVEL = [t.replace("first", "last").replace("how early", "how late") for t in FIRST_LEVEL]


@skill("log.first_last", weight=0.9)
def first_last_level(s):
    path = log_path(s)
    rows = content.level_log(s, s.number(3, 60 if s.chance(0.8) else 200))
    level = s.choice([r.split()[2] for r in rows])
    last = s.chance(0.5)
    absent = is_missing(s, path)
    if not absent:
        s.put(path, "\n".join(rows) + "\n")
    s.clutter(0, 3)
    said = Value(level) if s.chance(0.65) else T({"ERROR": "error", "WARN": "warning", "INFO": "info", "DEBUG": "debug", "FATAL": "fatal"}[level])
    s.user(LAST_LEVEL if last else FIRST_LEVEL, f=Name(path), l=said)
    command = "grep -w %s %s | %s -1" % (level, path, "tail" if last else "head")
    if absent:
        return gone(s, path, command)
    line = s.shell(command)
    s.require(line in rows, line)
    time = line.split()[1]
    s.answer(["the $w $l in $f was at $t.", "the $w $l {line|entry} is at $t.", "at $t."], w=T("last" if last else "first"), l=Value(level), f=Name(path), t=Value(time))
    s.says(time)


EVENTS = [("user %s logged in", "logged in", "log in"), ("user %s logged out", "logged out", "log out"), ("%s connected", "connected", "connect"),
          ("session of %s opened", "opened a session", "open a session"), ("%s uploaded a file", "uploaded a file", "upload a file"),
          ("door opened by %s", "opened the door", "open the door"), ("%s left the building", "left the building", "leave the building"),
          ("payment from %s", "paid", "pay"), ("%s started a backup", "started a backup", "start a backup"), ("order placed by %s", "placed an order", "place an order"),
          ("password changed by %s", "changed the password", "change the password"), ("%s failed to log in", "failed to log in", "fail to log in")]
WHO = ["who $e $w {in|according to} $f?", "{which user|who} was the $w to $b {in|according to} $f?", "$f: who $e $w?", "{tell me|find out|look in $f for} who $e $w{ in $f|}",
       "according to $f, who was the $w one to $b?", "in $f, who $e $w?", "who was the $w person to $b in $f?", "{look|check} in $f: who $e $w?",
       "i need the name of the $w one who $e in $f", "name the $w user who $e in $f"]
WHEN = ["when did $p $b {in|according to} $f?", "at what time did $p $b {in|according to} $f?", "{tell me|find out} when $p $e {in|according to} $f", "$f: when did $p $b?",
        "in $f, when did $p $b?", "{look|check} in $f: at what time did $p $b?", "what time was it when $p $e, according to $f?", "i need the time when $p $e from $f"]


@skill("log.first_last", weight=0.9)
def first_last_event(s):
    path = log_path(s)
    count = s.number(6, 40)
    form, past, base = s.choice(EVENTS)
    key = form.replace("%s", "").strip().removeprefix("user ").strip()
    people = [p.lower() for p in s.names.words(s.number(2, 6), s.names.first)]
    _, times = content.log_time(s, count)
    date = s.names.date()
    month, day = s.choice("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()), s.number(1, 28)
    levels = s.chance(0.6)
    rows, hits = [], []
    places = set(s.sample(range(count), s.number(2, min(count, len(people) + 2))))
    once = s.choice(sorted(places))  # where somebody does it who does it nowhere else
    for i, t in enumerate(times):
        stamp = "%s %s %s" % (date, t, s.choice(["INFO", "INFO", "WARN"])) if levels else "%s %02d %s" % (month, day, t)
        if i in places:
            who = people[0] if i == once else s.choice(people[1:])
            hits.append((who, t))
            text = form % who
        else:
            text = s.choice(["cache cleared", "%s is ready" % s.names.word(), "disk almost full", "loaded %d records" % s.number(1, 900),
                             "%s restarted" % s.names.noun(), "saved %s" % s.names.word()])
        rows.append("%s %s" % (stamp, text))
    s.put(path, "\n".join(rows) + "\n")
    s.clutter(0, 3)
    if s.chance(0.6):
        last = s.chance(0.5)
        who, time = hits[-1 if last else 0]
        s.user(WHO, f=Name(path), e=Value(past), b=Value(base), w=T("last" if last else "first"))
        s.shell("head -5 " + path)
        line = s.shell("grep '%s' %s | %s -1" % (key, path, "tail" if last else "head"))
        s.require(line in rows and who in line and time in line, line)
        s.answer(["$p was the $w, at $t.", "it was $p{, at $t|}.", "$p $e $w{, at $t|}."], p=Value(who), t=Value(time), w=T("last" if last else "first"), e=Value(past))
        s.says(who)
        return
    alone = [(w, t) for w, t in hits if sum(x == w for x, _ in hits) == 1]
    who, time = s.choice(alone)
    s.user(WHEN, f=Name(path), e=Value(past), b=Value(base), p=Value(who))
    line = s.shell("grep -w %s %s" % (who, path))
    s.require(line in rows, line)
    s.answer(["$p $e at $t.", "at $t.", "it was at $t."], p=Value(who), t=Value(time), e=Value(past))
    s.says(time)


TOP = ["which {ip |}address {appears|occurs|shows up|comes} {most often|the most|most} in $f?", "{what|which} is the most {frequent|common} {ip |}address in $f?",
       "{find|tell me|give me} the {ip |}address with the most {requests|lines|hits|entries} in $f", "who {sent|made} the most requests {in|according to} $f? {i mean the address|give me the address}.",
       "which {host|client|ip|visitor} {has|made} the most {requests|hits|entries} in $f?", "{top|busiest} {ip |}address in $f?", "{what|which} address {made|sent} the most requests in $f?",
       "{look|check} {in|through} $f: which address is there most?", "in $f, which {ip |}address comes up most?", "most active address in $f?",
       "i need the address that is most often in $f", "from which address did most of the requests in $f come?", "$f: which ip is the most frequent?"]
TOP_COUNT = ["which {ip |}address {appears|occurs|shows up|comes} most often in $f, and how {often|many times}?", "{what|which} is the most {frequent|common} address in $f and how often {does it come|is it there}?",
             "{find|tell me|give me} the address with the most {requests|lines|hits} in $f and how many it has", "who {sent|made} the most requests in $f, and how many? {the address please|address and number please}.",
             "which {host|client|ip} has the most {requests|hits} in $f, and how many {are there|is that}?", "{top|busiest} address in $f with its count?",
             "{look|check} in $f: which address is there most, and how many times?", "i need the most active address in $f and its number of lines"]


@skill("log.top", weight=1.3)
def top(s):
    path = log_path(s)
    pool = s.names.words(s.number(2, 7), lambda: content.address(s))
    hosts = [s.choice(pool) for _ in range(s.number(4, 60))] + [pool[0]] * s.number(1, 8)
    s.rng.shuffle(hosts)
    ranking = collections.Counter(hosts).most_common()
    s.require(len(ranking) < 2 or ranking[0][1] > ranking[1][1], "a tie")
    absent = is_missing(s, path)
    if not absent:
        s.put(path, "\n".join(content.access_log(s, hosts)) + "\n")
    s.clutter(0, 3)
    s.user(TOP_COUNT if s.chance(0.35) else TOP, f=Name(path))
    command = "cut -d' ' -f1 %s | sort | uniq -c | sort -rn | head -1" % path
    if absent:
        return gone(s, path, command)
    out = s.shell(command)
    s.require(out.split() == [str(ranking[0][1]), ranking[0][0]], out)
    s.answer(["$a {comes|appears|shows up} most often in $f, $n time%s." % ("" if ranking[0][1] == 1 else "s"), "it is $a with $n line%s." % ("" if ranking[0][1] == 1 else "s"),
              "$a, with $n {requests|lines}."], a=Value(ranking[0][0]), n=Value(str(ranking[0][1])), f=Name(path))
    s.says(ranking[0][0], str(ranking[0][1]))
