# SPDX-License-Identifier: MIT
"""Real programs as published (tests/real/build), with their own test suites and with clients: the same with and
without asyncflame, and a trace that is whole. With --all-tests only: to build them takes long."""
import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest

import trace_check
from conftest import PROGRAM, REPOSITORY, clean_environment

REAL = REPOSITORY / "build" / "real"


@pytest.fixture(scope="module")
def real():
    """The directory of the programs."""
    done = subprocess.run([REPOSITORY / "tests" / "real" / "build", "--suites"], check=False,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return REAL


def whole(path):
    """How many polls the trace has, of which nothing is missing."""
    trace = trace_check.check(path)
    lost = [event for event in trace.polls if event["args"]["result"] == "lost"]
    assert not lost, f"{path.name}: {len(lost)} of {len(trace.polls)} polls, first {lost[0]}"
    return len(trace.polls)


# --- their own test suites

SUITES = {
    "mini-redis-0.4.1": [],
    # One port for all: a test may meet the last one's listener, whose runtime is not quite gone.
    "bore-cli-0.6.0": ["--test-threads=1"],
    "dufs-0.47.0": [],
}


def outcomes(text):
    """What libtest has said, without times and in order of name."""
    lines = re.findall(r"^(?:test \S.* \.\.\. \w+|test result: .*; finished).*$", text, re.M)
    return sorted(re.sub(r"; finished in .*", "", line) for line in lines)


@pytest.mark.parametrize("suite", SUITES)
def test_own_suite(real, run, engine, tmp_path, suite):
    """Each test program of the crate, and the programs that it starts in turn."""
    source = real / "src" / suite
    programs = [line for line in (source / ".tests").read_text().splitlines() if line]
    assert programs
    passed = 0
    for at, program in enumerate(programs):
        output = tmp_path / f"{at}.json"
        bare = run(program, *SUITES[suite], cwd=source, timeout=600)
        traced = run(PROGRAM, "-o", output, program, *SUITES[suite], cwd=source, timeout=900)
        assert outcomes(traced.out) == outcomes(bare.out), traced.out + traced.err
        assert traced.status == bare.status
        assert "LOST" not in traced.err, traced.err
        passed += len(re.findall(r"\.\.\. ok$", bare.out, re.M))
    assert passed >= 3
    assert sum(whole(path) for path in tmp_path.glob("*.json")) > 100


def test_under_cargo(real, run, engine):
    """The way of docs/guide.md: cargo is left alone, each test program has a trace of its own."""
    source = real / "src" / next(iter(SUITES))
    cargo = ["cargo", "test", "--locked", "--offline", "--tests"]
    env = {"CARGO_TARGET_DIR": str(real / "suites"), "PATH": f"{cargo_home()}/bin:{os.environ['PATH']}"}
    bare = run(*cargo, cwd=source, env=env, timeout=900)
    for path in source.glob("[!.]*.json"):
        path.unlink()
    traced = run(PROGRAM, "--children", *cargo, cwd=source, env=env, timeout=900)
    assert outcomes(traced.out) == outcomes(bare.out) and outcomes(bare.out)
    assert traced.status == bare.status == 0
    assert "LOST" not in traced.err
    found = list(source.glob("[!.]*.json"))
    assert len(found) >= 2, traced.err
    assert sum(whole(path) for path in found) > 100
    for path in found:
        path.unlink()


def cargo_home():
    return os.environ.get("CARGO_HOME") or os.path.expanduser("~/.cargo")


# --- clients

def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A server, alone or traced, until end()."""

    def __init__(self, directory, cache, program, words, traced, port):
        environment = clean_environment(directory)
        environment.update(ASYNCFLAME_CACHE=str(cache), RUST_LOG="off")
        command = [str(program), *map(str, words)]
        self.trace = directory / "t.json"
        if traced:
            command = [str(PROGRAM), "-o", str(self.trace), *command]
        self.files = [open(directory / name, "w+") for name in ("out", "err")]
        self.process = subprocess.Popen(command, cwd=directory, env=environment, stdout=self.files[0],
                                        stderr=self.files[1])
        self.pid, self.port = self.process.pid, port
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert self.process.poll() is None, self.said()
            time.sleep(0.02)
        if traced:
            with open(f"/proc/{self.pid}/task/{self.pid}/children", encoding="ascii") as file:
                self.pid = int(file.read().split()[0])

    def said(self):
        texts = []
        for file in self.files:
            file.seek(0)
            texts.append(file.read())
        return texts

    def end(self):
        os.kill(self.pid, signal.SIGINT)
        status = self.process.wait(120)
        out, err = self.said()
        for file in self.files:
            file.close()
        return status, out, err


def request(port, method, path, body=None, headers=()):
    """(status, what the headers say of the content, body)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, dict(headers))
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    kept = ("content-type", "content-length", "content-range", "accept-ranges", "location")
    return answer.status, {key: answer.getheader(key) for key in kept}, data


