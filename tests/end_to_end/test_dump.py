# SPDX-License-Identifier: MIT
"""asyncflame dump: where the tasks of a process stand that was never prepared.

What is expected of the shop is read from its source, so the two cannot drift apart.
"""
import collections
import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

from conftest import PROFILES, PROGRAM, REPOSITORY, fixture
from parked import parked

SHOP = REPOSITORY / "fixtures" / "src" / "shop"
NOBODY = 65534


def line_of(text, file="handlers.rs"):
    """The only line of the shop's source that holds `text`."""
    lines = (SHOP / file).read_text().splitlines()
    found = [number for number, line in enumerate(lines, 1) if text in line]
    assert len(found) == 1, (text, found)
    return found[0]


@contextlib.contextmanager
def serving(profile, directory):
    """A shop that nobody has prepared: its pid and address."""
    with open(directory / "shop.out", "w", encoding="utf-8") as out:
        process = subprocess.Popen([fixture(profile, "shop")], stdout=subprocess.PIPE, stderr=out,
                                   text=True)
    try:
        yield process.pid, process.stdout.readline().split()[-1]
        assert process.poll() is None, "the shop did not live through it"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()


def connect(address, path):
    """Sends a request and waits for no answer."""
    host, port = address.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return connection


def nodes(tree, depth=0):
    """All nodes of a tree, with their parents."""
    def walk(node, parent):
        yield node, parent
        for child in node["children"]:
            yield from walk(child, node)
    return walk(tree, None) if tree else iter(())


def place(node):
    return f"{os.path.basename(node['file'])}:{node['line']}" if node["file"] else None


def standing(dump, name):
    """The places at which futures called `name` stand, in all tasks."""
    return [place(node) for task in dump["tasks"] for node, _ in nodes(task["tree"])
            if node["name"].split("<")[0] == name]


def check(dump):
    """What holds of every dump, whatever the process did meanwhile."""
    assert (dump["format"], dump["version"]) == ("asyncflame-dump", 1)
    ids = [task["id"] for task in dump["tasks"] if task["id"] is not None]
    assert len(ids) == len(set(ids)), "a task twice"
    for task in dump["tasks"]:
        shown = task["state"] in ("parked", "scheduled") and not task["moving"]
        assert (task["tree"] is not None) == shown, task
        for node, parent in nodes(task["tree"]):
            assert (node["line"] is not None) == (node["state"] == "suspended") or (
                node["state"] == "suspended" and not node["kind"].startswith("async")), node
            if parent is None or node["relation"] != "awaited":
                continue
            # A leaf that contradicts its parent: it would not stand there.
            assert parent["state"] == "suspended", parent
            assert node["state"] in ("suspended", "hand-written", "same"), (parent, node)


@pytest.fixture
def dump(asyncflame):
    """dump(pid, *options): the dump as JSON, checked."""

    def dump_json(what, *options):
        done = asyncflame("dump", "--format", "json", *options, what)
        assert done.status == 0, done.err
        assert done.err == "", done.err
        found = json.loads(done.out)
        if "tasks" in found:
            check(found)
        return found

    return dump_json


