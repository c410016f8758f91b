# SPDX-License-Identifier: MIT
"""What the benchmarks share: where things are built, running them, medians and tables."""
import ctypes
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("ASYNCFLAME_BUILD", REPOSITORY / "build"))
FIXTURES = REPOSITORY / "build" / "fixtures"
PROGRAM = BUILD / "cli" / "asyncflame"
LIBRARY = BUILD / "lib" / "libasyncflame.so"

PR_SET_CHILD_SUBREAPER = 36


class Failed(Exception):
    """A measurement that cannot be made; the others go on."""


def adopt_orphans():
    """Makes this process the parent of orphans, so that the companion's CPU time is seen as well."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def environment(cache, **more):
    """The caller's without what would steer asyncflame; the future maps are kept in `cache`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ASYNCFLAME_")}
    kept.pop("LD_PRELOAD", None)
    kept["ASYNCFLAME_CACHE"] = str(cache)
    kept.update(more)
    return kept


@dataclass
class Run:
    """A process that has ended. CPU times are in seconds."""

    status: int
    wall: float
    cpu: float
    orphans_cpu: float


def spawn(words, env, out=os.devnull, err=None):
    """Starts a program; its stdout goes into the file `out`, its stderr is ours or goes into `err`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    files = [(1, out)] if err is None else [(1, out), (2, err)]
    return os.posix_spawnp(
        str(words[0]),
        [str(word) for word in words],
        env,
        file_actions=[(os.POSIX_SPAWN_OPEN, fd, str(to), flags, 0o600) for fd, to in files],
    )


def finish(pid, start):
    """Waits for the program, then for the orphans it leaves; the wall time is the program's."""
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - start
    orphans = 0.0
    while True:
        try:
            _, _, other = os.wait4(-1, 0)
        except ChildProcessError:
            break
        orphans += other.ru_utime + other.ru_stime
    cpu = usage.ru_utime + usage.ru_stime
    return Run(os.waitstatus_to_exitcode(status), wall, cpu, orphans)


def run(words, env, out=os.devnull, err=None):
    start = time.perf_counter()
    ended = finish(spawn(words, env, out, err), start)
    if ended.status != 0:
        raise Failed(f"{pathlib.Path(words[0]).name} ended with status {ended.status}")
    return ended


def fixture(name, profile="release"):
    path = FIXTURES / profile / name
    if not path.exists():
        raise Failed(f"there is no fixture {profile}/{name}")
    return path


def median(values):
    return statistics.median(values)


def spread(values, form="{:.2f}"):
    """A median and its range, as text."""
    values = list(values)
    low, middle, high = (form.format(v) for v in (min(values), median(values), max(values)))
    return f"{middle}  ({low} to {high})"


class Report:
    """Prints each section as it is done: what was measured, how, and what is aimed at."""

    def section(self, title, method):
        print(f"\n## {title}\n")
        print(method.strip() + "\n")
        sys.stdout.flush()

    def table(self, head, rows):
        rows = [[str(cell) for cell in row] for row in [head, *rows]]
        widths = [max(len(row[at]) for row in rows) for at in range(len(head))]
        lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths)) + " |" for row in rows]
        lines.insert(1, "| " + " | ".join("-" * w for w in widths) + " |")
        print("\n".join(lines))
        sys.stdout.flush()

    def line(self, text):
        print(text)
        sys.stdout.flush()


def progress(text):
    """On a terminal only, over the last one."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def rust_program(name, source, what, settings="", profile=""):
    """build/bench/NAME/target/release/NAME, built from one source file; kept while that is the same."""
    at = BUILD / "bench" / name
    program, main = at / "target" / "release" / name, at / "src" / "main.rs"
    if program.exists() and main.exists() and main.read_text() == source:
        return program
    cargo = shutil.which("cargo") or os.path.expanduser("~/.cargo/bin/cargo")
    main.parent.mkdir(parents=True, exist_ok=True)
    (at / "Cargo.toml").write_text(f'[package]\nname = "{name}"\nversion = "0.0.0"\nedition = "2021"\n'
                                   f'[workspace]\n{settings}[profile.release]\n{profile}debug = "full"\n')
    main.write_text(source)
    progress(f"building {what}")
    done = subprocess.run([cargo, "build", "--release", "-q"], cwd=at, capture_output=True, text=True,
                          check=False)
    progress("")
    if done.returncode:
        main.unlink()
        raise Failed(f"the program cannot be built:\n{done.stderr[-2000:]}")
    return program
