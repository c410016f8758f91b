# SPDX-License-Identifier: MIT
"""A real server under real load: 100,000 requests from wrk, no error, and its 50 ms poll found."""
import re
import signal
import subprocess
import urllib.request

import pytest

import trace_check
from conftest import PROFILES, PROGRAM, clean_environment, fixture

PATHS = ["", "sleep", "lock", "channel", "join", "select", "joinset", "blocking", "checkout"]
REQUESTS = 100_000
ROUNDS = 40


class Shop:
    """shop under asyncflame, from its first line of output to its end by SIGTERM."""

    def __init__(self, profile, directory, cache, output):
        environment = clean_environment(directory)
        environment["ASYNCFLAME_CACHE"] = str(cache)
        self.directory = directory
        with open(directory / "err", "w", encoding="utf-8") as err:
            self.process = subprocess.Popen(
                [PROGRAM, "-o", output, fixture(profile, "shop")], cwd=directory,
                env=environment, stdout=subprocess.PIPE, stderr=err, text=True)
        line = self.process.stdout.readline()
        self.address = "http://" + line.split()[-1]

    def get(self, path):
        with urllib.request.urlopen(f"{self.address}/{path}", timeout=20) as answer:
            assert answer.status == 200
            return answer.read()

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=300)
        return self.process.returncode, out, (self.directory / "err").read_text()


def load(address, path, seconds, connections):
    done = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"{address}/{path}"],
                          capture_output=True, text=True, check=True)
    assert "Non-2xx" not in done.stdout and "Socket errors" not in done.stdout, done.stdout
    return int(re.search(r"(\d+) requests in", done.stdout)[1])


@pytest.mark.parametrize("profile", PROFILES)
def test_a_hundred_thousand_requests(engine, cache, tmp_path, profile):
    cache.chmod(0o700)
    shop = Shop(profile, tmp_path, cache, "t.raw")
    for path in PATHS:
        shop.get(path)
    for _ in range(3):
        shop.get("stall")
    served = 0
    for _ in range(ROUNDS):
        served += load(shop.address, "", 3, 16)
        if served >= REQUESTS:
            break
    assert served >= REQUESTS
    for path in ("join", "select", "lock", "joinset", "checkout"):
        assert load(shop.address, path, 1, 8)
    status, out, err = shop.end()
    assert status == 0, err
    assert int(re.search(r"served (\d+) requests", out)[1]) >= REQUESTS
    assert "LOST" not in err, err
    longest = err[err.index("longest polls:"):].splitlines()[1]
    assert 45 < float(re.match(r"\s*([\d.]+) ms", longest)[1]) < 500, err
    if "debug" in profile:
        assert "reprice_catalogue" in err and "handlers.rs:" in err
    (tmp_path / "t.raw").unlink()


@pytest.mark.parametrize("profile", PROFILES)
def test_the_stall_is_in_the_trace(engine, cache, tmp_path, profile):
    cache.chmod(0o700)
    shop = Shop(profile, tmp_path, cache, "t.json")
    for path in PATHS + ["stall"]:
        shop.get(path)
    status, _, err = shop.end()
    assert status == 0, err
    trace = trace_check.check(tmp_path / "t.json")
    long = [event for event in trace.polls if event["end"] - event["begin"] > 45_000_000
            and "BlockingTask" not in event["name"]]
    assert long, "no poll of 50 ms"
    assert trace.thread_names() & {"tokio-runtime-worker", "tokio-rt-worker", "tokio-runtime-w"}