def quiet(dump, pid, *options):
    """A dump that is the same as the one before, of a shop that has begun to serve."""
    before = None
    for _ in range(200):
        found = dump(pid, *options)
        now = [(task["address"], task["state"], task["tree"]) for task in found["tasks"]]
        at_rest = [standing(found, f"shop::{name}") for name in ("handlers::clerk", "closing_time")]
        known = all(thread["unknown"] is None for thread in found["threads"])
        if now == before and known and all(at_rest) and now.count(None) == 0:
            return found
        before = now
        time.sleep(0.02)
    raise AssertionError("the shop does not come to rest")


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("how", [[], ["--freeze"]])
def test_a_quiet_shop(dump, tmp_path, profile, how):
    with serving(profile, tmp_path) as (pid, _):
        found = quiet(dump, pid, *how)
        assert found["process"]["pid"] == pid
        assert found["process"]["core"] is None
        assert found["process"]["executable"] == str(fixture(profile, "shop"))
        assert (found["frozen_ns"] > 0) == bool(how)
        assert standing(found, "shop::handlers::clerk") == [
            f"handlers.rs:{line_of('inbox.recv().await')}"]
        select = line_of("tokio::select! {", "main.rs")
        assert standing(found, "shop::closing_time") == [f"main.rs:{select}"]
        closing = [task for task in found["tasks"]
                   if task["future"]["name"] == "shop::closing_time"]
        assert [task["state"] for task in closing] == ["parked"]
        leaves = [node for node, _ in nodes(closing[0]["tree"]) if not node["children"]]
        assert len(leaves) == 2, "one for each signal that closes the shop"
        # Nothing is counted that is not shown, and the other way round.
        states = collections.Counter(task["state"] for task in found["tasks"])
        assert {state: n for state, n in found["counts"].items() if n and state != "tasks"} == states
        assert found["counts"]["tasks"] == len(found["tasks"])
        # The thread that has made the runtime and two workers, each at rest.
        assert len(found["threads"]) == 3
        assert [thread["unknown"] for thread in found["threads"]] == [None] * 3
        # A worker is a task of the blocking pool: it is on its thread's stack, where optimised a root is a mere jump.
        workers = [task["thread"] for task in found["tasks"] if task["blocking"]]
        assert sorted(workers) == [thread["tid"] for thread in found["threads"] if thread["polls"]]
        assert len(workers) == 2


@pytest.mark.parametrize("profile", PROFILES)
def test_groups_are_all_tasks(dump, tmp_path, profile):
    with serving(profile, tmp_path) as (pid, address):
        idle = [socket.create_connection(address.rsplit(":", 1)) for _ in range(8)]
        for _ in range(100):
            found = dump(pid, "--group")
            if found["groups"][0]["count"] >= 8:
                break
            time.sleep(0.05)
        assert found["groups"][0]["count"] == 8, "eight connections wait for the same"
        counts = [group["count"] for group in found["groups"]]
        assert counts == sorted(counts, reverse=True)
        assert sum(counts) == found["counts"]["tasks"]
        ids = [number for group in found["groups"] for number in group["ids"]]
        assert len(ids) == len(set(ids))
        assert sorted(ids) == sorted(task["id"] for task in dump(pid)["tasks"]
                                     if task["id"] is not None)
        for connection in idle:
            connection.close()


@pytest.mark.parametrize("profile", PROFILES)
def test_text_and_dot(asyncflame, dump, tmp_path, profile):
    with serving(profile, tmp_path) as (pid, _):
        found = quiet(dump, pid)
        text = asyncflame("dump", pid)
        assert text.status == 0, text.err
        assert "\033" not in text.out, "no colours where no terminal is"
        assert f"process {pid}" in text.out.splitlines()[0]
        assert re.search(rf"shop::handlers::clerk at \S*handlers\.rs:"
                         rf"{line_of('inbox.recv().await')}$", text.out, re.MULTILINE)
        assert "task/raw.rs" not in text.out, "the place of an executor's own code says nothing"
        assert re.search(rf"^  {pid} shop: polls nothing, in block_on of shop::open$", text.out, re.M)
        values = asyncflame("dump", "--values", pid)
        assert re.search(r"shop::handlers::clerk at .*\n  │   inbox = ", values.out)
        filtered = asyncflame("dump", "--filter", "shop::handlers", pid)
        assert "clerk" in filtered.out and "closing_time" not in filtered.out
        assert "no task matches" not in filtered.out
        grouped = asyncflame("dump", "--group", "--values", pid).out
        assert re.search(r"^(?!1 )\d+ x .*\n  tasks .*; the values are those of the first$", grouped, re.M)
        assert "\nno task matches the filter\n" in asyncflame("dump", "--filter", "nowhere::", pid).out
        dot = asyncflame("dump", "--format", "dot", pid)
        assert dot.out.startswith("digraph") and dot.out.rstrip().endswith("}")
        assert dot.out.count("fillcolor") == len(found["tasks"])


