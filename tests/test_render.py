"""What the panel shows: every fact in its place, in 80 columns, and other people's text as text."""

from __future__ import annotations

import dataclasses
import io
import math
import re
import sys
from typing import Any

import pytest
from rich.console import Console

from tempadvisor import render, render_verify
from tempadvisor.advise import recommend
from tempadvisor.records import (
    CurvePoint,
    Estimate,
    LossContract,
    Notice,
    Recommendation,
    Schedule,
    Standing,
    TeacherProfile,
    TrainingSetup,
    Unknown,
)
from tempadvisor.render import BARS, loss_formula
from tempadvisor.teachers import demo_profile
from tempadvisor.temperatures import Axis
from tempadvisor.verification import Rung

TENT = tuple(CurvePoint(temperature=t, mean=m, std=0.0) for t, m in ((0.5, -0.04), (4, 0.0), (64, -0.04)))
NEXT = "tempadvisor recommend --demo --kd-weight X"


@pytest.fixture(scope="module")
def measured() -> TeacherProfile:
    return demo_profile()


@pytest.fixture(scope="module")
def advice(measured: TeacherProfile) -> Recommendation:
    return recommend(measured, TrainingSetup(optimizer="sgd", epochs=300, kd_weight=0.1, augmentation="mixup"))


@pytest.fixture(scope="module")
def usual(advice: Recommendation) -> Recommendation:
    """Return advice that speaks of nothing outside of 0.5 to 64."""
    return dataclasses.replace(
        advice, temperature=2.0, interval=(1.0, 4.0), best_temperature_ci90=(0.5, 12.0), curve=TENT
    )


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that makes stdout a terminal of some width."""

    def of_width(columns: int) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)

    return of_width


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def words(text: str) -> str:
    """Return a panel's words without its frame and line breaks."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", plain(text)).split())


def shown(advice: Recommendation, *, explain: bool = False) -> str:
    return render.recommendation(advice, explain=explain, next_command=NEXT)


class TestLayout:
    @pytest.mark.parametrize("explain", [False, True])
    def test_it_fits_80_columns_and_cuts_nothing(self, advice: Recommendation, terminal: Any, explain: bool) -> None:
        terminal(80)
        lines = plain(shown(advice, explain=explain)).splitlines()
        assert {len(line) for line in lines[:-1]} == {80}
        assert "…" not in "".join(lines)
        for label in ("Near-optimal", "Gain", "Confidence", "Loss", "kd_weight", "Softness", "Accuracy", "T", "Why"):
            assert any(line.startswith(f"│  {label} ") for line in lines), label

    def test_each_fact_stays_on_one_line_in_80_columns(self, advice: Recommendation, terminal: Any) -> None:
        terminal(80)
        lines = plain(shown(advice)).splitlines()
        (gain,) = (line for line in lines if line.startswith("│  Gain "))
        (loss,) = (line for line in lines if line.startswith("│  Loss "))
        assert gain.rstrip(" │").endswith(" pp")
        assert loss.rstrip(" │").endswith(loss_formula(advice.loss_contract, 1)[0])

    def test_a_wide_terminal_gets_no_wider_lines_than_one_can_read(
        self, advice: Recommendation, terminal: Any
    ) -> None:
        terminal(300)
        assert {len(line) for line in plain(shown(advice)).splitlines()[:-1]} == {100}

    def test_color_is_for_terminals_only(self, advice: Recommendation, terminal: Any) -> None:
        without = shown(advice)
        assert "\x1b" not in without
        terminal(100)
        with_color = shown(advice)
        assert "\x1b[" in with_color
        assert plain(with_color) == without

    def test_the_panel_can_be_read_in_ten_seconds(self, advice: Recommendation) -> None:
        assert len(shown(advice).splitlines()) <= 45
        assert words(shown(advice)).count("grade") == 0

    def test_the_next_command_is_one_line_that_can_be_copied(self, advice: Recommendation, terminal: Any) -> None:
        terminal(80)
        long = "tempadvisor recommend " + " ".join(f"--flag-{i} {i}" for i in range(30))
        for text in (
            render.recommendation(advice, explain=False, next_command=long),
            render.profile(demo_profile(), next_command=long),
        ):
            assert plain(text).splitlines()[-1] == f"Next: {long}"


