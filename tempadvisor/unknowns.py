"""Which fields of a setup that were not given could move the temperature, and how far: each is tried."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tempadvisor.features import features
from tempadvisor.records import TeacherProfile, TrainingSetup, Unknown
from tempadvisor.rules import RuleBook

# Values to try for a field that was not given, to see how far knowing it would move the answer.
TRIAL_VALUES: Mapping[str, tuple[Any, ...]] = {
    "optimizer": ("sgd", "adam", "adamw"),
    "epochs": (10, 60, 300),
    "kd_weight": (0.1, 0.5, 0.9),
    "t_squared": (True, False),
    "augmentation": ("none", "strong", "mixup"),
    "n_train": (20, 100, 1000),  # per class
    "label_noise": (0.0, 0.2),
    "student_params": (2, 10, 60),  # the teacher's size over the student's
    "student_init": ("random", "pretrained"),
    "teacher_origin": ("scratch", "pretrained-finetuned"),
    "teacher_label_smoothing": (0.0, 0.1),
    "teacher_augmentation": ("none", "mixup"),
    "granularity": ("coarse", "fine"),
    "logits_from": ("train", "test"),
}
# A field that counts only beside another is tried with this one, where the other is unknown too.
TRIAL_COMPANIONS: Mapping[str, Mapping[str, Any]] = {"optimizer": {"epochs": 10}, "epochs": {"optimizer": "sgd"}}


def unknown_fields(
    profile: TeacherProfile | None, setup: TrainingSetup, book: RuleBook, temperature: float
) -> tuple[Unknown, ...]:
    """Return the fields not given that could move the temperature, the most important first."""
    here = np.array([temperature])

    def center(tried: TrainingSetup) -> float:
        fired = book.fired(features(profile, tried, tried.loss_contract(), here))
        return sum(one.shift.item() if isinstance(one.shift, np.ndarray) else one.shift for one in fired)

    found, base = [], center(setup)
    for name, trials in TRIAL_VALUES.items():
        if getattr(setup, name) is not None:
            continue
        if name == "logits_from" and profile and profile.logits_from:
            continue
        centers = [base]
        for trial in trials:
            other = _with(setup, name, trial, profile.n_classes if profile else 10)
            if other is None:
                break
            centers.append(center(other))
        octaves = max(centers) - min(centers)
        if octaves >= 0.1:
            found.append(Unknown(name=name, octaves=round(octaves, 2)))
    return tuple(sorted(found, key=lambda unknown: -unknown.octaves))


def _with(setup: TrainingSetup, name: str, trial: Any, n_classes: int) -> TrainingSetup | None:
    """Return the setup with one field tried, or None where the field means nothing beside the others."""
    companions = TRIAL_COMPANIONS.get(name, {})
    changes = {other: value for other, value in companions.items() if getattr(setup, other) is None}
    changes[name] = trial
    if name == "n_train":
        changes = {"n_train": trial * n_classes}
    if name == "student_params":
        teacher_params = setup.teacher_params or 10_000_000
        changes = {"teacher_params": teacher_params, "student_params": max(1, teacher_params // trial)}
    if name == "kd_weight" and setup.hard_weight is not None:
        return None
    if name == "optimizer" and setup.momentum:
        return None
    if name == "teacher_origin" and setup.teacher_finetune_epochs:
        return None
    return dataclasses.replace(setup, **changes)
