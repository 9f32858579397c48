"""What files hold: short texts, lists, logs, tables, settings, scripts. Everything is drawn from a scene's chance."""

import json

PAST = ("found lost bought sold painted carried moved opened closed cleaned watched fixed borrowed visited loved forgot left saw "
        "brought cooked counted wrapped hid kept needed ordered returned used wanted washed planted picked stored shared").split()
CONFIG_KEYS = """
host port name user password timeout retries mode level path color colour theme language size width height depth speed limit
max_users max_size max_connections min_size log_level log_file data_dir cache_dir cache_size backup_dir output_dir input_file
title owner email city country currency timezone interval delay workers threads debug verbose enabled region zone bucket queue
topic table database server address proxy token_file font font_size page_size quality volume brightness temperature pressure
start_time end_time retention_days batch_size buffer_size page_title home_page api_version schema unit precision seed greeting
""".split()
SECTIONS = """server client database cache logging network display user paths mail backup web api auth storage printer audio
video alerts general main default window editor sync queue worker scheduler import export sensor billing garden kitchen""".split()


def sentence(s):
    n = s.names
    p = s.rng.randrange(9)
    if p == 0:
        return "The %s %s %s the %s." % (n.adjective(), n.noun(), s.choice(PAST), n.noun())
    if p == 1:
        return "%s %s a %s %s in %s." % (n.first(), s.choice(PAST), n.adjective(), n.noun(), n.city())
    if p == 2:
        return "Remember to %s the %s." % (n.verb(), n.noun())
    if p == 3:
        return "We %s the %s on %s." % (s.choice(PAST), n.noun(), s.choice("Monday Tuesday Wednesday Thursday Friday".split()))
    if p == 4:
        return "There are %d %ss near the %s." % (s.number(2, 90), n.noun(), n.noun())
    if p == 5:
        return "%s and %s will %s the %s." % (n.first(), n.first(), n.verb(), n.noun())
    if p == 6:
        return "A %s is %s, but the %s is %s." % (n.noun(), n.adjective(), n.noun(), n.adjective())
    if p == 7:
        return "Ask %s about the %s." % (n.first(), n.noun())
    return "No %s without %s." % (n.noun(), n.noun())


def line(s):
    """A short line of ordinary text, without marks that a shell would take for its own."""
    n, x = s.names, s.rng.random()
    if x < 0.35:
        return sentence(s)
    if x < 0.5:
        return "%s %s" % (n.verb(), n.noun()) if s.chance(0.5) else "buy %s and %s" % (n.noun(), n.noun())
    if x < 0.6:
        return "%s: %d" % (n.word(), s.number(1, 999))
    if x < 0.7:
        return n.person()
    if x < 0.8:
        return "%s %s" % (n.adjective(), n.noun())
    if x < 0.86:
        return "%s, %s, %s" % (n.word(), n.word(), n.word())
    if x < 0.92:
        return "%s %s" % (n.date(), n.word())
    return n.word()


def lines(s, low=2, high=8):
    return [line(s) for _ in range(s.number(low, high))]


def text(s, low=2, high=8):
    return "\n".join(lines(s, low, high)) + "\n"


def word_list(s, low=3, high=12):
    return s.names.words(s.number(low, high))