class TestFacts:
    def test_the_numbers_are_those_of_the_advice(self, advice: Recommendation) -> None:
        told = dataclasses.replace(
            advice,
            temperature=3.21,
            interval=(1.5, 6.0),
            best_temperature_ci90=(1.0, 12.0),
            expected_gain={
                "over_t4": Estimate(0.001, 0.004),
                "over_t1": Estimate(0.0123, 0.02),
                "over_no_kd": Estimate(-0.005, 0.01),
            },
            confidence="low",
        )
        text = words(shown(told))
        assert "Temperature 3.21 " in text
        assert "Near-optimal T from 1.5 to 6; the single best lies in 1 to 12 (90 %)" in text
        assert "Gain over T=4 +0.1 ± 0.4, T=1 +1.2 ± 2.0, no KD -0.5 ± 1.0 pp" in text
        assert "Confidence low (" in text
        assert "teacher seen on 1,000 train samples" in text

    def test_the_best_pair_of_weight_and_temperature_is_marked(self, advice: Recommendation) -> None:
        (best,) = (option for option in advice.kd_weights if option.best)
        assert f"{best.kd_weight:g} → T={best.temperature:g} (looks best)" in words(shown(advice))
        assert words(shown(advice)).count("looks best") == 1

    def test_a_schedule_is_shown_where_there_is_one(self, advice: Recommendation) -> None:
        schedule = Schedule(kind="linear", start=1, end=4, text="Optional: raise T from 1 to 4.")
        assert "Schedule Optional: raise T from 1 to 4." in words(
            shown(dataclasses.replace(advice, schedule=schedule))
        )
        assert "Schedule" not in words(shown(dataclasses.replace(advice, schedule=None)))

    def test_what_is_unknown_is_asked_for_with_its_weight(self, advice: Recommendation) -> None:
        unknown = tuple(
            Unknown(name=name, octaves=octaves)
            for name, octaves in (("kd_weight", 1.0), ("n_train", 0.5), ("lr", 0.2), ("epochs", 0.1))
        )
        told = dataclasses.replace(advice, unknown=unknown)
        asked = "Would narrow it most --kd-weight (T moves up to 2.0×), --n-train (1.4×), --lr (1.1×)"
        assert asked in words(shown(told))
        assert "--epochs" not in words(shown(told)).replace(NEXT, "")
        assert f"{asked}, --epochs (1.1×)" in words(shown(told, explain=True))

    def test_nothing_unknown_and_no_teacher_leave_their_lines_out(self) -> None:
        told = dataclasses.replace(recommend(None, TrainingSetup(optimizer="sgd")), unknown=())
        text = words(shown(told))
        assert "Would narrow" not in text
        assert "Softness" not in text
        assert "no teacher seen" in text


