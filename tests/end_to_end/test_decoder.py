# SPDX-License-Identifier: MIT
"""Our decoder of debug info and libdw agree on every entry that both can read."""

import json
import os
import subprocess

import pytest

from conftest import BUILD, FIXTURES

COMPARE = BUILD / "tests" / "tools" / "compare_dies"
PROGRAMS = sorted(
    p for p in FIXTURES.glob("*/*") if p.is_file() and os.access(p, os.X_OK)
)


def compare(path):
    return subprocess.run([COMPARE, path], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_entry_is_read_as_libdw_reads_it(path):
    result = compare(path)
    assert result.returncode == 0, result.stderr
    totals = json.loads(result.stdout)
    assert totals["units"] and totals["attributes"] > totals["entries"] > 1000


def test_what_is_packed_is_read_alike(tmp_path):
    path = FIXTURES / "debug" / "shop"
    if not path.exists():
        pytest.skip("not built")
    packed = tmp_path / "packed"
    subprocess.run(["objcopy", "--compress-debug-sections=zlib", path, packed], check=True)
    result = compare(packed)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == json.loads(compare(path).stdout)
