"""Processes that add runs at once, or are killed while they do: `python tests/writers.py COMMAND URL FILE ...`.

They fork from a process that has imported everything, so that what is interrupted is the adding, and print JSON.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tempadvisor.errors import TempAdvisorError
from tempadvisor.imports import read_file
from tempadvisor.store import imports, remove, stored, take


def forked(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    except TempAdvisorError as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(2)


def held(url: str) -> tuple[int, int]:
    """Return how many rows there are, and how many the imports claim."""
    return len(stored(url).runs), sum(one.rows for one in imports(url))


def at_once(url: str, *files: str) -> object:
    """Add each file in a process of its own, all at the same moment."""
    readings = [read_file(file, {}, {}) for file in files]
    start = time.monotonic() + 0.3

    def work(i: int) -> None:
        time.sleep(start - time.monotonic())
        assert not take(readings[i], {}, url).refused

    pids = [forked(lambda i=i: work(i)) for i in range(len(files))]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    return {"codes": codes, "held": held(url)}


def killed(url: str, file: str, times: str, seed: str) -> object:
    """Kill the adding of a file at random moments; return what is there after each, and after adding it once more."""
    reading = read_file(file, {}, {})
    rng = random.Random(int(seed))
    take(reading, {}, url)  # makes the tables, loads the driver
    for one in imports(url):
        remove(one.id, url)
    begun = time.monotonic()
    take(reading, {}, url)
    lasts = time.monotonic() - begun
    found = []
    for i in range(int(times)):
        for one in imports(url):
            remove(one.id, url)
        if i % 2 and url.startswith("sqlite:"):
            Path(url.removeprefix("sqlite:///")).unlink(missing_ok=True)  # so that the tables are made, too
        pid = forked(lambda: take(reading, {}, url))
        time.sleep(rng.uniform(0, 1.1 * lasts))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        found.append(held(url))
    take(reading, {}, url)
    return {"found": found, "held": held(url)}


def full(url: str, file: str, size: str) -> object:
    """Add a file where no file may grow beyond a size; return the exit code, and what is there before and after."""
    reading = read_file(file, {}, {})
    before = held(url)

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))
        take(reading, {}, url)

    code = os.waitstatus_to_exitcode(os.waitpid(forked(work), 0)[1])
    after = held(url)
    take(reading, {}, url)
    return {"code": code, "before": before, "after": after, "held": held(url)}


if __name__ == "__main__":
    command = {"at-once": at_once, "killed": killed, "full": full}[sys.argv[1]]
    print(json.dumps(command(*sys.argv[2:])))
