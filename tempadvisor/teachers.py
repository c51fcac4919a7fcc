"""What a user may name as TEACHER, brought to a profile: a saved profile, stored logits, or a model with data."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tempadvisor.class_maps import proposed, read_class_map
from tempadvisor.documents import load_profile
from tempadvisor.errors import ClassOrderError, InputError, UsageError
from tempadvisor.logits import SUFFIXES as LOGITS_SUFFIXES
from tempadvisor.progress import Progress
from tempadvisor.records import Notice, TeacherProfile
from tempadvisor.resources import cache_folder, demo_path

if TYPE_CHECKING:
    from tempadvisor.exhibits import Reservoir

_GRAY = Notice(
    "gray_repeated",
    "The images are gray and the teacher takes colors: it saw each with its one channel three times, as "
    'Pillow\'s convert("RGB") makes it.',
)
MODEL_SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".bin", ".pt2", ".onnx")


def profile_of(
    teacher: str,
    *,
    data: str | None = None,
    model: str | None = None,
    preprocess: str | None = None,
    class_map: str | None = None,
    logits_from: str | None = None,
    read_all: bool = False,
    progress: Progress | None = None,
    reservoir: Reservoir | None = None,
) -> TeacherProfile:
    """Return the profile of what `teacher` names.

    Args:
        teacher: a `profile.json`, a file of stored logits, or a model: a timm name, a checkpoint (with `model`),
            or `package.module:factory`; a model needs `data`.
        data: the data a model is run on.
        model: the timm or built-in name that a checkpoint's weights belong to.
        preprocess: what a user says of a model's inputs, see `preprocessing.changed`.
        class_map: a file that says which output of the teacher is which class of the data.
        logits_from: which inputs the logits come from, where the user says so.
        read_all: read every sample, instead of stopping when the standard errors are small enough.
        progress: called with the samples read so far and the samples there are.
        reservoir: sees what is measured, to show some of it later; a saved profile has nothing to see.

    Raises:
        UsageError: the arguments do not go together.
        InputError: a file or array is not what it should be.
    """
    if not teacher:
        raise UsageError("TEACHER must be a file or a model. Got an empty text. Name one.", code="nothing_given")
    path, suffix = Path(teacher), Path(teacher).suffix.lower()
    saved = suffix == ".json"
    stored = suffix in LOGITS_SUFFIXES and (model is None or suffix not in MODEL_SUFFIXES)
    if (saved or stored) and data is not None:
        raise UsageError(
            f"--data goes with a model. Got it beside {teacher}, which holds logits already. "
            "Leave --data out, or name the model of a checkpoint with --model.",
            code="contradiction",
        )
    if stored and model is not None:
        raise UsageError(
            f"--model must be left out for stored logits: it belongs to a checkpoint. Got it beside {teacher}.",
            code="contradiction",
        )
    given = {"--all": read_all, "--model": model, "--class-map": class_map, "--preprocess": preprocess}
    beside = next((flag for flag, value in given.items() if value), None)
    if saved and beside:
        raise UsageError(
            f"{beside} must be left out for a saved profile: it is not measured again. Got {teacher}.",
            code="contradiction",
        )
    if saved:
        return on_inputs(load_profile(path), logits_from)

    from tempadvisor.profiling import profile

    if stored or (data is None and suffix not in MODEL_SUFFIXES and _exists(path)):
        if preprocess is not None:
            raise UsageError(
                f"--preprocess must be left out for stored logits: it belongs to a model. Got it beside {teacher}.",
                code="contradiction",
            )
        columns = None if class_map is None else read_class_map(Path(class_map), None)
        with _proposing(None, class_map):
            return profile(
                path,
                class_map=columns,
                logits_from=logits_from,
                read_all=read_all,
                progress=progress,
                reservoir=reservoir,
            )
    if data is None:
        raise UsageError(
            f"{teacher[:100]} names a model, which needs data to run on. Add --data, such as an image folder; "
            f"stored logits end in {', '.join(LOGITS_SUFFIXES)}.",
            code="no_data",
        )
    return _live(
        teacher,
        data,
        model,
        preprocess=preprocess,
        class_map=class_map,
        logits_from=logits_from,
        read_all=read_all,
        progress=progress,
        reservoir=reservoir,
    )


def _live(
    teacher: str,
    data: str,
    model: str | None,
    *,
    preprocess: str | None,
    class_map: str | None,
    logits_from: str | None,
    read_all: bool,
    progress: Progress | None,
    reservoir: Reservoir | None,
) -> TeacherProfile:
    """Run a model on data; of a data set with a test split, on the rest of it. What its code prints is no advice."""
    from tempadvisor import datasets, models
    from tempadvisor.profiling import profile

    inputs = datasets.opened(data)
    columns = None if class_map is None else read_class_map(Path(class_map), inputs.class_names)
    if reservoir:
        reservoir.class_names = inputs.class_names
    try:
        with contextlib.redirect_stdout(sys.stderr), _proposing(inputs.class_names, class_map):
            module = models.live(teacher, model=model, image_shape=inputs.shape or (3, 32, 32), preprocess=preprocess)
            found = profile(
                module,
                data=inputs.loader(module.framing),
                name=teacher,
                class_map=columns,
                logits_from=logits_from,
                read_all=read_all,
                progress=progress,
                reservoir=reservoir,
            )
    except SystemExit:  # the model is the user's code
        raise InputError(f"{teacher[:100]} must return logits. It ended the program.", code="bad_factory") from None
    if inputs.shape and module.repeats(inputs.shape[0]):
        return dataclasses.replace(found, warnings=(*found.warnings, _GRAY))
    return found


@contextlib.contextmanager
def _proposing(class_names: tuple[str, ...] | None, class_map: str | None) -> Iterator[None]:
    """Write down a class map where one explains the labels, and say how to use it."""
    try:
        yield
    except ClassOrderError as error:
        if error.columns is None or class_map is not None:
            raise
        path = proposed(error.columns, class_names, cache_folder())
        raise ClassOrderError(
            f"{error} This is written down: look at it, mend it if need be, and add --class-map {path}",
            code=error.code,
            columns=error.columns,
            accuracy=error.accuracy,
        ) from None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long for a file
        return False


def on_inputs(profile: TeacherProfile, logits_from: str | None) -> TeacherProfile:
    """Return a profile whose inputs are known to be `logits_from`, with the notices that follow.

    Raises:
        UsageError: the profile says otherwise.
    """
    if logits_from in (None, profile.logits_from):
        return profile
    if profile.logits_from is not None:
        raise UsageError(
            f"logits_from must be {profile.logits_from}, as the profile of {profile.teacher} says. "
            f"Got {logits_from}. Leave it out.",
            code="contradiction",
        )
    from tempadvisor.gate import trust_notices

    top = profile.curve_at(1.0, profile.top1_probability)
    known = [notice for notice in profile.warnings if notice.code not in ("one_hot", "logits_from_unknown")]
    return dataclasses.replace(profile, logits_from=logits_from, warnings=(*known, *trust_notices(top, logits_from)))


def demo_profile(reservoir: Reservoir | None = None) -> TeacherProfile:
    """Return the profile of the embedded digits teacher, measured anew from its logits, which `reservoir` sees."""
    from tempadvisor.profiling import profile

    return profile(
        demo_path(), name="demo: a digits teacher", logits_from="train", read_all=True, reservoir=reservoir
    )
