"""Own runs: all rows of a file or none, the same once, whoever else writes and whenever it is killed."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest

from tempadvisor import holdings
from tempadvisor.audit import findings
from tempadvisor.coverage import coverage
from tempadvisor.curves import TEMPERATURES
from tempadvisor.errors import InputError, KnowledgeError, UsageError
from tempadvisor.evidence import profiles_path, write_profiles
from tempadvisor.holdings import add, export_file, export_text, own_runs, shipped_runs
from tempadvisor.imports import read_file
from tempadvisor.location import place_of
from tempadvisor.records import TrainingSetup
from tempadvisor.render_knowledge import added as rendered
from tempadvisor.resources import knowledge_path
from tempadvisor.runs import Run, read_runs, write_runs
from tempadvisor.store import imports, remove, stored
from tempadvisor.teachers import demo_profile

WRITERS = Path(__file__).with_name("writers.py")
RUN = Run(
    suite="mine",
    curve="c",
    seed=0,
    temperature=4.0,
    source="photos",
    dataset="photos",
    teacher="resnet50",
    setup=TrainingSetup(kd_weight=0.9, t_squared=True, optimizer="sgd", lr=0.05),
    n_classes=10,
    status="FINISHED",
    val_accuracy=0.1 + 0.2,
    test_accuracy=0.75,
)
MAPPING = {"T": "temperature", "acc": "test_accuracy", "val": "val_accuracy"}
FIXED = {"source": "photos", "dataset": "photos", "teacher": "resnet50", "kd_weight": "0.9", "t_squared": "true"}


def some(
    n_seeds: int = 2,
    temperatures: Sequence[float | None] = (None, 1.0, 4.0, 8.0),
    first_seed: int = 0,
    **other: Any,
) -> list[Run]:
    """Return runs whose accuracies tell seed and temperature."""
    return [
        dataclasses.replace(
            RUN,
            **{
                "seed": seed,
                "temperature": t,
                "val_accuracy": 0.7 + 0.01 * seed,
                "test_accuracy": 0.7 + 0.001 * seed + (t or 0) / 1000,
                **other,
            },
        )
        for seed in range(first_seed, first_seed + n_seeds)
        for t in temperatures
    ]


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("TEMPADVISOR_KNOWLEDGE", raising=False)
    return tmp_path


@pytest.fixture
def no_corpus(desk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a shipped corpus that holds nothing yet."""
    (desk / "shipped").mkdir()
    monkeypatch.setattr(holdings, "knowledge_path", lambda _: desk / "shipped")
    return desk / "shipped"


def written(name: str, runs: Iterable[Run]) -> str:
    write_runs(Path(name), runs)
    return name


def reasons(
    name: str, mapping: dict[str, str] | None = None, fixed: dict[str, str] | None = None
) -> list[tuple[int | None, str | None]]:
    (added,) = add([name], mapping or {}, fixed or {})
    assert added.imported is None
    assert all(one.file == name for one in added.refused)
    return [(one.row, one.column) for one in added.refused]


class TestWhereItLives:
    def test_by_default_in_the_data_directory_of_the_user(self, desk: Path) -> None:
        assert place_of().path == desk / "data" / "tempadvisor" / "knowledge.db"

    def test_a_relative_data_directory_counts_as_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_DATA_HOME", "data")
        monkeypatch.setenv("HOME", "/home/ann")
        assert place_of().path == Path("/home/ann/.local/share/tempadvisor/knowledge.db")

    def test_the_variable_names_another_place_and_the_url_wins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TEMPADVISOR_KNOWLEDGE", "sqlite:////team/a.db")
        assert place_of().path == Path("/team/a.db")
        assert place_of("sqlite:///b.db").path == Path("b.db")

    @pytest.mark.parametrize("url", ["", "b.db", "sqlite://", "sqlite:///", "mysql://server/x", "redis://x"])
    def test_no_other_database_is_used(self, url: str) -> None:
        with pytest.raises(UsageError, match="must be sqlite:///FILE or postgresql"):
            place_of(url)

    def test_a_refused_url_does_not_show_its_password(self) -> None:
        with pytest.raises(UsageError) as refused:
            place_of("mysql://ann:secret@server/x")
        assert "secret" not in str(refused.value)

    def test_asking_where_there_is_nothing_gives_nothing_and_makes_nothing(self, desk: Path) -> None:
        assert own_runs() == ((), {})
        assert imports() == ()
        assert findings() == ()
        assert not list(desk.iterdir())

    def test_asking_where_there_is_nothing_does_not_load_the_database(self) -> None:
        code = "import sys; from tempadvisor.holdings import own_runs; own_runs(); print('sqlalchemy' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


