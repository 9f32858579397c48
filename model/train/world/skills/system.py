"""system.*: date, folder, machine, account. What differs from machine to machine is simulated by shell functions."""

from world.scene import Name, T, Value
from world.skills import skill

DATE = ["{what is|what's|whats} {today's date|the date today|the date|todays date}?", "{which|what} {day|date} is {it|today}{ today|}?", "{tell me|give me|show me} {today's date|the date|the date of today}",
        "{what day|which day} do we have{ today|}?", "today's date?", "i need {today's date|the current date}", "{can you look up|look up} the {current |}date", "date today?", "what is the current date?",
        "do you know {what day it is|today's date|which date it is}?", "i lost track of time, which day is it?", "{say|print} the date of today"]
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()


@skill("system.date", weight=0.8)
def date(s):
    day = "%s, %d %s %d" % (s.choice(DAYS), s.number(1, 31), s.choice(MONTHS), s.number(2023, 2031))
    s.functions["date"] = "echo '%s';" % day
    s.clutter(0, 3)
    s.user(DATE)
    s.require(s.shell("date '+%A, %-d %B %Y'") == day, "date")
    s.answer(["today is $d.", "it is $d.", "today's date is $d."], d=Value(day))


FOLDER = ["{what is|what's|whats} {the|my|our} {current|working|present} {folder|directory|dir}?", "{in which|which} {folder|directory} am i{ in|}?", "where am i{ right now| here|}?", "{which|what} {folder|directory} {is this|are we in|are you working in}?",
          "{tell me|give me|show me} the {full |}path {of|to} {this|the current} {folder|directory}", "{full path|path} of {this folder|the current folder|this directory}?", "what is the path {here|of this folder}?",
          "print the {working|current} {directory|folder}", "i need the {full |absolute |}path of {this|the current|the working} {folder|directory}", "in what {folder|directory} are we {working|here}?",
          "{say|name} the {folder|directory} i am in", "where on the disk are we?"]


@skill("system.folder", weight=0.8)
def folder(s):
    s.clutter(0, 4)
    s.user(FOLDER)
    path = s.shell("pwd")
    s.answer(["{you are|we are} in $p.", "the {current|working} folder is $p.", "this is $p."], p=Value(path))
    s.says(path)


CPUS = ["how many {cpus|cpu cores|cores|processors} {does this {machine|computer|box|server} have|are there{ here|}|do i have{ here|}|are in this {machine|computer}}?", "{number of|count of} {cpus|cores|processors}{ here| on this machine|}?",
        "{tell me|give me|show me} the number of {cpus|cores|processors}{ of this {machine|computer}|}", "what is the {cpu|core|processor} count{ of this {machine|computer|box}|}?", "how many {cores|processors} can {i|we} use{ here|}?",
        "{count|list the number of} the {cpus|processors}{ of this {machine|computer}|}", "i need {to know |}how many {cpus|cores} {this machine has|we have}", "cpu count?", "is this a big machine? how many {cpus|cores}?",
        "{check|find out} how many {cpus|processors} {this {machine|computer|box} has|there are}"]
SPACE = ["how much {disk |}space is {free|left|available}{ here| on {this|the} disk| on this machine|}?", "{free|available} {disk |}space{ here|}?", "{tell me|give me|show me} the free {disk |}space{ here| on this disk|}", "how {full|empty} is the disk? {i need the free space|how much is free}?",
         "is there {enough|much} {disk |}space left? how much {exactly|is it}?", "what is the free space {on|of} {this|the} disk?", "how many gigabytes are {free|left}{ here| on the disk|}?", "{check|find out} how much {disk |}space {is left|is free|we have left}",
         "i need {to know |}the free {disk |}space", "how much {room|storage} is {left|free} on {the|this} {disk|drive}?", "disk space left?"]
KERNEL = ["{which|what} kernel {version |}{is this|is running{ here|}|does this {machine|computer|box} {run|use|have}|do we have}?", "{what is|what's} the kernel version{ here|}?", "kernel {version|release}?", "{tell me|give me|show me} the {linux |}kernel {version|release}{ of this machine|}",
          "{which|what} version of the {linux |}kernel {is this|is it|do we run}?", "i need {to know |}the kernel {version|release}", "{check|find out|look up} the {linux |}kernel {version|release}", "what linux kernel {is installed|runs} here?", "how new is the kernel? {which version|tell me the version}.",
          "what does uname say about the kernel {version|release}?"]


