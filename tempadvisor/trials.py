"""Read the trials of an Optuna study as rows of runs.

A trial becomes a row of its user attributes and parameters, by their names, with

    suite         the study's name, unless an attribute says otherwise
    val_accuracy  the trial's value, which the study must maximize
    status        FINISHED, PRUNED or FAILED; trials that still run or wait are left out, and so are by `imports.py`
                  those that did not finish and note an accuracy all the same
    time          when it ended

so a study that varies `temperature` and notes `seed` and `test_accuracy` as user attributes needs only `--set` for
what never changed. Without a test accuracy a trial teaches, but no advice is judged by it, as a temperature chosen on
the validation split flatters itself there.
Optuna is imported here alone, and nothing is written to the storage or unpickled from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

from tempadvisor.errors import InputError, did_you_mean

STATUSES = {"COMPLETE": "FINISHED", "PRUNED": "PRUNED", "FAIL": "FAILED"}


def read_trials(name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Return the number and the values of each trial that has ended.

    Args:
        name: `sqlite:///FILE` or `journal:///FILE`, with `#STUDY` behind it where the storage holds several.

    Raises:
        InputError: there is no such storage or study, or its value is no accuracy.
    """
    location, _, wanted = name.partition("#")
    study = _study(location, wanted)
    if [direction.name for direction in study.directions] != ["MAXIMIZE"]:
        raise InputError(
            f"{name} must maximize one value, the validation accuracy. It does not. Write the trials as CSV instead.",
            code="bad_study",
        )
    for trial in study.trials:
        status = STATUSES.get(trial.state.name)
        if status is None:
            continue
        values: dict[str, Any] = {"suite": study.study_name, **trial.user_attrs, **trial.params, "status": status}
        if status == "FINISHED":
            values["val_accuracy"] = trial.value
        elif status == "FAILED":
            values.setdefault("error", "the trial failed")
        if trial.datetime_complete is not None:
            values["time"] = trial.datetime_complete.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        yield trial.number, values


def _study(location: str, wanted: str) -> Any:
    scheme, _, rest = location.partition("://")
    path = Path(rest[1:])
    if scheme not in ("sqlite", "journal") or not rest.startswith("/") or not path.is_file():
        raise InputError(
            f"{location} must be sqlite:///FILE or journal:///FILE with a file of an Optuna study. There is none. "
            "Check it.",
            code="bad_storage",
        )
    import optuna
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        storage = (
            RDBStorage(location, skip_table_creation=True)
            if scheme == "sqlite"
            else JournalStorage(JournalFileBackend(str(path)))
        )
        names = [study.study_name for study in storage.get_all_studies()]
        if wanted not in names and (wanted or len(names) != 1):
            raise InputError(
                f"{location} must hold one study, or be followed by #STUDY. Got {wanted!r}. "
                f"{did_you_mean(wanted, names[:20])}",
                code="bad_study",
            )
        return optuna.load_study(study_name=wanted or names[0], storage=storage)
    except InputError:
        raise
    except Exception as error:  # Optuna lets through whatever its drivers and its log raise
        raise InputError(
            f"{location} must be the storage of an Optuna study. It cannot be read: {str(error)[:200]}. Check it.",
            code="bad_storage",
        ) from None
