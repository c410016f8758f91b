# SPDX-License-Identifier: MIT
"""A companion that stands still: the host does not, and what is lost is counted."""
import os
import pathlib
import re
import shutil
import signal
import subprocess

from conftest import PROGRAM, clean_environment
from life import companion_of, told

SOURCE = pathlib.Path(__file__).parent / "tiny.rs"


def test_a_companion_that_stands_still(engine, tmp_path):
    """Threads that find no chunk wait for it once, not for every 64 KiB: 2,000,000 polls are 500 times as many
    as go into a chunk, and the buffers hold half of them."""
    tiny = tmp_path / "tiny"
    subprocess.run([shutil.which("rustc") or "/usr/bin/rustc", "--edition=2021", "-g", "-Copt-level=3", "-o",
                    tiny, SOURCE], check=True)
    environment = {**clean_environment(tmp_path), "ASYNCFLAME_CACHE": str(tmp_path)}
    tmp_path.chmod(0o700)
    process = subprocess.Popen([PROGRAM, "-o", "t.raw", tiny, "steps"], cwd=tmp_path, text=True,
                               env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    companion = 0
    try:
        (pid, before), = told(process.stdout.readline())
        companion = companion_of(pid)
        os.kill(companion, signal.SIGSTOP)
        process.stdin.write("\n")
        process.stdin.flush()
        (_, polls), = told(process.stdout.readline())
        os.kill(companion, signal.SIGCONT)
        _, err = process.communicate("\n", timeout=60)
    finally:
        if companion and pathlib.Path(f"/proc/{companion}").exists():
            os.kill(companion, signal.SIGCONT)
        process.kill()
        process.wait()
    assert process.returncode == 0 and polls == before + 25_000 * before
    lost = int(re.search(r"LOST: ([0-9,]+) records were dropped", err)[1].replace(",", ""))
    kept = int(re.search(r"asyncflame: ([0-9,]+) polls", err)[1].replace(",", ""))
    # What was lost since it was last counted, at most as much as a chunk holds, is not in it.
    assert lost > 1_000_000 and 0 <= 2 * polls - lost - 2 * kept <= 4096, err
