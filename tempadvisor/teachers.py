"""What a user may name as TEACHER, brought to a profile: a saved profile, stored logits, or a model with data."""

from __future__ import annotations

from pathlib import Path

from tempadvisor.documents import load_profile
from tempadvisor.errors import UsageError
from tempadvisor.progress import Progress
from tempadvisor.records import TeacherProfile
from tempadvisor.resources import demo_path

LOGITS_SUFFIXES = (".npz", ".npy", ".safetensors", ".csv")


def profile_of(
    teacher: str,
    *,
    data: str | None = None,
    model: str | None = None,
    logits_from: str | None = None,
    read_all: bool = False,
    progress: Progress | None = None,
) -> TeacherProfile:
    """Return the profile of what `teacher` names.

    Args:
        teacher: a `profile.json`, a file of stored logits, or a model: a timm name, a checkpoint (with `model`),
            or `package.module:factory`; a model needs `data`.
        data: the data a model is run on.
        model: the timm or built-in name that a checkpoint's weights belong to.
        logits_from: which inputs the logits come from, where the user says so.
        read_all: read every sample, instead of stopping when the standard errors are small enough.
        progress: called with the samples read so far and the samples there are.

    Raises:
        UsageError: `teacher` and `data` do not go together.
        InputError: a file or array is not what it should be.
    """
    path = Path(teacher)
    stored = path.suffix.lower() in (".json", *LOGITS_SUFFIXES) and model is None
    if stored and data is not None:
        raise UsageError(
            f"--data goes with a model. Got it beside {teacher}, which holds logits already. "
            "Leave --data out, or name the model of a checkpoint with --model.",
            code="contradiction",
        )
    if stored and path.suffix.lower() == ".json":
        return load_profile(path)

    from tempadvisor.profiling import profile

    if stored:
        return profile(path, logits_from=logits_from, read_all=read_all, progress=progress)
    if data is None:
        raise UsageError(
            f"{teacher} names a model, which needs data to run on. Add --data, such as an image folder; "
            f"stored logits end in {', '.join(LOGITS_SUFFIXES)}.",
            code="no_data",
        )
    return _live(teacher, data, model, logits_from=logits_from, read_all=read_all, progress=progress)


def _live(
    teacher: str,
    data: str,
    model: str | None,
    *,
    logits_from: str | None,
    read_all: bool,
    progress: Progress | None,
) -> TeacherProfile:
    """Run a model on data; of a data set with a test split, on the rest of it."""
    from tempadvisor import datasets, models
    from tempadvisor.profiling import profile

    loaded = datasets.load(data)
    images, labels = loaded.images[: loaded.test_start], loaded.labels[: loaded.test_start]
    channels, height, width = images.shape[1:]
    module = models.prepared(models.load_teacher(teacher, model=model, image_shape=(channels, height, width)))
    return profile(
        module,
        labels,
        data=images,
        name=teacher,
        logits_from=logits_from,
        read_all=read_all,
        progress=progress,
    )


def demo_profile() -> TeacherProfile:
    """Return the profile of the embedded digits teacher, measured anew from its logits."""
    from tempadvisor.profiling import profile

    return profile(demo_path(), name="demo: a digits teacher", logits_from="train", read_all=True)
