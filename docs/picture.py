#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws docs/trace.svg from the trace of the shop: docs/picture.py build/demo/trace.json >docs/trace.svg

One picture for the README, of real polls; to look at a trace, open it at https://ui.perfetto.dev.
"""
import collections
import json
import re
import sys

# Routes in the order of fixtures/src/shop/server_axum.rs: axum names handlers by closure number.
ROUTES = ["/", "/sleep", "/lock", "/channel", "/join", "/select", "/joinset", "/blocking",
          "/checkout", "/stall"]
LEFT, WIDTH, BAR, ROW = 128, 900, 14, 19
POLL, STALL, LIFE, INK, FAINT = "#3b7dd8", "#d1495b", "#b9cdea", "#24292f", "#8b949e"


def describe(polls):
    """What a task serves: its handler, else its own name."""
    for poll in polls:
        route = re.search(r"shop::server::serve::\{closure#(\d+)\}", poll["name"])
        if route and "Handler" in poll["name"]:
            return "GET " + ROUTES[int(route.group(1))]
    name = min((poll["name"] for poll in polls), key=len)
    return re.sub(r"<.*|.*::(?=\w+::)", "", name)


def main(path):
    with open(path, encoding="utf-8") as file:
        events = json.load(file)
    threads, tasks, lives = {}, collections.defaultdict(list), {}
    for event in events:
        if event["ph"] == "M" and event["name"] == "thread_name":
            threads[event["tid"]] = event["args"]["name"]
        elif event["ph"] == "X" and "launch::{closure" not in event["name"]:
            tasks[event["args"]["task"]].append(event)
        elif event["ph"] == "b":
            lives[event["args"]["task"]] = event
    names = {task: describe(polls) for task, polls in tasks.items()}
    stalls = [p for polls in tasks.values() for p in polls if p["dur"] > 20000]
    # The first stall of the demo comes alone, the second among other requests.
    begin = sorted({p["task"]: p["ts"] for p in (dict(p, **p["args"]) for p in stalls)}.values())[1]
    begin -= 11500
    end = begin + 62000

    def x(ts):
        return LEFT + (min(max(ts, begin), end) - begin) * (WIDTH - LEFT - 8) / (end - begin)

    def bars(polls, y):
        """Polls closer than a pixel are one bar."""
        drawn = []
        for p in sorted(polls, key=lambda p: p["ts"]):
            a, b, slow = x(p["ts"]), x(p["ts"] + p["dur"]), p["dur"] > 20000
            if p["ts"] + p["dur"] < begin or p["ts"] > end:
                continue
            if drawn and a - drawn[-1][1] < 0.6 and slow == drawn[-1][2]:
                drawn[-1][1] = max(b, drawn[-1][1])
            elif not (drawn and drawn[-1][2] and b <= drawn[-1][1]):
                drawn.append([a, max(b, a + 1.2), slow])
        return [f'<rect x="{a:.1f}" y="{y}" width="{b - a:.1f}" height="{BAR}" '
                f'fill="{STALL if slow else POLL}"/>' for a, b, slow in drawn]

    out, y = [], 30

    def text(tx, ty, words, fill=INK, more=""):
        out.append(f'<text x="{tx:.1f}" y="{ty}" fill="{fill}" {more}>{words}</text>')

    text(8, y, "threads: who polled when", FAINT)
    y += 8
    for number, tid in enumerate(sorted(threads)):
        polls = [p for ps in tasks.values() for p in ps if p["tid"] == tid]
        here = bars(polls, y)
        if not here:
            continue
        text(8, y + 11, f"{threads[tid]} {number}" if number else threads[tid])
        out.extend(here)
        for p in stalls:
            if p["tid"] == tid and p["name"].startswith("<F as axum") and \
                    begin <= p["ts"] < end - 40000:
                text(x(p["ts"]) + 6, y + 11, f'{p["dur"] / 1000:.2f} ms in one poll: GET /stall',
                     "#ffffff")
        y += ROW
    y += 22
    text(8, y, "tasks: who lived when, polled (dark) or waiting (light)", FAINT)
    y += 8
    shown = [t for t in sorted(lives, key=lambda t: lives[t]["ts"]) if t in tasks and
             begin < lives[t]["ts"] < end and names[t].startswith("GET")]
    ends = {t: max(p["ts"] + p["dur"] for p in tasks[t]) for t in shown}
    shown = [t for t in shown if ends[t] - lives[t]["ts"] > 800][:16]
    for task in shown:
        text(8, y + 11, names[task])
        a, b = x(lives[task]["ts"]), x(ends[task])
        out.append(f'<rect x="{a:.1f}" y="{y + 4}" width="{max(b - a, 1):.1f}" height="6" '
                   f'fill="{LIFE}"/>')
        out.extend(bars(tasks[task], y))
        y += ROW
    y += 6
    for ms in range(0, int((end - begin) / 1000), 10):
        at = x(begin + ms * 1000)
        out.insert(0, f'<path d="M{at:.1f} 38V{y}" stroke="#eaeef2"/>')
        text(at, y + 14, f"{ms} ms", FAINT, 'text-anchor="middle"')
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 24}" '
          f'font-family="sans-serif" font-size="11">\n<title>Polls and tasks of an HTTP server on '
          f'tokio, as asyncflame recorded them</title>\n<rect width="{WIDTH}" height="{y + 24}" '
          'fill="#ffffff"/>')
    print("\n".join(out))
    print("</svg>")


if __name__ == "__main__":
    main(sys.argv[1])
