"""Exports that are files of settings: timm's args.yaml, torchdistill's YAML, plain YAML and JSON."""

from __future__ import annotations

import json

from tempadvisor.export_commands import timm_remarks
from tempadvisor.settings import Export, Settings, number, remarks, usual


def plain_yaml(wanted: Settings) -> Export:
    """Return the temperature and the loss contract as they are, in the words of the setup flags."""
    lines = [f"{key}: {_yaml(value)}\n" for key, value in _plain(wanted).items()]
    return Export(text=remarks(wanted, "any trainer; nothing is converted", ()) + "".join(lines))


def plain_json(wanted: Settings) -> Export:
    """Return the temperature and the loss contract as they are; the note has what is a comment elsewhere."""
    note = remarks(wanted, "any trainer; nothing is converted", ()).replace("# ", "").replace("\n", " ").strip()
    return Export(text=json.dumps({**_plain(wanted), "note": note}, indent=2, ensure_ascii=False) + "\n")


def timm_args(wanted: Settings) -> Export:
    """Return the keys of timm's args.yaml, which `train.py --config` reads."""
    plain = usual(wanted)
    lines = (
        *plain.notes,
        *plain.doubts,
        *timm_remarks(wanted),
        "Run: python train.py DATA_DIR --config THIS_FILE",
    )
    keys = {
        "kd_temperature": plain.temperature,
        "task_loss_weight": plain.hard_weight,
        "distill_loss_weight": plain.kd_weight,
    }
    if wanted.label_smoothing is not None:
        keys["smoothing"] = wanted.label_smoothing
    body = "".join(f"{key}: {number(value)}\n" for key, value in keys.items())
    return Export(text=remarks(wanted, "timm (LogitDistillationTask)", lines) + body, warnings=plain.doubts)


def torchdistill(wanted: Settings) -> Export:
    """Return torchdistill's `criterion`, of a KDLoss whose alpha weighs the hard term.

    At alpha 0 KDLoss forgets both beta and T^2; they then stand in the weight of the term.
    """
    plain = usual(wanted)
    outer, trap = 1.0, tuple[str, ...]()
    if plain.hard_weight == 0:
        outer = plain.kd_weight * plain.temperature**2
        trap = (
            "KDLoss drops beta and T^2 when alpha is 0, so they stand in weight: kd_weight T^2. Whoever changes the "
            "temperature must change weight too.",
        )
    smoothing = f"            label_smoothing: {number(wanted.label_smoothing)}\n" if wanted.label_smoothing else ""
    body = f"""\
criterion:
  key: 'WeightedSumLoss'
  kwargs:
    sub_terms:
      kd:
        criterion:
          key: 'KDLoss'
          kwargs:
            student_module_path: '.'
            student_module_io: 'output'
            teacher_module_path: '.'
            teacher_module_io: 'output'
            temperature: {number(plain.temperature)}
            alpha: {number(plain.hard_weight)}
            beta: {number(plain.kd_weight)}
            reduction: 'batchmean'
{smoothing}        weight: {number(outer)}
"""
    lines = (
        *plain.notes,
        *plain.doubts,
        "torchdistill's loss: alpha CE + beta T^2 KL, mean over the batch. Its alpha weighs the hard term; without "
        "beta it takes 1 - alpha.",
        *trap,
        "Goes below `train:` of a configuration.",
    )
    return Export(text=remarks(wanted, "torchdistill (KDLoss)", lines) + body, warnings=(*plain.doubts, *trap))


def _plain(wanted: Settings) -> dict[str, float | bool | str]:
    contract = wanted.contract
    return {
        "temperature": wanted.temperature,
        "kd_weight": contract.kd_weight,
        "hard_weight": contract.hard,
        "t_squared": contract.t_squared,
        "reduction": contract.reduction,
        "standardized": contract.standardized,
    }


def _yaml(value: float | bool | str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else number(value)
