"""What an export says: the conversion, what cannot be expressed, what is unproven. Gradients: test_export_proofs."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from tempadvisor.advise import recommend
from tempadvisor.cli import main
from tempadvisor.errors import UsageError
from tempadvisor.export import FORMATS, export
from tempadvisor.flags import ExportOption
from tempadvisor.records import LossContract, TrainingSetup
from tempadvisor.settings import Settings, number, settings

WANTED = Settings(temperature=4.0, contract=LossContract(kd_weight=0.9), headline="Use T=4.", version="1.2")


def of(form: str, **changes: Any) -> str:
    return export(dataclasses.replace(WANTED, **changes), form).text


@pytest.mark.parametrize("form", FORMATS)
def test_every_export_says_whose_it_is_and_for_which_loss(form: str) -> None:
    text = of(form)
    assert "tempadvisor 1.2 for" in text
    assert "Use T=4." in text
    assert "L = 0.1 CE(z_s, y) + 0.9 T^2 KL(p_t || p_s)" in text


@pytest.mark.parametrize("form", set(FORMATS) - {"json", "yaml"})
def test_a_conversion_is_said(form: str) -> None:
    text = of(form, contract=LossContract(kd_weight=0.9, t_squared=False))
    assert "kd_weight 0.9 to 0.05625; every gradient stays the same" in text


@pytest.mark.parametrize("form", set(FORMATS) - {"json", "yaml"})
def test_a_standardized_loss_is_converted_with_a_warning_as_its_gradient_is_another(form: str) -> None:
    contract = LossContract(kd_weight=9.0, hard_weight=0.1, standardized=True)
    made = export(dataclasses.replace(WANTED, contract=contract, logit_std=3.0), form)
    assert "T 4.0 to 12.0" in made.text
    assert "Standardized logits cannot be expressed" in made.text
    assert any("Standardized logits cannot be expressed" in warning for warning in made.warnings)


@pytest.mark.parametrize(
    "contract", [LossContract(reduction="mean"), LossContract(kd_weight=9.0, hard_weight=0.1, standardized=True)]
)
def test_a_conversion_that_needs_a_teacher_asks_for_one(contract: LossContract) -> None:
    with pytest.raises(UsageError, match="Add TEACHER, or export yaml"):
        of("timm", contract=contract)
    assert of("yaml", contract=contract)


def test_plain_yaml_and_json_hold_the_contract_as_it_is() -> None:
    wanted = {
        "temperature": 4.0,
        "kd_weight": 0.5,
        "hard_weight": 0.5,
        "t_squared": False,
        "reduction": "mean",
        "standardized": False,
    }
    contract = LossContract(kd_weight=0.5, t_squared=False, reduction="mean")
    assert yaml.safe_load(of("yaml", contract=contract)) == wanted
    assert json.loads(of("json", contract=contract)).items() >= wanted.items()


@pytest.mark.parametrize("form", ["mdistiller", "repdistiller"])
def test_what_cannot_be_installed_is_marked_unproven(form: str) -> None:
    assert "# UNPROVEN: " in of(form)


@pytest.mark.parametrize("form", set(FORMATS) - {"mdistiller", "repdistiller"})
def test_what_is_proven_is_not(form: str) -> None:
    assert "UNPROVEN" not in of(form)


def test_repdistiller_gets_its_own_option_names() -> None:
    assert of("repdistiller").endswith('"$@" --distill kd --kd_T 4.0 -r 0.1 -a 0.9 -b 0\n')


def test_mdistiller_gets_a_whole_temperature_as_one() -> None:
    made = export(WANTED, "mdistiller")
    assert "KD.TEMPERATURE 4 KD.LOSS.CE_WEIGHT 0.1 KD.LOSS.KD_WEIGHT 0.9" in made.text
    assert made.warnings == ()


def test_torchdistill_without_a_hard_term_carries_t_squared_in_the_weight_and_warns() -> None:
    made = export(dataclasses.replace(WANTED, contract=LossContract(kd_weight=1.0)), "torchdistill")
    assert yaml.safe_load(made.text)["criterion"]["kwargs"]["sub_terms"]["kd"]["weight"] == 16.0
    assert "drops beta and T^2 when alpha is 0" in made.warnings[0]


def test_keras_with_a_hard_weight_above_one_needs_another_learning_rate_and_says_so() -> None:
    made = export(dataclasses.replace(WANTED, contract=LossContract(kd_weight=2.0, hard_weight=2.0)), "keras")
    assert "multiply the learning rate by 4.0" in made.text
    assert "multiply the learning rate by 4.0" in made.warnings[0]


def test_timms_label_smoothing_is_set_where_it_is_known_and_warned_of_where_not() -> None:
    assert "--smoothing 0.0\n" in of("timm", label_smoothing=0.0)
    assert yaml.safe_load(of("timm-yaml", label_smoothing=0.1))["smoothing"] == 0.1
    assert "timm smooths labels by 0.1" in of("timm")


@pytest.mark.parametrize("form", ["mdistiller", "repdistiller"])
def test_label_smoothing_that_a_trainer_has_not_is_said(form: str) -> None:
    assert "no label smoothing: 0.1 cannot be expressed" in of(form, label_smoothing=0.1)


def test_modelopt_leaves_label_smoothing_to_the_student_loss_and_says_so() -> None:
    assert "label smoothing: 0.1" in of("modelopt", label_smoothing=0.1)
    assert "smoothing" not in of("modelopt")


@pytest.mark.parametrize("form", ["timm", "mdistiller", "repdistiller"])
def test_a_command_line_is_a_script_that_takes_the_other_options(form: str, tmp_path: Path) -> None:
    script, python = tmp_path / "kd.sh", tmp_path / "python"
    script.write_text(of(form, headline="Bad `touch bad` $(touch bad)"))
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", str(script), "a b", "--c"],
        capture_output=True,
        text=True,
        env={"PATH": path},
        cwd=tmp_path,
        check=True,
    )
    words = shlex.split(of(form), comments=True)
    assert done.stdout.splitlines() == [words[1], "a b", "--c", *words[3:]]
    assert not (tmp_path / "bad").exists()


def test_a_headline_cannot_leave_its_comment() -> None:
    advice = recommend(None, TrainingSetup(epochs=10))
    made = settings(dataclasses.replace(advice, headline="a\nrm -rf x"))
    assert all(line.startswith("#") for line in export(made, "timm").text.splitlines()[:-1])


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1.0"), (1e-7, "0.0000001"), (0.1 + 0.2, "0.3"), (1e6, "1000000.0")]
)
def test_numbers_read_as_floats_in_every_language(value: float, text: str) -> None:
    assert number(value) == text
    assert yaml.safe_load(text) == pytest.approx(value)


def test_the_help_names_every_format() -> None:
    words = re.findall(r"[\w-]+", get_args(ExportOption)[1].help.split(":")[1])
    assert words == list(FORMATS)


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["tempadvisor", *words])
    with pytest.raises(SystemExit) as done:
        main()
    return int(done.value.code or 0)


def test_recommend_prints_the_export_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "recommend", "--demo", "--kd-weight", "0.5", "--export", "yaml") == 0
    printed = capsys.readouterr()
    assert yaml.safe_load(printed.out)["kd_weight"] == 0.5
    assert printed.err == ""


def test_a_warning_goes_to_stderr_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "recommend", "--demo", "--kd-weight", "1", "--export", "torchdistill") == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("tempadvisor: KDLoss drops beta and T^2")
    assert yaml.safe_load(printed.out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--export", "tim"), "Did you mean timm?"),
        (("--export", "timm", "--json"), "leave out --json"),
        (("--export", "timm", "--explain"), "leave out --json and --explain"),
    ],
)
def test_a_wrong_export_is_refused_before_anything_is_measured(
    words: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "recommend", "missing.npz", *words) == 2
    assert message in capsys.readouterr().err


def test_verify_refuses_an_export_of_a_dry_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "verify", "--demo", "--dry-run", "--export", "timm") == 2
    assert "leave out --json and --dry-run" in capsys.readouterr().err


def test_verify_exports_the_temperature_it_ended_with(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from tempadvisor import verify as verifying

    @dataclasses.dataclass
    class Found:
        temperature = 7.5
        headline = "Better found."
        verdict = "better_found"
        recommendation = recommend(None, TrainingSetup(epochs=10))

    monkeypatch.setenv("TEMPADVISOR_CACHE", str(tmp_path))
    monkeypatch.setattr(verifying, "verify", lambda *_, **__: Found)
    assert run(monkeypatch, "verify", "--demo", "--strict", "--export", "yaml") == 1
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed)["temperature"] == 7.5
    assert "Better found." in printed
