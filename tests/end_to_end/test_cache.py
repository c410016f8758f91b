# SPDX-License-Identifier: MIT
"""The cache of future maps, as a user meets it: kept, bounded, private, and never trusted."""
import os
import shutil
import stat
import subprocess

import pytest

from conftest import PROGRAM, clean_environment, fixture

QUICK = ["--tasks", "1", "--rounds", "1", "--quiet"]


@pytest.fixture
def home(tmp_path):
    """A cache of this test's own, which asyncflame is to make."""
    return tmp_path / "home" / "asyncflame"


@pytest.fixture
def trace(run, engine, home):
    """trace(program): runs it under asyncflame with that cache; the maps that are in it then."""

    def trace_program(program, **env):
        ended = run(PROGRAM, "-q", "-o", "/dev/null", program, *QUICK,
                    env={"ASYNCFLAME_CACHE": "", "XDG_CACHE_HOME": str(home.parent), **env})
        assert ended.status == 0 and ended.err == ""
        return sorted(home.glob("*"))

    return trace_program


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_made_for_its_user_alone(trace, home):
    before = os.umask(0)
    try:
        (kept,) = trace(fixture("release", "ledger-own"))
    finally:
        os.umask(before)
    assert mode(home) == 0o700 and mode(kept) == 0o600
    assert kept.suffix == ".afmap"


def test_used_again(trace):
    program = fixture("release", "ledger-own")
    (kept,) = trace(program)
    first = kept.stat()
    assert trace(program) == [kept]
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == (first.st_ino, first.st_mtime_ns)


def flip(at):
    def change(data):
        data[int(len(data) * at)] ^= 0x10

    return change


def set_version(data):
    data[8] += 1


def cut(data):
    del data[len(data) // 2 :]


CHANGES = {
    "of a newer version": set_version,
    "cut": cut,
    "empty": bytearray.clear,
    "flipped in the header": flip(0.0001),
    "flipped in the middle": flip(0.5),
    "flipped at the end": flip(0.999),
    "not a map": lambda data: data.__setitem__(slice(0, 8), b"\x7fELF\0\0\0\0"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_made_anew_where_it_cannot_be_used(trace, change):
    program = fixture("release", "ledger-own")
    (kept,) = trace(program)
    good = kept.read_bytes()
    bad = bytearray(good)
    change(bad)
    kept.write_bytes(bad)
    assert bad != good
    assert trace(program) == [kept]
    assert kept.read_bytes() == good


def test_not_used_when_others_could_have_written_it(trace):
    program = fixture("release", "ledger-own")
    (kept,) = trace(program)
    kept.chmod(0o666)
    assert trace(program) == [kept]
    assert mode(kept) == 0o600


def test_bounded_and_the_oldest_go_first(trace):
    programs = [fixture("release", name) for name in ("ledger-own", "ledger-tokio", "ledger-smol")]
    kept = [trace(program) for program in programs]
    assert [len(maps) for maps in kept] == [1, 2, 3]
    third = (set(kept[2]) - set(kept[1])).pop()
    second = (set(kept[1]) - set(kept[0])).pop()
    third.unlink()
    room = second.stat().st_size + 2 * max(path.stat().st_size for path in kept[1])
    assert set(trace(programs[2], ASYNCFLAME_CACHE_MAX=str(room))) <= {*kept[1], third}
    third.unlink()
    # Room for one: the new one stays, whatever its size.
    assert trace(programs[2], ASYNCFLAME_CACHE_MAX="1K") == [third]


@pytest.mark.parametrize("wrapper", [True, False], ids=["run", "preload"])
def test_many_processes_at_once(engine, tmp_path, wrapper):
    """All find the cache empty, and each makes the map: one file is left, whole, and nothing else."""
    program = fixture("release", "ledger-tokio")
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    env = clean_environment(tmp_path)
    env["ASYNCFLAME_CACHE"] = str(cache)
    words = [PROGRAM, "-q", "-o", "/dev/null"] if wrapper else []
    if not wrapper:
        env.update(LD_PRELOAD=str(engine), ASYNCFLAME_QUIET="1", ASYNCFLAME_OUTPUT="/dev/null")
    started = [
        subprocess.Popen([*words, program, *QUICK], env=env, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
        for _ in range(8)
    ]
    for process in started:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0 and err == b""
    (kept,) = cache.iterdir()
    alone = tmp_path / "alone"
    alone.mkdir(mode=0o700)
    subprocess.run([PROGRAM, "-q", "-o", "/dev/null", program, *QUICK], check=True,
                   env={**env, "ASYNCFLAME_CACHE": str(alone), "LD_PRELOAD": ""})
    assert kept.read_bytes() == (alone / kept.name).read_bytes()


def test_a_program_without_build_id(trace, tmp_path):
    """Keyed by its content: another program of the same name has another map."""
    if not shutil.which("objcopy"):
        pytest.skip("no objcopy")
    names = set()
    for build in ("release", "debug"):
        program = tmp_path / "program"
        subprocess.run(["objcopy", "--remove-section", ".note.gnu.build-id",
                        fixture(build, "ledger-own"), program], check=True)
        names |= {path.name for path in trace(program)}
    assert len(names) == 2 and all(name.startswith("hash-") for name in names)