@skill("system.machine", weight=1.3)
def machine(s):
    kind = s.choice(["cpus", "space", "kernel"])
    s.clutter(0, 3)
    if kind == "cpus":
        n = str(s.choice([1, 2, 2, 3, 4, 4, 6, 8, 8, 10, 12, 16, 16, 20, 24, 32, 48, 64, 96, 128]))
        s.functions["nproc"] = "echo %s;" % n
        s.user(CPUS)
        s.require(s.shell("nproc") == n, "nproc")
        s.answer(["this machine has $n CPU%s." % ("" if n == "1" else "s"), "there {are|is} $n." if n == "1" else "there are $n {cores|CPUs}.", "$n."], n=Value(n))
        return s.says(n)
    if kind == "space":
        n = s.choice(["%d", "%d", "%d", "%.1f"]) % (s.number(10, 99) / 10 if s.chance(0.15) else s.number(2, 990)) + s.choice("GGGGMT")
        s.functions["df"] = "printf 'Avail\\n%%5s\\n' %s;" % n
        s.user(SPACE)
        s.require(s.shell("df -h --output=avail . | tail -1").strip() == n, "df")
        s.answer(["$n {are free|are available|is free} on this disk.", "there {is|are} $n of free space.", "{the disk has|you have} $n left."], n=Value(n + "B" if s.chance(0.2) else n))
        return None
    v = "%d.%d.%d%s" % (s.number(3, 7), s.number(0, 19), s.number(0, 250), s.choice(["", "-%d-amd64" % s.number(1, 40), "-%d-generic" % s.number(10, 130), "-%s" % s.names.code(), "-arch1-%d" % s.number(1, 4), ".fc%d.x86_64" % s.number(30, 44), "-v%d-gpu" % s.number(1, 300)]))
    s.functions["uname"] = "echo %s;" % v
    s.user(KERNEL)
    s.require(s.shell("uname -r") == v, "uname")
    s.answer(["the kernel {version |}is $v.", "this machine runs {kernel|Linux} $v.", "it is $v."], v=Value(v))
    return None


USER = ["{which|what} user am i{ here|}?", "who am i{ here| on this machine|}?", "{what is|what's|whats} my {user name|username|login|account name}{ here|}?", "{tell me|give me|show me} {my|the current} {user name|username|login|account}",
        "under which {user|account|name} {am i|do i} {logged in|running}?", "as {which|what} user am i {working|logged in}{ here|}?", "user name?", "i forgot my {user name|login|account name}{ here|}, what is it?",
        "{which|what} account {is this|am i using|do i use}{ here|}?", "{name|print|say} the {current user|user i am}", "what is the name of the user here?"]
VARIABLE = ["{what is|what's|whats} the {value of |value of the variable |content of |}$v?", "{what|which} value does {the {environment |}variable |}$v have?", "{tell me|give me|show me|print} {the value of |}{the environment variable |the variable |}$v",
            "what is {the {environment |}variable |}$v set to?", "is $v set? {to what|what is its value}?", "what does {the {environment |}variable |}$v {say|hold|contain}?", "{look up|check|read} {the environment variable |the variable |}$v{ and tell me what it holds|}",
            "value of $v?", "i need {to know |}{the value of|what is in} {the variable |}$v", "{echo|read out} {the environment variable |}$v", "which value is in {the environment variable |}$v?"]
VARIABLE_NAMES = "EDITOR PAGER CITY GREETING REGION STAGE PROJECT COLOR TEAM MODE LEVEL NAME_OF_DAY BACKUP_DIR DATA_DIR HOST_NAME APP_ENV APP_PORT TZ_NAME FAVORITE COUNTRY PROFILE RELEASE BRANCH_NAME DEPLOY_TARGET CACHE_SIZE LANG_CODE SHOP_NAME".split()


@skill("system.account", weight=1.2)
def account(s):
    s.clutter(0, 3)
    if s.chance(0.45):
        name = s.names.first().lower() if s.chance(0.5) else s.choice(["root", "user", "admin", "build", "guest", "deploy", "www-data", s.names.word(), s.names.code()])
        s.functions["id"] = "echo %s;" % name
        s.user(USER)
        s.require(s.shell("id -un") == name, "id")
        s.answer(["you are $n.", "you are {the user|logged in as} $n.", "{your|the} user name {here |}is $n."], n=Value(name))
        return s.says(name)
    name = s.choice(VARIABLE_NAMES) if s.chance(0.45) else "_".join(s.names.words(s.number(1, 2), s.names.noun)).upper()
    if s.chance(0.9):
        value = s.choice([s.names.word, s.names.city, s.names.code, lambda: s.names.digits(s.number(1, 5)), lambda: "/srv/" + s.names.folder(), lambda: "%s %s" % (s.names.adjective(), s.names.noun()), s.names.person])()
        s.variables[name] = value
        s.user(VARIABLE, v=T(s.say_rng.choice(["$v_", "$v_", "$v_", "$v_ {in the environment|here}"]), v_=Value(s.decided("form", [name, name, name, "$" + name]))))
        s.require(s.shell("printenv " + name) == value, "printenv")
        s.answer(["$v is {set to |}$x.", "{its|the} value {of $v |}is $x.", "$v {holds|has the value} $x."], v=Value(name), x=Value(value))
        return s.says(value)
    s.user(VARIABLE, v=Value(name))
    s.require("exit code 1" in s.shell("printenv " + name), "set")
    s.answer(["$v is not set.", "there is no variable {named |}$v in the environment.", "the variable $v is not set here."], v=Value(name))
    return None
