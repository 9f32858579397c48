"""How people ask for something that the session has shown before, as templates around a noun phrase or a clause.

    NP   $np: "the port in server.ini"                    "what was $np again?"
    KEY  $k and $f: "port", "server.ini"                  "you read $f earlier. what was the $k?"
    CQ   $cq: "which file was the largest in notes"       "remind me: $cq?"

All of them refer back: by the past tense, by "again", or by saying that it was seen before. A question about what is the
case now refers to nothing, and is worded by the skill that looks.
"""

WHEN = "{earlier|before|a while ago|some time ago|earlier on|earlier today|at the {start|beginning}|in the beginning|a few questions ago|some questions back|back then|previously|the first time|last time|just now|a moment ago}"

NP = [
    "what was $np?", "what was $np again?", "what was $np " + WHEN + "?", "and what was $np{ again|}?", "what did you say $np was?", "what did you say about $np " + WHEN + "?", "$np, what was {it|that}{ again|}?",
    "$np again?", "$np once more{, please|}?", "{which|what} was $np, do you {remember|recall|still know}?", "what {has|had} $np been?",
    "remind me {of|about} $np", "remind me what $np was", "remind me: $np?", "remind me, what {was|is} $np again?", "{quick |a |one |}reminder please: what was $np?",
    "tell me again what $np was", "tell me $np again", "tell me once more what $np {was|is}", "give me $np again", "give me $np once more", "say $np again", "repeat $np", "repeat $np for me, as you {said|gave|told} it " + WHEN,
    "do you {still |}remember $np?", "do you {still |}know what $np was?", "can you {recall|remember} $np?", "can you {still |}tell me what $np was?",
    "i forgot $np.", "i forgot $np. what was it?", "i forgot what $np was.", "i {did not|didn't} write down $np. {what was it?|say it again.}", "i {can't|cannot} remember $np. {what was it?|you may.}", "i lost $np. {say it again.|what was it?}", "$np slipped my mind. what was it?",
    "i no longer know $np.", "i {did not|didn't} catch $np. what was it?",
    "you told me $np " + WHEN + ". {what|which} was it?", "you {found|looked up|gave me|showed me|read me|mentioned} $np " + WHEN + ". what was it?", WHEN + " you {found|gave me|told me|showed me|said} $np. what was it?", "i asked {you |}{for|about} $np " + WHEN + ". what {was the answer|did you say|came out}?",
    "we {had|saw|talked about|looked at} $np " + WHEN + ", what was it?", "$np came up " + WHEN + ". what was it?", WHEN + " we {had|saw|came across} $np, what was it?",
    "what did you {answer|reply|tell me} when i asked {for|about} $np?", "what was your answer about $np?", "what {did we find|came out|did we see} for $np?", "{which|what} value did $np have " + WHEN + "?", "what did you {see|report|give|find} for $np?",
    "without {looking|checking|opening anything} again, what was $np?", "no need to {look|check} again: what was $np?", "{just |}from memory: what was $np?", "from what you {saw|have seen|know} already, what was $np?", "don't {look|check} again, just say what $np was",
    "don't run anything, just tell me $np again", "as far as you remember, what was $np?", "going by {this conversation|what we saw|what you showed me}, what was $np?", "you already know $np. what was it?", "{you have|you've} seen $np already, tell me what it was",
    "going back a bit: what was $np?", "back to $np: what was it?", "going back to $np, what was it?", "coming back to $np {from before|from earlier|}: what was it?", "about $np from {before|earlier}: what was it?", "{one thing|something} from {before|earlier}: what was $np?", "once again: what was $np?",
    "sorry, what was $np?", "wait, what was $np{ again|}?", "hang on, $np was what again?", "{earlier|before} there was $np. what was it?", "at the {beginning|start} of this {conversation|session|chat} you looked at $np. what was it?", "i need $np again.", "i need $np that you {found|gave me|told me} " + WHEN + ".",
    "can i have $np again?", "could i {hear|have} $np once more?", "for my notes: what was $np?", "just to be sure, what was $np?", "let's recap: what was $np?", "to sum up, what was $np?", "so what was $np?", "what, again, was $np?", "if i may ask again: $np?", "which was $np again?", "what was it again, $np?",
    "give me $np one more time", "give me $np, the one from {before|earlier}", "$np, {please, |}the one from {before|earlier}", "$np, {which|what} number or name was that?", "we {worked out|found|determined|looked up} $np {" + WHEN + "|}. {which|what} was it?", "what was $np, the one {you found|we found|you gave me} " + WHEN + "?",
    "and what did we get for $np?", "what had you found for $np?", "$np that you {gave|showed|told} me, what was it?", "tell me one more time what $np was", "i {would|'d} like to hear $np again.", "can you go back to $np and tell me {it|what it was}?",
    "scroll back for me: what was $np?", "think back: what was $np?", "look back in our conversation: what was $np?", "remember when i asked about $np? what was it?",
]

