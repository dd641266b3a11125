#!/usr/bin/env python3
"""trace_check.py [--killed] FILE: whether a trace holds what every trace must hold, and how much there is of each thing.

--killed: its host was killed, so that workers have no end, and the last tasks may be missing.
"""
import collections
import json
import sys

killed = sys.argv[1] == "--killed"
text = open(sys.argv[-1], encoding="utf-8").read()
assert text.endswith(",\n"), "the last line is not whole"
events = json.loads(text.rstrip(",\n") + "]")  # every line has to be an object, whoever wrote it

count = collections.Counter()
submitted, ran, never = set(), set(), set()
spans, lives, host_waits = collections.defaultdict(list), collections.defaultdict(list), 0
for event in events:
    phase, name, thread = event["ph"], event["name"], (event["pid"], event["tid"])
    arguments = event.get("args", {})
    if phase == "M" and name == "process_name":
        count["pools"] += 1
    elif phase == "B":
        lives[thread].append([event["ts"], None])
    elif phase == "E":
        assert lives[thread] and lives[thread][-1][1] is None, f"{thread} ends without having begun"
        lives[thread][-1][1] = event["ts"]
    elif phase == "i" and name == "submit":
        submitted.add((event["pid"], arguments["pool"], arguments["id"]))
        count["submits"] += 1
    elif phase == "i" and name == "settled":
        never.add((event["pid"], arguments["pool"], arguments["id"]))
    elif phase == "X" and event["cat"] == "wait":
        host_waits += 1
    elif phase == "X":
        spans[thread].append((event["ts"], event["ts"] + event["dur"]))
        count["died"] += "died" in arguments
        if event["cat"] == "task":
            ran.add((event["pid"], arguments["pool"], arguments["id"]))
        elif event["cat"] == "chunk":
            count["items"] += arguments["items"]

assert count["submits"] == len(submitted), "an id was given twice"
assert ran | never <= submitted, "what ran was never submitted"
assert not ran & never, "what has run is said not to have run"
for thread, all_spans in spans.items():
    all_spans.sort()
    for (_, end), (begin, _) in zip(all_spans, all_spans[1:]):
        assert end <= begin + 0.0011, f"{thread}: two tasks at once, until {end} and from {begin}"  # times are rounded
    for begin, end in all_spans:
        life = [one for one in lives.get(thread, []) if one[0] <= begin]
        assert thread not in lives or life, f"{thread}: a task before its worker"
        assert not life or life[-1][1] is None or end <= life[-1][1] + 0.0011, f"{thread}: a task after its worker"
without_end = [thread for thread, all_lives in lives.items() for life in all_lives if life[1] is None]
if not killed:
    assert ran | never == submitted, "a task was submitted and has no end"
print(
    f"pools {count['pools']} submitted {len(submitted)} tasks {len(ran)} died {count['died']} never-ran {len(never)} "
    f"chunk-items {count['items']} births {sum(map(len, lives.values()))} open {len(without_end)} "
    f"waits {'yes' if host_waits else 'no'}"
)
