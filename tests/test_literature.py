"""Published curves: which rows make one, what it tells the advice, and how an answer is scored by hand."""

from __future__ import annotations

import csv
import dataclasses
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("rules_alone")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
import literature  # noqa: E402
from test_regressor import a_model, made  # noqa: E402

from tempadvisor.advise import recommend  # noqa: E402
from tempadvisor.corpus import LITERATURE_COLUMNS, Measurement, load_literature  # noqa: E402
from tempadvisor.fitting import use  # noqa: E402
from tempadvisor.records import Recommendation, TrainingSetup  # noqa: E402

SETTINGS = {
    "study": "s", "dataset": "d", "n_classes": "10", "teacher": "big", "student": "small", "optimizer": "sgd",
    "lr": "0.1", "epochs": "30", "kd_weight": "0.9", "hard_weight": "0.1", "t_squared": "yes", "standardized": "no",
    "metric": "top1", "source": "ruthmd", "attributable": "yes", "citation": "README",
}  # fmt: skip
UNATTRIBUTED = {"source": "", "attributable": "no"}
Results = dict[float, float]


@pytest.fixture(autouse=True)
def at_home(tmp_path, monkeypatch):
    """A user without any knowledge of their own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


def read(folder: Path, *given: tuple[dict[str, str], Results]) -> tuple[Measurement, ...]:
    """The rows of a table with the results of each group of changes to `SETTINGS`, read back through the schema."""
    path = folder / "literature.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [c.name for c in LITERATURE_COLUMNS], restval="", lineterminator="\n")
        writer.writeheader()
        for changes, results in given:
            for t, accuracy in results.items():
                writer.writerow({**SETTINGS, **changes, "temperature": f"{t:g}", "accuracy": f"{accuracy:g}"})
    return load_literature(path)


def curve(folder: Path, results: Results) -> literature.Published:
    (found,) = literature.published(read(folder, ({}, results)))
    return found


def answer(
    temperature: float, interval: tuple[float, float] = (1, 4), ci90: tuple[float, float] = (1, 8)
) -> Recommendation:
    plain = recommend(None, TrainingSetup())
    return dataclasses.replace(plain, temperature=temperature, interval=interval, best_temperature_ci90=ci90)


def test_rows_that_differ_in_temperature_alone_make_a_curve_in_order_of_temperature(tmp_path):
    found = curve(tmp_path, {16: 0.71, 1: 0.70, 4: 0.72})
    assert found.temperatures.tolist() == [1, 4, 16]
    assert found.accuracy.tolist() == [0.70, 0.72, 0.71]
    assert (found.best, found.middle) == (4, 4)


@pytest.mark.parametrize(
    "setting",
    [
        {"study": "other"}, {"dataset": "other"}, {"teacher": "other"}, {"student": "other"}, {"optimizer": "adam"},
        {"epochs": "90"}, {"lr": "0.2"}, {"augmentation": "mixup"}, {"kd_weight": "0.5"}, {"hard_weight": "1"},
        {"t_squared": "unknown"}, {"standardized": "yes"}, {"source": "tyui592"},
    ],
    ids=lambda setting: next(iter(setting)),
)  # fmt: skip
def test_another_setting_is_another_curve(tmp_path, setting):
    rows = read(tmp_path, ({}, {1: 0.7, 4: 0.71, 8: 0.72}), (setting, {2: 0.7, 16: 0.8}))
    assert [found.temperatures.tolist() for found in literature.published(rows)] == [[1, 4, 8]]


def test_two_temperatures_are_no_curve_even_with_three_results_and_repeats_are_averaged(tmp_path):
    again = {"citation": "its issue 1"}
    assert literature.published(read(tmp_path, ({}, {1: 0.7, 4: 0.71}), (again, {4: 0.73}))) == []
    (found,) = literature.published(read(tmp_path, ({}, {1: 0.7, 4: 0.71, 8: 0.7}), (again, {4: 0.73})))
    assert found.accuracy.tolist() == pytest.approx([0.7, 0.72, 0.7])


def test_rows_without_source_and_other_metrics_are_counted_and_not_scored(tmp_path):
    grid = {1: 0.7, 4: 0.71, 8: 0.72}
    rows = read(tmp_path, ({}, grid), ({"study": "hearsay", **UNATTRIBUTED}, grid), ({"metric": "F1"}, grid))
    text = literature.report(rows)
    assert "hearsay" not in text
    assert "1 curves of 1 studies, 3 temperatures; 2 more curves of the 9 rows are left out" in text


def test_the_shipped_curves_all_have_a_source_and_top_1_accuracy():
    rows = load_literature()
    curves = literature.published(row for row in rows if row.usable)
    assert {found.row.study: len(found.temperatures) for found in curves} == {
        "danii909": 5,
        "ruthmd": 6,
        "tyui592": 5,
    }
    others = [found.row for found in literature.published(rows) if not found.row.usable]
    assert len(others) == 15
    assert all(row.source is None or row.metric != "top1" for row in others)


def test_the_setup_holds_what_the_row_tells_and_nothing_else(tmp_path):
    (row,) = read(tmp_path, ({"t_squared": "unknown"}, {4: 0.7}))
    assert literature.setup_of(row).given() == {
        "kd_weight": 0.9, "hard_weight": 0.1, "standardized": False, "optimizer": "sgd", "lr": 0.1, "epochs": 30,
        "student": "small",
    }  # fmt: skip


@pytest.mark.parametrize(("temperature", "regret"), [(4, 0), (2, 0.01), (8, 0.005), (0.5, 0.02), (100, 0.01)])
def test_regret_is_linear_in_log_t_between_published_temperatures_and_flat_beyond(tmp_path, temperature, regret):
    assert curve(tmp_path, {1: 0.70, 4: 0.72, 16: 0.71}).loses(temperature) == pytest.approx(regret)


def test_a_fixed_temperature_is_scored_within_the_published_range_only(tmp_path):
    one = literature.judge(curve(tmp_path, {2: 0.70, 8: 0.72, 32: 0.76}), answer(2))
    assert one.regret == pytest.approx(0.06)
    assert one.fixed == (None, pytest.approx(0.05))  # T=1 lies below; T=4 is halfway from 0.70 to 0.72
    assert one.middle == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("accuracy", "advised", "side"),
    [
        ((0.70, 0.705, 0.72), 4, "right"),
        ((0.70, 0.705, 0.72), 2, "wrong"),
        ((0.72, 0.70, 0.70), 2, "right"),
        ((0.72, 0.70, 0.70), 4, "wrong"),
        ((0.70, 0.718, 0.72), 4, "silent"),
        ((0.70, 0.7179, 0.72), 4, "right"),
    ],
)
def test_the_right_side_is_that_of_the_published_best_unless_the_other_comes_within_02_points(
    tmp_path, accuracy, advised, side
):
    published = curve(tmp_path, dict(zip((1, 2, 9), accuracy, strict=True)))  # their middle is 3
    assert literature.judge(published, answer(advised)).side == side


def test_a_best_temperature_in_the_middle_has_no_side(tmp_path):
    assert literature.judge(curve(tmp_path, {1: 0.70, 4: 0.75, 16: 0.70}), answer(2)).side == "silent"


@pytest.mark.parametrize(("ci90", "covers"), [((1, 4), True), ((4, 8), True), ((1, 3.9), False), ((4.1, 8), False)])
def test_the_90_percent_interval_covers_the_published_best_or_not(tmp_path, ci90, covers):
    assert literature.judge(curve(tmp_path, {1: 0.7, 4: 0.72, 16: 0.7}), answer(3, ci90=ci90)).covers is covers


@pytest.mark.parametrize(("interval", "holds"), [((2, 5), True), ((2, 9), False), ((2, 3), None)])
def test_the_near_optimal_interval_holds_where_its_published_temperatures_lose_02_points_at_most(
    tmp_path, interval, holds
):
    published = curve(tmp_path, {1: 0.70, 4: 0.718, 5: 0.72, 9: 0.717})
    assert literature.judge(published, answer(3, interval)).holds is holds


def test_the_table_has_a_line_a_curve_and_leaves_a_temperature_out_of_range_empty(tmp_path):
    one = literature.judge(curve(tmp_path, {2: 0.70, 8: 0.72, 32: 0.76}), answer(16, (8, 20), (4, 40)))
    *_, line = literature.table([one]).splitlines()
    assert line == (
        "| s | d | big to small, sgd, 30 epochs, kd_weight 0.9, hard_weight 0.1, with T² | 2, 8, 32 | 32 | 16 | "
        "8 to 20 | 4 to 40 | 2.00 |  | 5.00 | 4.00 | right |"
    )


def test_without_a_teacher_the_rules_answer_also_where_a_model_is_in_use(tmp_path):
    rows = read(tmp_path, ({"lr": "0.05", "epochs": "10"}, {1: 0.7, 4: 0.71, 8: 0.72}))
    by_rules = literature.report(rows)
    use(a_model([made(source, 2, number) for source in "abc" for number in (0, 1)]))
    assert literature.report(rows) == by_rules
    assert "measured runs speak in 0 of 1 answers" in by_rules


def test_nothing_that_advises_or_learns_reads_the_literature():
    modules = (ROOT / "tempadvisor").glob("*.py")
    assert [path.stem for path in modules if "load_literature" in path.read_text(encoding="utf-8")] == ["corpus"]


def test_the_data_card_shows_what_the_script_prints_today():
    card = (ROOT / "knowledge" / "README.md").read_text(encoding="utf-8")
    assert literature.report(load_literature()) in card, "put what benchmarks/literature.py prints into the data card"
