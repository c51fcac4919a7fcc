"""Keep the trainings of a search in an Optuna study that several processes or machines share.

Each training is a trial that is enqueued, taken and told. A trial whose worker died is given up, so that its training
is proposed again: on a database by Optuna's heartbeats, and on this machine once the process is seen to be gone; a
journal file tells nothing of other machines. Of two trials for one training the later is withdrawn untrained.
What is trained, and what follows from it, is decided elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import secrets
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tempadvisor.errors import InputError, UsageError
from tempadvisor.resources import cache_folder
from tempadvisor.verification import Training, Trial

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as Asked

HEARTBEAT, GRACE = 30, 120  # seconds
BEGUN = "begun"  # the attribute that a study gets last
DRIVERS = {"json", "optuna", "psycopg", "sqlalchemy"}  # whose errors are a storage's
WORKER = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


class DivergedError(Exception):
    """A student whose logits are not finite any more."""


def open_study(name: str, location: str, *, resume: bool, attributes: Mapping[str, Any]) -> Study:
    """Return the study, begun here or before; whoever works on it finds what is to be known in its attributes.

    Raises:
        UsageError: it has begun before and `resume` is off, or it has not and `resume` is on.
        InputError: the storage cannot be had.
    """
    import optuna

    unknown = UsageError(
        f"{public(location)} must hold this study, to go on with it. It does not. Leave --resume out to begin it, or "
        "compare teacher, data, setup and --storage with where it began.",
        code="no_study",
    )
    try:
        storage = _storage(location, create=not resume)
    except InputError as error:
        raise unknown if isinstance(error.__context__, FileNotFoundError) else error from None
    with _reaching(location):
        known = name in [one.study_name for one in storage.get_all_studies()]
        if known and not resume:
            raise UsageError(
                f"{public(location)} must not hold this study yet. It does. Add --resume to go on with it, or "
                "another --storage or --seed to begin anew.",
                code="exists",
            )
        if resume and not known:
            raise unknown
        if known:
            study = optuna.load_study(study_name=name, storage=storage)
        else:
            study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
        if BEGUN not in study.user_attrs and study.get_trials(deepcopy=False):
            raise InputError(
                f"{public(location)} must hold the study {name} as `tempadvisor verify` begins it. It has "
                "trials, but was not begun by tempadvisor verify. Name another --storage.",
                code="no_study",
            )
        for attribute, value in attributes.items():
            if attribute not in study.user_attrs:
                study.set_user_attr(attribute, value)
        study.set_user_attr(BEGUN, True)
    return study


def load_study(name: str, location: str) -> Study:
    """Return a study that has begun, with all its attributes.

    Raises:
        InputError: there is none.
    """
    import optuna

    storage = _storage(location, create=False)
    with _reaching(location), contextlib.suppress(KeyError):
        study = optuna.load_study(study_name=name, storage=storage)
        if BEGUN in study.user_attrs:
            return study
    raise InputError(
        f"{public(location)} must hold the study {name[:100]!r} as `tempadvisor verify` begins it. It does not.",
        code="no_study",
    )


def public(location: str) -> str:
    """Return a location without its password; of a journal, the file.

    >>> public("journal:////tmp/study.log"), public("journal:///study.log")
    ('/tmp/study.log', 'study.log')
    >>> public("postgresql://ann:secret@server/studies"), public("postgresql:///studies?password=secret&port=1")
    ('postgresql://ann@server/studies', 'postgresql:///studies?password=...&port=1')
    """
    scheme, separator, rest = location.partition("://")
    if separator and scheme == "journal":
        return rest[1:]
    login, at, server = rest.rpartition("@")
    server = re.sub(r"([?&]\w*pass\w*)=[^&]*", r"\1=...", server)
    return f"{scheme}{separator}{login.partition(':')[0]}{at}{server}"


def _storage(location: str, *, create: bool) -> Any:
    """Return Optuna's storage: a journal in a file, or a database, to which workers send heartbeats."""
    import optuna
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    scheme, separator, rest = location.partition("://")
    with _reaching(location):
        if not separator or scheme == "journal":
            path = Path(rest[1:] if separator else location)
            first = Path(path.parts[0]) if len(path.parts) > 1 else path
            if separator and not first.is_dir() and Path("/", first).is_dir():
                raise ValueError(f"it begins at this folder; from the root it is journal:////{path}")
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
            _check_journal(path, create=create)
            _mend(path)

            class Journal(JournalFileBackend):
                def append_logs(self, logs: list[dict[str, Any]]) -> None:
                    try:
                        super().append_logs(logs)
                    except OSError:  # the disk is full, say: others go on behind whole lines
                        _mend(path)
                        raise

            return JournalStorage(Journal(str(path)))
        if scheme == "sqlite" and not create and not Path(rest[1:].partition("?")[0]).is_file():
            raise FileNotFoundError("there is none")
        url = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", location)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # heartbeats are called experimental
            return RDBStorage(url, heartbeat_interval=HEARTBEAT, grace_period=GRACE)


