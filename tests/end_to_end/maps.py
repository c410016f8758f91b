# SPDX-License-Identifier: MIT
"""What the tests of the map share: reading it, and reading the same file without it."""
import functools
import json
import re
import subprocess

import pytest

from conftest import BUILD, PROGRAM

BUILDS = ["debug", "release", "debian-debug", "debian-release"]


def run(*args, **kwargs):
    return subprocess.run(args, capture_output=True, text=True, check=False, **kwargs)


def built(build, name):
    path = BUILD / "fixtures" / build / name
    if not path.exists():
        pytest.skip("not built")
    return path


@functools.lru_cache(maxsize=None)
def read_map(path, *options):
    result = run(PROGRAM, "map", *options, path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout)


def symbols(path):
    """(address, demangled name) of every function symbol."""
    for line in run("nm", "-C", "--defined-only", path).stdout.splitlines():
        match = re.match(r"([0-9a-f]+) [tTwW] (.*)", line)
        if match:
            yield int(match[1], 16), match[2]


def addresses(polls, *kinds):
    return {int(p["address"], 16) for p in polls if p["kind"] in kinds}


def polls_of_symbols(path):
    # v0 symbols print a hash behind a crate's name, legacy ones behind the whole.
    pattern = r"core(\[[0-9a-f]+\])?::future::future::Future>::poll(::h[0-9a-f]{16})?$"
    return {address for address, name in symbols(path) if re.search(pattern, name)}


@pytest.fixture(params=BUILDS)
def ledger(request):
    return built(request.param, "ledger-tokio")