def log_time(s, count, date=None):
    """count rising times of one day: (date, [HH:MM:SS])"""
    seconds = sorted(s.sample(range(86400), count))
    return date or s.names.date(), ["%02d:%02d:%02d" % (t // 3600, t // 60 % 60, t % 60) for t in seconds]


LEVELS = ["DEBUG", "INFO", "WARN", "ERROR", "FATAL"]
LOG_TEXTS = """
started $w|stopped $w|connection to $w lost|connection from $w accepted|user $p logged in|user $p logged out|$w is ready|
cannot open $w|retry $n for $w|disk almost full|backup of $w done|job $w finished in $n ms|request $n took too long|$w not found|
cache cleared|loaded $n records|timeout waiting for $w|saved $w|$p changed $w|queue length is $n|checking $w|
no error in $w|information about $w sent|warning light of $w off|debugger attached to $w|read $n bytes|sensor $w reports $n
""".replace("\n", "").split("|")


def log_message(s):
    t = s.choice(LOG_TEXTS)
    return t.replace("$w", s.names.word()).replace("$p", s.names.first().lower()).replace("$n", str(s.number(1, 900)))


def level_log(s, count, levels=None, weights=(10, 45, 20, 20, 5)):
    """Lines `YYYY-MM-DD HH:MM:SS LEVEL text`."""
    date, times = log_time(s, count)
    return ["%s %s %s %s" % (date, t, s.rng.choices(levels or LEVELS, None if levels else weights)[0], log_message(s)) for t in times]


def month_log(s, count):
    """Lines `Mon DD HH:MM:SS text`."""
    _, times = log_time(s, count)
    month = s.choice("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split())
    day = s.number(1, 28)
    return ["%s %02d %s %s" % (month, day, t, log_message(s)) for t in times]


def address(s):
    return "%d.%d.%d.%d" % (s.choice([10, 192, 172, s.number(11, 220)]), s.number(0, 255), s.number(0, 255), s.number(1, 254))


def access_line(s, host, date, time):
    y, m, d = date.split("-")
    month = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()[int(m) - 1]
    return '%s - - [%s/%s/%s:%s +0000] "%s /%s HTTP/1.1" %d %d' % (
        host, d, month, y, time, s.choice(["GET", "GET", "GET", "POST"]), s.names.word(), s.choice([200, 200, 200, 304, 404, 500]),
        s.number(50, 9999))


def access_log(s, hosts):
    """One line for each address of the list, in order."""
    date, times = log_time(s, len(hosts))
    return [access_line(s, h, date, t) for h, t in zip(hosts, times)]


def csv(s, columns, rows):
    return "\n".join([",".join(columns)] + [",".join(str(v) for v in r) for r in rows]) + "\n"


def small_csv(s):
    n = s.names
    kinds = s.sample([("name", n.first), ("city", n.city), ("item", n.product), ("amount", lambda: s.number(1, 500)),
                      ("price", lambda: "%.2f" % (s.number(50, 9999) / 100)), ("date", n.date), ("color", n.color)], s.number(2, 4))
    return csv(s, [k for k, _ in kinds], [[f() for _, f in kinds] for _ in range(s.number(2, 7))])


def config_value(s, key=""):
    n, x = s.names, s.rng.random()
    if any(w in key for w in ("port", "max", "min", "size", "limit", "count", "timeout", "retries", "interval", "days", "workers")):
        return str(s.number(1, 65000 if "port" in key else 900))
    if any(w in key for w in ("dir", "path")):
        return s.choice(["/var/", "/srv/", "/home/", "", "./"]) + n.folder()
    if "file" in key:
        return n.file()
    if x < 0.3:
        return str(s.number(1, 9999))
    if x < 0.6:
        return n.word()
    if x < 0.68:
        return s.choice(["true", "false", "on", "off", "yes", "no"])
    if x < 0.78:
        return n.city()
    if x < 0.84:
        return n.code()
    if x < 0.9:
        return "%d.%d" % (s.number(0, 99), s.number(0, 9))
    if x < 0.95:
        return "%s.example.%s" % (n.word(), s.choice(["com", "org", "net"]))
    return "%s %s" % (n.adjective().capitalize(), n.noun())


def plain_key(s):
    """A setting's name of letters and underscores: a usual one, or one that nobody has seen."""
    n, x = s.names, s.rng.random()
    if x < 0.6:
        return s.choice(CONFIG_KEYS)
    if x < 0.72:
        return n.noun()
    if x < 0.86:
        return "%s_%s" % (n.noun(), s.choice(CONFIG_KEYS).rpartition("_")[2])
    return "%s_%s" % (n.adjective() if s.chance(0.5) else n.noun(), n.noun())


def config_key(s):
    return "%s%s%s" % (s.names.word(), s.choice("_-."), s.choice(CONFIG_KEYS)) if s.chance(0.15) else plain_key(s)


def some_keys(s, count):
    """Different plain keys."""
    return s.names.words(count, lambda: plain_key(s))


def section(s):
    return s.choice(SECTIONS) if s.chance(0.65) else s.names.noun()


def some_sections(s, count):
    return s.names.words(count, lambda: section(s))


def settings(s, pairs, style=None):
    """`key = value` lines of one style."""
    sep = style or s.choice([" = ", "=", ": ", " = "])
    out = []
    for k, v in pairs:
        if s.chance(0.08):
            out.append("# " + sentence(s))
        out.append(k + sep + v)
    return "\n".join(out) + "\n"


def ini(s, sections):
    """sections: [(name, [(key, value)])]"""
    sep = s.choice([" = ", "=", " = "])
    blocks = ["\n".join(["[%s]" % name] + [k + sep + v for k, v in pairs]) for name, pairs in sections]
    return s.choice(["\n\n", "\n\n", "\n"]).join(blocks) + "\n"


def small_config(s):
    keys = some_keys(s, s.number(3, 7))
    if s.chance(0.5):
        return settings(s, [(k, config_value(s, k)) for k in keys])
    return ini(s, [(n, [(k, config_value(s, k)) for k in some_keys(s, s.number(2, 4))])
                   for n in some_sections(s, s.number(2, 3))])


def small_json(s):
    keys = some_keys(s, s.number(2, 5))
    value = {k: s.choice([s.names.word(), s.number(1, 999), True, s.names.city()]) for k in keys}
    return json.dumps(value, indent=2 if s.chance(0.7) else None) + "\n"


def script(s):
    return "#!/bin/bash\n# %s\necho \"%s\"\n" % (sentence(s), " ".join(s.names.words(2)))


def any_text(s, ext):
    """Something fitting for a file of this ending; mostly short."""
    if ext in ("csv", "tsv"):
        return small_csv(s)
    if ext == "json":
        return small_json(s)
    if ext in ("ini", "conf", "cfg", "yaml"):
        return small_config(s)
    if ext in ("log", "out"):
        return "\n".join(level_log(s, s.number(2, 7))) + "\n"
    if ext == "sh":
        return script(s)
    if ext == "py":
        return "print(%r)\n" % " ".join(s.names.words(2))
    return text(s, 1, 6)
