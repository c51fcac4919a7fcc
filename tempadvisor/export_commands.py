"""Exports that are command lines: timm, mdistiller, RepDistiller. Each takes the user's other options as `"$@"`."""

from __future__ import annotations

from tempadvisor.settings import Export, Settings, number, remarks, usual

UNPROVEN = (
    "UNPROVEN: no registry has this package, so its loss was read in its source and never run against ours. "
    "Check it with: tempadvisor check-loss MODULE:FUNCTION"
)


def timm(wanted: Settings) -> Export:
    """Return the options of timm's train.py, both weights given, as each alone means something else."""
    plain = usual(wanted)
    smoothing = [] if wanted.label_smoothing is None else ["--smoothing", number(wanted.label_smoothing)]
    options = [
        "--kd-temperature",
        number(plain.temperature),
        "--task-loss-weight",
        number(plain.hard_weight),
        "--distill-loss-weight",
        number(plain.kd_weight),
        *smoothing,
    ]
    lines = (
        *plain.notes,
        *plain.doubts,
        *timm_remarks(wanted),
        "Run: sh THIS_FILE DATA_DIR --model STUDENT --kd-model-name TEACHER",
    )
    text = remarks(wanted, "timm (LogitDistillationTask)", lines) + f'python train.py "$@" {" ".join(options)}\n'
    return Export(text=text, warnings=plain.doubts)


def timm_remarks(wanted: Settings) -> tuple[str, ...]:
    """Return what a user of timm's train.py must know, whichever way the options get there."""
    weights = (
        "timm's loss: task_loss_weight CE + distill_loss_weight T^2 KL, mean over the batch. Keep both weights: the "
        "task weight alone makes the other 1 - it, the distill weight alone makes the other 1."
    )
    if wanted.label_smoothing is not None:
        return (weights,)
    return (
        weights,
        "timm smooths labels by 0.1 unless --smoothing says otherwise; tell --label-smoothing to export it.",
    )


def mdistiller(wanted: Settings) -> Export:
    """Return the options of mdistiller's tools/train.py; its configuration takes whole temperatures only."""
    plain = usual(wanted)
    whole = plain.temperature == round(plain.temperature)
    options = (
        f"DISTILLER.TYPE KD KD.TEMPERATURE {round(plain.temperature) if whole else number(plain.temperature)} "
        f"KD.LOSS.CE_WEIGHT {number(plain.hard_weight)} KD.LOSS.KD_WEIGHT {number(plain.kd_weight)}"
    )
    edit = (
        ()
        if whole
        else (
            "mdistiller refuses a temperature with a fraction, as its default is the whole number 4. Once, in "
            "mdistiller/engine/cfg.py, write: CFG.KD.TEMPERATURE = 4.0",
        )
    )
    lines = (
        UNPROVEN,
        *plain.notes,
        *plain.doubts,
        "mdistiller's loss: CE_WEIGHT CE + KD_WEIGHT T^2 KL, mean over the batch.",
        *edit,
        *_no_smoothing(wanted, "mdistiller"),
        "Run: sh THIS_FILE --cfg configs/cifar100/kd.yaml",
    )
    text = remarks(wanted, "mdistiller", lines) + f'python tools/train.py "$@" {options}\n'
    return Export(text=text, warnings=(*plain.doubts, *edit))


def repdistiller(wanted: Settings) -> Export:
    """Return the options of RepDistiller's train_student.py, -b 0 included, without which it fails."""
    plain = usual(wanted)
    options = (
        f"--distill kd --kd_T {number(plain.temperature)} -r {number(plain.hard_weight)} "
        f"-a {number(plain.kd_weight)} -b 0"
    )
    lines = (
        UNPROVEN,
        *plain.notes,
        *plain.doubts,
        "RepDistiller's loss: gamma (-r) CE + alpha (-a) T^2 KL, mean over the batch; beta (-b) weighs other losses "
        "and must be given.",
        *_no_smoothing(wanted, "RepDistiller"),
        "Run: sh THIS_FILE --path_t TEACHER.pth --model_s STUDENT",
    )
    text = remarks(wanted, "RepDistiller", lines) + f'python train_student.py "$@" {options}\n'
    return Export(text=text, warnings=plain.doubts)


def _no_smoothing(wanted: Settings, trainer: str) -> tuple[str, ...]:
    if not wanted.label_smoothing:
        return ()
    return (f"{trainer} has no label smoothing: {number(wanted.label_smoothing)} cannot be expressed.",)