class TestReasons:
    def test_three_are_shown_and_the_rest_counted(self, advice: Recommendation) -> None:
        assert len(advice.reasons) > 3
        text = words(shown(advice))
        assert [reason.id for reason in advice.reasons if f"[{reason.id}]" in text] == [
            reason.id for reason in advice.reasons[:3]
        ]
        assert f"{len(advice.reasons) - 3} more with --explain" in text

    def test_explain_shows_every_reason_with_its_text_source_and_grade(self, advice: Recommendation) -> None:
        text = words(shown(advice, explain=True))
        for reason in advice.reasons:
            assert f"{reason.text} [{reason.id}, {reason.source}, grade {reason.grade}]" in text
        assert "more with --explain" not in text

    def test_explain_shows_how_measured_setups_stand_to_a_rule_that_fires_in_any(
        self, advice: Recommendation
    ) -> None:
        told = Standing(rule="x", n_fired=1080, n_for=12, n_against=30)
        reason = dataclasses.replace(advice.reasons[0], text="Because.", id="x", source="s", grade="C", standing=told)
        measured = dataclasses.replace(advice, reasons=(reason,))
        assert "[x, s, grade C] Of 1,080 measured setups: 12 for, 30 against." in words(shown(measured, explain=True))
        assert "measured setups" not in words(shown(measured))
        never = dataclasses.replace(reason, standing=Standing(rule="x", n_fired=0, n_for=0, n_against=0))
        assert "Of 0" not in words(shown(dataclasses.replace(advice, reasons=(never,)), explain=True))

    @pytest.mark.parametrize(
        ("effect", "octaves", "mark"), [("raises", 1.0, "↑ ×2.00"), ("lowers", -1.0, "↓ ×0.50"), ("none", 0.0, "·")]
    )
    def test_the_direction_and_the_factor_come_first(
        self, advice: Recommendation, effect: Any, octaves: float, mark: str
    ) -> None:
        reason = dataclasses.replace(advice.reasons[0], effect=effect, octaves=octaves, text="Because.", id="x")
        assert f"Why {mark} Because. [x] Would" in words(
            shown(dataclasses.replace(advice, reasons=(reason,), warnings=()))
        )

    def test_every_warning_is_shown(self, advice: Recommendation) -> None:
        told = dataclasses.replace(advice, warnings=(Notice("a", "First one."), Notice("b", "Second one.")))
        assert "Warnings ! First one. ! Second one." in words(shown(told))
        assert "Warnings" not in words(shown(dataclasses.replace(advice, warnings=())))


class TestExplain:
    def test_it_shows_curve_setup_versions_and_profile(self, advice: Recommendation) -> None:
        text = words(shown(advice, explain=True))
        for point in advice.curve:
            assert f"{point.temperature:g} {100 * point.mean:+.2f} pp {100 * point.std:.2f} pp" in text
        assert "kd_weight 0.1, optimizer sgd, epochs 300, augmentation mixup" in text
        assert f"tempadvisor {advice.version['tempadvisor']}, knowledge {advice.version['knowledge']}" in text
        assert "Teacher profile" in text


