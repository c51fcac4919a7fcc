"""Keep the trainings of a search in an Optuna study that several processes or machines share.

Each training is a trial that is enqueued, taken and told. A trial whose worker died is given up, so that its training
is proposed again: on a database by Optuna's heartbeats, and on this machine once the process is seen to be gone; a
journal file tells nothing of other machines. Of two trials for one training the later is withdrawn untrained.
What is trained, and what follows from it, is decided elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import warnings
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tempadvisor.errors import InputError, UsageError
from tempadvisor.verification import Training, Trial

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as Asked

HEARTBEAT, GRACE = 30, 120  # seconds
WORKER = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


class DivergedError(Exception):
    """A student whose logits are not finite any more."""


def open_study(name: str, location: str, *, resume: bool, attributes: Mapping[str, Any]) -> Study:
    """Return the study, begun here or before; whoever works on it finds what is to be known in its attributes.

    Raises:
        UsageError: it has begun before, and `resume` is off.
        InputError: the storage cannot be had.
    """
    import optuna

    storage = _storage(location)
    with _reaching(location):
        known = name in [one.study_name for one in storage.get_all_studies()]
        if known and not resume:
            raise UsageError(
                f"{public(location)} must not hold this study yet. It does. Add --resume to go on with it.",
                code="exists",
            )
        study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
        for attribute, value in attributes.items():
            if attribute not in study.user_attrs:
                study.set_user_attr(attribute, value)
    return study


def load_study(name: str, location: str) -> Study:
    """Return a study that has begun.

    Raises:
        InputError: there is none.
    """
    import optuna

    storage = _storage(location)
    with _reaching(location):
        try:
            return optuna.load_study(study_name=name, storage=storage)
        except KeyError:
            raise InputError(
                f"{public(location)} must hold the study {name[:100]!r}. It does not. "
                "Begin it with `tempadvisor verify`.",
                code="no_study",
            ) from None


def public(location: str) -> str:
    """Return a location without its password.

    >>> public("postgresql://ann:secret@server/studies")
    'postgresql://ann@server/studies'
    """
    scheme, separator, rest = location.partition("://")
    login, at, server = rest.rpartition("@")
    return f"{scheme}{separator}{login.partition(':')[0]}{at}{server}"


def _storage(location: str) -> Any:
    """Return Optuna's storage: a journal in a file, or a database, to which workers send heartbeats."""
    import optuna
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    scheme, separator, rest = location.partition("://")
    with _reaching(location):
        if not separator or scheme == "journal":
            path = Path(rest[1:] if separator else location)
            path.parent.mkdir(parents=True, exist_ok=True)
            return JournalStorage(JournalFileBackend(str(path)))
        url = location.replace("postgresql://", "postgresql+psycopg://", 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # heartbeats are called experimental
            return RDBStorage(url, heartbeat_interval=HEARTBEAT, grace_period=GRACE)


@contextlib.contextmanager
def _reaching(location: str) -> Any:
    try:
        yield
    except (InputError, UsageError):
        raise
    except Exception as error:  # Optuna lets through whatever its drivers and its journal raise
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            "storage must be a file of its own, journal:///FILE, or the URL of a database that can be reached. "
            f"Got {public(location)}: {said[:160]}.",
            code="bad_storage",
        ) from None


def trials_of(study: Study) -> tuple[list[Trial], frozenset[Training], bool]:
    """Return the trainings that ended, those under way, and whether one of these waits to be taken."""
    live = _live(study)
    ended = [_ended(one) for one in live if _over(one)]
    under_way = [one for one in live if not _over(one)]
    waiting = any(one.state.name == "WAITING" for one in under_way)
    return ended, frozenset(map(_training, under_way)), waiting


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
    done = False

    def objective(asked: Asked) -> float:
        nonlocal done
        from optuna import TrialPruned

        asked.set_user_attr("worker", WORKER)
        told = asked.user_attrs.get("training")
        if told is None:  # another worker was faster
            raise TrialPruned
        temperature, seed = told[0], int(told[1])
        same = [one.number for one in _live(study) if _training(one) == (temperature, seed)]
        if min(same) < asked.number:
            raise TrialPruned
        if temperature is not None:
            temperature = asked.suggest_float("temperature", *temperatures, log=True)
        done = True
        began = datetime.now()
        try:
            return train((temperature, seed))
        except DivergedError as error:
            asked.set_user_attr("error", str(error))
            raise
        finally:
            asked.set_user_attr("train_seconds", round((datetime.now() - began).total_seconds(), 3))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study.optimize(objective, n_trials=1, catch=(DivergedError,))
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
