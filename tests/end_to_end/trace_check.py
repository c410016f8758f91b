#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks a Chrome trace for what the Trace Event Format asks for, and for what viewers choke on.

    trace_check.py TRACE...      says what is wrong, else counts the events

Times are compared as whole nanoseconds, read from the text: a double would round them.
"""
import bisect
import collections
import decimal
import itertools
import json
import sys

RESULTS = {"ready", "pending", "panicked", "unknown", "open", "lost"}
DAY = 24 * 3600 * 10**9


class Wrong(AssertionError):
    """The trace breaks a rule."""


def expect(condition, event, rule):
    if not condition:
        raise Wrong(f"{rule}: {json.dumps(event, default=str)[:600]}")


def nanoseconds(event, key):
    value = event.get(key)
    expect(isinstance(value, (int, decimal.Decimal)), event, f"{key} is a number")
    scaled = decimal.Decimal(value) * 1000
    expect(scaled == int(scaled), event, f"{key} has no more than three decimals")
    return int(scaled)


class Trace:
    """A trace that has passed, with look-ups for tests."""

    def __init__(self, events):
        self.events = events
        self.by_phase = collections.defaultdict(list)
        for event in events:
            self.by_phase[event["ph"]].append(event)
        self.polls = [event for event in self.by_phase["X"] if event["cat"] == "poll"]
        self.roots = [event for event in self.polls if event["args"].get("root")]
        self.tasks = [e for e in self.by_phase["b"]
                      if e["cat"] == "task" and not e["name"].startswith("waiting")]
        self.waits = [e for e in self.by_phase["b"] if e["name"].startswith("waiting")]
        self.off = [e for e in self.by_phase["b"] if e["cat"] == "recording"]

    def counts(self, roots=False):
        """{name: {result: number}} of the polls; of the executor's task roots with `roots`."""
        found = collections.defaultdict(collections.Counter)
        for event in self.polls:
            if bool(event["args"].get("root")) == roots:
                found[event["name"]][event["args"]["result"]] += 1
        return found

    def thread_names(self):
        return {event["args"]["name"] for event in self.by_phase["M"]
                if event["name"] == "thread_name"}


def check_event(event):
    expect(isinstance(event, dict), event, "every event is an object")
    expect(event.get("ph") in ("M", "X", "b", "e"), event, "known phase")
    expect(isinstance(event.get("name"), str) and event["name"], event, "has a name")
    expect(isinstance(event.get("pid"), int) and event["pid"] > 0, event, "has a pid")
    expect(isinstance(event.get("tid"), int) and event["tid"] >= 0, event, "has a tid")
    expect("displayTimeUnit" not in event, event, "no displayTimeUnit")
    if event["ph"] == "M":
        return
    expect(isinstance(event.get("cat"), str) and event["cat"], event, "has a category")
    event["begin"] = nanoseconds(event, "ts")
    expect(0 <= event["begin"] < DAY, event, "time is within a day of the start")


def check_poll(event):
    event["end"] = event["begin"] + nanoseconds(event, "dur")
    expect(event["begin"] <= event["end"] < DAY, event, "duration is sane")
    args = event.get("args", {})
    for key in ("future", "at"):
        expect(isinstance(args.get(key), str), event, f"args.{key} is text")
    expect(args.get("result") in RESULTS, event, "result is known")
    expect(isinstance(args.get("task"), int) and args["task"] > 0, event, "belongs to a task")
    if "parked_at" in args:
        expect(args["result"] == "pending", event, "only what is pending is parked")
        expect(args["parked_at"].rpartition(":")[2].isdigit(), event, "parked_at is file:line")


def check_nesting(polls):
    threads = collections.defaultdict(list)
    for event in polls:
        threads[event["pid"], event["tid"]].append(event)
    for events in threads.values():
        stack, last = [], 0
        for event in events:
            expect(event["begin"] >= last, event, "sorted by begin within its thread")
            last = event["begin"]
            while stack and stack[-1]["end"] <= event["begin"] and stack[-1]["end"] < event["end"]:
                stack.pop()
            while stack and stack[-1]["end"] < event["end"]:
                expect(stack[-1]["end"] <= event["begin"], event,
                       f"nests within {stack[-1]['name']}")
                stack.pop()
            stack.append(event)


