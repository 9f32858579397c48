"""A synthetic world of chores, for training the model that ships.

    python3 -m world.generate --seed 1 --count 1000 --variants 2 --jobs 2 --out data.jsonl.gz --report
    python3 -m world.selftest --each 100

Every trajectory is made as it would happen: a folder is built, a request about it is worded, the right tool calls are
really run in it and their results recorded, the answer is given from what they showed, and then the folder, the
server's log and the answer are compared with what Python knows of this world. What fails is dropped and counted.

    names.py     words, people, file names; some words are kept for validation
    content.py   what files hold: texts, logs, tables, settings, scripts
    phrases.py   the grammar of requests and answers; wording.py: phrases that skills share
    execute.py   one scratch folder, and the six tools with exactly the runtime's texts
    scene.py     one scene: world, request, calls, answer, expectations
    skills/      one function for each way to ask for a skill; how to add one is told in skills/__init__.py
    prefixes.py  the default agent, and variants with other instructions, tools and names
    render.py    records as the text that the model reads, with the weight of each character in the loss
    generate.py  the command line; selftest.py: golden files, determinism, every skill

Limits: the English is this grammar's and no more; numbers, names and texts are random and often absurd. Time, user,
CPU count, kernel and disk size are simulated (skills/system.py), the folder's path and the server's port are other
names for the real ones (execute.py), everything else is real.
"""
