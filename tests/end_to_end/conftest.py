# SPDX-License-Identifier: MIT
"""What the end-to-end tests share: where things are built, and running a program under asyncflame.

ASYNCFLAME_BUILD names another build directory than build/.
"""
import json
import os
import pathlib
import shutil
import subprocess
from dataclasses import dataclass

import pytest

import trace_check

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("ASYNCFLAME_BUILD", REPOSITORY / "build"))
FIXTURES = REPOSITORY / "build" / "fixtures"
PROGRAM = BUILD / "cli" / "asyncflame"
LIBRARY = BUILD / "lib" / "libasyncflame.so"
PROFILES = ["debug", "release", "debian-debug", "debian-release"]


@dataclass
class Ended:
    """How a program ended."""

    status: int
    out: str
    err: str
    directory: pathlib.Path

    def trace(self, name):
        """The trace `name` in the directory it ran in, checked."""
        return trace_check.check(self.directory / name)

    def traces(self):
        return sorted(path.name for path in self.directory.glob("*.json"))


def clean_environment(directory):
    """The caller's environment without what would steer asyncflame, and a cache of our own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ASYNCFLAME_")}
    if "ASYNCFLAME_LIBRARY" in os.environ:
        kept["ASYNCFLAME_LIBRARY"] = os.environ["ASYNCFLAME_LIBRARY"]
    kept.pop("LD_PRELOAD", None)
    kept["XDG_RUNTIME_DIR"] = str(directory)
    return kept


def pytest_addoption(parser):
    parser.addoption("--all-tests", action="store_true", help="the long ones too")


def pytest_ignore_collect(collection_path, config):
    """The matrix builds every ledger six times; real programs take a quarter of an hour."""
    if collection_path.name in ("test_matrix.py", "test_real.py") and not config.getoption("--all-tests"):
        return True
    return None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    item.failed_so_far = getattr(item, "failed_so_far", False) or report.failed


@pytest.fixture
def tmp_path(tmp_path, request):
    """The test's own directory, emptied unless it fails: traces and cores come to gigabytes. It stays, so
    that no other test gets its name."""
    yield tmp_path
    if getattr(request.node, "failed_so_far", True):
        return
    for path in tmp_path.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(tmp_path, tmp_path_factory, cache):
    """run(*words, env={}, cwd=...): runs a command line to its end and captures it."""
    runtime = tmp_path_factory.mktemp("runtime")

    def run_words(*words, env=(), cwd=tmp_path, timeout=120, input=""):
        environment = clean_environment(runtime)
        environment["ASYNCFLAME_CACHE"] = str(cache)
        environment.update(env)
        done = subprocess.run([str(word) for word in words], cwd=cwd, env=environment, text=True,
                              capture_output=True, timeout=timeout, input=input, check=False)
        status = done.returncode if done.returncode >= 0 else 128 - done.returncode
        left = [path.name for path in runtime.glob("asyncflame.*")]
        assert not left, "a run directory was left behind"
        return Ended(status, done.stdout, done.stderr, pathlib.Path(cwd))

    cache.chmod(0o700)
    return run_words


@pytest.fixture
def asyncflame(run):
    """asyncflame(*words): the program itself."""

    def run_asyncflame(*words, **how):
        return run(PROGRAM, *words, **how)

    return run_asyncflame


@pytest.fixture(scope="session")
def engine():
    """For tests that need real recordings."""
    if not LIBRARY.exists():
        pytest.skip(f"{LIBRARY} is not built")
    return LIBRARY


@pytest.fixture
def compile_c(tmp_path):
    """compile_c(name, *flags, source=...): a small C program in the test's directory."""

    def compile_program(name, *flags, source="int main(void) { return 3; }\n"):
        path = tmp_path / name
        subprocess.run(["cc", "-x", "c", "-", "-o", path, *flags], input=source, text=True,
                       check=True)
        return path

    return compile_program


def fixture(profile, name):
    path = FIXTURES / profile / name
    if not path.exists():
        pytest.skip(f"no fixture {profile}/{name}")
    return path


def last_json(text):
    """The JSON object that a fixture ends its output with."""
    return json.loads(text[text.index("{"):])