def check_tasks(events):
    """Every task begins once and ends once, and its waits lie one after the other within it."""
    tasks, opened, waits = {}, {}, collections.defaultdict(list)
    for event in events:
        if event["ph"] not in "be" or event["cat"] == "recording":
            continue
        expect(isinstance(event.get("id"), str) and event["id"], event, "has an id")
        wait = event["name"].startswith("waiting")
        key = (event["cat"], event["id"], wait)
        if event["ph"] == "b":
            expect(key not in opened, event, "begins once")
            expect(wait or event["id"] not in tasks, event, "one id per instance")
            opened[key] = event
            continue
        expect(key in opened, event, "ends what has begun")
        begin = opened.pop(key)
        begin["end"] = event["begin"]
        expect(begin["name"] == event["name"], event, "ends under its own name")
        expect(begin["begin"] <= begin["end"], event, "ends after it has begun")
        if wait:
            waits[event["id"]].append(begin)
        else:
            tasks[event["id"]] = begin
    expect(not opened, list(opened), "everything has an end")
    for task, its in waits.items():
        expect(task in tasks, its[0], "waits belong to a task")
        check_waits(tasks[task], its)


def check_waits(task, waits):
    last = task["begin"]
    for wait in waits:
        expect(last <= wait["begin"], wait, "waits one after the other")
        last = wait["end"]
        args = wait.get("args", {})
        expect(isinstance(args.get("task"), int), wait, "says whose wait it is")
        for stack in [args.get("stack", ["?"])] + args.get("also", []):
            expect(stack and all(isinstance(level, str) and level for level in stack), wait,
                   "stacks have levels")
        if "at" in args:
            expect(args["at"].rpartition(":")[2].isdigit(), wait, "at is file:line")
            expect(any(level.endswith(f" at {args['at']}") for level in args["stack"]), wait,
                   "at is a level of the stack")
    expect(last <= task["end"], waits[-1], "within its task")


def check_waits_and_polls(trace):
    """A task waits or is polled, never both. A wait of no length is that of a task which
    another thread takes before the poll that put it to sleep has returned."""
    polls = collections.defaultdict(list)
    for event in trace.polls:
        polls[event["args"]["task"]].append((event["begin"], event["end"]))
    latest = {}  # of each task: the latest end of its polls up to each one, by begin
    for task, spans in polls.items():
        spans.sort()
        latest[task] = list(itertools.accumulate((end for _, end in spans), max))
    for wait in trace.waits:
        task = wait["args"]["task"]
        before = bisect.bisect_left(polls[task], (wait["end"],))
        if before and wait["begin"] < wait["end"]:
            expect(latest[task][before - 1] <= wait["begin"], wait, "no poll of its task meanwhile")


def check_off(events):
    """When recording was off, one after the other; nobody is said to have waited meanwhile."""
    off, waits, opened = [], [], {}
    for event in events:
        if event["ph"] not in "be":
            continue
        wait = event["name"].startswith("waiting")
        if event["cat"] != "recording" and not wait:
            continue
        if event["ph"] == "b":
            opened[event["id"], wait] = event
            continue
        begin = opened.pop((event["id"], wait), None)
        expect(begin and begin["name"] == event["name"], event, "ends what has begun")
        begin["end"] = event["begin"]
        (waits if wait else off).append(begin)
    expect(all(e["name"] in ("recording paused", "recording stopped") for e in off), off, "named")
    begins = [e["begin"] for e in off]
    for before, after in zip(off, off[1:]):
        expect(before["end"] <= after["begin"], after, "pauses one after the other")
    for wait in waits:
        at = bisect.bisect_left(begins, wait["end"]) - 1
        if at >= 0 and wait["begin"] < wait["end"] and not wait["args"].get("unknown_begin"):
            expect(off[at]["end"] <= wait["begin"], wait, "no wait while recording was off")


def check_metadata(trace):
    expect(any(e["name"] == "process_name" for e in trace.by_phase["M"]), {}, "process is named")
    named = {(e["pid"], e["tid"]) for e in trace.by_phase["M"] if e["name"] == "thread_name"}
    for event in trace.polls:
        expect((event["pid"], event["tid"]) in named, event, "its thread is named")


def check_text(text):
    expect(text.startswith("["), text[:40], "bare array form")
    events = json.loads(text, parse_float=decimal.Decimal)
    for event in events:
        check_event(event)
    trace = Trace(events)
    for event in trace.by_phase["X"]:
        check_poll(event)
    check_nesting(trace.by_phase["X"])
    check_tasks(events)
    check_waits_and_polls(trace)
    check_off(events)
    check_metadata(trace)
    return trace


def check(path):
    """The trace at `path`; raises Wrong."""
    with open(path, encoding="utf-8", errors="strict") as file:
        return check_text(file.read())


def main(paths):
    status = 0
    for path in paths:
        try:
            trace = check(path)
            print(f"{path}: good: {len(trace.polls)} polls, {len(trace.tasks)} tasks")
        except (Wrong, ValueError, OSError) as error:
            print(f"{path}: {error}")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
