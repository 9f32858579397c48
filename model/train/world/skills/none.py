"""none.*: greetings, abilities, thanks, and arithmetic."""

from world.scene import Value
from world.skills import skill

GREETING = ["hi{| there}", "hello{| there}", "hey{| there| you}", "good {morning|evening|afternoon|day}{|!}", "hi, how are you?", "hello, how are you {today|doing}?", "hey, how's it going?",
            "hi corvid", "hello corvid!", "greetings", "howdy", "hello, nice to meet you.", "morning!", "hi! anybody there?", "hey, what's up?", "yo", "good to see you.", "hello, are you there?",
            "hi, i'm $p.", "hello, my name is $p.", "are you awake?", "hallo", "hiya", "hey hey", "just saying hi.", "hi, i am new here."]
GREETED = ["hello! how can i help you?", "hi! what can i do for you?", "hello! what can i help you with?", "hi there! how can i help?", "hello! tell me what you need help with."]
ABILITIES = ["what can you do?", "what are you able to do?", "what can you do for me?", "how can you help me?", "who are you and what can you do?", "what are your abilities?", "help!",
             "what kind of {things|tasks|chores|jobs} can you do?", "what do you do?", "what are you good at?", "list your abilities", "tell me what you can do", "i'm new here, what can you help me with?",
             "what sort of work can i give you?", "explain what you can do", "what can i ask you?", "give me an idea of what you can do", "which {tasks|things} can you {handle|take care of}?", "what are you for?",
             "how can you be of use?", "what tools do you have?", "can you describe your skills?"]
ABLE = ["i can list, read, write and {edit|change} files, search {through them|for text}, run {shell |}commands, and fetch {web pages|URLs}.",
        "i work in your folder: i can find, read, copy, move and edit files, search text, run shell commands, and fetch URLs over HTTP.",
        "i can look at files and folders, create and edit files, search for text, count and sort lines, run commands, and make HTTP requests."]
THANKS = ["thanks", "thank you", "thanks a lot", "thx", "great, thanks", "perfect, thank you", "thanks for your help", "that's all, thanks", "cheers", "nice, thank you very much", "good work", "well done",
          "ok thanks", "many thanks"]
WELCOME = ["you're welcome!", "you're welcome! {let me know if you need anything else.|is there anything else i can do?}", "glad to help!", "any time!"]
BYE = ["bye", "goodbye", "see you {later|tomorrow}", "bye bye", "good night", "that's it for today, bye"]
GOODBYE = ["goodbye!", "bye! have a good day.", "see you!"]


@skill("none.talk", weight=1.0)
def greeting(s):
    if s.chance(0.2):
        s.clutter(0, 3, 1)
    s.user(spoken(GREETING), plain=True, p=Value(s.names.first()))
    s.answer(GREETED)


@skill("none.talk", weight=1.0)
def abilities(s):
    s.user(ABILITIES)
    s.answer(ABLE)


@skill("none.talk", weight=0.3)
def thanks(s):
    if s.chance(0.5):
        s.user(spoken(THANKS), plain=True)
        s.answer(WELCOME)
    else:
        s.user(spoken(BYE), plain=True)
        s.answer(GOODBYE)


@skill("none.talk", weight=0.3)
def several(s):
    s.user(spoken(GREETING), plain=True, p=Value(s.names.first()))
    s.answer(GREETED)
    s.user(ABILITIES, plain=True)
    s.answer(ABLE)
    if s.chance(0.5):
        s.user(spoken(THANKS), plain=True)
        s.answer(WELCOME)


ADD = ["what is $a {plus|+|and} $b?", "what's $a {plus|+} $b?", "$a {plus|+} $b?", "how much is $a {plus|+|and} $b?", "add $a and $b", "{calculate|compute|work out} $a {plus|+} $b", "sum of $a and $b?",
       "what do $a and $b add up to?", "$a + $b = ?", "what is the sum of $a and $b?", "what do you get when you add $b to $a?", "tell me what $a plus $b is",
       "i have $a {$things} and get $b more. how many do i have?", "$p has $a $things and $q has $b. how many do they have together?", "there are $a $things in one box and $b in another. how many are there in all?",
       "we sold $a $things on $day and $b the day after. how many altogether?", "a shelf holds $a $things, another holds $b. what is the total?", "$p walked $a minutes and then $b minutes more. how long in total?",
       "i paid $a for the $thing and $b for the $thing2. how much did i {pay|spend} in total?", "$a people came in the morning and $b in the evening. how many came that day?",
       "if i put $a $things and $b more in a bag, how many are in the bag?"]
