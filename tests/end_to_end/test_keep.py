# SPDX-License-Identifier: MIT
"""What is kept of long recordings: --max-size, --flight-recorder and what makes it write."""
import json
import os
import re
import signal
import struct
import subprocess
import time

import pytest

import trace_check
from conftest import FIXTURES, LIBRARY, PROGRAM

POLLS = 300_000  # 9.6 MB of records
LIMIT = 5 << 20


def polls_of(trace):
    return sorted((poll["begin"], poll["end"]) for poll in trace.polls)


@pytest.mark.parametrize("keep", ["newest", "oldest"])
def test_max_size(asyncflame, tmp_path, keep):
    hot = FIXTURES / "release" / "hot"
    ended = asyncflame("--max-size", "5M", "--keep", keep, "-o", "t.raw", hot, POLLS)
    assert ended.status == 0
    raw = tmp_path / "t.raw"
    assert raw.stat().st_size <= LIMIT + 4096
    found = polls_of_raw(asyncflame, tmp_path)
    # 16 bytes each for begin and end; the map, and with `newest` the room for nodes, take some.
    assert LIMIT / 32 * 0.45 < len(found) < LIMIT / 32
    # Without a gap: all of them lie at one end of the recording.
    gaps = [after[0] - before[1] for before, after in zip(found, found[1:])]
    assert sorted(gaps)[len(gaps) // 2] < 100_000
    if keep == "oldest":
        assert "after the recording had reached its --max-size" in ended.err
    else:
        assert "only the newest part" in ended.err
        assert "LOST" not in ended.err


def polls_of_raw(asyncflame, tmp_path):
    ended = asyncflame("convert", "t.raw", "-o", "t.json")
    assert ended.status == 0, ended.err
    return polls_of(trace_check.check(tmp_path / "t.json"))


def test_which_part(asyncflame, tmp_path):
    """The newest end at the end, the oldest begin at the begin: by the polls' own order."""
    hot = FIXTURES / "release" / "hot"
    spans = {}
    for keep in "newest", "oldest":
        asyncflame("--max-size", "5M", "--keep", keep, "-o", "t.raw", hot, POLLS)
        found = polls_of_raw(asyncflame, tmp_path)
        trace = json.loads((tmp_path / "t.json").read_text())
        results = [event["args"]["result"] for event in trace if event["ph"] == "X"]
        # The future is ready at its very last poll only.
        spans[keep] = (found[0][0], found[-1][1], "ready" in results)
    assert spans["newest"][2] and not spans["oldest"][2]


def test_a_cut_ring_is_read(asyncflame, tmp_path):
    hot = FIXTURES / "release" / "hot"
    asyncflame("--max-size", "5M", "-o", "t.raw", hot, POLLS)
    raw = (tmp_path / "t.raw").read_bytes()
    for size in len(raw) // 4, len(raw) // 2, len(raw) - 1:
        (tmp_path / "t.raw").write_bytes(raw[:size])
        ended = asyncflame("convert", "t.raw", "-o", "t.json")
        assert ended.status == 0 and "cut off" in ended.err
        trace_check.check(tmp_path / "t.json")


def test_chunks_lie_where_large_pages_begin(asyncflame, tmp_path):
    """But for the first few, and without much room lost to it."""
    asyncflame("--format", "raw", "-o", "t.raw", FIXTURES / "release" / "hot", POLLS)
    raw, at, places, records = (tmp_path / "t.raw").read_bytes(), 64, [], 0
    while at < len(raw):
        kind, length = struct.unpack_from("<I4xQ", raw, at)
        if kind == 3:
            places.append(at)
            records += struct.unpack_from("<8xI", raw, at + 16)[0]
        at += 16 + length + -length % 8
    assert at == len(raw) and records >= 2 * POLLS
    aligned = [place for place in places if place % 65536 == 0]
    assert len(aligned) > 100 and len(places) - len(aligned) < 20
    assert len(raw) < 16 * records + (1 << 20)


def test_a_program_asks_for_a_snapshot(asyncflame, tmp_path):
    waits = FIXTURES / "release" / "waits"
    ended = asyncflame("--flight-recorder", "16M", "-o", "t.json", waits, "snapshot", "tokio")
    assert ended.status == 0 and ended.out.startswith("asked\n")
    assert "t.1.json (the program asked for it)" in ended.err
    ended = [trace_check.check(tmp_path / name) for name in ("t.1.json", "t.json")]
    # All tasks had ended when it asked, so that the snapshot has what the trace has.
    assert len(ended[0].polls) == len(ended[1].polls) > 1000
    assert not (tmp_path / "t.1.json.recording").exists()


def test_nobody_to_ask(run, asyncflame):
    waits = FIXTURES / "release" / "waits"
    assert run(waits, "snapshot", "tokio").out.startswith("nobody to ask\n")
    ended = asyncflame("-o", "t.json", waits, "snapshot", "tokio")
    assert ended.out.startswith("nobody to ask\n")


class Shop:
    """The shop under a flight recorder."""

    def __init__(self, directory, words, env, wrapper=True):
        self.directory = directory
        self.err = (directory / "shop.err").open("w+")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ASYNCFLAME_")}
        environment.update(env)
        shop = str(FIXTURES / "release" / "shop")
        command = [str(PROGRAM), *words, "-o", "t.json", shop] if wrapper else [shop]
        self.process = subprocess.Popen(command, cwd=directory, env=environment, text=True,
                                        stdout=subprocess.PIPE, stderr=self.err)
        self.address = self.process.stdout.readline().split()[-1]

    def get(self, path):
        host, _, port = self.address.partition(":")
        import http.client
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        connection.request("GET", path)
        body = connection.getresponse().read()
        connection.close()
        return body

    def wait_for(self, name):
        for _ in range(600):
            if (self.directory / name).exists():
                return trace_check.check(self.directory / name)
            time.sleep(0.05)
        raise AssertionError(f"there is no {name}")

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0
        self.err.seek(0)
        return self.err.read()


def test_sigusr2(tmp_path, cache):
    shop = Shop(tmp_path, ["--flight-recorder", "16M"], {"ASYNCFLAME_CACHE": str(cache)})
    shop.get("/sleep")
    shop.process.send_signal(signal.SIGUSR2)
    first = shop.wait_for("t.1.json")
    shop.get("/join")
    shop.process.send_signal(signal.SIGUSR2)
    second = shop.wait_for("t.2.json")
    assert "snapshot: " in shop.end()
    whole = trace_check.check(tmp_path / "t.json")
    assert 0 < len(first.polls) < len(second.polls) < len(whole.polls)


def test_slow_polls(tmp_path, cache):
    shop = Shop(tmp_path, ["--flight-recorder", "16M", "--slow-poll", "20ms"],
                {"ASYNCFLAME_CACHE": str(cache)})
    shop.get("/sleep")  # waits for 10 ms and more, but polls no such time
    shop.get("/stall")  # blocks its thread for 50 ms
    trace = shop.wait_for("t.1.json")
    said = shop.end()
    why = re.search(r"t\.1\.json \((.*) (has been polling for|took) ([\d.]+) ms\)", said)
    assert why and float(why.group(3)) >= 20
    assert "BlockingTask" not in why.group(1)
    # It was written because of a poll that is in it, at its end or still open.
    assert max(poll["end"] - poll["begin"] for poll in trace.polls
               if "BlockingTask" not in poll["name"]) >= 20_000_000


def test_flight_without_wrapper(run, tmp_path):
    ended = run(FIXTURES / "release" / "waits", "snapshot", "smol",
                env={"LD_PRELOAD": str(LIBRARY), "ASYNCFLAME_OUTPUT": "t.json",
                     "ASYNCFLAME_FLIGHT_RECORDER": "16M"})
    assert ended.status == 0 and ended.out.startswith("asked\n")
    assert len(trace_check.check(tmp_path / "t.1.json").polls) > 1000
    assert len(trace_check.check(tmp_path / "t.json").polls) > 1000


@pytest.mark.parametrize("words, said", [
    (["--max-size", "much"], "is no size"),
    (["--max-size", "0"], "is no size"),
    (["--max-size", "99999999999G"], "is no size"),
    (["--max-size", "8M", "--keep", "middle"], "oldest and newest"),
    (["--keep", "newest"], "--max-size says"),
    (["--max-size", "8M", "--flight-recorder", "8M"], "one of them"),
    (["--flight-recorder", "8M", "--slow-poll", "20"], "is no duration"),
    (["--slow-poll", "20ms"], "--flight-recorder"),
])
def test_bad_options(asyncflame, words, said):
    ended = asyncflame(*words, "true")
    assert ended.status == 125
    assert said in ended.err and ended.err.count("\n") == 1