class TestAdding:
    def test_runs_come_back_as_they_were_sorted_by_key(self) -> None:
        nothing = {"val_accuracy": None, "test_accuracy": None, "error": 'nan, "ü\n'}
        runs = [*some(), dataclasses.replace(RUN, seed=9, status="FAILED", time="now", **nothing)]
        (added,) = add([written("runs.csv", runs)], {}, {})
        assert (added.rows, added.known, added.refused) == (9, 0, ())
        assert own_runs() == (tuple(sorted(runs, key=lambda run: run.key)), {})

    def test_adding_the_same_rows_twice_changes_nothing(self) -> None:
        name = written("runs.csv", some())
        (first,), before = add([name], {}, {}), stored()
        (second,) = add([name], {}, {})
        assert (second.imported, second.known) == (None, 8)
        assert stored() == before
        assert [one.id for one in imports()] == [first.imported.id]

    def test_progress_tells_rows_done_and_rows_in_all_files(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tempadvisor.imports.TOLD_EVERY", 4)
        files = [written(f"{curve}.csv", some(curve=curve)) for curve in "ab"]  # 8 rows and a header each
        told: list[tuple[int, int | None]] = []
        add(files, {}, {}, progress=lambda *step: told.append(step))
        # Of file a 4 and 8 rows read, 8 written after its 9 lines were read; then the same of b.
        assert told == [(2, 18), (4, 18), (8, 18), (11, 18), (13, 18), (17, 18)]

    def test_progress_knows_no_end_where_a_file_tells_no_lines(self) -> None:
        told: list[tuple[int, int | None]] = []
        add([written("a.csv", some()), "none.csv"], {}, {}, progress=lambda *step: told.append(step))
        assert told == [(8, None)]

    def test_another_time_or_machine_does_not_make_a_run_another(self) -> None:
        add([written("runs.csv", some())], {}, {})
        (added,) = add([written("again.csv", some(time="2026-01-01T00:00:00Z", device="gpu", commit="x"))], {}, {})
        assert (added.imported, added.known) == (None, 8)

    def test_only_what_is_new_becomes_an_import(self) -> None:
        add([written("a.csv", some(2))], {}, {})
        (added,) = add([written("b.csv", some(3))], {}, {})
        assert (added.imported.rows, added.imported.curves, added.known) == (4, 1, 8)
        assert [(one.file, one.rows) for one in imports()] == [("a.csv", 8), ("b.csv", 4)]

    def test_another_value_of_a_known_key_is_refused_with_column_and_both_values(self) -> None:
        add([written("a.csv", some())], {}, {})
        before = stored()
        (added,) = add([written("b.csv", [*some(temperatures=[2.0]), *some(1, [4.0], test_accuracy=0.5)])], {}, {})
        (refused,) = added.refused
        assert (refused.row, refused.column) == (3, "test_accuracy")
        assert "0.704" in refused.reason
        assert "0.5" in refused.reason
        assert imports()[0].id in refused.reason
        assert stored() == before

    @pytest.mark.parametrize(("before", "after"), [(None, 0.75), (0.75, None)])
    def test_where_only_the_test_accuracy_is_new_or_gone_it_is_named_with_what_to_do(
        self, before: float | None, after: float | None
    ) -> None:
        one = dataclasses.replace(RUN, device="cpu", test_accuracy=before)
        add([written("a.csv", [one])], {}, {})
        file = written("b.csv", [dataclasses.replace(one, device=None, test_accuracy=after)])
        (refused,) = add([file], {}, {})[0].refused
        assert refused.column == "test_accuracy"
        assert f"temperature: {before or 'none'}. Got {after or 'none'}. " in refused.reason
        (held,) = imports()
        again = f"Run tempadvisor knowledge remove {held.id}, then add the file again."
        assert refused.reason.endswith(again) == (before is None)
        if before is None:
            remove(held.id)
            assert add([file], {}, {})[0].rows == 1

    def test_another_measurement_gets_another_suite(self) -> None:
        add([written("a.csv", some())], {}, {})
        (added,) = add([written("b.csv", some(test_accuracy=0.5))], {"suite": ""}, {"suite": "again"})
        assert added.imported.rows == 8

    def test_the_shipped_corpus_is_known_and_cannot_be_contradicted(self, no_corpus: Path) -> None:
        write_runs(no_corpus / "mine.csv", some())
        (same,) = add([written("a.csv", some())], {}, {})
        assert (same.imported, same.known) == (None, 8)
        (other,) = add([written("b.csv", some(test_accuracy=0.5))], {}, {})
        assert len(other.refused) == 8
        assert "the shipped corpus" in other.refused[0].reason
        assert shipped_runs() == tuple(some())

    def test_the_frozen_source_is_never_looked_at(self, no_corpus: Path) -> None:
        (no_corpus / "frozen-kana.csv").write_text("not to be read")
        assert shipped_runs() == ()

    def test_bench_brings_the_profiles_of_its_teachers(self) -> None:
        name, profile = written("runs.csv", some()), demo_profile()
        write_profiles(profiles_path(Path(name)), {"c": profile, "another": profile})
        (added,) = add([name], {}, {})
        assert added.profiles == 1
        assert own_runs()[1].keys() == {"c"}
        assert own_runs()[1]["c"].entropy_nats == pytest.approx(profile.entropy_nats)
        assert add([name], {}, {})[0].profiles == 0

    def test_a_profile_that_is_another_teachers_is_refused(self) -> None:
        name, profile = written("runs.csv", some()), demo_profile()
        write_profiles(profiles_path(Path(name)), {"c": profile})
        add([name], {}, {})
        write_profiles(profiles_path(Path(name)), {"c": dataclasses.replace(profile, margin=profile.margin + 1)})
        write_runs(Path(name), some(3))
        assert reasons(name) == [(None, None)]
        assert len(own_runs()[0]) == 8

    def test_one_bad_file_does_not_keep_the_good_ones_out(self) -> None:
        Path("bad.csv").write_text("seed\nmany\n")
        first, second, third = add(["bad.csv", written("good.csv", some()), "none.csv"], {}, {})
        assert (bool(first.refused), second.imported.rows, bool(third.refused)) == (True, 8, True)

    def test_removing_an_import_takes_its_rows_and_the_profiles_of_no_run(self) -> None:
        name, profile = written("a.csv", some(2)), demo_profile()
        write_profiles(profiles_path(Path(name)), {"c": profile})
        (first,) = add([name], {}, {})
        (second,) = add([written("b.csv", some(3))], {}, {})
        assert remove(first.imported.id) == first.imported
        assert [run.seed for run in own_runs()[0]] == [2] * 4
        assert own_runs()[1].keys() == {"c"}
        remove(second.imported.id)
        assert own_runs() == ((), {})
        with pytest.raises(UsageError, match="There are none"):
            remove(first.imported.id)

    def test_what_was_removed_can_be_added_again(self) -> None:
        name = written("a.csv", some())
        (first,) = add([name], {}, {})
        remove(first.imported.id)
        (second,) = add([name], {}, {})
        assert second.imported.id == first.imported.id


class TestForeignFiles:
    CSV = "seed,T,val,acc,notes\n0,,0.8,0.79,a\n0,1,0.81,0.8,\n0,4.0,0.83,0.82,b\n"

    def test_mapped_columns_and_fixed_values_make_runs(self) -> None:
        Path("sweep.csv").write_text(self.CSV)
        (added,) = add(["sweep.csv"], MAPPING, FIXED)
        assert (added.rows, added.ignored) == (3, ("notes",))
        runs, _ = own_runs()
        assert [(run.temperature, run.val_accuracy, run.test_accuracy) for run in runs] == [
            (None, 0.8, 0.79),
            (1.0, 0.81, 0.8),
            (4.0, 0.83, 0.82),
        ]
        assert {(run.suite, run.status, run.setup.kd_weight, run.setup.t_squared) for run in runs} == {
            ("own", "FINISHED", 0.9, True)
        }

    def test_json_lines_say_the_same(self) -> None:
        Path("sweep.csv").write_text(self.CSV)
        rows = [
            {"seed": 0, "T": None, "val": 0.8, "acc": 0.79, "notes": ["x"]},
            {"seed": 0, "T": 1, "val": 0.81, "acc": 0.8},
            {"seed": 0, "T": 4, "val": 0.83, "acc": 0.82},
        ]
        Path("sweep.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
        add(["sweep.csv"], MAPPING, FIXED)
        (added,) = add(["sweep.jsonl"], MAPPING, FIXED)
        assert (added.rows, added.known) == (3, 3)

    def test_runs_of_one_setup_are_one_curve_whatever_file_or_writing_they_have(self) -> None:
        Path("a.csv").write_text("seed,temperature,val_accuracy,test_accuracy,epochs\n0,1,0.5,0.5,10\n")
        Path("b.csv").write_text("epochs,seed,temperature,val_accuracy,test_accuracy\n10.0,1,1.0,0.5,0.5\n")
        Path("c.csv").write_text("seed,temperature,val_accuracy,test_accuracy,epochs\n0,1,0.5,0.5,20\n")
        add(["a.csv", "b.csv", "c.csv"], {}, FIXED)
        assert [one.rows for one in imports()] == [1, 1, 1]
        names = {run.setup.epochs: run.curve for run in own_runs()[0]}
        assert len({run.curve for run in own_runs()[0]}) == 2
        assert names[10].startswith("photos-")

    def test_without_provenance_and_loss_nothing_is_taken_and_each_lack_is_told_once(self) -> None:
        Path("sweep.csv").write_text(self.CSV)
        lacking = ["source", "dataset", "teacher", "kd_weight", "t_squared"]
        assert reasons("sweep.csv", MAPPING) == [(None, column) for column in lacking]

    def test_an_empty_cell_of_a_required_column_is_told_by_row(self) -> None:
        Path("sweep.csv").write_text(self.CSV.replace("0,1,", ",1,"))
        assert reasons("sweep.csv", MAPPING, FIXED) == [(3, "seed")]

    def test_without_a_temperature_the_rows_are_no_curve(self) -> None:
        Path("sweep.csv").write_text(self.CSV)
        assert reasons("sweep.csv", {k: v for k, v in MAPPING.items() if k != "T"}, FIXED) == [(None, "temperature")]

    def test_a_json_line_without_the_key_temperature_is_no_run_without_kd(self) -> None:
        rows = [
            {"seed": 0, "temperature": "", "val_accuracy": 0.8},
            {"seed": 1, "temprature": 4, "val_accuracy": 0.81},
        ]
        Path("sweep.jsonl").write_text("\n".join(map(json.dumps, rows)))
        (refused,) = add(["sweep.jsonl"], {}, FIXED)[0].refused
        assert (refused.row, refused.column) == (2, "temperature")
        assert refused.reason.endswith("Got 'temprature'.")
        Path("sweep.jsonl").write_text(json.dumps(rows[1]))
        told = [one.reason for one in add(["sweep.jsonl"], {}, FIXED)[0].refused]
        assert any("Say --map temprature=temperature" in reason for reason in told)
        assert add(["sweep.jsonl"], {"temprature": "temperature"}, FIXED)[0].rows == 1
        Path("sweep.jsonl").write_text(json.dumps(rows[1] | {"schema": 1, "temprature": 4}))
        assert (None, "temperature") in reasons("sweep.jsonl", {}, FIXED)

    @pytest.mark.parametrize("name", ["val", "valid_acc", "accuracy", "Val_Acc"])
    def test_without_val_accuracy_a_finished_run_is_refused_once_a_file_with_the_column_it_may_be(
        self, name: str
    ) -> None:
        Path("a.csv").write_text(f"seed,temperature,{name}\n0,1,0.8\n0,2,0.81\n")
        refused = add(["a.csv"], {}, FIXED)[0].refused
        assert [(one.row, one.column) for one in refused] == [(None, "val_accuracy"), (None, name)]
        assert f"Say --map {name}=val_accuracy" in refused[1].reason
        assert add(["a.csv"], {name: "val_accuracy"}, FIXED)[0].rows == 2
        Path("failed.csv").write_text("seed,temperature,status,error\n0,4,FAILED,diverged\n")
        assert add(["failed.csv"], {}, FIXED)[0].rows == 1

    def test_all_bad_rows_are_told_at_once_by_row_and_column(self) -> None:
        Path("sweep.csv").write_text(
            "seed,T,val,acc,optimizer\n0,1,0.8,79.5,sdg\n0,hot,0.8,0.8,sgd\n0,1\n0,2,0.8,nan,sgd\n0,3,,0.8,sgd\n"
        )
        assert reasons("sweep.csv", MAPPING, FIXED) == [
            (2, "optimizer"),
            (2, "test_accuracy"),
            (3, "temperature"),
            (4, None),
            (5, "test_accuracy"),
            (6, "val_accuracy"),
        ]

    def test_two_rows_of_one_key_are_one_if_they_agree_and_refused_if_not(self) -> None:
        Path("same.csv").write_text(f"{self.CSV}0,1,0.81,0.8,c\n")
        Path("other.csv").write_text(f"{self.CSV}0,1,0.81,0.7,c\n")
        assert reasons("other.csv", MAPPING, FIXED) == [(5, None)]
        (added,) = add(["same.csv"], MAPPING, FIXED)
        assert added.rows == 3

    @pytest.mark.parametrize(
        ("header", "column"), [("optimiser", "optimiser"), ("test_acc", "test_acc"), ("batchsize", "batchsize")]
    )
    def test_a_column_that_is_nearly_ours_is_not_left_out_in_silence(self, header: str, column: str) -> None:
        Path("a.csv").write_text(f"seed,T,val,acc,{header}\n0,1,0.5,0.5,1\n")
        mapping = {**MAPPING, "acc": ""} if header == "test_acc" else MAPPING
        assert (None, column) in reasons("a.csv", mapping, FIXED)
        if header != "test_acc":
            assert add(["a.csv"], {**mapping, header: ""}, FIXED)[0].rows == 1

    @pytest.mark.parametrize(
        ("mapping", "fixed", "column"),
        [
            ({"acc": "test_accuracy", "test": "test_accuracy"}, {}, "test_accuracy"),
            ({"acc": "test_accuracy", "test": ""}, {"seed": "1"}, "seed"),
            ({"acc": "test_accuracy", "test": "", "nothing": "lr"}, {}, "nothing"),
        ],
    )
    def test_a_column_told_twice_or_never_is_refused(
        self, mapping: dict[str, str], fixed: dict[str, str], column: str
    ) -> None:
        Path("a.csv").write_text("seed,temperature,val_accuracy,acc,test\n0,1,0.5,0.5,0.5\n")
        assert (None, column) in reasons("a.csv", mapping, {**FIXED, **fixed})

    def test_a_mapping_to_none_of_our_columns_is_a_usage_error(self) -> None:
        Path("a.csv").write_text(self.CSV)
        with pytest.raises(UsageError, match="Did you mean temperature"):
            read_file("a.csv", {"T": "temprature"}, {})
        with pytest.raises(UsageError, match="--set must name a column"):
            read_file("a.csv", {}, {"sauce": "photos"})

    @pytest.mark.parametrize(
        "content",
        [b"", b"\xff\xfe\x00", b"PK\x03\x04", b'a,"b\n', b"a,a\n1,2\n", b"\x80\x04\x95", b"seed\n", b"x" * 200_000],
    )
    def test_what_is_no_csv_is_refused(self, content: bytes) -> None:
        Path("a.csv").write_bytes(content)
        assert reasons("a.csv")

    @pytest.mark.parametrize(
        "line", ["1", "[]", "{", "[" * 100_000, '{"seed": NaN}', '{"seed": {"a": 1}, "lr": [1], "epochs": 1e999}']
    )
    def test_what_is_no_json_object_of_single_values_is_refused(self, line: str) -> None:
        Path("a.jsonl").write_text(line)
        assert reasons("a.jsonl")

    def test_texts_that_no_database_takes_are_refused(self) -> None:
        row = {"seed": 0, "temperature": 1, "val_accuracy": 0.5, "test_accuracy": 0.5}
        rows = [{**row, "student": "a\0b"}, {**row, "student": "\ud800"}, {**row, "curve": "c" * 201}]
        Path("a.jsonl").write_text("\n".join(map(json.dumps, rows)))
        assert reasons("a.jsonl", {}, FIXED) == [(1, "student"), (2, "student"), (3, "curve")]

    @pytest.mark.parametrize("name", ["none.csv", "folder.csv", "runs.xlsx", "runs", "/dev/null", "bad\0.csv"])
    def test_what_cannot_be_read_is_refused(self, desk: Path, name: str) -> None:
        (desk / "folder.csv").mkdir()
        with pytest.raises(InputError):
            read_file(name, {}, {})


class TestOptuna:
    @pytest.fixture(params=["sqlite", "journal"])
    def storage(self, request: pytest.FixtureRequest) -> str:
        return f"{request.param}:///study.{request.param}"

    @pytest.fixture
    def study(self, storage: str) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        return optuna.create_study(study_name="sweep", storage=opened(storage), direction="maximize")

    def test_trials_are_runs(self, storage: str, study: optuna.Study) -> None:
        def objective(trial: optuna.Trial) -> float:
            temperature = trial.suggest_float("temperature", 1, 16)
            trial.set_user_attr("seed", 3)
            if temperature == 8:
                raise optuna.TrialPruned
            if temperature == 16:
                raise RuntimeError("nan")
            trial.set_user_attr("test_accuracy", 0.5)
            return 0.6

        for temperature in (2, 8, 16):
            study.enqueue_trial({"temperature": temperature})
        study.optimize(objective, n_trials=3, catch=(RuntimeError,))
        study.ask()  # one that still runs
        add([storage], {}, FIXED)
        assert [(run.suite, run.seed, run.temperature, run.status, run.val_accuracy) for run in own_runs()[0]] == [
            ("sweep", 3, 2.0, "FINISHED", 0.6),
            ("sweep", 3, 8.0, "PRUNED", None),
            ("sweep", 3, 16.0, "FAILED", None),
        ]

    def test_a_study_of_temperatures_is_a_curve(self, storage: str, study: optuna.Study) -> None:
        for temperature in (1.0, 4.0):
            study.add_trial(finished(temperature))
        (added,) = add([storage], {}, FIXED)
        assert (added.imported.rows, added.imported.curves) == (2, 1)
        runs, _ = own_runs()
        assert [(run.suite, run.temperature, run.seed, run.val_accuracy, run.test_accuracy) for run in runs] == [
            ("sweep", 1.0, 3, 0.6, 0.5),
            ("sweep", 4.0, 3, 0.6, 0.5),
        ]

    def test_without_a_test_accuracy_a_trial_is_taken_too(self, storage: str, study: optuna.Study) -> None:
        study.add_trial(finished(1.0, test=False))
        add([storage], {}, FIXED)
        assert [(run.val_accuracy, run.test_accuracy) for run in own_runs()[0]] == [(0.6, None)]

    def test_a_trial_that_did_not_finish_and_notes_an_accuracy_is_left_out_and_counted(
        self, storage: str, study: optuna.Study
    ) -> None:
        state = optuna.trial.TrialState
        study.add_trial(finished(1.0))
        for temperature, ended in ((2.0, state.PRUNED), (4.0, state.PRUNED), (8.0, state.FAIL)):
            study.add_trial(finished(temperature, ended, acc=0.4))
        study.add_trial(finished(16.0, state.PRUNED))
        (added,) = add([storage], {"acc": "test_accuracy", "test_accuracy": ""}, FIXED)
        assert added.refused == ()
        assert dict(added.skipped) == {
            "the accuracy of a pruned trial is its last report, not a result": 2,
            "the accuracy of a failed trial is no result": 1,
        }
        assert "  2 trials left out: the accuracy of a pruned trial is its last report, not a result\n" in rendered(
            [added]
        )
        assert [(run.temperature, run.status) for run in own_runs()[0]] == [(1.0, "FINISHED"), (16.0, "PRUNED")]

    def test_one_of_several_studies_is_named(self, storage: str, study: optuna.Study) -> None:
        study.add_trial(finished(1.0))
        optuna.create_study(study_name="other", storage=opened(storage), direction="minimize")
        with pytest.raises(InputError, match="followed by #STUDY"):
            read_file(storage, {}, FIXED)
        with pytest.raises(InputError, match="must maximize one value"):
            read_file(f"{storage}#other", {}, FIXED)
        assert len(read_file(f"{storage}#sweep", {}, FIXED).runs) == 1

    @pytest.mark.parametrize(
        "url", ["sqlite:///none.db", "journal:///none", "redis://x", "sqlite:///bad", "journal:///bad"]
    )
    def test_what_is_no_storage_is_refused_and_nothing_is_made(self, desk: Path, url: str) -> None:
        (desk / "bad").write_bytes(b"\x80\x04hello, no database\n")
        with pytest.raises(InputError, match="must be"):
            read_file(url, {}, FIXED)
        assert [path.name for path in desk.iterdir()] == ["bad"]
        assert (desk / "bad").read_bytes() == b"\x80\x04hello, no database\n"


def opened(url: str) -> Any:
    if url.startswith("sqlite"):
        return url
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(url.removeprefix("journal:///")))


def finished(
    temperature: float, state: Any = optuna.trial.TrialState.COMPLETE, *, test: bool = True, **noted: float
) -> Any:
    complete = state == optuna.trial.TrialState.COMPLETE
    return optuna.trial.create_trial(
        state=state,
        value=0.6 if complete else None,
        params={"temperature": temperature},
        distributions={"temperature": optuna.distributions.FloatDistribution(1, 16)},
        user_attrs={"seed": 3, **({"test_accuracy": 0.5} if test and complete else {}), **noted},
    )


class TestExport:
    @pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet"])
    def test_what_is_exported_can_be_added_and_is_the_same(self, name: str) -> None:
        bare = dataclasses.replace(RUN, curve="bare", setup=TrainingSetup())
        runs = [*some(1), *some(1, first_seed=1, test_accuracy=None), bare]
        file = written("runs.csv", runs)
        write_profiles(profiles_path(Path(file)), {"c": demo_profile()})
        add([file], {}, {})
        assert export_file(Path(name)).rows == 9
        (added,) = add([name], {}, {}, "sqlite:///other.db")
        assert added.imported.rows == 9
        assert own_runs("sqlite:///other.db") == own_runs()
        if name == "out.csv":
            assert export_text() == Path(name).read_text()
            assert read_runs(Path(name)) == own_runs()[0]

    def test_parquet_has_typed_columns(self) -> None:
        from pyarrow import parquet

        add([written("runs.csv", some())], {}, {})
        export_file(Path("out.parquet"))
        table = parquet.read_table("out.parquet")
        assert table.num_rows == 8
        assert table["temperature"].to_pylist()[:3] == [None, 1.0, 4.0]
        assert {str(table.schema.field(name).type) for name in ("seed", "lr", "t_squared", "suite")} == {
            "int64",
            "double",
            "bool",
            "string",
        }

    def test_parquet_of_others_is_added_with_mapped_columns_and_bad_rows_are_told(self) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        columns = {"seed": [0, 0], "T": [None, 4.0], "val": [0.8, 0.83], "acc": [0.79, 82.0], "notes": ["a", None]}
        parquet.write_table(pa.table(columns), "bad.parquet")
        parquet.write_table(pa.table(columns | {"acc": [0.79, 0.82]}), "good.parquet")
        assert reasons("bad.parquet", MAPPING, FIXED) == [(2, "test_accuracy")]
        told: list[tuple[int, int | None]] = []
        (added,) = add(["good.parquet"], MAPPING, FIXED, progress=lambda *step: told.append(step))
        assert (added.rows, added.ignored) == (2, ("notes",))
        assert told == [(1, None)]
        assert [(run.temperature, run.test_accuracy) for run in own_runs()[0]] == [(None, 0.79), (4.0, 0.82)]

    @pytest.mark.parametrize(
        "name", ["none.parquet", "folder.parquet", "text.parquet", "twice.parquet", "bad\0.parquet"]
    )
    def test_what_is_no_parquet_is_refused(self, desk: Path, name: str) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        (desk / "folder.parquet").mkdir()
        (desk / "text.parquet").write_text("no parquet")
        twice = pa.Table.from_arrays([pa.array([0]), pa.array([1])], names=["seed", "seed"])
        parquet.write_table(twice, "twice.parquet")
        assert reasons(name) == [(None, None)]

    def test_parquet_without_pyarrow_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(KnowledgeError, match=r"pip install 'tempadvisor\[parquet\]'"):
            add(["runs.parquet"], {}, {})
        with pytest.raises(KnowledgeError, match=r"pip install 'tempadvisor\[parquet\]'"):
            export_file(Path("runs.parquet"))

    def test_nothing_half_written_is_left_where_it_cannot_be_written(self, desk: Path) -> None:
        add([written("runs.csv", some())], {}, {})
        for name in ("none/out.csv", "none/out.jsonl", "none/out.parquet"):
            with pytest.raises(InputError):
                export_file(Path(name))
        assert sorted(path.name for path in desk.iterdir()) == ["data", "runs.csv"]

    def test_another_format_is_refused(self) -> None:
        for form in ("xlsx", "parquet"):
            with pytest.raises(UsageError, match="--format must be"):
                export_text(form)
        with pytest.raises(UsageError, match="--format must be"):
            export_file(Path("runs"))


@pytest.mark.usefixtures("no_corpus")
class TestCheck:
    def kinds(self, *files: list[Run]) -> list[str]:
        for i, runs in enumerate(files):
            assert not add([written(f"{i}.csv", runs)], {}, {})[0].refused
        return [one.kind for one in findings()]

    def test_sound_runs_have_no_findings(self) -> None:
        assert self.kinds(some()) == []

    def test_a_temperature_that_changes_nothing(self) -> None:
        assert self.kinds(some(1, test_accuracy=0.7)) == ["implausible"]
        assert "temperature changes nothing" in findings()[0].text

    def test_a_seed_that_changes_nothing(self) -> None:
        runs = [
            dataclasses.replace(run, test_accuracy=0.7 + (run.temperature or 0) / 1000)
            for run in some(val_accuracy=0.7)
        ]
        assert self.kinds(runs) == ["implausible"]
        assert "seed changes nothing" in findings()[0].text

    def test_a_curve_worse_than_guessing(self) -> None:
        runs = [
            dataclasses.replace(run, test_accuracy=(run.test_accuracy or 0) / 10, val_accuracy=0.07) for run in some()
        ]
        assert self.kinds(runs) == ["implausible"]
        assert "worse than guessing" in findings()[0].text

    def test_validation_and_test_far_apart(self) -> None:
        assert self.kinds(some(val_accuracy=0.3)) == ["implausible"]

    def test_what_was_not_tested_is_not_judged_and_the_rest_is(self) -> None:
        untested = some(1, val_accuracy=0.01, test_accuracy=None)
        assert self.kinds(untested) == []
        assert self.kinds(some(2, first_seed=1, val_accuracy=0.3)) == ["implausible"]

    def test_a_dent_between_two_neighbors_that_agree(self) -> None:
        dented = [
            dataclasses.replace(run, test_accuracy=0.5 + 0.01 * (run.seed or 0)) if run.temperature == 4 else run
            for run in some()
        ]
        assert self.kinds(dented) == ["implausible"]
        assert "T=4 gives 0.505 between 0.702 at T=1 and 0.708 at T=8" in findings()[0].text

    def test_a_curve_most_of_whose_runs_failed(self) -> None:
        runs = some(status="FAILED", error="nan", val_accuracy=None, test_accuracy=None)
        assert self.kinds(runs) == ["implausible"]

    def test_a_curve_of_two_setups(self) -> None:
        other = dataclasses.replace(RUN, seed=7, setup=dataclasses.replace(RUN.setup, epochs=3))
        assert self.kinds([*some(), other]) == ["contradiction"]
        assert "differ in epochs" in findings()[0].text

    def test_the_same_runs_under_another_name(self) -> None:
        assert self.kinds(some(), some(suite="twin")) == ["duplicate"]
        assert findings()[0].imports == (imports()[1].id,) or findings()[0].imports == (imports()[0].id,)

    def test_renamed_copies_of_shipped_runs_are_known_by_their_results(self, no_corpus: Path) -> None:
        write_runs(no_corpus / "mine.csv", some())
        bare = TrainingSetup(kd_weight=0.9, t_squared=True)
        renamed = some(3, curve="z", suite="y", source="maps", dataset="maps", teacher="t", setup=bare)
        assert self.kinds(renamed) == ["duplicate"]
        assert (findings()[0].suite, findings()[0].curve) == ("y", "z")
        assert (
            findings()[0].text
            == "6 of its 9 runs with KD are those of curve c of suite mine, renamed; fit leaves it out."
        )

    def test_other_runs_that_agree_in_some_results_are_no_copies(self, no_corpus: Path) -> None:
        write_runs(no_corpus / "mine.csv", [*some(), *some(curve="d", val_accuracy=1.0, test_accuracy=1.0)])
        few = some(4, [None, 1.0], curve="few", source="maps") + some(2, [4.0, 8.0], curve="few", source="maps")
        few = [dataclasses.replace(run, val_accuracy=0.66) if (run.temperature or 0) > 1 else run for run in few]
        easy = some(curve="easy", source="maps", val_accuracy=1.0, test_accuracy=1.0)
        longer = some(4, curve="longer", source="maps", setup=dataclasses.replace(RUN.setup, epochs=9, lr=0.2))
        longer[-1] = dataclasses.replace(longer[-1], val_accuracy=0.66)
        assert "duplicate" not in self.kinds([*few, *easy, *longer])

    def test_the_accuracies_of_a_whole_curve_under_another_setup_are_named(self) -> None:
        longer = some(curve="longer", setup=dataclasses.replace(RUN.setup, epochs=9, lr=0.2))
        assert self.kinds(some(setup=dataclasses.replace(RUN.setup, epochs=3)), longer) == ["duplicate"]
        (found,) = findings()
        assert (found.curve, found.code) == ("longer", "same_results")
        assert found.text == (
            "All its 6 runs with KD have the accuracies of curve c of suite mine, which differs in lr, epochs."
        )

    def hundredth(self, run: Run, *names: str) -> Run:
        return dataclasses.replace(run, **{name: getattr(run, name) / 100 for name in names})

    def test_a_run_divided_by_100_is_known_by_the_other_seeds(self) -> None:
        runs = some()
        runs[6] = self.hundredth(runs[6], "val_accuracy", "test_accuracy")
        assert self.kinds(runs) == ["implausible"]
        assert (findings()[0].code, findings()[0].text) == (
            "divided",
            "A hundredth of what others of its teacher have: 0.00705 with T=4, seed 1. Runs that look so: 1 of 8. "
            "Divided by 100 once too often?",
        )

    def test_one_accuracy_divided_by_100_is_known_by_the_other_one(self) -> None:
        runs = some()
        runs[6] = self.hundredth(runs[6], "test_accuracy")
        assert self.kinds(runs) == ["implausible"]
        assert "0.00705 with T=4, seed 1" in findings()[0].text

    @pytest.mark.parametrize("shipped", [False, True])
    def test_a_curve_divided_by_100_is_known_by_others_of_its_teacher(self, no_corpus: Path, shipped: bool) -> None:
        longer = dataclasses.replace(RUN.setup, epochs=9)
        small = [self.hundredth(run, "val_accuracy", "test_accuracy") for run in some(curve="d", setup=longer)]
        if shipped:
            write_runs(no_corpus / "mine.csv", some())
            assert self.kinds(small) == ["implausible"] * 2
        else:
            assert self.kinds(some(), small) == ["implausible"] * 2
        assert [(one.curve, one.code) for one in findings()] == [("d", "divided"), ("d", "worse_than_guessing")]
        assert "Runs that look so: 8 of 8." in findings()[0].text

    def test_the_profile_of_their_teacher_says_how_many_classes_runs_have_that_do_not(self) -> None:
        small = [self.hundredth(run, "val_accuracy", "test_accuracy") for run in some(n_classes=None)]
        whole = some(curve="whole", setup=dataclasses.replace(RUN.setup, epochs=9))
        assert self.kinds(small, whole) == []
        write_profiles(profiles_path(Path("0.csv")), {"c": demo_profile()})
        assert add(["0.csv"], {}, {})[0].profiles == 1
        assert sorted(one.code for one in findings()) == ["divided", "worse_than_guessing"]

    def test_a_student_that_learned_nothing_was_not_divided_by_100(self) -> None:
        runs = some(n_classes=100, val_accuracy=0.98, test_accuracy=0.99)
        for i in (3, 7):
            runs[i] = dataclasses.replace(runs[i], test_accuracy=0.98)
        runs[6] = dataclasses.replace(runs[6], val_accuracy=0.0098, test_accuracy=0.01)
        self.kinds(runs)
        assert "divided" not in [one.code for one in findings()]

    def test_accuracies_under_new_seeds_are_named(self) -> None:
        again = [dataclasses.replace(run, seed=(run.seed or 0) + 4) for run in some(2)]
        assert self.kinds(some(3), again) == ["duplicate"]
        (found,) = findings()
        assert (found.code, found.curve) == ("seed_again", "c")
        assert found.text == "Seeds have their accuracies again under other seeds: 4 those of 0, 5 those of 1."

    def test_accuracies_of_another_curve_under_new_seeds_are_named(self, no_corpus: Path) -> None:
        write_runs(no_corpus / "mine.csv", some(5))
        setup = dataclasses.replace(RUN.setup, epochs=9)
        again = [dataclasses.replace(run, seed=(run.seed or 0) + 7, curve="d", setup=setup) for run in some(5)]
        assert self.kinds(again) == ["duplicate"]
        assert findings()[0].text == (
            "Seeds of curve c of suite mine have their accuracies again under other seeds: 7 those of 0, "
            "8 those of 1, 9 those of 2 and 2 more."
        )

    def test_seeds_that_agree_by_guessing_or_in_part_are_none_again(self) -> None:
        guess = some(2, TEMPERATURES, val_accuracy=0.1, test_accuracy=0.1)
        guess = [
            dataclasses.replace(run, test_accuracy=min(0.11, 0.09 + (run.temperature or 0) / 200))
            if (run.temperature or 0) < 4
            else run
            for run in guess
        ]
        part = [dataclasses.replace(run, curve="e") for run in some(1, (1.0, 2.0, 4.0, 8.0))]
        other = [dataclasses.replace(run, seed=1) for run in part[:3]]
        other.append(dataclasses.replace(part[3], seed=1, test_accuracy=0.6))
        setup = dataclasses.replace(RUN.setup, epochs=9)
        learned = some(1, TEMPERATURES, first_seed=2)
        self.kinds([*guess, *learned], [dataclasses.replace(run, setup=setup) for run in (*part, *other)])
        assert "seed_again" not in [one.code for one in findings()]

    @pytest.mark.slow
    def test_nothing_is_wrong_with_the_shipped_corpus(self) -> None:
        files = [str(path) for path in knowledge_path("runs").glob("*.csv") if not path.name.startswith("frozen")]
        assert all(one.imported and not one.refused for one in add(files, {}, {}))
        assert findings() == ()

    def test_the_order_is_the_same_on_each_call(self) -> None:
        two = [some(curve=name, suite=suite) for suite in ("b", "a") for name in ("z", "y")]
        self.kinds(*two, some(1, curve="flat", test_accuracy=0.7, setup=dataclasses.replace(RUN.setup, lr=0.9)))
        code = "from tempadvisor.audit import findings; print([(f.kind, f.curve, f.text) for f in findings()])"
        told = {
            subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, "PYTHONHASHSEED": seed},
                capture_output=True,
                timeout=60,
            ).stdout
            for seed in "123"
        }
        assert len(told) == 1
        places = [(one.kind, one.suite, one.curve) for one in findings()]
        assert places == [("duplicate", "a", "z"), ("duplicate", "b", "y"), ("duplicate", "b", "z"),
                          ("implausible", "mine", "flat")]  # fmt: skip

    def test_rows_that_have_been_shipped_since_are_told_once_an_import(self, no_corpus: Path) -> None:
        other, third = (dataclasses.replace(RUN.setup, lr=lr) for lr in (0.1, 0.2))
        two = [
            *some(1, curve="d", setup=other, val_accuracy=0.71),
            *some(1, curve="e", setup=third, val_accuracy=0.72),
        ]
        assert self.kinds(some(4), two, some(1, [None], first_seed=9, curve="own")) == []
        held = {one.file: one.id for one in imports()}
        write_runs(no_corpus / "mine.csv", [*some(1), *two])
        found = {one.imports: one for one in findings()}
        assert {(one.kind, one.suite, one.curve) for one in found.values()} == {("duplicate", None, None)}
        assert found.keys() == {(held["0.csv"],), (held["1.csv"],)}
        assert len(findings()) == 2
        assert found[held["0.csv"],].text == (
            "Rows that the shipped corpus has too, and that count once: 4 of its 16. "
            f"Run tempadvisor knowledge remove {held['0.csv']}, then add the file again for the other 12."
        )
        assert found[held["1.csv"],].text.endswith(
            "Rows that the shipped corpus has too, and that count once: 8 of its 8. "
            f"Run tempadvisor knowledge remove {held['1.csv']}."
        )

    def test_rows_shipped_since_with_another_result_are_a_contradiction(self, no_corpus: Path) -> None:
        self.kinds(some(4))
        write_runs(no_corpus / "mine.csv", [*some(1, [4.0, 8.0]), *some(1, [1.0], test_accuracy=0.5)])
        assert [one.kind for one in findings()] == ["duplicate", "contradiction"]
        assert findings()[1].text.startswith(
            "Rows that say otherwise than the shipped corpus, which counts: 1 of its 16."
        )

    def test_other_seeds_of_a_shipped_curve_are_compared_with_it(self, no_corpus: Path) -> None:
        self.kinds(some(4, [4.0], first_seed=4))
        write_runs(no_corpus / "mine.csv", some(4, [4.0], test_accuracy=0.5))
        (found,) = findings()
        assert (found.kind, found.curve) == ("contradiction", "c")
        assert "test accuracy is +0.210" in found.text

    def test_another_result_for_the_same_setup_beyond_the_noise(self, no_corpus: Path) -> None:
        write_runs(no_corpus / "shipped.csv", some(4, suite="shipped"))
        lower = [dataclasses.replace(run, test_accuracy=(run.test_accuracy or 0) - 0.05) for run in some(4)]
        assert self.kinds(lower) == ["contradiction"] * 4
        assert "test accuracy is -0.050" in findings()[0].text

    def test_the_same_within_noise_is_none(self, no_corpus: Path) -> None:
        write_runs(no_corpus / "shipped.csv", some(4, suite="shipped"))
        near = [dataclasses.replace(run, test_accuracy=(run.test_accuracy or 0) - 0.001) for run in some(4)]
        assert self.kinds(near) == []

    def test_a_row_that_others_have_broken_is_told_and_the_rest_stays(self) -> None:
        import sqlite3

        add([written("runs.csv", some())], {}, {})
        with sqlite3.connect(place_of().path) as connection:
            connection.execute(
                'UPDATE tempadvisor_runs SET content = \'{"seed": "x"}\' WHERE seed = 0 AND temperature = 4'
            )
        connection.close()
        assert [(one.kind, one.imports) for one in findings()] == [("schema", (imports()[0].id,))]
        assert len(stored().runs) == 7
        with pytest.raises(KnowledgeError, match="knowledge check"):
            own_runs()


