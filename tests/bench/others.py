# SPDX-License-Identifier: MIT
"""What other ways take for an entry and an exit of the same function: the kernel's uprobes, gdb's breakpoints."""
import ctypes
import json
import mmap
import os
import pathlib
import shutil
import struct
import subprocess

from common import PROGRAM, Failed, environment, fixture, progress, run, spread
from hot import measure, traced

UPROBES = pathlib.Path("/sys/bus/event_source/devices/uprobe/type")
SYS_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
SAMPLE_TID, SAMPLE_TIME = 1 << 1, 1 << 2
DISABLED, ENABLE_ON_EXEC = 1 << 0, 1 << 12
RING = 64 << 10

UPROBE_METHOD = """
`hot` with a uprobe at the entry of the poll and a uretprobe at its return, set by perf_event_open for this one process;
in turn with asyncflame. counting: the kernel only counts them. recording: it writes thread and time (24 bytes) of each into a
ring in memory that nobody drains. asyncflame's are drained to a file. The kernel's counts are compared with the polls.
"""


class Refused(Exception):
    """The kernel does not allow it; says why."""


def file_offset(path, address):
    """Where the function at the link-time address lies in its file."""
    data = path.read_bytes()
    at, size, number = (struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54))
    for header in range(at, at + number * size, size):
        kind, _, offset, vaddr, _, length = struct.unpack_from("<IIQQQQ", data, header)
        if kind == 1 and vaddr <= address < vaddr + length:
            return address - vaddr + offset
    raise Failed(f"{path.name} has no segment at {address:#x}")


def the_poll(program, work):
    """What the map says of it."""
    done = subprocess.run([PROGRAM, "map", program], capture_output=True, text=True, check=True,
                          env=environment(work / "cache"))
    return next(poll for poll in json.loads(done.stdout)["polls"] if poll["name"] == "hot::Hot")


def probe(program, offset, at_return, recording, pid):
    """A descriptor of a probe that begins with the process's next exec; and its ring."""
    path = ctypes.create_string_buffer(str(program).encode())
    attributes = struct.pack(
        "<IIQQQQQIIQQ", int(UPROBES.read_text()), 112, int(at_return), 1 if recording else 0,
        SAMPLE_TID | SAMPLE_TIME if recording else 0, 0, DISABLED | ENABLE_ON_EXEC, 0, 0,
        ctypes.addressof(path), offset).ljust(112, b"\0")
    number = SYS_PERF_EVENT_OPEN[os.uname().machine]
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(ctypes.c_long(number), attributes, ctypes.c_int(pid), ctypes.c_int(-1),
                      ctypes.c_int(-1), ctypes.c_ulong(8))  # PERF_FLAG_FD_CLOEXEC
    if fd < 0:
        raise Refused(f"perf_event_open: {os.strerror(ctypes.get_errno())}")
    # Mapped read-only it is a ring that the kernel overwrites.
    ring = mmap.mmap(fd, 4096 + RING, prot=mmap.PROT_READ) if recording else None
    return fd, ring


def probed(program, offset, polls, recording, out):
    """The program's figures with both probes on its poll."""
    with open(out, "wb") as file, subprocess.Popen(
            ["sh", "-c", 'read -r go; exec "$0" "$@"', program, str(polls)], stdin=subprocess.PIPE,
            stdout=file) as process:
        probes = []
        try:
            probes = [probe(program, offset, back, recording, process.pid) for back in (False, True)]
            process.communicate(b"go\n")
            seen = [struct.unpack("<Q", os.read(fd, 8))[0] for fd, _ in probes]
        finally:
            process.kill()
            for fd, ring in probes:
                if ring:
                    ring.close()
                os.close(fd)
    if seen != [polls, polls]:
        raise Failed(f"the kernel has counted {seen} of {polls:,} polls")
    return json.loads(out.read_text())