@pytest.mark.parametrize("profile", PROFILES)
def test_values(dump, tmp_path, profile):
    with serving(profile, tmp_path) as (pid, address):
        connections = [connect(address, "/sleep") for _ in range(2)]
        found = quiet(dump, pid, "--values")
        clerk = next(node for task in found["tasks"] for node, _ in nodes(task["tree"])
                     if node["name"] == "shop::handlers::clerk")
        assert [value["name"] for value in clerk["values"]] == ["inbox"]
        assert "Receiver" in clerk["values"][0]["type"]
        for connection in connections:
            connection.close()


@pytest.mark.parametrize("profile", ["debug", "debian-debug"])
def test_a_worker_that_is_blocked(dump, tmp_path, profile):
    """The thread that sleeps in a poll says in which, down to the guilty one, without being stopped."""
    with serving(profile, tmp_path) as (pid, address):
        for _ in range(400):
            with connect(address, "/stall") as connection:
                found = dump(pid)
                connection.recv(100)
            guilty = [thread for thread in found["threads"] if thread["polls"] and
                      thread["polls"][-1]["name"] == "shop::handlers::reprice_catalogue"]
            tasks = {task["address"]: task for task in found["tasks"]}
            if guilty and guilty[0]["task"]:
                break
        assert [poll["name"] for poll in guilty[0]["polls"][-2:]] == [
            "shop::handlers::stall", "shop::handlers::reprice_catalogue"]
        task = tasks[guilty[0]["task"]]
        assert (task["state"], task["thread"]) == ("running", guilty[0]["tid"])


@pytest.mark.parametrize("profile", PROFILES)
def test_a_task_that_is_polled_names_its_thread(dump, tmp_path, profile):
    """Optimised or not: the connection whose poll blocks, and the thread that it blocks, agree."""
    with serving(profile, tmp_path) as (pid, address):
        for _ in range(400):
            with connect(address, "/stall") as connection:
                found = dump(pid)
                connection.recv(100)
            tasks = {task["address"]: task for task in found["tasks"]}
            busy = [thread for thread in found["threads"] if thread["polls"] and thread["task"]
                    and not tasks[thread["task"]]["blocking"]]
            if busy:
                break
        assert len(busy) == 1
        task = tasks[busy[0]["task"]]
        assert (task["state"], task["thread"], task["tree"]) == ("running", busy[0]["tid"], None)
        roots = [poll["name"] for poll in busy[0]["polls"] if poll["kind"] == "task root"]
        assert roots[-1] == task["future"]["name"] and len(roots) == 2, "the task's in the worker's"
        own = [task["thread"] for task in found["tasks"]
               if not task["blocking"] and task["state"] == "running"]
        assert own == [busy[0]["tid"]], "and no other"


@pytest.mark.parametrize("profile", PROFILES)
def test_what_drives_itself(dump, tmp_path, profile):
    """main's future has no task: it is found on the stack of block_on, optimised or not."""
    with serving(profile, tmp_path) as (pid, _):
        found = quiet(dump, pid)
        driven = [task for task in found["tasks"] if task["executor"] == "block_on"]
        assert [(task["future"]["name"], task["thread"]) for task in driven] == [("shop::open", pid)]
        serve = line_of("server::serve(listener", "main.rs")
        at = driven[0]["tree"]
        assert os.path.basename(at["file"]) == "main.rs" and serve <= at["line"] <= serve + 3
        assert len(list(nodes(at))) > 2


def core_of(pid, directory):
    if not shutil.which("gcore"):
        pytest.skip("gcore (of gdb) is not installed")
    subprocess.run(["gcore", "-o", directory / "core", str(pid)], check=True, capture_output=True)
    return directory / f"core.{pid}"