class TestStats:
    def test_axes_count_curves_and_name_gaps(self, no_corpus: Path) -> None:
        write_runs(no_corpus / "shipped.csv", some(suite="shipped"))
        adam = TrainingSetup(kd_weight=0.5, t_squared=False, optimizer="adam", epochs=50)
        add([written("own.csv", some(curve="d", setup=adam))], {}, {})
        found = coverage()
        assert (found.runs, found.curves, found.complete, found.with_profile) == ((8, 8), (1, 1), (0, 0), (0, 0))
        axes = {axis.name: axis for axis in found.axes}
        assert [(cell.value, cell.shipped, cell.own) for cell in axes["optimizer"].cells] == [
            ("sgd", 1, 0),
            ("adam", 0, 1),
        ]
        assert "lion" in axes["optimizer"].gaps
        assert axes["t_squared"].gaps == ()
        assert [(cell.value, cell.own) for cell in axes["epochs"].cells] == [("30 to <100", 1), ("unknown", 0)]
        assert [(cell.value, cell.own) for cell in found.temperatures if cell.own] == [
            ("no KD", 1),
            ("1", 1),
            ("4", 1),
            ("8", 1),
        ]

    def test_renamed_copies_of_shipped_curves_are_counted_apart(self, no_corpus: Path) -> None:
        write_runs(no_corpus / "mine.csv", some())
        copy = some(curve="z", suite="y", source="maps", dataset="maps", teacher="t")
        own = [dataclasses.replace(run, val_accuracy=0.6) for run in some(curve="own", source="maps")]
        add([written("own.csv", [*copy, *own])], {}, {})
        found = coverage()
        assert (found.runs, found.curves, found.renamed) == ((8, 8), (1, 1), 1)
        assert [(one.value, one.shipped, one.own) for one in found.sources] == [("maps", 0, 1), ("photos", 1, 0)]

    def test_complete_curves_and_those_with_a_profile_are_counted_by_source(self, no_corpus: Path) -> None:
        whole = (None, *TEMPERATURES)
        write_runs(no_corpus / "mine.csv", [*some(4, whole, curve="a"), *some(4, whole, curve="b"), *some(curve="d")])
        write_profiles(no_corpus / "mine.teachers.jsonl", dict.fromkeys("ad", demo_profile()))
        name = written(
            "own.csv", [*some(4, whole, curve="e", source="maps", val_accuracy=0.6), *some(2, whole, 4, curve="a")]
        )
        add([name], {}, {})
        found = coverage()
        assert (found.complete, found.with_profile) == ((2, 2), (1, 1))  # of a there are six seeds together
        told = {one.value: (one.shipped, one.own, one.complete, one.with_profile) for one in found.sources}
        assert told == {"maps": (0, 1, (0, 1), (0, 0)), "photos": (3, 1, (2, 1), (1, 1))}


