"""A search that is killed, interrupted, shared by processes of this machine, or by machines over PostgreSQL.

Processes and signals are real. Each training takes about a second, so that what is hit is a training.
"""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from postgres import needs_postgres, server
from test_verify import TASK, TUTORS, desk

from tempadvisor import students, study, verify
from tempadvisor.models import weights_hash

__all__ = ["desk", "server"]
pytestmark = pytest.mark.slow

LONG = ("--epochs", "1200")  # about a second
SETUP = ("--student", "mlp-8", "--optimizer", "sgd", "--lr", "0.1", "--batch-size", "32", "--n-train", "100", *LONG)
WORDS = ("verify", "tutors:a_tutor", "--data", "sklearn/digits", *SETUP)
START = (sys.executable, "-m", "tempadvisor")
Started = subprocess.Popen[str]
Start = Callable[..., Started]


@pytest.fixture
def start(desk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Return a function that starts the command line in a process; what still runs at the end is killed."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    running: list[Started] = []

    def command(*words: str, cache: str = "cache", code: str | None = None) -> Started:
        line = [*START, *words] if code is None else [sys.executable, "-c", code, *words]
        environment = {**os.environ, "TEMPADVISOR_CACHE": str(desk / cache)}
        running.append(
            subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        )
        return running[-1]

    yield command
    for process in running:
        process.kill()
        process.communicate()


def done(process: Started, code: int = 0) -> tuple[str, str]:
    """Return stdout and stderr of a process that must end with `code`."""
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, (out, err)
    return out, err


def untimed(text: str) -> Any:
    """Return a JSON answer without where it was kept and how long it took."""
    found = json.loads(text)
    found["storage"] = found["cost"]["seconds"] = None
    for one in found["trials"]:
        one["seconds"] = None
    return found


def until(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    """Wait until `condition` is true, and return what it said."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)
    return found


@functools.cache
def opened(url: str, folder: str) -> Any:
    """Return the storage at a URL, for the tests that work in a folder."""
    assert Path.cwd() == Path(folder)
    return study._storage(url, create=True)


def studies(url: str) -> list[optuna.Study]:
    storage = opened(url, str(Path.cwd()))
    return [optuna.load_study(study_name=one.study_name, storage=storage) for one in storage.get_all_studies()]


def trials(url: str) -> list[FrozenTrial]:
    return [trial for one in studies(url) for trial in one.get_trials(deepcopy=False)]


def cell(trial: FrozenTrial) -> tuple[float | None, int]:
    temperature, seed = trial.user_attrs["training"]
    return temperature, seed


def running(url: str, process: Started) -> FrozenTrial | None:
    """Return the trial that a process trains with KD right now; it is no duplicate once its temperature is noted."""
    for trial in trials(url):
        mine = f":{process.pid}:" in trial.user_attrs.get("worker", "")
        if mine and trial.state == TrialState.RUNNING and trial.params:
            return trial
    return None


def assert_none_lost_or_double(url: str, answer: Any) -> None:
    """See that each training of the answer has one trial that is complete, and that no other trial counts."""
    told = [trial for trial in trials(url) if "training" in trial.user_attrs]
    complete = Counter(cell(trial) for trial in told if trial.state == TrialState.COMPLETE)
    assert set(complete.values()) == {1}
    assert complete.keys() == {(one["temperature"], one["seed"]) for one in answer["trials"]}
    assert not [trial for trial in trials(url) if not trial.state.is_finished()]
    withdrawn = [trial for trial in trials(url) if trial.state == TrialState.PRUNED]
    assert not [trial for trial in withdrawn if "train_seconds" in trial.user_attrs], "withdrawn before training"


def test_a_student_is_the_same_to_the_bit_in_another_process(start: Start) -> None:
    code = (
        "from test_verify import TASK\n"
        "from tempadvisor import students\n"
        "from tempadvisor.models import weights_hash\n"
        "print(weights_hash(students.student(TASK.case(), (4.0, 1))))"
    )
    here = weights_hash(students.student(TASK.case(), (4.0, 1)))
    path = f"import sys; sys.path[:0] = ['', {str(Path(__file__).parent)!r}]\n"
    assert done(start(cache="other", code=path + code))[0].strip() == here


def began(process: Started, n: int) -> bool:
    """Return whether a process is over, or has added a trial to the n there were."""
    return process.poll() is not None or (Path("a.journal").exists() and len(trials("a.journal")) > n)


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_moments_it_ends_as_if_it_had_not_been(start: Start, seed: int) -> None:
    rng = random.Random(seed)
    whole = untimed(done(start(*WORDS, "--budget", "8", "--storage", "whole.journal", "--json"))[0])
    words = (*WORDS, "--budget", "8", "--storage", "a.journal", "--json")
    amid = 0
    for i in range(4):
        process = start(*words, *["--resume"][:i], cache="cache-of-the-killed")
        n = len(trials("a.journal")) if Path("a.journal").exists() else 0
        until(functools.partial(began, process, n))
        time.sleep(rng.uniform(0, 2.0))
        process.kill()
        process.wait()
        amid += any(trial.state == TrialState.RUNNING for trial in trials("a.journal"))
    found = untimed(done(start(*words, "--resume", cache="cache-of-the-killed"))[0])
    assert amid > 0, "none was hit while it trained"
    assert found == whole
    assert_none_lost_or_double("a.journal", found)


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM], ids=["interrupt", "terminate"])
def test_told_to_stop_it_says_one_line_and_goes_on_later(sign: signal.Signals, jobs: str, start: Start) -> None:
    words = (*WORDS, "--budget", "6", "--storage", "a.journal", "--jobs", jobs)
    process = start(*words)
    until(lambda: Path("a.journal").exists() and len(trials("a.journal")) > 1)
    time.sleep(0.5)
    process.send_signal(sign)
    assert done(process, 130) == ("", "tempadvisor: Interrupted. Add --resume to go on.\n")
    assert not [trial for trial in trials("a.journal") if trial.state == TrialState.RUNNING], (
        "it is given back at once"
    )
    found = json.loads(done(start(*words, "--resume", "--json"))[0])
    assert_none_lost_or_double("a.journal", found)


def test_two_jobs_share_a_journal(start: Start) -> None:
    out, err = done(start(*WORDS, "--budget", "12", "--storage", "a.journal", "--jobs", "2", "--json"))
    assert err == ""
    assert_none_lost_or_double("a.journal", json.loads(out))
    workers = Counter(trial.user_attrs["worker"] for trial in trials("a.journal") if trial.value is not None)
    assert len(workers) == 2


def test_the_demo_can_be_shared(start: Start) -> None:
    out, err = done(start("verify", "--demo", "--budget", "12", "--jobs", "2", "--json"))
    assert err == ""
    assert json.loads(out)["cost"]["trainings"] > 4


def test_another_process_joins(start: Start) -> None:
    first = start(*WORDS, "--budget", "14", "--storage", "a.journal", "--json")
    until(lambda: Path("a.journal").exists() and trials("a.journal"))
    second = start("verify", "--join", studies("a.journal")[0].study_name, "--storage", "a.journal")
    out, err = done(second)
    assert out == ""
    n = int(err.split()[0])
    assert err == f"{n} students trained here. The verdict comes from the first command with --resume.\n"
    assert n > 0
    found = json.loads(done(first)[0])
    assert_none_lost_or_double("a.journal", found)
    workers = Counter(trial.user_attrs["worker"] for trial in trials("a.journal") if trial.value is not None)
    assert n in workers.values()


def test_who_has_another_teacher_is_refused(start: Start) -> None:
    done(start(*WORDS, "--budget", "2", "--storage", "a.journal", "--epochs", "5"))
    name = studies("a.journal")[0].study_name
    Path("tutors.py").write_text(TUTORS.replace("/ 2)", "/ 3)"), encoding="utf-8")
    _, err = done(start("verify", "--join", name, "--storage", "a.journal"), 2)
    assert err.count("\n") == 1
    assert "must be the same as where it began. They are not." in err


@needs_postgres
class TestServer:
    @pytest.fixture
    def url(self, server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
        """Return the URL of a server without studies; connections that Optuna leaves open are closed at the end."""
        made: list[Any] = []
        make = study._storage

        def noted(location: str, *, create: bool) -> Any:
            made.append(make(location, create=create))
            return made[-1]

        monkeypatch.setattr(study, "_storage", noted)
        yield server
        for one in studies(server):
            optuna.delete_study(study_name=one.study_name, storage=one._storage)
        opened.cache_clear()
        for storage in made:
            storage.remove_session()
            storage.engine.dispose()

    def test_four_workers_of_which_one_is_killed_lose_no_trial_and_count_none_twice(
        self, url: str, start: Start
    ) -> None:
        first = start(*WORDS, "--budget", "14", "--storage", url, "--json", "--epochs", "1800")
        until(lambda: trials(url))
        name = studies(url)[0].study_name
        others = [start("verify", "--join", name, "--storage", url, cache=f"machine-{i}") for i in range(3)]
        victim = others[1]
        hit = until(lambda: running(url, victim))
        time.sleep(0.3)
        victim.kill()
        victim.wait()
        found = json.loads(done(first)[0])
        assert_none_lost_or_double(url, found)
        n = [int(done(others[i])[1].split()[0]) for i in (0, 2)]
        assert min(n) > 0
        again = next(trial for trial in trials(url) if trial.number == hit.number)
        assert again.state == TrialState.FAIL
        assert cell(hit) in {(one["temperature"], one["seed"]) for one in found["trials"]}

    def test_a_worker_that_died_on_another_machine_is_known_by_its_heart(
        self, url: str, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(study, "HEARTBEAT", 1)
        monkeypatch.setattr(study, "GRACE", 3)
        elsewhere = (
            "import socket, sys\nsocket.gethostname = lambda: 'elsewhere'\n"
            "from tempadvisor import study, cli\nstudy.HEARTBEAT, study.GRACE = 1, 3\ncli.main()"
        )
        other = start(*WORDS, "--budget", "6", "--storage", url, code=elsewhere)
        hit = until(lambda: running(url, other))
        time.sleep(0.5)
        assert hit.user_attrs["worker"].startswith("elsewhere:")
        other.kill()
        other.wait()
        killed = time.monotonic()
        (found,) = studies(url)
        assert found.trials[hit.number].state == TrialState.RUNNING
        assert study.trials_of(found)[1] == {cell(hit)}, "it may yet live"
        until(lambda: study.trials_of(found)[1] == frozenset(), 10)
        assert time.monotonic() - killed > 1.5
        assert found.trials[hit.number].state == TrialState.FAIL
        out = done(start(*WORDS, "--budget", "6", "--storage", url, "--resume", "--json"))[0]
        assert_none_lost_or_double(url, json.loads(out))
        assert cell(hit) in {(one["temperature"], one["seed"]) for one in json.loads(out)["trials"]}

    def test_a_heart_that_beats_is_left_alone(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(study, "HEARTBEAT", 1)
        monkeypatch.setattr(study, "GRACE", 2)
        name = verify.verify(TASK, budget="2", storage=url).study
        mine, other = study.load_study(name, url), study.load_study(name, url)
        study.enqueue(mine, (4.0, 7))
        seen: list[bool] = []

        def watch() -> None:
            time.sleep(4)
            seen.append((4.0, 7) in study.trials_of(other)[1])

        thread = threading.Thread(target=watch)
        thread.start()

        def training(_: Any) -> float:
            time.sleep(5)
            return 0.5

        assert study.take(mine, training, (1.0, 40.0))
        thread.join()
        assert seen == [True]

    def test_a_password_is_never_shown(self, start: Start) -> None:
        _, err = done(start(*WORDS, "--storage", "postgresql://ann:secret@127.0.0.1:1/x"), 2)
        assert "ann@127.0.0.1" in err
        assert "secret" not in err
        assert err.count("\n") == 1
