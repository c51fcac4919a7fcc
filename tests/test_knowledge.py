"""The shipped knowledge files meet their schema, and broken ones are refused with every problem named."""

import csv
import dataclasses
import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from tempadvisor.corpus import (
    LITERATURE_COLUMNS,
    Measurement,
    Source,
    load_literature,
    load_sources,
)
from tempadvisor.errors import KnowledgeError
from tempadvisor.resources import knowledge_path

ROOT = Path(__file__).resolve().parent.parent

Cells = list[list[str]]


@pytest.fixture
def broken(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that copies the shipped table, sets cells {(row, column): text}, and returns the path."""

    def write(cells: dict[tuple[int, str], str]) -> Path:
        with knowledge_path("literature.csv").open(encoding="utf-8", newline="") as stream:
            table = list(csv.reader(stream))
        for (row, column), text in cells.items():
            table[row - 1][table[0].index(column)] = text
        return write_csv(tmp_path / "literature.csv", table)

    return write


def write_csv(path: Path, table: Cells) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(table)
    return path


def message(path: Path) -> str:
    with pytest.raises(KnowledgeError) as caught:
        load_literature(path)
    return str(caught.value)


def test_every_row_of_the_evidence_table_is_kept() -> None:
    rows = load_literature()
    assert len(rows) == 148
    assert len({row.study for row in rows}) == 28


def test_a_row_reads_as_published_in_fractions() -> None:
    (row,) = (r for r in load_literature() if r.study == "crd" and r.student == "wrn16_2")
    assert row == Measurement(
        study="crd",
        dataset="cifar100",
        n_classes=100,
        teacher="wrn40_2",
        student="wrn16_2",
        teacher_accuracy=0.7561,
        student_accuracy_no_kd=0.7326,
        optimizer="sgd",
        lr=0.05,
        batch_size=64,
        epochs=240,
        kd_weight=0.9,
        hard_weight=0.1,
        t_squared=True,
        standardized=False,
        temperature=4.0,
        accuracy=0.7492,
        metric="top1",
        source="repdistiller",
        attributable=True,
        citation="HobbitLong/RepDistiller README",
    )


def test_a_result_that_was_a_fraction_already_is_not_divided_again() -> None:
    assert {r.accuracy for r in load_literature() if r.study == "vad"} == {0.7759, 0.772, 0.7707, 0.7667}


def test_words_that_do_not_fit_a_column_are_kept_verbatim() -> None:
    rows = load_literature()
    assert {(r.recipe, r.optimizer, r.schedule, r.augmentation) for r in rows if r.recipe} == {
        ("sgd-cos", "sgd", "cosine", None),
        ("adam+mixup1", "adam", None, "mixup"),
        ("rmsprop+randaug", "rmsprop", None, "strong"),
    }
    assert {(r.duration, r.epochs) for r in rows if r.duration} == {
        ("1k", 1_000),
        ("10k", 10_000),
        ("30k", 30_000),
        ("100k", 100_000),
        ("1M", 1_000_000),
        ("3-5", None),
    }


def test_a_question_mark_about_t_squared_is_unknown() -> None:
    rows = load_literature()
    assert {r.t_squared for r in rows if r.study == "imagenette"} == {None}
    assert {r.t_squared for r in rows if r.study == "ruthmd"} == {None}
    assert {r.t_squared for r in rows if r.study == "crd"} == {True}


def test_rows_from_unattributed_reports_or_with_another_metric_are_not_usable() -> None:
    rows = load_literature()
    unattributed = [r for r in rows if str(r.citation).startswith("unattributed")]
    assert len(unattributed) == 63
    assert not any(r.usable or r.attributable or r.source for r in unattributed)
    assert not any(r.usable for r in rows if r.metric != "top1" or r.accuracy is None)
    assert sum(r.usable for r in rows) == 66


def test_a_z_scored_temperature_is_told_from_a_plain_one() -> None:
    rows = load_literature()
    assert {r.study for r in rows if r.standardized} == {"ls_zscore"}
    assert not any(r.standardized is None for r in rows)


def test_flags_of_the_evidence_table_are_kept() -> None:
    flags = {r.study: r.flag for r in load_literature()}
    assert flags["takd"] == "T tuned on test set (issue #19)"
    assert flags["mdistiller"] is None


def test_the_table_is_sorted_lf_and_without_duplicates() -> None:
    text = knowledge_path("literature.csv").read_bytes()
    assert b"\r" not in text
    assert text.endswith(b"\n")
    keys = [(r.study, r.dataset, r.teacher or "", r.student or "") for r in load_literature()]
    assert keys == sorted(keys)


def test_converting_the_evidence_table_again_changes_nothing() -> None:
    evidence = ROOT.parent / "shared" / "evidence.csv"
    if not evidence.exists():
        pytest.skip("the evidence table lies beside the project's own checkout only")
    script = runpy.run_path(str(ROOT / "benchmarks" / "make_literature.py"))
    assert script["table"](evidence) == knowledge_path("literature.csv").read_text(encoding="utf-8")


def test_all_bad_rows_are_named_at_once_with_row_column_value_and_rule(broken: Callable[..., Path]) -> None:
    path = broken({(2, "temperature"): "0", (40, "epochs"): "ten", (149, "accuracy"): "75.2"})
    text = message(path)
    assert str(path) in text
    assert "row 2: temperature must be a number above 0. Got 0.0." in text
    assert "row 40: epochs must be a whole number at least 1. Got 'ten'." in text
    assert "row 149: accuracy must be a number at least 0 and at most 1. Got 75.2." in text


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("optimizer", "sgdd", "optimizer must be one of"),
        ("t_squared", "maybe", "t_squared must be true or false. Got 'maybe'."),
        ("accuracy", "nan", "accuracy must be a number at least 0 and at most 1. Got nan."),
        ("n_classes", "1", "n_classes must be a whole number at least 2. Got 1."),
        ("study", "", "study must be given"),
        ("attributable", "", "attributable must be given"),
        ("attributable", "no", "source must be a key of sources.toml exactly where attributable is yes"),
        ("source", "hinton", "source must be a key of sources.toml. Got 'hinton'. Did you mean hinton2015?"),
        ("lr", "0,1", "lr must be a number above 0. Got '0,1'."),
    ],
)
def test_a_bad_cell_is_refused(broken: Callable[..., Path], column: str, value: str, rule: str) -> None:
    assert f"row 2: {rule}" in message(broken({(2, column): value}))


def test_a_row_given_twice_is_refused(tmp_path: Path) -> None:
    header, first, *_ = csv.reader(knowledge_path("literature.csv").read_text(encoding="utf-8").splitlines())
    assert "row 3 must differ from the others. It repeats row 2." in message(
        write_csv(tmp_path / "a.csv", [header, first, first])
    )


def test_a_row_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    header, first, *_ = csv.reader(knowledge_path("literature.csv").read_text(encoding="utf-8").splitlines())
    assert "row 2: it must have 26 cells. Got 5." in message(write_csv(tmp_path / "a.csv", [header, first[:5]]))


def test_a_header_with_another_name_is_refused_with_the_nearest_known(tmp_path: Path) -> None:
    names = [column.name for column in LITERATURE_COLUMNS]
    text = message(write_csv(tmp_path / "a.csv", [["kd_wieght" if n == "kd_weight" else n for n in names]]))
    assert "'kd_wieght' is not a column. Did you mean kd_weight?" in text
    assert "It lacks kd_weight." in text


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"study\n"])
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    assert str(path) in message(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "must be a readable UTF-8 file" in message(tmp_path / "none.csv")


def test_the_records_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_literature()[0].accuracy = 1.0  # type: ignore[misc]


def test_every_source_says_what_of_it_was_read() -> None:
    sources = load_sources()
    assert all(source.title and source.url and source.read and source.grade for source in sources.values())


def test_what_was_not_confirmed_is_left_out_and_said() -> None:
    silent = [
        source.key
        for source in load_sources().values()
        if (source.authors is None or source.year is None)
        and "not confirmed" not in str(source.read)
        and "not read here" not in str(source.read)
        and source.grade == "B"
    ]
    assert silent == []


def test_the_study_is_second_hand_and_says_that_its_tables_were_not_read() -> None:
    study = load_sources()["study"]
    assert study.url == "https://arxiv.org/abs/2603.02430"
    assert study.grade == "C"
    assert "no tables" in str(study.read)


def test_every_key_that_docstrings_cite_is_a_source() -> None:
    cited = set()
    for path in (ROOT / "tempadvisor").glob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip().startswith("Source:"):
                keys = re.sub(r"\(.*?\)", "", line.partition(":")[2])
                cited |= set(re.findall(r"[a-z][a-z0-9-]*", keys))
    assert {"evidence", "guo2017"} <= cited <= load_sources().keys()


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("[a]\ntitle = 'T'\nurl = 'u'\nread = 'r'\ngrade = 'D'", "[a] grade must be one of A, B, C. Got 'D'."),
        ("[a]\ntitle = 'T'\nurl = 'u'\ngrade = 'A'", "[a] read must be given."),
        ("[a]\ntitel = 'T'", "[a] titel is not known. Did you mean title?"),
        ("[a]\ntitle = 'T'\nurl = 'u'\nread = 'r'\ngrade = 'A'\nyear = 'x'", "[a] year must be a whole number"),
        ("a = 1", "[a] must be a table. Got 1."),
        ("[a", "must be TOML"),
    ],
)
def test_a_broken_source_is_refused(tmp_path: Path, toml: str, problem: str) -> None:
    path = tmp_path / "sources.toml"
    path.write_text(toml, encoding="utf-8")
    with pytest.raises(KnowledgeError) as caught:
        load_sources(path)
    assert str(path) in str(caught.value)
    assert problem in str(caught.value)


def test_a_source_without_confirmed_authors_has_none() -> None:
    source = Source(key="k", title="T", url="u", read="r", grade="B")
    assert source.authors is None
    assert source.year is None
