#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks a Chrome trace for what the Trace Event Format asks for, and for what viewers choke on.

    trace_check.py TRACE...      says what is wrong, else counts the events

Times are compared as whole nanoseconds, read from the text: a double would round them.
"""
import collections
import decimal
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
        self.tasks = self.by_phase["b"]

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
    """Every id begins once and ends once, not before it has begun."""
    open_tasks, done = {}, set()
    for event in events:
        if event["ph"] not in "be":
            continue
        key = (event["cat"], event.get("id"))
        expect(isinstance(event.get("id"), str) and event["id"], event, "has an id")
        if event["ph"] == "b":
            expect(key not in open_tasks and key not in done, event, "one id per instance")
            open_tasks[key] = event
        else:
            expect(key in open_tasks, event, "ends what has begun")
            begin = open_tasks.pop(key)
            done.add(key)
            expect(begin["name"] == event["name"], event, "ends under its own name")
            expect(begin["begin"] <= event["begin"], event, "ends after it has begun")
    expect(not open_tasks, list(open_tasks), "every task has an end")


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
