# SPDX-License-Identifier: MIT
"""Libraries that cannot be hooked when they come: what is said, and that the program goes on."""
import os
import pathlib
import shutil
import signal
import struct
import subprocess

import pytest

import trace_check
from conftest import PROGRAM, clean_environment, last_json
from life import companion_of
from test_libraries import expected, library, ticks

SOURCE = pathlib.Path(__file__).parent / "tiny.rs"
DIFFERS = "its code in memory is not what the file says"
TINY = 80

# argv: a library, and its function. Polls and says how often.
ONCE = """
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
int main(int argc, char **argv)
{
    void *library = dlopen(argv[1], RTLD_NOW);
    if (!library)
        return puts(dlerror()), 1;
    uint64_t (*poll)() = dlsym(library, argv[2]);
    printf("{\\"polls\\": %lu}\\n", poll(0, 5ul));
    return 5;
}
"""

# argv: two libraries, and their functions. Waits for a line before it loads the second one, and
# before it does so again.
IN_STEPS = """
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
static unsigned long call(const char *path, const char *name)
{
    void *library = dlopen(path, RTLD_NOW);
    uint64_t (*function)(uint32_t what, uint64_t n) = dlsym(library, name);
    unsigned long polls = function(0, 5);
    dlclose(library);
    return polls;
}
static void step(const char *what, unsigned long polls)
{
    printf("%s %lu\\n", what, polls);
    fflush(stdout);
    getchar();
}
int main(int argc, char **argv)
{
    step("first", call(argv[1], argv[2]));
    step("second", call(argv[3], argv[4]));
    step("again", call(argv[3], argv[4]));
    return 5;
}
"""


def test_a_map_that_takes_too_long(asyncflame, engine, compile_c, tmp_path):
    """The companion is stopped: dlopen comes back all the same, and the library is not traced this
    time. When its map was made at last, the next time it is."""
    words = [compile_c("steps", source=IN_STEPS)]
    for name in ("plugin_two", "plugin_one"):
        words += [library("debug", name), f"{name}_call"]
    environment = {**clean_environment(tmp_path), "ASYNCFLAME_CACHE": str(tmp_path / "cache")}
    (tmp_path / "cache").mkdir(mode=0o700)
    (tmp_path / "traced").mkdir()
    process = subprocess.Popen([PROGRAM, "-o", "t.json", *words], cwd=tmp_path / "traced", text=True,
                               env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    companion = 0
    try:
        polls = {}

        def hear(what):
            said, number = process.stdout.readline().split()
            assert said == what
            polls[what] = int(number)

        def go_on():
            process.stdin.write("\n")
            process.stdin.flush()

        hear("first")
        child = int(pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        companion = companion_of(child)
        os.kill(companion, signal.SIGSTOP)
        go_on()
        hear("second")
        os.kill(companion, signal.SIGCONT)
        go_on()
        hear("again")
        go_on()
        _, err = process.communicate(timeout=60)
    finally:
        if companion and pathlib.Path(f"/proc/{companion}").exists():
            os.kill(companion, signal.SIGCONT)
        process.kill()
        process.wait()
    assert process.returncode == 5
    assert "not traced, since its map is not made yet: libplugin_one.so" in err
    found = ticks(trace_check.check(tmp_path / "traced" / "t.json"))
    assert polls["second"] == polls["again"] > 0
    assert found == expected(plugin_two=polls["first"], plugin_one=polls["again"])


@pytest.mark.parametrize("options", [[], ["-q"]], ids=["", "quiet"])
def test_a_namespace_of_its_own(run, asyncflame, engine, compile_c, options):
    """Told, and left alone; panics are caught as ever."""
    source = "#define _GNU_SOURCE\n" + ONCE.replace("dlopen(argv[1]", "dlmopen(LM_ID_NEWLM, argv[1]") \
        .replace("poll(0, 5ul)", "poll(0, 5ul) + poll(2, 5ul)")
    words = [compile_c("apart", source=source), library("debug", "plugin_one"), "plugin_one_call"]
    bare = run(*words)
    ended = asyncflame("-o", "t.json", *options, *words)
    assert (ended.status, ended.out) == (bare.status, bare.out) == (5, bare.out)
    line = f"asyncflame: not traced, since it is in a namespace of its own (dlmopen): {words[1]}\n"
    assert ended.err.count(line) == (0 if options else 1)
    assert not ended.traces()


def dynamic_entries(content):
    """Of an ELF64 file: (offset, tag, value) of each."""
    (at,), (size, count) = struct.unpack_from("<Q", content, 32), struct.unpack_from("<HH", content, 54)
    for i in range(count):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", content, at + i * size)
        if kind == 2:
            for entry in range(offset, offset + length, 16):
                yield (entry, *struct.unpack_from("<QQ", content, entry))


def says_text_relocations(source, target, how):
    """A copy of a library that says it has some, by a tag or by a flag; the same build."""
    relacount, flags, textrel, flag = 0x6ffffff9, 30, 22, 4
    content = bytearray(source.read_bytes())
    for entry, tag, value in dynamic_entries(content):
        if how == "tag" and tag == relacount:
            struct.pack_into("<QQ", content, entry, textrel, 0)
        elif how == "flag" and tag == flags:
            struct.pack_into("<QQ", content, entry, flags, value | flag)
    assert content != source.read_bytes()
    target.write_bytes(content)
    return target


@pytest.mark.parametrize("how", ["tag", "flag"])
def test_a_library_that_says_text_relocations(asyncflame, engine, compile_c, tmp_path, how):
    program, plugin = compile_c("once", source=ONCE), library("debug", "plugin_one")
    ended = asyncflame("-o", "t.json", program, plugin, "plugin_one_call")
    polls = last_json(ended.out)["polls"]
    assert DIFFERS not in ended.err and ticks(ended.trace("t.json")) == expected(plugin_one=polls)
    changed = says_text_relocations(plugin, tmp_path / "libplugin_one.so", how)
    ended = asyncflame("-o", "u.json", program, changed, "plugin_one_call")
    assert ended.status == 5 and last_json(ended.out)["polls"] == polls
    assert "hooked 0 of " in ended.err and DIFFERS in ended.err
    assert not ended.trace("u.json").polls


def test_a_library_with_text_relocations(asyncflame, engine, compile_c, tmp_path):
    """One into whose code the loader writes, when we have been called already."""
    path = tmp_path / "libtiny.so"
    subprocess.run([shutil.which("rustc") or "/usr/bin/rustc", "--edition=2021", "-g", "-Copt-level=3",
                    "--cfg", "textrel", "-Clink-arg=-Wl,-z,notext", "--crate-type=cdylib", "-o", path,
                    SOURCE], check=True)
    assert 22 in {tag for _, tag, _ in dynamic_entries(path.read_bytes())}
    program = compile_c("once", source=ONCE.replace("poll(0, 5ul)", "poll(5ul)"))
    ended = asyncflame("-o", "t.json", program, path, "tiny_poll")
    assert ended.status == 5 and last_json(ended.out)["polls"] == 5 * TINY
    assert f"hooked 0 of {TINY} poll functions" in ended.err
    assert f"{TINY}  {DIFFERS}" in ended.err