def writers(*words: str | Path) -> Any:
    done = subprocess.run(
        [sys.executable, WRITERS, *map(str, words)], capture_output=True, text=True, timeout=300, check=True
    )
    return json.loads(done.stdout) | {"err": done.stderr}


Many = Callable[[int], str]


class TestSurvival:
    @pytest.fixture
    def many(self) -> Many:
        def write(n: int) -> str:
            return written("many.csv", [run for i in range(n // 8) for run in some(curve=f"c{i}")])

        return write

    @pytest.mark.parametrize(("rows", "times"), [(400, 8), pytest.param(8000, 60, marks=pytest.mark.slow)])
    def test_killed_while_adding_all_of_the_file_or_nothing_is_there(self, many: Many, rows: int, times: int) -> None:
        done = writers("killed", "sqlite:///own.db", many(rows), times, 0)
        assert len(done["found"]) == times
        assert {tuple(found) for found in done["found"]} <= {(0, 0), (rows, rows)}
        assert [0, 0] in done["found"]
        assert done["held"] == [rows, rows]

    @pytest.mark.parametrize("rows", [400, pytest.param(8000, marks=pytest.mark.slow)])
    def test_eight_processes_add_at_once_and_no_row_is_lost_or_doubled(self, rows: int) -> None:
        files = []
        for i in range(8):  # each shares half of its rows with the next
            runs = [run for curve in range(rows // 8) for run in some(2, curve=f"c{curve}", first_seed=i)]
            files.append(written(f"{i}.csv", runs))
        done = writers("at-once", "sqlite:///own.db", *files)
        assert done["codes"] == [0] * 8
        assert done["held"] == [rows // 2 * 9, rows // 2 * 9]

    def test_a_full_disk_is_said_and_leaves_what_was_there(self, many: Many) -> None:
        add([written("few.csv", some(curve="few"))], {}, {}, "sqlite:///own.db")
        done = writers("full", "sqlite:///own.db", many(4000), 200_000)
        assert done["code"] == 2
        assert "Nothing was changed. Make room" in done["err"]
        assert len(done["err"].splitlines()) == 1
        assert (done["before"], done["after"], done["held"]) == ([8, 8], [8, 8], [4008, 4008])

    @pytest.mark.parametrize("content", [b"no database at all " * 100, b"SQLite format 3\0" + b"\1" * 5000])
    def test_a_corrupt_database_is_said_in_one_line_and_stays_as_it_is(self, desk: Path, content: bytes) -> None:
        (desk / "own.db").write_bytes(content)
        name = written("runs.csv", some())
        for ask in (own_runs, imports, findings, coverage, lambda url: add([name], {}, {}, url)):
            with pytest.raises(KnowledgeError, match=r"own\.db must be a database of runs.*move it away") as told:
                ask("sqlite:///own.db")
            assert "\n" not in str(told.value)
        assert (desk / "own.db").read_bytes() == content
        assert shipped_runs(["mlp-digits"])

    def test_a_database_damaged_in_the_middle_is_said(self, desk: Path, many: Many) -> None:
        add([many(800)], {}, {}, "sqlite:///own.db")
        content = bytearray((desk / "own.db").read_bytes())
        content[4096 * 3 : -4096] = b"\xff" * len(content[4096 * 3 : -4096])
        (desk / "own.db").write_bytes(content)
        with pytest.raises(KnowledgeError, match="move it away"):
            own_runs("sqlite:///own.db")

    def test_a_database_of_someone_else_is_not_ours_to_read(self) -> None:
        import sqlite3

        connection = sqlite3.connect("own.db")
        connection.execute("CREATE TABLE runs (id)")
        connection.close()
        assert own_runs("sqlite:///own.db") == ((), {})
        add([written("runs.csv", some())], {}, {}, "sqlite:///own.db")
        assert len(own_runs("sqlite:///own.db")[0]) == 8

    def test_a_file_that_was_made_but_never_written_is_empty(self, desk: Path) -> None:
        (desk / "own.db").touch()
        assert own_runs("sqlite:///own.db") == ((), {})

    def test_a_folder_that_cannot_be_made_is_said(self, desk: Path) -> None:
        (desk / "file").touch()
        with pytest.raises(KnowledgeError, match="Check the path"):
            add([written("runs.csv", some())], {}, {}, "sqlite:///file/own.db")