def files(port):
    """What a file server is asked."""
    asked = [("GET", "/a.txt", None, ()), ("GET", "/sub/b.bin", None, ()), ("HEAD", "/a.txt", None, ()),
             ("GET", "/a.txt", None, {"Range": "bytes=3-7"}), ("GET", "/nowhere", None, ()),
             ("GET", "/sub/b.bin", None, {"Range": "bytes=999999-"}), ("POST", "/a.txt", b"x", ()),
             ("GET", "/../../etc/passwd", None, ())]
    said = [request(port, *words) for words in asked]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        said += pool.map(lambda _: request(port, "GET", "/sub/b.bin"), range(200))
    return said


def files_and_changes(port):
    said = files(port)
    said += [request(port, "PUT", "/new.txt", b"new" * 1000), request(port, "GET", "/new.txt"),
             request(port, "DELETE", "/new.txt"), request(port, "GET", "/new.txt"),
             request(port, "GET", "/sub/?simple")]
    return said


def redis_words(port):
    cli = [REAL / "bin" / "mini-redis-cli", "--port", str(port)]
    said = []
    for words in (["ping"], ["ping", "hello"], ["get", "a"], ["set", "a", "1"], ["get", "a"],
                  ["set", "b", "2", "60000"], ["get", "b"], ["publish", "news", "x"]):
        done = subprocess.run([*cli, *words], capture_output=True, text=True, timeout=60, check=False)
        said.append((words, done.returncode, done.stdout, done.stderr))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        said += pool.map(lambda n: redis_client(port, n), range(8))
    return said


def command(*words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def redis_client(port, number):
    """A hundred keys of its own over one connection, and what came back."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection, connection.makefile("rb") as file:
        for n in range(100):
            key, value = b"k%d-%d" % (number, n), b"v" * n
            connection.sendall(command(b"set", key, value))
            got += file.readline()
            connection.sendall(command(b"get", key))
            length = file.readline()
            got += length + file.read(int(length[1:]) + 2)
    return got


SERVERS = {
    "mini-redis-server": (["--port", "PORT"], redis_words),
    "dufs": (["--bind", "127.0.0.1", "--port", "PORT", "--allow-all", "files"], files_and_changes),
    "miniserve": (["-i", "127.0.0.1", "-p", "PORT", "files"], files),
    "static-web-server": (["--host", "127.0.0.1", "--port", "PORT", "--root", "files"], files),
}


@pytest.mark.parametrize("name", SERVERS)
def test_with_clients(real, engine, cache, tmp_path, name):
    """The same answers, the same end; and dump sees its tasks while clients are at it."""
    words, talk = SERVERS[name]
    answers, ends = [], []
    cache.chmod(0o700)
    for traced in False, True:
        directory = tmp_path / f"traced-{traced}"
        (directory / "files" / "sub").mkdir(parents=True)
        (directory / "files" / "a.txt").write_text("asyncflame\n" * 3)
        (directory / "files" / "sub" / "b.bin").write_bytes(bytes(range(256)) * 1000)
        for path in (directory / "files").rglob("*"):
            os.utime(path, (1_700_000_000, 1_700_000_000))
        port = free_port()
        server = Server(directory, cache, real / "bin" / name,
                        [str(port) if word == "PORT" else word for word in words], traced, port)
        try:
            answers.append(talk(port))
            if traced:
                see(server, name)
        finally:
            ends.append(server.end())
    assert answers[1] == answers[0]
    assert ends[1][0] == ends[0][0], ends
    assert without_own(ends[1][1]) == without_own(ends[0][1])
    assert "LOST" not in ends[1][2], ends[1][2]
    assert whole(server.trace) > 300


def see(server, name):
    """wrk, where it speaks HTTP, and a look at the tasks meanwhile."""
    load = None
    if name != "mini-redis-server":
        load = subprocess.Popen(["wrk", "-t1", "-c16", "-d2s", f"http://127.0.0.1:{server.port}/a.txt"],
                                stdout=subprocess.PIPE, text=True)
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(5)]
    for _ in range(5):
        time.sleep(0.2)
        done = subprocess.run([PROGRAM, "dump", "--format", "json", str(server.pid)], capture_output=True,
                              text=True, check=False)
        assert done.returncode == 0, done.stderr
        tasks = [task for task in json.loads(done.stdout)["tasks"] if not task["blocking"]]
        assert len(tasks) >= len(idle), "there are tasks for every connection"
    for connection in idle:
        connection.close()
    if load:
        out = load.communicate(timeout=60)[0]
        assert "Non-2xx" not in out and "Socket errors" not in out, out


def without_own(text):
    """What lines there are, without what differs from run to run: ports, times, directories."""
    return sorted(set(re.sub(r"\x1b\[[\d;]*m|\d+|traced-\w+", "", text).splitlines()))
