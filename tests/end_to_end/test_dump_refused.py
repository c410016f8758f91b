# SPDX-License-Identifier: MIT
"""asyncflame dump of what forbids it, of another machine's, and of what becomes another program: each
is one clear line. The rest of its bad input is in test_dump.py."""
import ctypes
import errno
import json
import os
import shutil
import struct
import subprocess
import time

import pytest

from conftest import PROGRAM, fixture
from parked import parked

NOBODY = 65534
PR_SET_DUMPABLE = 4


def refused(done):
    """The one line with which a dump was refused."""
    assert done.returncode == 125, done
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def dump(*words, **options):
    return subprocess.run([PROGRAM, "dump", *map(str, words)], capture_output=True, text=True,
                          check=False, timeout=120, **options)


@pytest.fixture
def everybodys(tmp_path):
    """asyncflame where every user may run it."""
    copy = tmp_path / "asyncflame"
    shutil.copy(PROGRAM, copy)
    for directory in [tmp_path, *tmp_path.parents]:
        if directory.stat().st_uid == os.geteuid() and str(directory).startswith("/tmp/"):
            directory.chmod(0o755)
    return copy


@pytest.mark.skipif(os.geteuid() != 0, reason="root may look into all of its own")
def test_its_own_user_and_not_dumpable(everybodys):
    """prctl(PR_SET_DUMPABLE, 0): not even its own user may look."""

    def hide():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0)
        time.sleep(1000)  # instead of exec, which makes it dumpable again

    child = os.fork()
    if not child:
        try:
            hide()
        finally:
            os._exit(1)
    try:
        # As nobody: what belongs to root in /proc says that it is hidden by now.
        while os.stat(f"/proc/{child}/maps").st_uid != 0 or "nobody" not in subprocess.run(
                ["ps", "-o", "user=", "-p", str(child)], capture_output=True, text=True,
                check=True).stdout:
            time.sleep(0.01)
        done = subprocess.run([everybodys, "dump", str(child)], capture_output=True, text=True,
                              check=False, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/")
        line = refused(done)
        assert "not permitted" in line and "dumpable" in line and "CAP_SYS_PTRACE" in line
        # Root may, and finds nothing async in it.
        assert "no sign of async Rust" in refused(dump(child))
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


@pytest.fixture
def sleeping():
    process = subprocess.Popen(["sleep", "1000"])
    yield process.pid
    process.kill()
    process.wait()


def within(*words):
    """The words of a namespace that can be had here."""
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip(f"{words[0]} {words[1]} is not allowed here")
    return words


def test_from_another_user_namespace(sleeping):
    """Of the same user, and yet not ours: as where a container or security module forbids it."""
    done = subprocess.run([*within("unshare", "-Ur"), PROGRAM, "dump", str(sleeping)], capture_output=True,
                          text=True, check=False)
    line = refused(done)
    assert "not permitted, though it is of the same user" in line and "container" in line
    assert "CAP_SYS_PTRACE" in line and "ptrace_scope" not in line


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount over /proc/sys")
@pytest.mark.parametrize("scope, remedy", [(1, "sysctl kernel.yama.ptrace_scope=0"),
                                           (2, "sysctl kernel.yama.ptrace_scope=0"),
                                           (3, "asyncflame dump CORE")])
def test_ptrace_scope(sleeping, scope, remedy):
    """Where the kernel has Yama, as the file says that it can be set to anything; who forbids it here is the user
    namespace."""
    words = within("unshare", "-m")
    script = (f"mount -t tmpfs none /proc/sys/kernel && mkdir /proc/sys/kernel/yama && "
              f"echo {scope} > /proc/sys/kernel/yama/ptrace_scope && exec unshare -Ur {PROGRAM} dump {sleeping}")
    within("unshare", "-Ur")
    line = refused(subprocess.run([*words, "sh", "-c", script], capture_output=True, text=True, check=False))
    assert f"kernel.yama.ptrace_scope is {scope}" in line and remedy in line


def test_it_has_a_tracer_already():
    """Without --freeze nothing is traced, so that a debugger is in nobody's way."""
    with parked(fixture("release", "parked-own")) as program:
        assert ctypes.CDLL(None).ptrace(0x4206, program.pid, None, None) == 0  # PTRACE_SEIZE
        line = refused(dump("--freeze", program.pid))
        assert f"process {os.getpid()} traces it" in line
        assert dump(program.pid).returncode == 0


# sock_filter: code, jump if true, if false, k. process_vm_readv (310) fails with EPERM, all else is allowed.
FORBIDDING = struct.pack("HBBI" * 4, 0x20, 0, 0, 0, 0x15, 0, 1, 310, 0x06, 0, 0, 0x00050001,
                         0x06, 0, 0, 0x7fff0000)


def forbid_process_vm_readv():
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(FORBIDDING)
    filters = struct.pack("HxxxxxxQ", 4, ctypes.addressof(code))
    assert not libc.prctl(38, 1, 0, 0, 0) and not libc.prctl(22, 2, filters, 0, 0)
    assert libc.process_vm_readv(os.getpid(), None, 0, None, 0, 0) == -1
    assert ctypes.get_errno() == errno.EPERM


def test_without_process_vm_readv():
    """Sandboxes forbid it, and leave /proc/PID/mem: the same is seen."""
    with parked(fixture("release", "parked-own")) as program:
        told = [dump("--format", "json", program.pid, preexec_fn=forbid) for forbid in
                (None, forbid_process_vm_readv)]
    assert all(done.returncode == 0 for done in told)
    trees = [json.loads(done.stdout)["tasks"] for done in told]
    assert trees[0] == trees[1] and len(trees[0]) > 100


def test_of_32_bits(tmp_path):
    program = tmp_path / "other"
    source = ".globl _start\n_start: mov $29, %eax\nint $0x80\njmp _start\n"  # pause()
    done = subprocess.run(["cc", "-m32", "-nostdlib", "-static", "-x", "assembler", "-", "-o", program],
                          input=source, text=True, capture_output=True, check=False)
    try:
        process = subprocess.Popen([program])
    except OSError as error:
        pytest.skip(f"no 32-bit programs here: {done.stderr or error}")
    try:
        assert "is of 32-bit x86; asyncflame here looks into x86-64 only" in refused(dump(process.pid))
    finally:
        process.kill()
        process.wait()


# e_machine of the core, and how it is called.
MACHINES = [(183, "aarch64"), (3, "32-bit x86"), (243, "RISC-V"), (0x1234, "another architecture")]


@pytest.fixture
def core(tmp_path):
    """The head of a core of this machine: its ELF header, and whatever comes then."""
    process = subprocess.Popen(["sleep", "100"])
    try:
        subprocess.run(["gcore", "-o", tmp_path / "core", str(process.pid)], check=True,
                       capture_output=True)
    finally:
        process.kill()
        process.wait()
    return bytearray((tmp_path / f"core.{process.pid}").read_bytes())


@pytest.mark.skipif(not shutil.which("gcore"), reason="no gcore (of gdb)")
def test_of_another_architecture(core, tmp_path):
    path = tmp_path / "other"
    for machine, name in MACHINES:
        struct.pack_into("<H", core, 18, machine)
        path.write_bytes(core)
        line = refused(dump(path))
        assert f"is of {name}; asyncflame here looks into" in line, line
    struct.pack_into("<H", core, 18, 62)
    core[4] = 1  # ELFCLASS32
    path.write_bytes(core)
    assert "not a 64-bit little-endian core" in refused(dump(path))


@pytest.mark.parametrize("how", [[], ["--freeze"]])
def test_it_becomes_another_program_meanwhile(how):
    """A server that is replaced by exec at many moments while it is looked at: what it was, or one line."""
    seen = set()
    for wait in range(10):
        shop = fixture("release", "shop")
        # The shell is there before and after: `exec` keeps the pid.
        process = subprocess.Popen(["sh", "-c", f"exec {shop}"], stdout=subprocess.PIPE,
                                   stdin=subprocess.PIPE, text=True)
        looking = subprocess.Popen([PROGRAM, "dump", "--format", "json", *how, str(process.pid)],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(wait * 0.001)
        process.stdout.readline()
        out, err = looking.communicate(timeout=60)
        process.kill()
        process.communicate()
        if looking.returncode == 0:
            assert json.loads(out)["process"]["executable"] == str(shop)
            seen.add("shop")
        else:
            assert looking.returncode == 125 and len(err.splitlines()) == 1, err
            assert out == ""
            seen.add("line")
    assert seen