def _check_journal(path: Path, *, create: bool) -> None:
    """See that Optuna, which appends to whatever it is given, will not spoil another file, or make one."""
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            first = file.readline(4096)
        if first.startswith(b"SQLite format 3\0"):
            raise ValueError(f"it is a database: sqlite:///{path}")
        whole = b'{"op_code":'
        if not first.startswith(whole) and not whole.startswith(first):
            raise ValueError("it is another file")
    elif not create:
        raise FileNotFoundError("there is none")


def _mend(path: Path) -> None:
    """Cut off a last line that a power cut or a full disk tore, behind which Optuna would append."""
    from optuna.storages.journal import JournalFileSymlinkLock

    if _torn(path) is None:
        return
    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()
    try:
        start = _torn(path)  # another process may have written the rest meanwhile
        if start is not None:
            os.truncate(path, start)
    finally:
        lock.release()


def _torn(path: Path) -> int | None:
    """Return where a last line begins that is not whole; None where it is."""
    if not path.is_file():
        return None
    start, line = 0, b""
    with path.open("rb") as file:
        for each in file:
            start, line = start + len(line), each
    try:
        json.loads(line or b"{}")
    except ValueError:
        return start
    return None if line.endswith(b"\n") or not line else start


@contextlib.contextmanager
def _reaching(location: str) -> Iterator[None]:
    try:
        yield
    except (InputError, UsageError):
        raise
    except Exception as error:  # Optuna lets through whatever its drivers and its journal raise
        raise InputError(
            "storage must be a file of its own, journal:///FILE, or the URL of a database that can be reached. "
            f"Got {public(location)}: {_brief(error)}.",
            code="bad_storage",
        ) from None


@contextlib.contextmanager
def reachable(location: str) -> Iterator[None]:
    """Say in one line that a storage could be reached no more.

    Raises:
        InputError: that is so.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"{public(location)} and the cache folder {cache_folder()} must have free space on their disks. "
                f"Got {error.strerror}. Free some; what was trained is kept: go on with --resume.",
                code="disk_full",
            ) from None
        if type(error).__module__.split(".")[0] not in DRIVERS:
            raise
        raise InputError(
            f"{public(location)} must stay within reach. Got {_brief(error)}. What was trained is kept: go on with "
            "--resume.",
            code="bad_storage",
        ) from None


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """Say with an interrupt how to go on after it."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt("Add --resume to go on.") from None


def _brief(error: Exception) -> str:
    """Return the first line of what an error says, without its full stop."""
    return (str(error).splitlines() or [type(error).__name__])[0][:160].rstrip(". ")


def trials_of(study: Study) -> tuple[list[Trial], frozenset[Training], bool]:
    """Return the trainings that ended, those under way, and whether one of these waits to be taken."""
    live = _live(study)
    ended = [_ended(one) for one in live if _over(one)]
    under_way = [one for one in live if not _over(one)]
    waiting = any(one.state.name == "WAITING" for one in under_way)
    return ended, frozenset(map(_training, under_way)), waiting