class TestPlot:
    def test_bars_by_hand(self) -> None:
        assert BARS == " ▁▂▃▄▅▆▇█"
        assert render._bars([0, 1 / 8, 2 / 8, 7 / 8, 1], 0, 1) == " ▁▂▇█"
        assert render._bars([0.06, 0.07, 0.93, 0.94], 0, 1) == " ▁▇█", "to the nearest eighth"  # 1/16 = 0.0625
        assert render._bars([-9, 9], 0, 1) == " █", "values outside are held at the ends"
        assert render._bars([-0.02, -0.01, 0.0], -0.02, 0.0) == " ▄█"

    def test_the_axis_has_its_labels_below_their_bars(self) -> None:
        axis = render._labels(Axis(0.5, 64.0))
        assert axis.split() == ["0.5", "1", "2", "4", "8", "16", "32", "64"]
        assert len(axis) == 43
        assert [axis.index(label) for label in ("0.5", "1", "2", "4", "8", "16", "32")] == [0, 6, 12, 18, 24, 30, 36]

    def test_a_longer_axis_has_the_labels_that_have_room(self) -> None:
        axis = render._labels(Axis(0.125, 64.0))
        assert axis.split() == ["0.125", "0.5", "1", "2", "4", "8", "16", "32", "64"]
        assert len(axis) == 43
        assert axis.index("0.5") == round(42 * 2 / 9)

    @pytest.mark.parametrize(("temperature", "column"), [(0.5, 0), (1.0, 6), (2.0, 12), (4.0, 18), (64.0, 42)])
    def test_the_marker_stands_below_its_temperature(
        self, usual: Recommendation, terminal: Any, temperature: float, column: int
    ) -> None:
        terminal(80)
        lines = plain(shown(dataclasses.replace(usual, temperature=temperature))).splitlines()
        (axis,) = (i for i, line in enumerate(lines) if line.startswith("│  T "))
        assert lines[axis + 1].index("▲") - lines[axis].index("0.5") == column
        assert lines[axis + 1].split("▲")[1].split()[0] == f"{temperature:g}"

    @pytest.mark.parametrize(("temperature", "octaves", "label"), [(0.175, 9, "0.125"), (120.0, 8, "128")])
    def test_it_reaches_to_a_temperature_beyond_the_usual(
        self, usual: Recommendation, terminal: Any, temperature: float, octaves: int, label: str
    ) -> None:
        terminal(80)
        lines = plain(shown(dataclasses.replace(usual, temperature=temperature))).splitlines()
        assert {len(line) for line in lines[:-1]} == {80}
        (axis,) = (i for i, line in enumerate(lines) if line.startswith("│  T "))
        assert label in lines[axis]
        left = lines[axis - 1].index("Accuracy") + 10
        low = 0.125 if temperature < 1 else 0.5
        place = round(42 * math.log2(temperature / low) / octaves)
        assert lines[axis + 1].index("▲") - left == place
        assert lines[axis + 1].split("▲")[1].split()[0] == f"{temperature:g}"

    def test_where_nothing_was_measured_there_are_dots_and_no_bars(self, usual: Recommendation) -> None:
        lines = shown(dataclasses.replace(usual, temperature=0.25)).splitlines()  # 8 octaves: 5.25 columns each
        softness, accuracy, axis = (
            next(line for line in lines if line.startswith(f"│  {name} ")) for name in ("Softness", "Accuracy", "T")
        )
        left = accuracy.index("Accuracy") + 10
        for line in (softness, accuracy):
            assert line[left : left + 43].startswith("······")
            assert line[left + 6] in BARS
        assert "· not known" in axis
        assert "not known" not in " ".join(shown(usual).splitlines())

    def test_softness_counts_in_units_of_a_standardized_loss(self, measured: TeacherProfile) -> None:
        wide = dataclasses.replace(measured, logit_std=4.0)
        rows = []
        for standardized in (False, True):
            advice = recommend(wide, TrainingSetup(standardized=standardized))
            ends = {"temperature": 2.0, "interval": (1.0, 4.0), "best_temperature_ci90": (1.0, 4.0)}
            told = dataclasses.replace(advice, curve=TENT, **ends)
            line = next(line for line in shown(told).splitlines() if line.startswith("│  Softness "))
            rows.append(line[line.index("Softness") + 10 :][:43])
        assert rows[1][: 43 - 12] == rows[0][12:]  # two octaves higher

    def test_a_tent_of_accuracy_is_drawn_as_one(self, usual: Recommendation) -> None:
        lines = shown(usual).splitlines()
        (line,) = (line for line in lines if line.startswith("│  Accuracy "))
        bars = line[line.index("Accuracy") + 10 :][:43]
        heights = [BARS.index(bar) for bar in bars]
        assert heights[18] == 8
        assert heights == sorted(heights[:19]) + sorted(heights[19:], reverse=True)
        assert (heights[0], heights[-1]) == (0, 0)
        assert "-4.0 to 0 pp" in line


@pytest.mark.parametrize(
    ("contract", "first", "second"),
    [
        (
            LossContract(kd_weight=0.9),
            "L = 0.1 CE(y, z_s) + 0.9 T² KL(p_t ‖ p_s)",
            "p = softmax(z/T), T = 4, KL averaged over the batch",
        ),
        (
            LossContract(kd_weight=1, hard_weight=0),
            "L = 1 T² KL(p_t ‖ p_s)",
            "p = softmax(z/T), T = 4, KL averaged over the batch",
        ),
        (
            LossContract(kd_weight=2, hard_weight=0.5, t_squared=False),
            "L = 0.5 CE(y, z_s) + 2 KL(p_t ‖ p_s)",
            "p = softmax(z/T), T = 4, KL averaged over the batch",
        ),
        (
            LossContract(kd_weight=0.5, reduction="mean", standardized=True),
            "L = 0.5 CE(y, z_s) + 0.5 T² KL(p_t ‖ p_s)",
            "p = softmax(ẑ/T), T = 4, ẑ = z standardized per sample, KL averaged over batch and classes",
        ),
    ],
)
def test_the_loss_is_written_as_in_a_paper(contract: LossContract, first: str, second: str) -> None:
    assert loss_formula(contract, 4) == (first, second)