def ratio_rows(ours, others, aim):
    """Rows of a table: ours, then each other way with how many times ours it takes."""
    rows = [["asyncflame", spread(f["pair_ns"] for f in ours), "1", ""]]
    for name, figures in others.items():
        ratios = [o["pair_ns"] / f["pair_ns"] for f, o in zip(ours, figures)]
        rows.append([name, spread((f["pair_ns"] for f in figures), "{:,.0f}"), spread(ratios, "{:,.0f}"),
                     aim.get(name, "")])
    return rows


def uprobes(report, settings, work):
    report.section("Against uprobe and uretprobe", UPROBE_METHOD)
    if not UPROBES.exists() or os.uname().machine not in SYS_PERF_EVENT_OPEN:
        report.line("Left out: this kernel has no uprobes.")
        return
    program, polls, out = fixture("hot"), settings.polls // 10, work / "hot.json"
    offset = file_offset(program, int(the_poll(program, work)["address"], 16))
    ours, others = [], {"counting": [], "recording": []}
    for count in range(settings.processes):
        progress(f"uprobes: {count + 1} of {settings.processes}")
        ours.append(traced(program, settings.polls, work))
        for name, figures in others.items():
            try:
                figures.append(probed(program, offset, polls, name == "recording", out))
            except (Refused, OSError) as why:
                progress("")
                report.line(f"Left out: the kernel does not let the bench use uprobes ({why}).")
                return
    progress("")
    report.table(["way", "pair, ns", "times ours", "aim"],
                 ratio_rows(ours, others, {"recording": ">= 40"}))


GDB_METHOD = """
`hot` (debug build) under gdb, whose Python sets a breakpoint on the poll, and in its stop() a FinishBreakpoint for the return; both take
the time and go on; those that are done with are deleted. Few polls, since it is so slow; in turn with asyncflame.
"""

GDB_SCRIPT = """
import gdb, time
seen = [0, 0]

class Returned(gdb.FinishBreakpoint):
    def stop(self):
        seen[1] += 1
        events.append((time.perf_counter_ns(), gdb.selected_thread().ptid[1], "E"))
        gdb.post_event(self.delete)
        return False

class Polled(gdb.Breakpoint):
    def stop(self):
        seen[0] += 1
        events.append((time.perf_counter_ns(), gdb.selected_thread().ptid[1], "B"))
        Returned(gdb.newest_frame(), internal=True)
        return False

events = []
gdb.execute("set pagination off")
gdb.execute("set confirm off")
gdb.execute("set startup-with-shell off")
Polled("SYMBOL", internal=True)
gdb.execute("run")
open("COUNTS", "w").write("%d %d" % tuple(seen))
"""


def debugged(program, symbol, polls, work):
    """The program's figures under gdb's breakpoints."""
    out, counts, script = work / "gdb.json", work / "gdb.counts", work / "gdb.py"
    script.write_text(GDB_SCRIPT.replace("SYMBOL", symbol).replace("COUNTS", str(counts)))
    counts.unlink(missing_ok=True)
    run(["gdb", "-nx", "-q", "-batch", "-x", script, "--args", program, polls], environment(work / "cache"),
        out, work / "gdb.err")
    seen = counts.read_text().split() if counts.exists() else []
    if seen != [str(polls)] * 2:
        raise Failed(f"gdb has seen {seen} of {polls} polls:\n{(work / 'gdb.err').read_text()[-800:]}")
    return json.loads(next(line for line in out.read_text().splitlines() if line.startswith("{")))


def gdb(report, settings, work):
    report.section("Against gdb's breakpoints", GDB_METHOD)
    if not shutil.which("gdb"):
        report.line("Left out: gdb is not installed.")
        return
    program, polls = fixture("hot", "debug"), settings.polls // 1000
    symbol = the_poll(program, work)["symbol"]
    ours, theirs = [], []
    for count in range(settings.processes):
        progress(f"gdb: {count + 1} of {settings.processes}")
        ours.append(traced(program, settings.polls, work))
        theirs.append(debugged(program, symbol, polls, work))
    progress("")
    report.table(["way", "pair, ns", "times ours", "aim"],
                 ratio_rows(ours, {"gdb": theirs}, {"gdb": ">= 10,000"}))