def without_threads(found):
    """What a core must have in common with the live process."""
    return [(task["id"], task["executor"], task["address"], task["state"], task["tree"])
            for task in found["tasks"]]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_core_shows_the_same(asyncflame, dump, tmp_path, profile):
    with serving(profile, tmp_path) as (pid, _):
        alive = quiet(dump, pid)
        core = core_of(pid, tmp_path)
        dead = dump(core)
        assert without_threads(dead) == without_threads(alive)
        assert dead["process"]["pid"] == pid
        assert dead["process"]["core"] == str(core)
        assert dead["frozen_ns"] is None
        assert [thread["tid"] for thread in dead["threads"]] == [
            thread["tid"] for thread in alive["threads"]]
        # Its program lies elsewhere, and is named.
        copy = tmp_path / "elsewhere"
        shutil.copy(fixture(profile, "shop"), copy)
        assert without_threads(dump(core, "--exe", copy)) == without_threads(alive)
        other = fixture("release" if profile == "debug" else "debug", "shop")
        wrong = asyncflame("dump", core, "--exe", other)
        assert wrong.status == 125
        assert "is of another build than the core" in wrong.err and "--exe" in wrong.err
        # Cut off: what is there is shown, and said to be not all.
        whole = core.stat().st_size
        for size in (whole - 4096, whole // 2, 4096):
            cut = tmp_path / "cut"
            with open(core, "rb") as source:
                cut.write_bytes(source.read(size))
            done = asyncflame("dump", "--format", "json", cut, "--exe", copy)
            assert "Traceback" not in done.err and done.status in (0, 125)
            if done.status == 0:
                assert any("cut off" in note for note in json.loads(done.out)["notes"])
                check(json.loads(done.out))
            else:
                assert len(done.err.splitlines()) == 1 and "cut off" in done.err


def test_a_core_that_is_broken(asyncflame, tmp_path):
    """Bytes that are not what they were: a dump or one line, whatever they say."""
    with serving("release", tmp_path) as (pid, _):
        core = core_of(pid, tmp_path)
    with open(core, "rb") as source:
        whole = source.read(4 << 20)
    chance = random.Random(7)
    for _ in range(30):
        broken = bytearray(whole)
        end = chance.choice([4096, 1 << 20, len(broken)])
        for _ in range(chance.choice([1, 8, 64, 512])):
            broken[chance.randrange(end)] = chance.choice([0, 255, chance.randrange(256)])
        path = tmp_path / "broken"
        path.write_bytes(broken)
        done = asyncflame("dump", "--values", path, "--exe", fixture("release", "shop"))
        assert done.status in (0, 125), done
        assert len(done.err.splitlines()) == (done.status != 0), done.err


def refused(asyncflame, *words):
    """The one line with which a dump is refused."""
    done = asyncflame("dump", *words)
    assert done.status == 125, done
    assert done.out == ""
    assert len(done.err.splitlines()) == 1, done.err
    return done.err


def test_no_such_process(asyncflame, tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert f"there is no process {ended.pid}" in refused(asyncflame, ended.pid)
    assert "No such file or directory" in refused(asyncflame, tmp_path / "no-such-core")
    assert "not a regular file" in refused(asyncflame, tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refused(asyncflame, tmp_path / "pipe")
    text = tmp_path / "text"
    text.write_text("no core\n" * 20)
    assert "text" in refused(asyncflame, text)
    assert "/bin/true" in refused(asyncflame, "/bin/true")


def test_a_zombie(asyncflame):
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert "has ended" in refused(asyncflame, process.pid)
    process.wait()


def test_without_futures(asyncflame):
    process = subprocess.Popen(["sleep", "100"])
    try:
        assert "no sign of async Rust" in refused(asyncflame, process.pid)
    finally:
        process.kill()
        process.wait()


def test_without_debug_info(asyncflame, tmp_path):
    stripped = tmp_path / "shop"
    subprocess.run(["strip", "-o", stripped, fixture("release", "shop")], check=True)
    subprocess.run(["objcopy", "--remove-section", ".note.gnu.build-id", stripped], check=True)
    process = subprocess.Popen([stripped], stdout=subprocess.PIPE, text=True)
    try:
        process.stdout.readline()
        assert "no debug info" in refused(asyncflame, process.pid)
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_not_permitted(tmp_path):
    with serving("release", tmp_path) as (pid, _):
        copy = tmp_path / "asyncflame"
        shutil.copy(PROGRAM, copy)
        for directory in [tmp_path, *tmp_path.parents]:
            if directory.stat().st_uid == os.geteuid() and str(directory).startswith("/tmp/"):
                directory.chmod(0o755)
        done = subprocess.run([copy, "dump", str(pid)], capture_output=True, text=True, check=False,
                              user=NOBODY, group=NOBODY, extra_groups=[], cwd="/")
        assert done.returncode == 125
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1
        assert "not permitted" in done.stderr and "root" in done.stderr
        assert "CAP_SYS_PTRACE" in done.stderr


def test_it_ends_meanwhile(asyncflame, tmp_path):
    """Killed while it is looked at, at many moments: a dump or one line, never half of one."""
    for wait in range(12):
        with open(tmp_path / "out", "w", encoding="utf-8") as err:
            process = subprocess.Popen([fixture("release", "shop")], stdout=subprocess.PIPE,
                                       stderr=err, text=True)
        process.stdout.readline()
        looking = subprocess.Popen([PROGRAM, "dump", "--format", "json", str(process.pid)],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(wait * 0.0005)
        process.kill()
        process.wait()
        out, err = looking.communicate(timeout=60)
        if looking.returncode == 0:
            check(json.loads(out))
        else:
            assert looking.returncode == 125
            assert len(err.splitlines()) == 1, err
            assert re.search(r"ended|no process", err), err


@pytest.mark.parametrize("profile", ["release", "debian-debug"])
def test_under_full_load(dump, asyncflame, request, tmp_path, profile):
    """Neither is harmed: no crash, no error to a client, and no stack that contradicts itself."""
    rounds = 1000 if request.config.getoption("--all-tests") else 20
    paths = ["", "join", "select", "lock", "joinset", "channel", "checkout"]
    with serving(profile, tmp_path) as (pid, address):
        shown = moving = done = 0
        for path in paths:
            load = subprocess.Popen(["wrk", "-t1", "-c16", f"-d{max(3, rounds // 20)}s",
                                     f"http://{address}/{path}"], stdout=subprocess.PIPE, text=True)
            for i in range(rounds // len(paths) + 1):
                found = dump(pid, *(["--freeze"] if i % 4 == 3 else []))
                shown += sum(task["tree"] is not None for task in found["tasks"])
                moving += sum(task["moving"] for task in found["tasks"])
                done += 1
            out = load.communicate(timeout=600)[0]
            assert "Non-2xx" not in out and "Socket errors" not in out, out
        assert done >= rounds
        assert shown > 10 * done, "connections were looked at"
        assert moving < shown / 2


@pytest.mark.parametrize("profile", PROFILES)
def test_names_of_tasks(dump, profile):
    """async-std keeps what task::Builder was given; nobody else has a name."""
    with parked(fixture(profile, "parked-async-std")) as program:
        found = dump(program.pid)
    named = [task for task in found["tasks"] if task["name"]]
    assert [task["name"] for task in named] == ["built"]
    assert named[0]["executor"] == "async-task"


@pytest.mark.parametrize("options", [[], ["--values"]])
def test_lines_go_on_to_the_next_branch(asyncflame, options):
    """From each `├` down there is a line to the next branch, past all that is between."""
    with parked(fixture("release", "parked-tokio")) as program:
        lines = asyncflame("dump", *options, program.pid).out.splitlines()
    branches = 0
    for number, line in enumerate(lines):
        for column in (at for at, char in enumerate(line) if char in "├│"):
            below = lines[number + 1]
            assert len(below) > column and below[column] in "├│└", (line, below)
            branches += 1
    assert branches > 100
