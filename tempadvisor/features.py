"""What rules and regressor see: a teacher's profile, a setup and its loss contract as named numbers and words.

The only place where feature names and their definitions live. A feature that cannot be known is None, NaN in the
regressor's vector; nothing is imputed here. Two of the rules' features depend on the temperature asked about (the
weight that shrinks with T), so they are arrays over the grid of temperatures; all others are scalars.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tempadvisor.records import LossContract, TeacherProfile, TrainingSetup

if TYPE_CHECKING:
    from numpy.typing import NDArray  # a fifth of the time of numpy itself

    Value = float | str | bool | NDArray[np.float64] | None

FEATURES: Mapping[str, str] = {
    "optimizer": "optimizer of the student",
    "mixing": "whether the student's inputs are mixed (mixup, cutmix)",
    "augmentation": "augmentation of the student's inputs",
    "log2_epochs": "log2 of the passes over the training data",
    "log2_samples_per_class": "log2 of training samples per class",
    "label_noise": "share of training labels believed to be wrong",
    "log2_capacity_ratio": "log2 of the teacher's over the student's number of parameters",
    "student_init": "where the student's first weights come from",
    "teacher_origin": "where the teacher comes from",
    "log2_finetune_epochs": "log2 of one more than the epochs of fine-tuning of a pretrained teacher",
    "teacher_seen": "whether the teacher was profiled, so that its softness is measured and need not be guessed",
    "teacher_mixing": "whether the teacher was trained on mixed inputs",
    "teacher_label_smoothing": "label smoothing the teacher was trained with",
    "logits_from": "which inputs the teacher's logits come from",
    "t_squared": "whether the KD term is multiplied by T squared",
    "reduction": "how the KL term is averaged",
    "log2_soft_odds": "log2 of kd_weight over hard_weight as written, within 6 octaves of one",
    "odds_lost_t_squared": "octaves of soft odds lost for want of T squared, at each temperature",
    "odds_lost_mean": "octaves of soft odds lost by averaging the KL term over classes too",
    "log2_softness": "log2 of the temperature at which the teacher's mean entropy is half of log K",
    "log2_softness_standardized": "the same for z-scored logits",
    "entropy_share": "mean entropy at T = 1 over log K",
    "overconfidence": "mean top-1 probability at T = 1 minus accuracy",
    "fineness": "0 coarse to 1 fine, as declared or from the measured granularity",
    "related_mass": "share of the softened non-target mass that goes to related classes",
}

VECTOR: Mapping[str, str] = {
    "sgd": "1 with plain SGD, 0 with an adaptive optimizer",
    "log2_lr": "octaves of the peak learning rate above 0.1 for SGD and 0.01 for others",
    "log2_steps": "log2 of the optimizer steps",
    "log2_epochs": "log2 of the passes over the training data",
    "log2_samples_per_class": "log2 of training samples per class",
    "label_noise": "share of training labels believed to be wrong",
    "augmented": "1 where the student's inputs are augmented",
    "mixing": "1 where they are mixed (mixup, cutmix)",
    "log2_student_params": "log2 of the student's number of parameters",
    "log2_capacity_ratio": "log2 of the teacher's over the student's number of parameters",
    "perceptron": "1 where the student is a multilayer perceptron",
    "trained_before": "1 where the student's first weights are not random",
    "t_squared": "1 where the KD term is multiplied by T squared",
    "log2_soft_odds": "log2 of kd_weight over hard_weight, within 6 octaves of one",
    "pretrained_teacher": "1 where the teacher comes from another task",
    "teacher_mixing": "1 where the teacher was trained on mixed inputs",
    "teacher_label_smoothing": "label smoothing the teacher was trained with",
    "log2_softness": "log2 of the temperature at which the teacher's mean entropy is half of log K",
    "entropy_share": "mean entropy at T = 1 over log K",
    "log2_logit_std": "log2 of the mean standard deviation of a sample's logits",
    "log2_reach": "octaves of rate times steps over logit scale: whether the student can come as far",
    "log2_heat": "octaves of SGD's rate times kd_weight times logit scale: how hard KD pulls; 0 with adaptive ones",
    "log2_push_4": "octaves by which KD at T=4 pulls harder than hard labels on a student that knows nothing yet",
    "log2_push_16": "the same at T=16",
    "soft_share_1": "share of the KD term in that pull at T=1",
    "soft_share_4": "share of the KD term in that pull at T=4",
    "log2_hot_4": "octaves of SGD's rate times the pull at T=4; COLD with adaptive ones, which normalize it",
    "log2_hot_16": "the same at T=16",
    "log2_distance": "octaves of rate times steps: how far the optimizer can come",
    "log2_distance_4": "the same times the pull at T=4 with SGD",
    "log2_reach_1": "octaves of rate times steps over the logit gap that matching the teacher at T=1 asks for",
    "log2_reach_4": "the same at T=4",
    "log2_classes": "log2 of K",
    "related_mass": "share of the softened non-target mass that goes to related classes",
    "granularity": "mean log number of classes alike, in nats",
}
USUAL_RATE = {True: 0.1, False: 0.01}  # with SGD, with others
COLD = -8.0  # octaves

MIXED = ("mixup", "cutmix")
SOFTNESS_LEVEL = 0.5
SOFTEST, SHARPEST = 2.0**-8, 2.0**11  # temperatures of half softness beyond which none is looked for
# granularity (nats: mean log number of classes alike) that counts as plainly coarse and plainly fine
COARSE_NATS, FINE_NATS = -0.1, 0.4
# a weight of zero makes infinite odds: beyond 6 octaves (64 to 1) the other term hardly counts
ODDS_LIMIT = 6.0


def features(
    profile: TeacherProfile | None,
    setup: TrainingSetup,
    contract: LossContract,
    temperatures: NDArray[np.float64],
) -> dict[str, Value]:
    """Return every feature by name, in the order of `FEATURES`.

    Args:
        profile: what was measured of the teacher, or None.
        setup: what is known of the training.
        contract: the loss the answer is to hold for.
        temperatures: shape (G,), in the units of the contract; the feature that depends on T is given there.

    Source: evidence (sections 2 to 4).
    """
    n_classes = profile.n_classes if profile else None
    softness = _softness(profile)
    standardized_softness = softness / profile.logit_std if softness and profile else None
    entropy_share = profile.curve_at(1.0, profile.entropy_nats) / math.log(profile.n_classes) if profile else None
    values: dict[str, Value] = {
        "optimizer": setup.optimizer,
        "mixing": _mixing(setup.augmentation),
        "augmentation": setup.augmentation,
        "log2_epochs": _log2(setup.epochs),
        "log2_samples_per_class": _log2(setup.n_train / n_classes) if setup.n_train and n_classes else None,
        "label_noise": setup.label_noise,
        "log2_capacity_ratio": (
            _log2(setup.teacher_params / setup.student_params)
            if setup.teacher_params and setup.student_params
            else None
        ),
        "student_init": setup.student_init,
        "teacher_origin": setup.teacher_origin,
        "log2_finetune_epochs": (
            None if setup.teacher_finetune_epochs is None else math.log2(1 + setup.teacher_finetune_epochs)
        ),
        "teacher_seen": profile is not None,
        "teacher_mixing": _mixing(setup.teacher_augmentation),
        "teacher_label_smoothing": setup.teacher_label_smoothing,
        "logits_from": setup.logits_from or (profile.logits_from if profile else None),
        "t_squared": contract.t_squared,
        "reduction": contract.reduction,
        "log2_soft_odds": soft_odds(contract),
        "odds_lost_t_squared": _lost(contract, -2.0 * np.log2(temperatures)),
        "odds_lost_mean": _lost(contract, np.asarray(-math.log2(n_classes))) if n_classes else None,
        "log2_softness": _log2(softness) if not contract.standardized else None,
        "log2_softness_standardized": _log2(standardized_softness) if contract.standardized else None,
        "entropy_share": entropy_share,
        "overconfidence": (
            profile.curve_at(1.0, profile.top1_probability) - profile.accuracy
            if profile and profile.accuracy is not None
            else None
        ),
        "fineness": _fineness(profile, setup.granularity),
        "related_mass": profile.related_mass if profile else None,
    }
    assert values.keys() == FEATURES.keys()
    return values


def vector(profile: TeacherProfile | None, setup: TrainingSetup, contract: LossContract) -> NDArray[np.float64]:
    """Return the numbers of `VECTOR` in its order, shape (d,), NaN where unknown. For plain contracts only.

    Args:
        profile: what was measured of the teacher, or None.
        setup: what is known of the training.
        contract: the loss the answer is to hold for.
    """
    known = features(profile, setup, contract, np.ones(1))
    sgd = None if setup.optimizer is None else setup.optimizer == "sgd"
    per_epoch = max(1, setup.n_train // setup.batch_size) if setup.n_train and setup.batch_size else None
    n_classes = profile.n_classes if profile else None
    rate = None if sgd is None or not setup.lr else math.log2(setup.lr / USUAL_RATE[sgd])
    steps = _log2(setup.epochs * per_epoch) if setup.epochs and per_epoch else None
    scale = _log2(profile.logit_std) if profile else None
    weight = math.log2(max(contract.kd_weight, 2.0**-ODDS_LIMIT))
    values: dict[str, float | bool | None] = {
        "sgd": sgd,
        "log2_lr": rate,
        "log2_steps": steps,
        "log2_reach": None if rate is None or steps is None or scale is None else rate + steps - scale,
        "log2_heat": 0.0 if sgd is False else None if rate is None or scale is None else rate + weight + scale,
        "augmented": None if setup.augmentation is None else setup.augmentation != "none",
        "log2_student_params": _log2(setup.student_params),
        "perceptron": None if setup.student is None else setup.student.startswith("mlp"),
        "trained_before": None if setup.student_init is None else setup.student_init != "random",
        "pretrained_teacher": None if setup.teacher_origin is None else setup.teacher_origin != "scratch",
        "log2_logit_std": scale,
        **_pulls(profile, contract, sgd, rate, steps),
        "log2_classes": _log2(n_classes),
        "granularity": profile.granularity if profile else None,
    }
    row = [values[name] if name in values else known[name] for name in VECTOR]
    return np.array([math.nan if value is None else float(value) for value in row])


def _pulls(
    profile: TeacherProfile | None, contract: LossContract, sgd: bool | None, rate: float | None, steps: float | None
) -> dict[str, float | None]:
    """Return the features of how hard a temperature pulls and how far a student has to go.

    Where the student is uniform yet, the gradient of the loss in the logit of the true class is hard_weight (1 - 1/K)
    from the labels and, by the gradient of the KL term, kd_weight T (p - 1/K) from a teacher of mean top probability
    p at T, divided by T^2 without that factor. The gap between the top logit and the others that gives p at T is
    T log(p (K - 1) / (1 - p)).
    """
    distance = None if rate is None or steps is None else rate + steps
    values: dict[str, float | None] = {"log2_distance": distance}
    for t in (1.0, 4.0, 16.0):
        push, share, gap = _pull(profile, contract, t) if profile else (None, None, None)
        if t < 16:
            values[f"soft_share_{t:g}"] = share
            values[f"log2_reach_{t:g}"] = None if distance is None or gap is None else distance - gap
        if t > 1:
            values[f"log2_push_{t:g}"] = push
            hot = None if rate is None or push is None else rate + push
            values[f"log2_hot_{t:g}"] = COLD if sgd is False else hot
    push = values["log2_push_4"]
    far = None if distance is None or push is None else distance + push
    values["log2_distance_4"] = distance if sgd is False else far
    return values


def _pull(profile: TeacherProfile, contract: LossContract, t: float) -> tuple[float, float, float]:
    """Return octaves of the pull at T against hard labels, the KD term's share in it, octaves of the logit gap."""
    chance = 1 / profile.n_classes
    top = min(max(profile.curve_at(t, profile.top1_probability), chance + 1e-6), 1 - 1e-3)
    hard = contract.hard
    soft = contract.kd_weight * (t if contract.t_squared else 1 / t) * (top - chance) / (1 - chance)
    gap = t * math.log(top * (profile.n_classes - 1) / (1 - top))
    return math.log2(max(hard + soft, 1e-3)), soft / max(hard + soft, 1e-3), math.log2(max(gap, 1e-2))