SUBTRACT = ["what is $a minus $b?", "what's $a {-|minus} $b?", "$a {minus|-} $b?", "how much is $a {minus|-} $b?", "subtract $b from $a", "{calculate|compute|work out} $a {minus|-} $b", "difference between $a and $b?",
            "what is the difference of $a and $b?", "take $b away from $a", "$a - $b = ?", "what is left when you take $b from $a?", "tell me what $a minus $b is",
            "i had $a $things and gave $b away. how many are left?", "$p had $a $things and lost $b. how many does {$p|he|she} have now?", "of $a $things, $b are {broken|sold|gone|eaten}. how many remain?",
            "there were $a $things and i used $b. what is left?", "a trip is $a kilometers and we have done $b. how far is left?", "the book has $a pages and i read $b. how many pages are left?",
            "$p is $a years old and $q is $b. how many years older is $p?", "i need $a $things but have only $b. how many are missing?"]
MULTIPLY = ["what is $a times $b?", "what's $a {times|x|*} $b?", "$a {times|*|x} $b?", "how much is $a {times|*|x} $b?", "multiply $a by $b", "multiply $a and $b", "{calculate|compute|work out} $a {times|*} $b",
            "what is the product of $a and $b?", "$a * $b = ?", "$a multiplied by $b?", "tell me what $a times $b is",
            "there are $a boxes with $b $things each. how many $things are there?", "$p buys $a $things at $b euros each. how much does it cost?", "a $thing costs $b dollars. how much are $a of them?",
            "we have $a rows of $b $things. how many in total?", "$a {people|children|guests} get $b $things each. how many do we need?", "each of the $a tables seats $b people. how many people can sit?",
            "i work $b hours a day for $a days. how many hours is that?", "$p reads $b pages a day. how many pages in $a days?", "every box holds $b $things. how many are in $a boxes?"]
RESULT = ["$n.", "it is $n.", "that makes $n.", "the answer is $n.", "that is $n."]


def spoken(templates):
    """Greetings and the like are statements, not orders."""
    return [t if t[-1] in "?.!" else t + "." for t in templates]


def plural(word):
    return word[:-1] + "ies" if word.endswith("y") and word[-2] not in "aeiou" else word + ("es" if word.endswith(("s", "x", "ch", "sh")) else "s")


@skill("none.arithmetic", weight=1.6)
def arithmetic(s):
    kind = s.choice("+-*")
    easy = s.chance(0.35)
    if kind == "*":
        a, b = (s.number(2, 10), s.number(2, 10)) if easy else (s.number(2, 15), s.number(2, 25)) if s.chance(0.35) else (s.number(2, 99), s.number(2, 60))
        n = a * b
    else:
        a, b = (s.number(1, 12), s.number(1, 12)) if easy else (s.number(3, 999 if s.chance(0.4) else 99), s.number(3, 999 if s.chance(0.4) else 99))
        if kind == "-" and b > a:
            a, b = b, a
        n = a + b if kind == "+" else a - b
    p, q = s.names.words(2, s.names.first)
    s.user({"+": ADD, "-": SUBTRACT, "*": MULTIPLY}[kind], a=Value(a), b=Value(b), p=Value(p), q=Value(q), things=Value(plural(s.names.noun())),
           thing=Value(s.names.noun()), thing2=Value(s.names.noun()), day=Value(s.choice(["Monday", "Friday", "Saturday"])))
    # Sums that a person does at a glance are answered at once; for the others the shell is the safer calculator.
    if not (a <= 12 and b <= 12 and (kind != "*" or a <= 10 and b <= 10)):
        out = s.shell("echo $((%d %s %d))" % (a, kind, b))
        s.require(out == str(n), out)
    s.answer(RESULT, n=Value(n))
    s.says(n)
