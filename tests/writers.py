"""Processes that add runs or fit, at once, or killed while they do: `python tests/writers.py COMMAND ARGUMENT ...`.

They fork from a process that has imported everything, so that what is interrupted is the adding, and print JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tempadvisor.advise import recommend
from tempadvisor.errors import TempAdvisorError
from tempadvisor.fitting import restore, use
from tempadvisor.imports import read_file
from tempadvisor.learned import load
from tempadvisor.records import Standing
from tempadvisor.resources import model_path, previous_path
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


def fits_killed(one: str, other: str, times: str, seed: str) -> object:
    """Kill a process that does nothing but put two models to use in turn.

    Return how many kills came amid the writing of a file, and after each the version of the model in use, the one
    that advice names, the one kept, and the one that `restore` goes back to.
    """
    models = [load(Path(name)) for name in (one, other)]
    rng = random.Random(int(seed))
    standing = [Standing(rule="S4-fine", n_fired=3, n_for=2, n_against=1)]

    def put_to_use() -> None:
        for model in itertools.cycle(models):
            use(model, standing)

    found, amid = [], set()
    for _ in range(int(times)):
        for model in models:
            use(model, standing)
        pid = forked(put_to_use)
        time.sleep(rng.uniform(0, 0.06))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        amid |= {pid for path in model_path().parent.iterdir() if f".{pid}." in path.name}
        held = [load(path).version for path in (model_path(), previous_path())]
        advised = recommend().version["knowledge"].split("-")[1]
        found.append([held[0], advised, held[1], restore().split("-")[1]])
    return {"found": found, "amid": len(amid)}


if __name__ == "__main__":
    command = {"at-once": at_once, "killed": killed, "full": full, "fits-killed": fits_killed}[sys.argv[1]]
    print(json.dumps(command(*sys.argv[2:])))