def given_up(study: Study) -> list[Training]:
    """Return the trainings whose workers died, and that nobody has begun again, in the order of their trials."""
    known = {_training(one) for one in _live(study)}
    failed = [
        one
        for one in study.get_trials(deepcopy=False)
        if one.state.name == "FAIL" and "training" in one.user_attrs and "error" not in one.user_attrs
    ]
    return [training for training in dict.fromkeys(map(_training, failed)) if training not in known]


def enqueue(study: Study, training: Training) -> None:
    """Let a training wait to be taken by whoever comes first."""
    temperature, seed = training
    params = {} if temperature is None else {"temperature": temperature}
    study.enqueue_trial(params, user_attrs={"training": [temperature, seed], "seed": seed})


def take(study: Study, train: Callable[[Training], float], temperatures: tuple[float, float]) -> bool:
    """Take the training that waits longest, if there is one, and return whether one was done here.

    Args:
        study: where it waits.
        train: does a training, and returns its validation accuracy; raises `DivergedError` where there is none.
        temperatures: the lowest and the highest there are.
    """
    from optuna import TrialPruned
    from optuna.exceptions import UpdateFinishedTrialError

    done = False
    failure: Exception | None = None

    def objective(asked: Asked) -> float:
        nonlocal done, failure
        asked.set_user_attr("worker", WORKER)
        told = asked.user_attrs.get("training")
        if told is None:  # another worker was faster
            raise TrialPruned
        temperature, seed = told[0], int(told[1])
        same = [one.number for one in _live(study) if _training(one) == (temperature, seed)]
        if min(same, default=asked.number) < asked.number:
            raise TrialPruned
        if temperature is not None:
            temperature = asked.suggest_float("temperature", *temperatures, log=True)
        began = time.monotonic()
        try:
            reached = train((temperature, seed))
        except DivergedError as error:
            reached = math.nan  # which Optuna takes for a failure
            asked.set_user_attr("error", str(error))
        except Exception as error:
            failure = error
            raise
        done = True
        asked.set_user_attr("train_seconds", round(time.monotonic() - began, 3))
        return reached

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            study.optimize(objective, n_trials=1)
        except (UpdateFinishedTrialError, ValueError) as error:
            if error is failure:
                raise
            return False  # it was given up meanwhile, as heartbeats stayed out: it is proposed again
    return done


def _live(study: Study) -> list[FrozenTrial]:
    """Return the trials of trainings that count: over, under way, or waiting. Those of dead workers are given up."""
    from optuna.storages import fail_stale_trials
    from optuna.trial import TrialState

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is called experimental
        fail_stale_trials(study)  # where the storage has heartbeats
    kept = []
    for trial in study.get_trials(deepcopy=False):
        if "training" not in trial.user_attrs or trial.state == TrialState.PRUNED:
            continue
        if trial.state == TrialState.RUNNING and _gone(trial):
            with contextlib.suppress(ValueError, RuntimeError):  # another has given it up already
                study.tell(trial.number, state=TrialState.FAIL)
        elif trial.state != TrialState.FAIL or "error" in trial.user_attrs:
            kept.append(trial)
    return kept


def _gone(trial: FrozenTrial) -> bool:
    """Return whether the worker of a running trial was on this machine and runs no more."""
    worker = trial.user_attrs.get("worker")
    if worker is None:  # it is noted at once
        return trial.datetime_start is None or datetime.now() - trial.datetime_start > timedelta(seconds=GRACE)
    host, process, _ = worker.rsplit(":", 2)
    if worker == WORKER or host != socket.gethostname():
        return False
    if int(process) == os.getpid():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _training(trial: FrozenTrial) -> Training:
    temperature, seed = trial.user_attrs["training"]
    return temperature, int(seed)


def _over(trial: FrozenTrial) -> bool:
    return bool(trial.state.is_finished())


def _ended(trial: FrozenTrial) -> Trial:
    temperature, seed = _training(trial)
    return Trial(
        temperature=temperature,
        seed=seed,
        val_accuracy=trial.value if trial.state.name == "COMPLETE" else None,
        seconds=trial.user_attrs.get("train_seconds"),
    )
