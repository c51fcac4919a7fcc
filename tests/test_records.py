"""The records hold only what makes sense; errors say what must be what; one table describes a setup."""

import dataclasses
import math

import pytest

from tempadvisor.documents import profile_from, setup_from
from tempadvisor.errors import (
    InputError,
    KnowledgeError,
    OutOfScopeError,
    TempAdvisorError,
    UsageError,
    did_you_mean,
    one_line,
)
from tempadvisor.fields import Column, Spec, check, columns, known, problem
from tempadvisor.records import (
    SETUP_COLUMNS,
    Estimate,
    LossContract,
    Notice,
    TeacherProfile,
    TrainingSetup,
    as_dict,
)


def refusal(**given: object) -> str:
    with pytest.raises(UsageError) as caught:
        TrainingSetup(**given)  # type: ignore[arg-type]
    return str(caught.value)


def a_profile(**changes: object) -> TeacherProfile:
    values: dict[str, object] = {
        "teacher": "t.npz",
        "n_samples": 100,
        "n_available": 1000,
        "n_classes": 10,
        "logits_from": "train",
        "temperatures": (1.0, 4.0),
        "entropy_nats": (0.5, 2.0),
        "top1_probability": (0.9, 0.3),
        "nontarget_entropy_nats": (1.0, 2.1),
        "softness_levels": (0.5,),
        "softness_temperatures": (None,),
        "spike_temperature": None,
        "margin": 5.0,
        "logit_std": 3.0,
        "top_gap": 8.0,
        "rest_std": 2.0,
        "related_mass": 0.5,
        "confusable_classes": 2.0,
        "block_structure": 0.1,
        "granularity": 0.2,
        "accuracy": None,
        "nll_nats": None,
        "calibration_error": None,
        "calibration_temperature": None,
        "std_errors": {"margin": 0.1},
        "warnings": (Notice("unknown_split", "Say where the logits come from."),),
    }
    return TeacherProfile(**{**values, **changes})  # type: ignore[arg-type]


class TestErrors:
    @pytest.mark.parametrize("kind", [UsageError, InputError, OutOfScopeError, KnowledgeError])
    def test_every_error_is_a_temp_advisor_error_with_a_code(self, kind: type[TempAdvisorError]) -> None:
        error = kind("x must be y.", code="x_not_y")
        assert isinstance(error, TempAdvisorError)
        assert (str(error), error.code) == ("x must be y.", "x_not_y")

    @pytest.mark.parametrize(
        "text", ["a\nb", "a\rb", "\x1b[31mred", "tab\there", "bell\x07", "\u2028line", "\u202eevil"]
    )
    def test_a_message_is_one_printable_line(self, text: str) -> None:
        assert one_line(text).isprintable()

    def test_letters_of_other_scripts_stay(self) -> None:
        assert one_line("Müller 学校 ≤ π") == "Müller 学校 ≤ π"

    def test_a_near_name_is_suggested_and_a_far_one_lists_all(self) -> None:
        assert did_you_mean("epoch", ["epochs", "lr"]) == "Did you mean epochs?"
        assert did_you_mean("banana", ["lr", "epochs"]) == "Known: epochs, lr."


class TestFields:
    @pytest.mark.parametrize(
        ("kind", "spec", "value"),
        [
            (int, Spec("", low=1), 1),
            (float, Spec("", above=0), 1),
            (float, Spec("", low=0, high=1), 0),
            (float, Spec("", low=0, high=1), 1.0),
            (bool, Spec(""), False),
            (str, Spec("", choices=("sgd",)), "sgd"),
            (int, Spec("", low=1), None),
        ],
    )
    def test_a_value_inside_its_rule_is_fine(self, kind: type, spec: Spec, value: object) -> None:
        assert problem(Column("x", kind, spec), value) is None

    @pytest.mark.parametrize(
        ("kind", "spec", "value", "message"),
        [
            (int, Spec("", low=1), 0, "x must be a whole number at least 1. Got 0."),
            (int, Spec(""), 1.5, "x must be a whole number. Got 1.5."),
            (int, Spec(""), True, "x must be a whole number. Got True."),
            (float, Spec("", above=0), 0, "x must be a number above 0. Got 0."),
            (float, Spec("", high=1), 1.1, "x must be a number at most 1. Got 1.1."),
            (float, Spec(""), math.nan, "x must be a number. Got nan."),
            (float, Spec(""), math.inf, "x must be a number. Got inf."),
            (float, Spec(""), "1", "x must be a number. Got '1'."),
            (bool, Spec(""), 1, "x must be true or false. Got 1."),
            (str, Spec(""), "", "x must be a text. Got ''."),
            (
                str,
                Spec("", choices=("sgd", "adam")),
                "sdg",
                "x must be one of sgd, adam. Got 'sdg'. Did you mean sgd?",
            ),
            (str, Spec("", choices=("sgd", "adam")), "zzz", "x must be one of sgd, adam. Got 'zzz'."),
        ],
    )
    def test_a_value_outside_its_rule_is_named_with_the_rule(
        self, kind: type, spec: Spec, value: object, message: str
    ) -> None:
        assert problem(Column("x", kind, spec), value) == message

    def test_a_flag_is_spelled_with_dashes_and_a_truth_value_has_a_negation(self) -> None:
        assert Column("kd_weight", float, Spec("")).flag == "--kd-weight"
        assert Column("t_squared", bool, Spec("")).flag == "--t-squared/--no-t-squared"

    def test_all_problems_of_a_record_come_at_once_and_whole_numbers_become_floats(self) -> None:
        @dataclasses.dataclass(frozen=True)
        class Pair:
            share: float | None = known("A share.", low=0, high=1)
            count: int | None = known("A count.", low=1)

        assert [column.name for column in columns(Pair)] == ["share", "count"]
        fine = Pair(share=1, count=2)
        check(fine, UsageError, code="c")
        assert isinstance(fine.share, float)
        with pytest.raises(UsageError) as caught:
            check(Pair(share=2, count=0), UsageError, code="c")
        assert "share must be" in str(caught.value)
        assert "count must be" in str(caught.value)
        assert caught.value.code == "c"