class TestOtherPeoplesText:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("[red]x[/red]", "[red]x[/red]"),
            ("[/]", "[/]"),
            ("a\x1b[31mb", r"a\x1b[31mb"),
            ("a\r\nb", r"a\r b"),
            (":smile:", ":smile:"),
        ],
    )
    def test_a_teacher_and_a_student_are_shown_as_text(self, measured: TeacherProfile, name: str, text: str) -> None:
        strange = dataclasses.replace(measured, teacher=name)
        advice = recommend(strange, TrainingSetup(student=name))
        for told in (shown(advice, explain=True), render.profile(strange, next_command=name)):
            assert f"Teacher {text} Samples" in words(told)
            assert not any(ord(letter) < 32 for letter in told.replace("\n", ""))
        assert f"student {text} " in words(shown(advice, explain=True))
        assert render.profile(strange, next_command=name).splitlines()[-1] == f"Next: {text}"

    def test_a_notice_of_a_saved_profile_is_shown_as_text(self, measured: TeacherProfile) -> None:
        strange = dataclasses.replace(measured, warnings=(Notice("c", "[bold]x\x1b[2J"),))
        for told in (render.profile(strange, next_command=NEXT), shown(recommend(strange))):
            assert r"! [bold]x\x1b[2J" in words(told)


class TestProfile:
    def test_it_shows_what_was_measured_with_its_error(self, measured: TeacherProfile) -> None:
        told = dataclasses.replace(
            measured,
            teacher="net",
            n_samples=1200,
            n_available=50_000,
            accuracy=0.913,
            std_errors={"accuracy": 0.0081, "margin": 0.25},
            margin=4.5,
            logit_std=2.0,
            related_mass=0.62,
            spike_temperature=None,
        )
        text = words(render.profile(told, next_command=NEXT))
        assert "Teacher net Samples 1,200 of 50,000, from train inputs Classes 10" in text
        assert "accuracy 0.913 ± 0.0081, NLL" in text
        assert "std 2, highest minus second 4.5 ± 0.25" in text
        assert "62% of the non-target mass on related classes" in text
        assert "Half sure" not in text

    def test_what_needs_labels_is_left_out_without(self, measured: TeacherProfile) -> None:
        bare = dataclasses.replace(
            measured, accuracy=None, nll_nats=None, calibration_error=None, calibration_temperature=None
        )
        assert "Against labels" in words(render.profile(measured, next_command=NEXT))
        assert "Against labels" not in words(render.profile(bare, next_command=NEXT))

    def test_softness_is_a_table_over_temperature(self, measured: TeacherProfile) -> None:
        text = words(render.profile(measured, next_command=NEXT))
        assert "T entropy of log K top-1 prob." in text
        entropy = measured.curve_at(4, measured.entropy_nats)
        top = measured.curve_at(4, measured.top1_probability)
        assert f" 4 {entropy:.3f} nats {entropy / 2.302585:.0%} {top:.3f} " in text


@pytest.mark.parametrize(("columns", "drawn"), [(100, True), (80, True), (70, False), (60, False)])
def test_a_verified_temperature_is_one_whole_line_of_the_table_at_any_width(columns: int, drawn: bool) -> None:
    rungs = tuple(
        Rung(temperature=t, n_seeds=2, measured=0.1, prior=0.0, mean=0.1, ci95=(-0.3958, 0.463)) for t in (1.0, 4.0)
    )
    console = Console(width=columns - 6, file=io.StringIO())
    with console.capture() as capture:
        console.print(render_verify._drawing(rungs, 4.0, min(31, columns - render_verify.BESIDE)))
    told = capture.get()
    assert "…" not in told
    assert any(line.split()[0] == "1" and line.rstrip().endswith("-39.58 to +46.30") for line in told.split("\n")[1:])
    assert ("─" in told) is drawn
