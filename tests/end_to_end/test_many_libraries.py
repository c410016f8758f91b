# SPDX-License-Identifier: MIT
"""More libraries with futures than a recording has room for: the rest is counted."""
import pathlib
import re
import shutil
import subprocess

import pytest

from conftest import last_json

SOURCE = pathlib.Path(__file__).parent / "tiny.rs"
TINY = 80
BUILDS, PLACES = 63, 256 # builds beside the executable

# argv: libraries, each polls once and stays.
LOADING = """
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
int main(int argc, char **argv)
{
    unsigned long polls = 0;
    for (int i = 1; i < argc; i++) {
        void *library = dlopen(argv[i], RTLD_NOW);
        if (!library)
            return puts(dlerror()), 1;
        uint64_t (*poll)(uint64_t) = dlsym(library, "tiny_poll");
        polls += poll(1);
    }
    printf("{\\"polls\\": %lu}\\n", polls);
    return 5;
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "libtiny.so"
    subprocess.run([shutil.which("rustc") or "/usr/bin/rustc", "--edition=2021", "-g", "-Copt-level=3",
                    "-Clink-arg=-Wl,--compress-debug-sections=zlib", "--crate-type=cdylib", "-o", path,
                    SOURCE], check=True)
    return path


def build_id(library):
    text = subprocess.run(["readelf", "-n", library], capture_output=True, text=True, check=True).stdout
    return bytes.fromhex(re.search(r"Build ID: ([0-9a-f]+)", text)[1])


def check(asyncflame, compile_c, libraries):
    """How many of them were traced, and how many it says were not."""
    ended = asyncflame("-o", "t.json", compile_c("loading", source=LOADING), *libraries)
    told = last_json(ended.out)
    assert ended.status == 5 and told["polls"] == len(libraries) * TINY
    traced, rest = divmod(len(ended.trace("t.json").polls), TINY)
    assert not rest
    left_out = re.search(r"not hooked: +(\d+)  loads? of libraries with futures, for which there was no room\n",
                         ended.err)
    return traced, int(left_out[1]) if left_out else 0


def test_more_builds(asyncflame, engine, library, compile_c, tmp_path):
    before, content = build_id(library), library.read_bytes()
    assert content.count(before) == 1
    libraries = [tmp_path / f"lib{i}.so" for i in range(BUILDS + 2)]
    for i, path in enumerate(libraries):
        path.write_bytes(content.replace(before, i.to_bytes(len(before), "big")))
    assert check(asyncflame, compile_c, libraries[:BUILDS]) == (BUILDS, 0)
    assert check(asyncflame, compile_c, libraries) == (BUILDS, 2)
    for n, said in ((BUILDS, False), (BUILDS + 1, True)):
        linked = compile_c("linked", "-Wl,--no-as-needed", "-x", "none", *libraries[:n])
        told = asyncflame("doctor", linked).out
        assert told.count("can be traced") == n, told
        assert (f"of these {n} libraries only {BUILDS}: there is no room for more" in told) == said


def test_more_places(asyncflame, engine, library, compile_c, tmp_path):
    """Copies of one build. Once its map is made they need no debug info."""
    libraries = [tmp_path / f"lib{i}.so" for i in range(PLACES + 1)]
    assert check(asyncflame, compile_c, [library]) == (1, 0)
    subprocess.run(["strip", "-g", "-o", libraries[0], library], check=True)
    for path in libraries[1:]:
        shutil.copy(libraries[0], path)
    traced, left_out = check(asyncflame, compile_c, libraries)
    # The reach of jumps may be used up before.
    assert PLACES - 32 <= traced <= PLACES and traced + left_out == PLACES + 1
