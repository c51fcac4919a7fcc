"""check-loss: right losses are named, planted mistakes are found, other people's code raises nothing but one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import planted_losses
import pytest
import torch
from torch import Tensor, nn

from tempadvisor import cli
from tempadvisor.distill import kd_loss
from tempadvisor.errors import InputError, UsageError
from tempadvisor.losscall import read_loss
from tempadvisor.losscheck import LossCheck, check, check_loss
from tempadvisor.lossprobes import probed
from tempadvisor.records import SETUP_COLUMNS, LossContract


def found(name: str, **arguments: Any) -> LossCheck:
    return check_loss(f"planted_losses:{name}", **arguments)


def codes(notices: Any) -> set[str]:
    return {notice.code for notice in notices}


RIGHT = {
    "usual": (4.0, LossContract(kd_weight=0.9)),
    "unnamed": (3.0, LossContract(kd_weight=0.9)),
    "detached_teacher": (4.0, LossContract(kd_weight=0.9)),
    "smoothed": (2.0, LossContract(kd_weight=0.5)),
    "without_t_squared": (4.0, LossContract(kd_weight=0.9, t_squared=False)),
    "mean_over_classes": (4.0, LossContract(kd_weight=0.9, reduction="mean")),
    "standardized": (2.0, LossContract(kd_weight=9.0, hard_weight=0.1, standardized=True)),
    "standardized_by_sample": (2.0, LossContract(kd_weight=9.0, hard_weight=0.1, standardized=True)),
    "soft_cross_entropy": (4.0, LossContract(kd_weight=0.9)),
    "kd_term_alone": (2.0, LossContract(kd_weight=1.0, hard_weight=0.0)),
    "single_precision": (4.0, LossContract(kd_weight=0.9)),
    "single_precision_alone": (4.0, LossContract(kd_weight=0.9)),
    "Divergence": (4.0, LossContract(kd_weight=1.0, hard_weight=0.0)),
    "divergence": (5.0, LossContract(kd_weight=1.0, hard_weight=0.0)),
    "Usual": (2.5, LossContract(kd_weight=0.9)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_loss_is_named_with_its_temperature_and_weights(name: str) -> None:
    answer = found(name)
    temperature, contract = RIGHT[name]
    assert (answer.verdict, answer.problems) == ("known", ())
    assert answer.temperature == pytest.approx(temperature, rel=1e-3)
    assert answer.loss_contract is not None
    assert answer.loss_contract.kd_weight == pytest.approx(contract.kd_weight, rel=1e-3)
    assert answer.loss_contract.hard == pytest.approx(contract.hard, rel=1e-3)
    assert (answer.loss_contract.t_squared, answer.loss_contract.reduction, answer.loss_contract.standardized) == (
        contract.t_squared,
        contract.reduction,
        contract.standardized,
    )


MISTAKES = {
    "arguments_of_kl_div_swapped": "not_finite",
    "nothing_to_learn": "student_detached",
    "wrong_sign": "negative",
    "wrong_sign_alone": "negative",
    "kd_weight_on_the_hard_term": "weights_swapped",
    "hard_weight_on_the_kd_term": "weights_swapped",
    "arguments_swapped": "arguments_swapped",
    "probabilities": "probabilities",
    "swapped_probabilities": "swapped_probabilities",
    "log_target_missing": "log_target_missing",
    "log_target_wrong": "log_target_wrong",
    "student_only": "student_only",
    "teacher_only": "teacher_only",
    "wrong_dimension": "wrong_dimension",
    "teacher_wrong_dimension": "teacher_wrong_dimension",
    "student_wrong_dimension": "student_wrong_dimension",
    "softmax_twice": "softmax_twice",
    "softmax_twice_before_t": "softmax_twice",
    "teacher_softmax_twice": "teacher_softmax_twice",
    "teacher_softmax_twice_before_t": "teacher_softmax_twice",
    "student_softmax_twice": "student_softmax_twice",
    "student_softmax_twice_before_t": "student_softmax_twice",
    "hard_softmax_twice": "hard_softmax_twice",
    "hard_softmax_twice_after_t": "hard_softmax_twice",
    "squared_probabilities": "squared_probabilities",
    "squared_logits": "squared_logits",
    "student_detached": "student_detached",
    "teacher_unused": "teacher_unused",
    "sum_over_batch": "sum_over_batch",
    "power_of_t": "power_of_t",
    "multiplied_by_t": "multiplied_by_t",
    "t_applied_twice": "t_applied_twice",
    "temperature_unused": "temperature_unused",
    "hard_term_softened": "hard_term_softened",
    "unknown_loss": "unknown_loss",
    "small_term_of_its_own": "unknown_loss",
    "small_term_in_single_precision": "unknown_loss",
    "small_term_in_half_precision": "unknown_loss",
    "small_term_in_bfloat16": "unknown_loss",
    "small_term_above_t_four": "unknown_loss",
    "teacher_softmax_twice_in_half_precision": "teacher_softmax_twice",
    "ruined_by_rounding": "low_precision",
    "overflows_where_logits_are_above_13": "not_finite",
    "hard_term_scaled": "hard_term_scaled",
    "value_not_finite": "value_not_finite",
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_found_and_no_other(name: str) -> None:
    answer = found(name)
    assert answer.verdict == "wrong"
    assert codes(answer.problems) == {MISTAKES[name]}


@pytest.mark.parametrize("temperature", [0.5, 2.0, 20.0])
@pytest.mark.parametrize(
    "name",
    [
        "usual",
        "arguments_swapped",
        "student_only",
        "log_target_missing",
        "teacher_softmax_twice",
        "student_softmax_twice",
        "hard_softmax_twice",
    ],
)
def test_the_finding_does_not_hang_on_the_temperature(name: str, temperature: float) -> None:
    answer = found(name, temperature=temperature)
    assert codes(answer.problems) == ({name} if name != "usual" else set())


@pytest.mark.parametrize(
    "name",
    [
        "student_only",
        "teacher_only",
        "multiplied_by_t",
        "t_applied_twice",
        "temperature_unused",
        "power_of_t",
        "hard_term_softened",
        "hard_term_scaled",
    ],
)
def test_a_mistake_that_does_nothing_at_temperature_one_is_found_there_too(name: str) -> None:
    assert codes(found(name, temperature=1.0).problems) == {name}


@pytest.mark.parametrize(
    "name",
    [
        "student_that_ends_in_softmax",
        "models_that_end_in_softmax",
        "softened_student_probabilities_for_logits",
        "softened_probabilities_for_logits",
    ],
)
def test_probabilities_for_logits_are_found_in_both_terms(name: str) -> None:
    soft = "student_softmax_twice" if "student" in name else "softmax_twice"
    assert codes(found(name).problems) == {soft, "hard_softmax_twice"}


@pytest.mark.parametrize(
    "name", [n for n in MISTAKES if n.endswith(("softmax_twice", "wrong_dimension"))] + ["hard_term_softened"]
)
def test_a_mistake_is_found_where_t_is_fixed_inside_too(name: str) -> None:
    def loss(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
        answer: Tensor = getattr(planted_losses, name)(s, t, y, 2.7)
        return answer

    assert codes(check(read_loss(loss, name)).problems) == {name}


@pytest.mark.parametrize(
    ("name", "t_squared"),
    [("half_precision", True), ("bfloat16_throughout", True), ("half_precision_without_t_squared", False)],
)
def test_a_loss_in_low_precision_is_named_and_said_to_be_rounded(name: str, t_squared: bool) -> None:
    answer = found(name)
    assert (answer.verdict, answer.temperature) == ("known", 4.0)
    assert answer.loss_contract == LossContract(kd_weight=0.9, t_squared=t_squared)
    assert "low_precision" in codes(answer.notes)


def test_what_rounding_changes_is_the_distance_to_the_same_loss_in_double_precision() -> None:
    half, double = (
        probed(read_loss(loss, "loss"), 4.0, {}, dtype)
        for loss, dtype in ((planted_losses.half_precision, torch.float32), (planted_losses.usual, torch.float64))
    )
    shares = [
        float((a.gradient.double() - b.gradient).norm() / b.gradient.norm())
        for a, b in zip(half, double, strict=True)
        if a.gradient is not None and b.gradient is not None
    ]
    assert len(shares) == 4
    assert found("half_precision").gradient_error == pytest.approx(max(shares), rel=1e-6)


@pytest.mark.parametrize("name", ["usual", "single_precision", "tiny"])
def test_single_and_double_precision_are_not_said_to_be_low(name: str) -> None:
    assert "low_precision" not in codes(found(name).notes)


def test_a_loss_that_rounding_ruins_is_wrong_and_its_contract_named() -> None:
    answer = found("ruined_by_rounding")
    assert answer.loss_contract == LossContract(kd_weight=0.9)
    assert answer.gradient_error is not None
    assert answer.gradient_error > 0.02


def test_an_unknown_loss_is_told_what_it_is_near_in_words_and_json_has_the_code() -> None:
    answer = found("unknown_loss")
    (problem,) = answer.problems
    assert answer.nearest == "probabilities"
    assert "the nearest, kl_div of the student's probabilities at T=" in problem.text
    assert "_" not in problem.text.replace("kl_div", "")
    assert found("usual").nearest is None


def test_a_form_without_a_temperature_is_near_at_none() -> None:
    def loss(s: Tensor, t: Tensor) -> Tensor:
        return (s - t).abs().mean()

    (problem,) = check(read_loss(loss, "loss")).problems
    assert "the nearest, the squared error of logits, leaves" in problem.text


def test_a_small_term_of_its_own_is_said_to_be_near() -> None:
    for temperature in (1.0, 4.0):
        answer = found("small_term_of_its_own", temperature=temperature)
        (problem,) = answer.problems
        assert answer.nearest == "kl"
        assert "has a small term of its own" in problem.text


def test_a_form_that_is_known_only_at_the_temperature_asked_is_unknown_at_another() -> None:
    (problem,) = found("small_term_above_t_four").problems
    assert problem.text.startswith("Told another T, the loss is none that is known here: the nearest, KL at T=6")


def test_a_small_loss_has_small_weights() -> None:
    assert found("tiny").loss_contract == LossContract(kd_weight=9e-10, hard_weight=1e-10)


def test_a_missing_t_squared_is_a_contract_and_its_weight_is_converted() -> None:
    answer = found("without_t_squared")
    (note,) = (note for note in answer.notes if note.code == "missing_t_squared")
    assert "kd_weight 0.9 is as strong as 0.05625 with T^2" in note.text


def test_a_mean_over_classes_is_a_contract_and_said() -> None:
    assert "mean_over_classes" in codes(found("mean_over_classes").notes)


def test_label_smoothing_is_found() -> None:
    answer = found("smoothed")
    assert answer.label_smoothing == pytest.approx(0.1)
    assert str(answer.flags).endswith("--label-smoothing 0.1")


@pytest.mark.parametrize(("name", "t_squared"), [("usual", True), ("without_t_squared", False)])
def test_t_squared_is_measured_at_another_temperature_where_t_is_one(name: str, t_squared: bool) -> None:
    answer = found(name, temperature=1.0)
    assert answer.loss_contract == LossContract(kd_weight=0.9, t_squared=t_squared)
    assert ("--t-squared" in str(answer.flags).split()) == t_squared
    assert answer.either == ()


def test_where_t_is_fixed_inside_both_readings_are_given() -> None:
    answer = found("odd_weights")
    (note,) = (note for note in answer.notes if note.code == "t_squared_unknown")
    assert "0.8 with T^2, or 20 without" in note.text
    assert (answer.verdict, answer.temperature) == ("known", pytest.approx(5.0))
    assert (answer.loss_contract, answer.flags) == (None, None)
    assert answer.either == (
        LossContract(kd_weight=0.8, hard_weight=1.0),
        LossContract(kd_weight=20.0, hard_weight=1.0, t_squared=False),
    )


def test_where_t_is_one_inside_t_squared_cannot_be_told() -> None:
    answer = found("t_is_one_inside")
    (note,) = (note for note in answer.notes if note.code == "t_squared_unknown")
    assert "T is 1 inside, and so is T^2" in note.text
    assert (answer.verdict, answer.loss_contract, answer.flags) == ("known", None, None)
    assert answer.either == (LossContract(kd_weight=0.9), LossContract(kd_weight=0.9, t_squared=False))


@pytest.mark.parametrize(("kd_weight", "problems"), [(0.8, set()), (20.0, set()), (4.0, {"other_weights"})])
def test_where_t_is_fixed_inside_either_weight_may_be_believed(kd_weight: float, problems: set[str]) -> None:
    assert codes(found("odd_weights", kd_weight=kd_weight, hard_weight=1.0).problems) == problems


def test_a_teacher_that_gets_a_gradient_is_warned_of() -> None:
    assert "teacher_not_detached" in codes(found("usual").notes)
    assert "teacher_not_detached" not in codes(found("detached_teacher").notes)


def test_a_cross_entropy_with_soft_targets_trains_as_kl_and_is_named() -> None:
    assert "soft_cross_entropy" in codes(found("soft_cross_entropy").notes)
    assert not {"soft_cross_entropy", "other_value"} & codes(found("usual").notes)


def test_alpha_on_the_other_term_is_found_against_what_was_believed() -> None:
    given = {"alpha": 0.9}
    assert codes(found("alpha_on_the_hard_term", given=given, kd_weight=0.9).problems) == {"weights_swapped"}
    assert found("alpha_on_the_hard_term", given=given, kd_weight=0.1).problems == ()
    assert codes(found("alpha_on_the_hard_term", given=given, kd_weight=0.5).problems) == {"other_weights"}


def test_what_alpha_weighs_is_said() -> None:
    (note,) = (n for n in found("alpha_on_the_hard_term", given={"alpha": 0.9}).notes if n.code == "weighs")
    assert note.text == "alpha weighs the hard term."


def test_the_flags_are_those_of_recommend() -> None:
    known = {word for column in SETUP_COLUMNS for word in column.flag.split("/")}
    for name in RIGHT:
        assert {word for word in str(found(name).flags).split() if word.startswith("--")} <= known


def test_an_object_keeps_its_temperature() -> None:
    found("divergence")
    assert planted_losses.divergence.T == 5.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raises", "It raised ValueError: shapes differ"),
        ("says_so_in_a_sentence", r"It raised ValueError: .* differ\. Mend it"),
        ("ends_the_program", "It raised SystemExit"),
        ("one_value_a_sample", r"it returned a tensor of shape \(6,\)"),
        ("no_tensor", "it returned float"),
        ("random", "must answer the same when asked again"),
        ("one_argument", "none of them is the teacher"),
        ("NO_LOSS", "must be callable. Got a float"),
        ("missing", "It lacks missing"),
    ],
)
def test_what_is_no_loss_is_refused_in_one_line(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        found(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", ["", "planted_losses", "a b:c", "planted_losses:", "../x:y"])
def test_a_name_that_is_none_is_refused(spec: str) -> None:
    with pytest.raises(UsageError, match=r"must be named package\.module:function"):
        check_loss(spec)


def test_a_module_that_is_missing_is_refused() -> None:
    """By which name, and where it was looked for."""
    for spec, missing in (("nosuch:loss", "nosuch"), ("nosuch.of.mine:loss", "nosuch"), ("json.of:loss", "json.of")):
        with pytest.raises(InputError) as caught:
            check_loss(spec)
        assert str(caught.value) == (
            f"module {spec[:-5]} could not be imported: {missing} is neither in the current directory, {Path.cwd()}, "
            "nor on PYTHONPATH, nor an installed package. Change to the directory it is in, or install it."
        )


def test_a_function_that_its_module_lacks_is_named() -> None:
    for spec, lacks in (("json:nosuch", "nosuch"), ("json:decoder.nosuch", "nosuch"), ("json:no.such", "no")):
        said = rf"module json must have {spec[5:]}\. It lacks {lacks}\. Name"
        with pytest.raises(InputError, match=said) as error:
            check_loss(spec)
        assert error.value.code == "missing_function"


def test_a_module_that_imports_what_is_missing_is_refused_with_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needy.py").write_text("import nosuch\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="module needy could not be imported: it needs nosuch, which is not found"):
        check_loss("needy:loss")


def test_a_parameter_without_a_value_is_asked_for() -> None:
    with pytest.raises(UsageError, match="--set alpha=VALUE"):
        found("alpha_on_the_hard_term")
    with pytest.raises(UsageError, match="or wrap it in a function"):
        found("needs_more")


def test_a_parameter_that_does_not_exist_cannot_be_set() -> None:
    with pytest.raises(UsageError, match="--set must name a parameter"):
        found("usual", given={"alhpa": 1.0})


# Losses of this package, of torch and of others.


@pytest.mark.parametrize("standardized", [False, True])
@pytest.mark.parametrize("reduction", ["batchmean", "mean"])
@pytest.mark.parametrize("t_squared", [False, True])
def test_our_own_loss_is_recognized_under_every_contract(t_squared: bool, reduction: Any, standardized: bool) -> None:
    contract = LossContract(
        kd_weight=0.7, hard_weight=0.4, t_squared=t_squared, reduction=reduction, standardized=standardized
    )

    def loss(s: Tensor, t: Tensor, y: Tensor, temperature: float) -> Tensor:
        return kd_loss(s, t, y, temperature, contract)

    answer = check(read_loss(loss, "ours"))
    assert (answer.problems, answer.temperature, answer.loss_contract) == ((), 4.0, contract)


def test_the_recipe_of_torchs_tutorial_is_a_kd_term_with_t_squared() -> None:
    # pytorch.org, "Knowledge Distillation Tutorial": the KL written out, T^2, division by the batch size.
    def loss(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, T: float) -> Tensor:  # noqa: N803
        targets = nn.functional.softmax(teacher_logits / T, dim=-1)
        log_prob = nn.functional.log_softmax(student_logits / T, dim=-1)
        soft = torch.sum(targets * (targets.log() - log_prob)) / log_prob.size()[0] * (T**2)
        return 0.25 * soft + 0.75 * nn.functional.cross_entropy(student_logits, labels)

    assert check(read_loss(loss, "recipe", temperature=2.0)).loss_contract == LossContract(kd_weight=0.25)


@pytest.mark.filterwarnings("ignore")
def test_timms_loss_is_the_usual_contract() -> None:
    task = pytest.importorskip("timm.task")

    class Answers(nn.Module):
        num_classes, in_chans = 1, 3
        pretrained_cfg = {"mean": (0.0,) * 3, "std": (1.0,) * 3}  # noqa: RUF012
        logits = torch.zeros(1)

        def forward(self, _: Tensor) -> Tensor:
            return self.logits + 0

    student, teacher = Answers(), Answers()

    def loss(s: Tensor, t: Tensor, y: Tensor, temperature: float) -> Any:
        distilling = task.LogitDistillationTask(
            student,
            teacher,
            nn.CrossEntropyLoss(),
            task_loss_weight=0.3,
            temperature=temperature,
            verbose=False,
        )
        student.logits, teacher.logits = s, t
        return distilling(torch.zeros(len(s), 3, 2, 2), y)

    answer = check(read_loss(loss, "timm"))
    assert (answer.problems, answer.loss_contract) == ((), LossContract(kd_weight=0.7))
    assert "teacher_not_detached" not in codes(answer.notes)


@pytest.mark.filterwarnings("ignore")
def test_torchdistills_loss_is_usual_and_loses_t_squared_at_alpha_zero() -> None:
    losses = pytest.importorskip("torchdistill.losses.mid_level")

    def loss(s: Tensor, t: Tensor, y: Tensor, temperature: float, alpha: float) -> Any:
        criterion = losses.KDLoss("a", "o", "a", "o", temperature=temperature, alpha=alpha)
        return criterion({"a": {"o": s}}, {"a": {"o": t}}, y)

    answer = check(read_loss(loss, "torchdistill", given={"alpha": 0.3}))
    assert (answer.problems, answer.loss_contract) == ((), LossContract(kd_weight=0.7))
    assert "alpha weighs the hard term." in {note.text for note in answer.notes}
    at_zero = check(read_loss(loss, "torchdistill", given={"alpha": 0.0}))
    assert at_zero.loss_contract == LossContract(kd_weight=1.0, hard_weight=0.0, t_squared=False)


@pytest.mark.filterwarnings("ignore")
def test_modelopts_default_averages_over_classes() -> None:
    distill = pytest.importorskip("modelopt.torch.distill", exc_type=ImportError)
    answer = check(read_loss(distill.LogitsDistillationLoss, "modelopt", temperature=2.0))
    assert answer.loss_contract == LossContract(kd_weight=1.0, hard_weight=0.0, reduction="mean")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("by_name", [False, True])
def test_keras_default_is_wrong_and_its_object_right(by_name: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")

    def loss(s: Tensor, t: Tensor, temperature: float) -> Any:
        kl = "kl_divergence" if by_name else keras.losses.KLDivergence()
        return keras.distillation.LogitsDistillation(temperature=temperature, loss=kl).compute_loss(t, s)

    answer = check(read_loss(loss, "keras"))
    if by_name:
        assert codes(answer.problems) == {"unknown_loss"}
    else:
        assert answer.loss_contract == LossContract(kd_weight=1.0, hard_weight=0.0)


# The command.


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["tempadvisor", "check-loss", *words])
    with pytest.raises(SystemExit) as done:
        cli.main()
    return int(done.value.code or 0)


def test_the_command_exits_with_0_1_and_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "planted_losses:usual") == 0
    printed = capsys.readouterr()
    assert "implements a known loss contract" in printed.out
    assert "tempadvisor recommend TEACHER --kd-weight 0.9 --hard-weight 0.1 --t-squared" in printed.out
    assert printed.err == ""
    assert run(monkeypatch, "planted_losses:arguments_swapped") == 1
    assert "is wrong" in capsys.readouterr().out
    assert run(monkeypatch, "planted_losses:raises") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert run(monkeypatch) == 2
    assert "check-loss needs a loss" in capsys.readouterr().err


def test_where_t_squared_cannot_be_told_the_temperature_of_each_reading_can_be_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "planted_losses:t_is_one_inside") == 0
    printed = capsys.readouterr().out
    flags = "--kd-weight 0.9 --hard-weight 0.1 --{}t-squared --reduction batchmean --no-standardized"
    assert printed.splitlines()[-2:] == [
        f"The temperature for it with T^2: tempadvisor recommend TEACHER {flags.format('')}",
        f"The temperature for it without T^2: tempadvisor recommend TEACHER {flags.format('no-')}",
    ]
    assert "\nFound: L = 0.1 CE(z_s, y) + 0.9 T^2 KL" in printed
    assert "\nOr: L = 0.1 CE(z_s, y) + 0.9 KL" in printed


def test_a_rounded_loss_is_known_and_its_headline_says_that_it_rounds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "planted_losses:half_precision") == 0
    assert "implements a known loss contract, in low precision." in capsys.readouterr().out
    assert run(monkeypatch, "planted_losses:small_term_in_half_precision") == 1
    assert "is no known loss contract." in capsys.readouterr().out


def test_json_is_one_object_and_what_the_loss_prints_is_not_in_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "planted_losses:talks", "--json") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out).keys() == LossCheck.__dataclass_fields__.keys()
    assert "I am no JSON" in printed.err


def test_parameters_are_set_by_flags(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "planted_losses:alpha_on_the_hard_term",
        "--set",
        "alpha=0.2",
        "--temperature",
        "3",
        "--kd-weight",
        "0.8",
    )
    assert run(monkeypatch, *words, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["temperature"], answer["loss_contract"]["hard_weight"]) == (3.0, 0.2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--temperature", "0"), "--temperature must be a number above 0. Got '0'"),
        (("--temperature", "nan"), "--temperature must be a number above 0"),
        (("--kd-weight", "x"), "--kd-weight must be a number at least 0"),
        (("--set", "alpha"), "--set must be NAME=VALUE"),
    ],
)
def test_wrong_values_are_refused(
    words: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "planted_losses:usual", *words) == 2
    assert message in capsys.readouterr().err


def test_a_loss_is_found_in_the_folder_one_stands_in(tmp_path: Path) -> None:
    (tmp_path / "my_losses.py").write_text("def loss(s, t):\n    return ((s - t) ** 2).mean()\n")
    words = [sys.executable, "-m", "tempadvisor", "check-loss", "my_losses:loss"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert (done.returncode, done.stderr) == (1, "")
    assert "squared error of logits" in done.stdout