def soft_odds(contract: LossContract) -> float:
    """Return log2 of the soft over the hard weight, as written.

    Limited to 6 octaves either way, since a weight of zero makes the odds infinite. With standardized logits the
    usual pair is 9 and 0.1 (logit-standardization), so the odds count from there: ten times less.

    >>> round(soft_odds(LossContract(kd_weight=0.5)), 3)
    0.0
    """
    return float(_odds(contract, np.asarray(0.0)))


def _odds(contract: LossContract, factor_octaves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log2 of the odds with the soft weight changed by 2 ** `factor_octaves`."""
    if contract.hard == 0:
        return np.full_like(factor_octaves, ODDS_LIMIT)
    if contract.kd_weight == 0:
        return np.full_like(factor_octaves, -ODDS_LIMIT)
    usual = math.log2(10) if contract.standardized else 0.0
    octaves = math.log2(contract.kd_weight / contract.hard) - usual + factor_octaves
    return np.clip(octaves, -2 * ODDS_LIMIT, ODDS_LIMIT)


def _lost(contract: LossContract, factor_octaves: NDArray[np.float64]) -> NDArray[np.float64]:
    return _odds(contract, factor_octaves) - soft_odds(contract)


def _softness(profile: TeacherProfile | None) -> float | None:
    """Return the temperature of half softness; the end of what is searched where it lies beyond."""
    if profile is None or SOFTNESS_LEVEL not in profile.softness_levels:
        return None
    found = profile.softness_temperatures[profile.softness_levels.index(SOFTNESS_LEVEL)]
    if found is not None:
        return found
    soft_already = profile.entropy_nats[0] > SOFTNESS_LEVEL * math.log(profile.n_classes)
    return SOFTEST if soft_already else SHARPEST


def _fineness(profile: TeacherProfile | None, declared: str | None) -> float | None:
    if declared in ("coarse", "fine"):
        return float(declared == "fine")
    if profile is None or profile.granularity is None:
        return None
    return min(1.0, max(0.0, (profile.granularity - COARSE_NATS) / (FINE_NATS - COARSE_NATS)))


def _mixing(augmentation: str | None) -> bool | None:
    return None if augmentation is None else augmentation in MIXED


def _log2(value: float | None) -> float | None:
    return math.log2(value) if value else None
