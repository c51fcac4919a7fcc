"""The records that flow through the house: frozen, validated, unable to hold contradictions.

`TrainingSetup` is the one table of what can be said about a training: the flags of the command line, the keys of
a config file and the setup columns of a run are made from it. Shares and accuracies are fractions, entropies are
in nats, and `None` is unknown, never 0 or -1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from tempadvisor.errors import UsageError
from tempadvisor.fields import Column, check, columns, known

OPTIMIZERS = ("sgd", "adam", "adamw", "nadam", "rmsprop", "lamb", "lion", "adafactor", "muon")
SCHEDULES = ("constant", "cosine", "step", "linear", "onecycle")
AUGMENTATIONS = ("none", "standard", "strong", "mixup", "cutmix")
STUDENT_INITS = ("random", "target", "pretrained", "pretrained-finetuned")
TEACHER_ORIGINS = ("scratch", "pretrained", "pretrained-finetuned")
GRANULARITIES = ("auto", "coarse", "fine")
LOGITS_FROM = ("train", "train-augmented", "validation", "test")
REDUCTIONS = ("batchmean", "mean")
STATUSES = ("FINISHED", "PRUNED", "FAILED")

Verdict = Literal["use", "indifferent", "kd_may_hurt", "unknown"]
Confidence = Literal["high", "medium", "low"]
Effect = Literal["raises", "lowers", "none"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossContract:
    """Say which loss a temperature is meant for.

    L = hard_weight * CE(z_s, y) + kd_weight * [T^2] * KL(softmax(z_t / T) || softmax(z_s / T))

    The bracket is there when `t_squared`; the KL term is averaged over the samples ("batchmean") or over samples
    and classes ("mean"); with `standardized`, both logits are divided by their own per-sample standard deviation
    first, so that the temperature counts in units of it. `hard_weight` is 1 - kd_weight unless given.

    Raises:
        UsageError: a weight is negative, both are zero, or kd_weight is above 1 and hard_weight is not given.

    >>> LossContract(kd_weight=0.9).hard_weight
    0.1
    """

    kd_weight: float = 0.9
    hard_weight: float | None = None
    t_squared: bool = True
    reduction: Literal["batchmean", "mean"] = "batchmean"
    standardized: bool = False

    def __post_init__(self) -> None:
        if self.hard_weight is None:
            if self.kd_weight > 1:
                raise UsageError(
                    f"hard_weight must be given when kd_weight is above 1. Got kd_weight {self.kd_weight:g} alone. "
                    "Add --hard-weight.",
                    code="contradiction",
                )
            object.__setattr__(self, "hard_weight", round(1.0 - self.kd_weight, 12))
        if self.kd_weight < 0 or self.hard < 0 or self.kd_weight + self.hard == 0:
            raise UsageError(
                "kd_weight and hard_weight must be at least 0 and not both 0. "
                f"Got {self.kd_weight:g} and {self.hard:g}.",
                code="contradiction",
            )

    @property
    def hard(self) -> float:
        """The weight of the hard term, resolved."""
        assert self.hard_weight is not None
        return self.hard_weight


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSetup:
    """Hold what is known of a training, before it happens. Every field may be unknown (`None`).

    Raises:
        UsageError: a value breaks its rule, or two contradict each other.
    """

    kd_weight: float | None = known("Weight of the soft (KD) term of the loss.", above=0)
    hard_weight: float | None = known("Weight of the hard-label term; 1 - kd_weight if not given.", low=0)
    t_squared: bool | None = known("Whether the loss multiplies the KD term by T squared.")
    reduction: str | None = known(
        "How the KL term is averaged: over samples, or over samples and classes.", choices=REDUCTIONS
    )
    standardized: bool | None = known("Whether the loss z-scores both logits per sample.")
    optimizer: str | None = known("Optimizer of the student.", choices=OPTIMIZERS)
    lr: float | None = known("Peak learning rate of the student.", above=0)
    schedule: str | None = known("Learning-rate schedule.", choices=SCHEDULES)
    momentum: float | None = known("Momentum of SGD.", low=0, high=1)
    weight_decay: float | None = known("Weight decay.", low=0)
    batch_size: int | None = known("Images a step.", low=1)
    epochs: int | None = known("Passes over the training data.", low=1)
    augmentation: str | None = known("Augmentation of the student's inputs.", choices=AUGMENTATIONS)
    label_smoothing: float | None = known("Label smoothing of the student's hard term.", low=0, high=1)
    label_noise: float | None = known("Share of training labels believed to be wrong.", low=0, high=1)
    n_train: int | None = known("Number of training samples.", low=1)
    image_size: int | None = known("Height and width of the images, in pixels.", low=1)
    granularity: str | None = known(
        "How fine the classes are; auto measures it from the teacher.", choices=GRANULARITIES
    )
    student: str | None = known("Student's name, for example resnet18.")
    student_params: int | None = known("Number of the student's parameters.", low=1)
    student_init: str | None = known("Where the student's first weights come from.", choices=STUDENT_INITS)
    teacher_params: int | None = known("Number of the teacher's parameters.", low=1)
    teacher_origin: str | None = known("Where the teacher comes from.", choices=TEACHER_ORIGINS)
    teacher_finetune_epochs: int | None = known(
        "Epochs of fine-tuning that a pretrained teacher had on this data.", low=0
    )
    teacher_augmentation: str | None = known("Augmentation the teacher was trained with.", choices=AUGMENTATIONS)
    teacher_label_smoothing: float | None = known("Label smoothing the teacher was trained with.", low=0, high=1)
    logits_from: str | None = known("Which inputs the teacher's logits come from.", choices=LOGITS_FROM)

    def __post_init__(self) -> None:
        check(self, UsageError, code="bad_setup")
        problems = []
        if self.teacher_origin == "scratch" and self.teacher_finetune_epochs:
            problems.append(
                "teacher_finetune_epochs must be unset or 0 when teacher_origin is scratch. "
                f"Got {self.teacher_finetune_epochs}. Say --teacher-origin pretrained-finetuned."
            )
        if self.optimizer not in (None, "sgd", "rmsprop") and self.momentum:
            problems.append(
                f"momentum must be unset when optimizer is {self.optimizer}. Got {self.momentum:g}. "
                "It belongs to sgd and rmsprop."
            )
        if problems:
            raise UsageError(" ".join(problems), code="contradiction")
        self.loss_contract()  # the weights must make a loss

    def loss_contract(self) -> LossContract:
        """Return the loss contract, with the usual one where it is unknown.

        That is 0.9 and 0.1 with T^2 and batchmean; with standardized logits 9 and 0.1 (logit-standardization).
        """
        given = {
            name: value
            for name in ("kd_weight", "hard_weight", "t_squared", "reduction", "standardized")
            if (value := getattr(self, name)) is not None
        }
        if self.standardized and self.kd_weight is None and self.hard_weight is None:
            given |= {"kd_weight": 9.0, "hard_weight": 0.1}
        return LossContract(**given)

    def given(self) -> dict[str, Any]:
        """Return the known fields only."""
        return {name: value for name, value in as_dict(self).items() if value is not None}


SETUP_COLUMNS: tuple[Column, ...] = columns(TrainingSetup)


@dataclasses.dataclass(frozen=True)
class Notice:
    """Something that lowers trust: a stable `code` and one sentence."""

    code: str
    text: str


@dataclasses.dataclass(frozen=True)
class Estimate:
    """An estimated quantity with its standard deviation, both in the quantity's own unit."""

    mean: float
    std: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherProfile:
    """Hold what was measured of a teacher on one set of inputs: n_samples of them, n_classes classes.

    Curves have one value per entry of `temperatures`, each a mean over samples. `std_errors` holds the standard
    error of the scalar measures that have one, under the same names. Fields that need labels are None without.
    The formulas stand in `measures.py`.
    """

    teacher: str
    n_samples: int
    n_available: int | None
    n_classes: int
    logits_from: str | None
    # softness over temperature
    temperatures: tuple[float, ...]
    entropy_nats: tuple[float, ...]
    top1_probability: tuple[float, ...]
    nontarget_entropy_nats: tuple[float, ...]
    # temperatures that give a wanted mean entropy, as shares of log K (None: not reached within 0.01 to 1000)
    softness_levels: tuple[float, ...]
    softness_temperatures: tuple[float | None, ...]
    spike_temperature: float | None  # closed form: mean top probability 0.5
    # geometry of the logits at T = 1
    margin: float  # mean of highest minus second-highest logit
    logit_std: float  # mean per-sample standard deviation over classes
    top_gap: float  # mean of the highest logit minus the mean of the others
    rest_std: float  # mean per-sample standard deviation of the logits other than the highest
    # class relations
    related_mass: float | None  # share of the softened non-target mass that goes to related classes
    confusable_classes: float | None  # effective number of classes confusable with one
    block_structure: float | None  # 0 none, 1 classes fall into blocks
    granularity: float | None  # mean log number of classes alike, itself included; 0 is coarse
    # against labels
    accuracy: float | None
    nll_nats: float | None
    calibration_error: float | None
    calibration_temperature: float | None
    std_errors: Mapping[str, float]
    warnings: tuple[Notice, ...]
    schema: int = 1

    def curve_at(self, temperature: float, curve: tuple[float, ...]) -> float:
        """Return `curve` at `temperature`, linear in log T between grid points and flat outside."""
        import numpy as np

        return float(np.interp(np.log(temperature), np.log(self.temperatures), curve))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Standing:
    """How measured setups stand to a rule: of `n_fired` in which it moves T, `n_for` and `n_against` speak of it.

    Raises:
        UsageError: a count is no whole number of at least 0, or more speak than it fires in.
    """

    rule: str
    n_fired: int
    n_for: int
    n_against: int

    def __post_init__(self) -> None:
        counts = (self.n_fired, self.n_for, self.n_against)
        if any(type(n) is not int or n < 0 for n in counts) or self.n_for + self.n_against > self.n_fired:
            raise UsageError(
                "n_fired, n_for and n_against must be whole numbers of at least 0, n_fired at least the sum of the "
                f"others. Got {counts} for rule {self.rule}.",
                code="bad_standing",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reason:
    """One piece of evidence behind a recommendation; `standing` is what measured setups say of a rule."""

    id: str
    kind: Literal["rule", "measured"]
    effect: Effect
    octaves: float  # shift of log2 temperature
    text: str
    source: str
    grade: str
    standing: Standing | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """The expected accuracy at one temperature relative to the best, as a fraction (at most 0)."""

    temperature: float
    mean: float
    std: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightOption:
    """The answer at another kd_weight; accuracy is relative to training without KD."""

    kd_weight: float
    temperature: float
    expected_accuracy: float
    best: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unknown:
    """A setup field that was not given, and by how many octaves knowing it could move the temperature."""

    name: str
    octaves: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nearest:
    """A measured setup near the one asked about."""

    setup: str
    distance: float
    best_temperature: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """A temperature schedule that a rule supports: from `start` to `end` over the training."""

    kind: Literal["linear"]
    start: float
    end: float
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recommendation:
    """A temperature one would act on, with all that makes it trustworthy. Keys as in the CLI contract.

    `interval` holds the temperatures whose expected loss against the best is within 0.002;
    `best_temperature_ci90` is the 90 % interval for the single best temperature. Gains are accuracy fractions.
    """

    temperature: float
    interval: tuple[float, float]
    best_temperature_ci90: tuple[float, float]
    expected_gain: Mapping[str, Estimate]
    confidence: Confidence
    verdict: Verdict
    headline: str
    curve: tuple[CurvePoint, ...]
    reasons: tuple[Reason, ...]
    nearest: tuple[Nearest, ...]
    warnings: tuple[Notice, ...]
    loss_contract: LossContract
    kd_weights: tuple[WeightOption, ...]
    profile: TeacherProfile | None
    setup: TrainingSetup
    unknown: tuple[Unknown, ...]
    schedule: Schedule | None
    version: Mapping[str, str]

    def __str__(self) -> str:
        """Return the answer in one sentence."""
        return self.headline


def as_dict(record: Any) -> Any:
    """Return a record as plain dicts, lists and scalars, ready for JSON, fields in order."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {f.name: as_dict(getattr(record, f.name)) for f in dataclasses.fields(record)}
    if isinstance(record, Mapping):
        return {str(key): as_dict(value) for key, value in record.items()}
    if isinstance(record, (list, tuple)):
        return [as_dict(item) for item in record]
    return record
