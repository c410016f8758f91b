# SPDX-License-Identifier: MIT
"""The future map over the whole matrix of compilers, profiles and executors: no poll missed, none
extra, against the symbol table and llvm-dwarfdump. debug and release are fixtures, which test_map.py
compares always; thin and fat LTO and opt-level s are built here, under --all-tests only."""
import os
import shutil
import subprocess

import pytest

import test_map
from conftest import REPOSITORY
from maps import read_map

RUNTIMES = ["tokio", "tokio-current", "async-std", "smol", "futures", "own"]
PROFILES = {  # what cargo is told of its release profile
    "thin": {"LTO": "thin"},
    "fat": {"LTO": "fat", "CODEGEN_UNITS": "1", "PANIC": "abort"},
    "small": {"OPT_LEVEL": "s"},
}


@pytest.fixture(scope="module", params=[(w, p) for w in ("current", "debian") for p in PROFILES],
                ids="-".join)
def programs(request):
    """The ledgers of one workspace in one profile, by runtime."""
    workspace, profile = request.param
    target = REPOSITORY / "build" / "cargo" / "matrix" / f"{workspace}-{profile}"
    cargo = "/usr/bin/cargo" if workspace == "debian" else shutil.which("cargo")
    if not cargo or not os.path.exists(cargo):
        pytest.skip("no cargo")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("CARGO_PROFILE", "RUSTFLAGS"))}
    env["CARGO_TARGET_DIR"] = str(target)
    if workspace == "debian":
        env["RUSTC"] = "/usr/bin/rustc"
        env["CARGO_HOME"] = str(REPOSITORY / "build" / "cargo" / "home")
    for name, value in PROFILES[profile].items():
        env[f"CARGO_PROFILE_RELEASE_{name}"] = value
    words = [cargo, "build", "--release", "--locked" if workspace == "current" else "--offline"]
    for runtime in RUNTIMES:
        words += ["--bin", f"ledger-{runtime}"]
    done = subprocess.run(words, cwd=REPOSITORY / "fixtures" / workspace, env=env,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {runtime: target / "release" / f"ledger-{runtime}" for runtime in RUNTIMES}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_none_missed_none_extra(programs, runtime):
    path = programs[runtime]
    assert read_map(path)["verdict"] == "futures"
    test_map.test_polls_are_those_of_the_symbol_table(path)
    test_map.test_roots_are_those_of_the_symbol_table(path)
    test_map.test_bodies_are_those_that_dwarfdump_shows(path)
    test_map.test_every_poll_can_be_patched_or_says_why(path)
    states = [f for f in read_map(path)["futures"] if f["state"]]
    assert any("::work::" in f["name"] for f in states)