KEY = [
    "you read $f " + WHEN + ". what was {the |}$k{ in it| there|}?", WHEN + " you read $f. what was {the |}$k{ in it| there|}?", "you {read|saw|opened|looked at} $f " + WHEN + ". tell me {the |}$k from it", "in $f, what was {the |}$k{ again|}?", "going back to $f: what was {the |}$k{ there|}?",
    "back to $f for a moment: what was {the |}$k?", "what did $f say {about|for} {the |}$k?", "what $k did $f have{ again|}?", "what $k did $f {have|give|show|say} when you {read|opened} it?", "{which|what} $k did you see in $f{ " + WHEN + "|}?", "{which|what} $k was in $f{ again|}?",
    "what did you see for $k in $f?", "$f{ from before|}: what was {its|the} $k?", "$f, the {file|one} from {before|earlier}: what was its $k?", "the $k in $f was what again?", "when you {opened|read|looked at} $f, what was {the |}$k?", "remember $f? what was {the |}$k in it?",
    "about $f again: what was {the |}$k?", "what was {the |}$k, the one in $f?", "what $k {was|stood|was written} in $f{ again|}?", "we looked at $f " + WHEN + ". {which|what} $k did it have?", "how was $k set in $f?", "what was $k set to in $f{ again|}?", "which value did $k have in $f{ again|}?",
    "the file $f that you {read|showed me} " + WHEN + ": what was {the |}$k?", "i saw {a|the} $k in $f but forgot it. what was it?", "the $k that $f {gave|had|showed}, what was it?", "i still need the $k you {saw|found} in $f.", "from $f, the $k again{ please|}?", "i forgot the $k you found in $f. what was it?",
    "repeat the $k from $f that {came up|was shown|you showed me} " + WHEN, "what was {the |}$k in $f{ again|}?", "what was {the |}$k of $f again?", "what was {the |}$k {in|from|of} $f, the file you {read|showed me} " + WHEN + "?", "does {the |}$k of $f come back to you? what was it?", "{the |}$k, {in|from} $f: what was it?",
    "what was {the |}$k value in {that |}$f{ you opened| you showed me|}?", "what {was|stood as} {the |}$k, according to $f?", "from that $f, what was {the |}$k?", "from $f, remind me of the $k", "i need {the |}$k from $f {once more|one more time|again}.", "{which|what} $k did $f report{ " + WHEN + "|}?", "and {the |}$k from $f, what was it?",
    "what was that $k again, in $f?", "{which|what} $k was it in $f?", "what had $f for $k?", "{do you remember|can you recall} {the |}$k {in|from|of} $f?", "remind me {of|what} {the |}$k {in|of} $f{ was|}", "i asked about $f " + WHEN + ". what was {the |}$k in it?", "$f had {a|some} $k. {what|which} was it?",
]

CQ = [
    "$cq?", "$cq again?", "$cq, again?", "$cq " + WHEN + "?", "and $cq{ again|}?", "remind me: $cq?", "remind me $cq", "tell me again $cq", "tell me once more $cq", "say again: $cq?", "say again $cq", "i forgot $cq.", "i forgot $cq. {say it again|tell me again}.", "i {can't|cannot} remember $cq.",
    "i {did not|didn't} note $cq.", "i {did not|didn't} write down $cq. {tell me again|say it again}.", "do you {still |}remember $cq?", "do you {still |}know $cq?", "can you {recall|remember} $cq?", "can you {still |}tell me $cq?", "{just |}from memory: $cq?", "without {looking|checking} again: $cq?",
    "no need to {check|look} again, just say $cq", "don't {look|check} again: $cq?", "don't run anything, just tell me $cq", "going back a bit: $cq?", "back to {what we did|something} {earlier|before}: $cq?", "going back to what we did " + WHEN + ": $cq?", "when {you looked|we looked|i asked} " + WHEN + ", $cq?", "when i asked you " + WHEN + ", $cq?",
    "{earlier|before} you told me $cq. {say it again.|what was it?}", "you {found out|told me|worked out|said} $cq " + WHEN + ". {what was it?|tell me again.}", "i asked {you |}$cq " + WHEN + ". what {was the answer|did you say}?", "what did you say, $cq?", "what was your answer when i asked $cq?", "once more: $cq?",
    "wait, $cq{ again|}?", "sorry, $cq?", "for my notes: $cq?", "let's recap: $cq?", "so $cq?", "from what you {saw|showed me|have seen}: $cq?", "going by what we saw, $cq?", "as far as you remember, $cq?", "one thing from before: $cq?", "a reminder please: $cq?", "just to be sure, $cq?", "i want to know again $cq.",
    "$cq when you {counted|looked|checked|opened it|asked}?", "$cq, {according to|going by|from} what you found?", "$cq, as you told me " + WHEN + "?", "$cq at {that|the} time?", "tell me one more time $cq", "i asked you to {look|check} " + WHEN + ": $cq?", "what did you tell me, $cq?", "$cq, the first time {you looked|i asked}?",
    "you already know $cq, so say it again", "i no longer know $cq.", "think back: $cq?", "look back in our conversation: $cq?", "at the {beginning|start} of this {conversation|session|chat}, $cq?", "we had that " + WHEN + ": $cq?", "remember? $cq?",
]