class TestLossContract:
    def test_the_hard_weight_is_what_the_kd_weight_leaves(self) -> None:
        assert LossContract(kd_weight=0.25).hard == 0.75
        assert LossContract(kd_weight=1.0).hard == 0.0

    def test_the_hard_weight_can_be_given_apart(self) -> None:
        assert LossContract(kd_weight=9.0, hard_weight=0.1).hard == 0.1

    @pytest.mark.parametrize(
        ("kd_weight", "hard_weight", "rule"),
        [
            (1.5, None, "hard_weight must be given when kd_weight is above 1"),
            (-0.1, None, "must be at least 0 and not both 0"),
            (0.5, -1.0, "must be at least 0 and not both 0"),
            (0.0, 0.0, "must be at least 0 and not both 0"),
        ],
    )
    def test_weights_that_make_no_loss_are_refused(
        self, kd_weight: float, hard_weight: float | None, rule: str
    ) -> None:
        with pytest.raises(UsageError, match=rule) as caught:
            LossContract(kd_weight=kd_weight, hard_weight=hard_weight)
        assert caught.value.code == "contradiction"


class TestTrainingSetup:
    def test_nothing_given_is_everything_unknown(self) -> None:
        setup = TrainingSetup()
        assert setup.given() == {}
        assert all(value is None for value in as_dict(setup).values())

    def test_what_is_given_is_kept_and_only_that(self) -> None:
        assert TrainingSetup(optimizer="sgd", epochs=10).given() == {"optimizer": "sgd", "epochs": 10}

    def test_an_unknown_loss_is_the_usual_one(self) -> None:
        assert TrainingSetup().loss_contract() == LossContract(kd_weight=0.9, hard_weight=0.1, t_squared=True)

    def test_a_given_loss_is_taken_over_part_by_part(self) -> None:
        contract = TrainingSetup(kd_weight=0.5, t_squared=False, reduction="mean", standardized=True).loss_contract()
        assert contract == LossContract(
            kd_weight=0.5, hard_weight=0.5, t_squared=False, reduction="mean", standardized=True
        )

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"epochs": 0}, "epochs must be a whole number at least 1. Got 0."),
            ({"epochs": -3}, "epochs must be a whole number at least 1. Got -3."),
            ({"lr": 0.0}, "lr must be a number above 0. Got 0.0."),
            ({"kd_weight": -1}, "kd_weight must be a number above 0. Got -1."),
            ({"hard_weight": -0.5}, "hard_weight must be a number at least 0. Got -0.5."),
            ({"optimizer": "adamww"}, "Did you mean adamw?"),
            ({"label_smoothing": 1.1}, "label_smoothing must be a number at least 0 and at most 1. Got 1.1."),
            ({"n_train": 2.5}, "n_train must be a whole number at least 1. Got 2.5."),
            ({"t_squared": "yes"}, "t_squared must be true or false. Got 'yes'."),
        ],
    )
    def test_a_value_outside_its_rule_is_refused(self, given: dict[str, object], message: str) -> None:
        assert message in refusal(**given)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (
                {"teacher_origin": "scratch", "teacher_finetune_epochs": 5},
                "teacher_finetune_epochs must be unset or 0",
            ),
            ({"optimizer": "adamw", "momentum": 0.9}, "momentum must be unset when optimizer is adamw"),
            ({"kd_weight": 9.0}, "hard_weight must be given when kd_weight is above 1"),
        ],
    )
    def test_values_that_contradict_each_other_are_refused(self, given: dict[str, object], message: str) -> None:
        assert message in refusal(**given)

    def test_the_neighbors_of_a_contradiction_are_fine(self) -> None:
        TrainingSetup(teacher_origin="scratch", teacher_finetune_epochs=0)
        TrainingSetup(optimizer="sgd", momentum=0.9)
        TrainingSetup(kd_weight=9.0, hard_weight=0.1)

    def test_it_is_frozen(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            TrainingSetup().epochs = 3  # type: ignore[misc]


class TestOneTable:
    CONTRACT = (  # the words of the contract with users
        "optimizer lr batch-size epochs weight-decay kd-weight hard-weight t-squared/--no-t-squared augmentation "
        "label-smoothing student student-params teacher-params student-init teacher-origin teacher-finetune-epochs "
        "n-train granularity logits-from schedule momentum image-size teacher-label-smoothing reduction "
        "standardized/--no-standardized"
    )

    def test_every_flag_of_the_contract_is_in_the_table(self) -> None:
        assert {f"--{word}" for word in self.CONTRACT.split()} <= {column.flag for column in SETUP_COLUMNS}

    def test_the_table_is_the_fields_of_the_record_in_order(self) -> None:
        assert [c.name for c in SETUP_COLUMNS] == [f.name for f in dataclasses.fields(TrainingSetup)]

    def test_every_column_has_a_help_text_and_a_scalar_type(self) -> None:
        assert all(column.spec.help.endswith(".") for column in SETUP_COLUMNS)
        assert {column.type for column in SETUP_COLUMNS} == {bool, int, float, str}

    def test_config_keys_are_the_names_of_the_table(self) -> None:
        for column in SETUP_COLUMNS:
            assert setup_from({column.name: None}, where="setup.yaml") == TrainingSetup()


class TestSetupFrom:
    def test_a_key_with_a_typo_is_refused_with_the_nearest_name_and_the_file(self) -> None:
        with pytest.raises(UsageError) as caught:
            setup_from({"optimiser": "sgd"}, where="setup.yaml")
        assert str(caught.value) == "'optimiser' is not a setup key. Did you mean optimizer? (setup.yaml)"
        assert caught.value.code == "unknown_key"

    def test_a_bad_value_names_the_file(self) -> None:
        with pytest.raises(UsageError, match=r"epochs must be .* \(setup.yaml\)") as caught:
            setup_from({"epochs": 0}, where="setup.yaml")
        assert caught.value.code == "bad_setup"


class TestProfile:
    def test_a_profile_survives_json(self) -> None:
        profile = a_profile()
        assert profile_from(as_dict(profile), where="profile.json") == profile

    def test_a_curve_is_linear_in_log_temperature_and_flat_outside(self) -> None:
        profile = a_profile()
        assert profile.curve_at(2.0, profile.entropy_nats) == pytest.approx(1.25)
        assert profile.curve_at(0.1, profile.entropy_nats) == 0.5
        assert profile.curve_at(99.0, profile.entropy_nats) == 2.0

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"schema": 2}, "schema must be 1. Got 2."),
            ({"margin": None}, "margin does not fit."),
            ({"temperatures": [1.0]}, "temperatures must be above 0 and rise."),
            ({"temperatures": [0.0, 1.0]}, "temperatures must be above 0 and rise."),
            ({"entropy_nats": [0.5]}, "entropy_nats must have one value a temperature."),
            ({"n_classes": 1}, "n_classes must be at least 2"),
            ({"accuracy": 75.0}, "accuracy must lie between 0 and 1. Got 75."),
            ({"mood": "good"}, "It holds unknown mood."),
        ],
    )
    def test_what_is_no_profile_of_this_version_is_refused(self, changes: dict[str, object], message: str) -> None:
        with pytest.raises(InputError) as caught:
            profile_from({**as_dict(a_profile()), **changes}, where="p.json")
        assert str(caught.value).startswith(
            "p.json must be a profile as `tempadvisor profile TEACHER -o profile.json` writes it."
        )
        assert message in str(caught.value)
        assert caught.value.code == "not_a_profile"

    def test_a_missing_field_is_named(self) -> None:
        values = as_dict(a_profile())
        del values["margin"]
        with pytest.raises(InputError, match="It lacks margin"):
            profile_from(values, where="p.json")


def test_as_dict_unfolds_records_mappings_and_tuples() -> None:
    assert as_dict({"gain": Estimate(0.1, 0.2), "notes": (Notice("c", "t"),)}) == {
        "gain": {"mean": 0.1, "std": 0.2},
        "notes": [{"code": "c", "text": "t"}],
    }
