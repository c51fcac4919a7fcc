"""What a user types and gets: answers on stdout, one line on stderr for a mistake, exit codes."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import tempadvisor
from tempadvisor import cli, teachers
from tempadvisor.records import SETUP_COLUMNS, as_dict
from tempadvisor.runs import RUN_COLUMNS

HEAVY = {"torch", "torchvision", "sklearn", "optuna", "timm", "pydantic", "scipy", "joblib"}
# The words of the contract with users.
KEYS = set(re.findall(r"\w+", """
    temperature interval best_temperature_ci90 expected_gain confidence verdict curve reasons nearest warnings
    loss_contract kd_weights profile setup unknown schedule version
"""))  # fmt: skip
FLAGS = set(re.findall(r"[\w-]+", """
    optimizer lr batch-size epochs weight-decay kd-weight hard-weight t-squared augmentation label-smoothing student
    student-params teacher-params student-init teacher-origin teacher-finetune-epochs n-train granularity logits-from
    schedule momentum image-size teacher-label-smoothing reduction standardized
"""))  # fmt: skip


class Done(NamedTuple):
    code: int | None
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command line in this process."""

    def command(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["tempadvisor", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        code = stop.value.code
        assert code is None or isinstance(code, int)
        return Done(code, *capsys.readouterr())

    return command


@pytest.fixture
def answer(run: Run) -> Callable[..., Any]:
    """Return a function that gives the JSON answer to a command, which must be strict JSON and all of stdout."""

    def command(*words: str) -> Any:
        done = run(*words, "--json")
        assert (done.code or 0, done.err) == (0, "")
        return json.loads(done.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))

    return command


@pytest.fixture
def refused(run: Run) -> Callable[..., str]:
    """Return a function that gives the one line with which a command is refused, the same in JSON."""

    def command(*words: str) -> str:
        done = run(*words)
        assert (done.code, done.out) == (2, ""), done
        assert done.err.startswith("tempadvisor: ")
        assert done.err.endswith("\n")
        line = done.err.removesuffix("\n")
        assert line.isprintable(), "one line without control characters"
        as_json = run(words[0], "--json", *words[1:])
        assert (as_json.code, as_json.out) == (2, "")
        told = json.loads(as_json.err)
        assert told.keys() == {"code", "message"}
        assert told["message"] == line.removeprefix("tempadvisor: ")
        assert told["code"].replace("_", "").isalpha()
        return line.removeprefix("tempadvisor: ")

    return command


def some_logits(n: int = 300, k: int = 5, seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), labels] += 4
    return logits.astype(np.float32), labels


LOGITS, LABELS = some_logits()
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
TOP_THREE = np.where(LOGITS.repeat(4, 1) >= np.sort(LOGITS.repeat(4, 1), 1)[:, -3:-2], LOGITS.repeat(4, 1), -100.0)


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder to work in, with `logits.npz` and its `profile.json`."""
    monkeypatch.chdir(tmp_path)
    np.savez("logits.npz", logits=LOGITS, labels=LABELS)
    return tmp_path


@pytest.fixture
def saved(desk: Path, run: Run) -> Path:
    assert not run("profile", "logits.npz", "-o", "profile.json").code
    return desk / "profile.json"


class TestRecommend:
    def test_the_demo_answers_from_an_embedded_teacher(self, run: Run) -> None:
        done = run("recommend", "--demo")
        assert (done.code or 0, done.err) == (0, "")
        assert done.out.startswith("╭─ Temperature ")
        assert "\n│  Use T=" in done.out
        assert done.out.splitlines()[-1].startswith("Next: tempadvisor recommend --demo --")

    def test_stored_logits_answer_without_and_with_flags_and_the_flags_move_it(
        self, answer: Callable[..., Any]
    ) -> None:
        bare = answer("recommend", "logits.npz")
        assert bare["setup"] == {column.name: None for column in SETUP_COLUMNS}
        assert bare["profile"]["n_samples"] == 300
        told = answer("recommend", "logits.npz", "--kd-weight", "0.1", "--optimizer", "sgd", "--epochs", "10")
        assert told["setup"]["kd_weight"] == 0.1
        assert told["temperature"] < bare["temperature"]
        assert "epochs" in {unknown["name"] for unknown in bare["unknown"]}
        assert "epochs" not in {unknown["name"] for unknown in told["unknown"]}

    def test_without_a_teacher_the_rules_answer_with_low_confidence(self, answer: Callable[..., Any]) -> None:
        told = answer("recommend", "--optimizer", "sgd")
        assert (told["confidence"], told["profile"]) == ("low", None)

    def test_a_configuration_alone_is_enough(self, desk: Path, answer: Callable[..., Any]) -> None:
        (desk / "setup.toml").write_text('optimizer = "sgd"\n')
        assert answer("recommend", "--config", "setup.toml") == answer("recommend", "--optimizer", "sgd")

    def test_nothing_at_all_shows_two_examples(self, refused: Callable[..., str]) -> None:
        message = refused("recommend")
        assert "'tempadvisor recommend logits.npz --optimizer sgd --epochs 100'" in message
        assert "'tempadvisor recommend --demo'" in message

    def test_explain_shows_more_than_the_panel(self, run: Run) -> None:
        short, long = run("recommend", "--demo").out, run("recommend", "--demo", "--explain").out
        assert "Expected accuracy over T" in long
        assert "Expected accuracy over T" not in short
        assert len(long) > 2 * len(short)

    def test_the_next_command_asks_the_same_and_one_thing_more(self, run: Run) -> None:
        words = ["recommend", "logits.npz", "--kd-weight", "0.123456789", "--no-t-squared", "--epochs", "30"]
        line, _, others = run(*words).out.splitlines()[-1].removeprefix("Next: tempadvisor ").partition("  # or ")
        following = line.split()
        assert others
        assert following[:2] == words[:2]
        for word in words[2:]:
            assert word in following
        assert len(following) in (len(words) + 1, len(words) + 2)
        assert "|" not in " ".join(following), "a shell would take it for a pipe"
        assert run(*following).code in (None, 0), "it runs as it stands"

    def test_every_next_command_runs_as_it_stands(self, run: Run) -> None:
        words = ["recommend", "logits.npz"]
        for _ in SETUP_COLUMNS:
            line = run(*words).out.splitlines()[-1].removeprefix("Next: tempadvisor ")
            if line.endswith("--explain"):
                break
            words = line.partition("  # or ")[0].split()
        assert {"--augmentation", "--epochs", "--n-train"} < set(words)


class TestJson:
    def test_the_keys_of_the_contract_are_there_with_their_types(self, answer: Callable[..., Any]) -> None:
        told = answer("recommend", "--demo", "--optimizer", "sgd", "--epochs", "300")
        assert told.keys() >= KEYS
        assert isinstance(told["temperature"], float)
        for name in ("interval", "best_temperature_ci90"):
            low, high = told[name]
            assert 0 < low <= told["temperature"] <= high or name != "interval"
        assert told["expected_gain"].keys() == {"over_t4", "over_t1", "over_no_kd"}
        for gain in told["expected_gain"].values():
            assert gain.keys() == {"mean", "std"}
            assert all(isinstance(value, float) for value in gain.values())
        assert told["confidence"] in ("high", "medium", "low")
        assert told["verdict"] in ("use", "indifferent", "kd_may_hurt", "unknown")
        assert all(point.keys() == {"temperature", "mean", "std"} for point in told["curve"])
        assert len(told["curve"]) > 5
        assert told["reasons"]
        for reason in told["reasons"]:
            assert {"id", "kind", "effect", "text", "source"} <= reason.keys()
            assert reason["kind"] in ("rule", "measured")
            assert reason["effect"] in ("raises", "lowers", "none")
        assert isinstance(told["nearest"], list)
        assert all(warning.keys() == {"code", "text"} for warning in told["warnings"])
        assert told["loss_contract"] == {
            "kd_weight": 0.9,
            "hard_weight": 0.1,
            "t_squared": True,
            "reduction": "batchmean",
            "standardized": False,
        }
        assert {"kd_weight", "temperature", "expected_accuracy"} <= told["kd_weights"][0].keys()
        assert sum(option["best"] for option in told["kd_weights"]) == 1
        assert isinstance(told["profile"], dict)
        assert told["setup"].keys() == {column.name for column in SETUP_COLUMNS}
        assert isinstance(told["unknown"], list)
        assert told["version"].keys() == {"tempadvisor", "knowledge"}
        assert told["version"]["tempadvisor"] == tempadvisor.__version__

    def test_a_profile_is_printed_as_it_is_saved(self, desk: Path, answer: Callable[..., Any]) -> None:
        printed = answer("profile", "logits.npz", "-o", "profile.json")
        assert printed == json.loads((desk / "profile.json").read_text())
        assert printed == answer("profile", "profile.json")

    @pytest.mark.usefixtures("saved")
    def test_a_saved_profile_gives_the_answer_of_its_logits(self, answer: Callable[..., Any]) -> None:
        words = ("--optimizer", "adamw", "--epochs", "30")
        assert answer("recommend", "profile.json", *words) == answer("recommend", "logits.npz", *words)

    def test_an_error_is_an_object_with_code_and_message(self, run: Run) -> None:
        done = run("recommend", "--lr", "0", "--json")
        assert json.loads(done.err) == {"code": "bad_setup", "message": "lr must be a number above 0. Got 0.0."}


class TestOneTable:
    def test_flags_config_keys_and_run_columns_are_the_same_words(
        self,
        run: Run,
    ) -> None:
        offered = run("recommend", "--help").out
        names = {word.replace("-", "_") for word in FLAGS}
        assert names <= {column.name for column in SETUP_COLUMNS} <= {column.name for column in RUN_COLUMNS}
        for column in SETUP_COLUMNS:
            for flag in column.flag.split("/"):
                assert f" {flag} " in offered.replace("\n", " \n"), flag

    def test_every_setup_value_means_the_same_as_flag_in_yaml_and_in_toml(
        self, desk: Path, answer: Callable[..., Any]
    ) -> None:
        some = {bool: False, str: "resnet18"}
        values: dict[str, Any] = {
            column.name: column.spec.choices[0] if column.spec.choices else some.get(column.type, 1)
            for column in SETUP_COLUMNS
        }
        values |= {"teacher_origin": "pretrained-finetuned", "optimizer": "sgd", "lr": 0.001}
        flags: list[str] = []
        for column in SETUP_COLUMNS:
            on, *off = column.flag.split("/")
            flags += [off[0]] if column.type is bool else [on, str(values[column.name])]
        (desk / "s.yaml").write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items()))
        (desk / "s.TOML").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
        by_flags = answer("recommend", *flags)
        assert by_flags["setup"] == values
        assert answer("recommend", "--config", "s.yaml") == by_flags
        assert answer("recommend", "--config", "s.TOML") == by_flags

    def test_flags_override_the_configuration(self, desk: Path, answer: Callable[..., Any]) -> None:
        (desk / "s.yaml").write_text("optimizer: sgd\nepochs: 10\nt_squared: true\n")
        setup = answer("recommend", "--config", "s.yaml", "--epochs", "20", "--no-t-squared")["setup"]
        assert (setup["optimizer"], setup["epochs"], setup["t_squared"]) == ("sgd", 20, False)

    def test_a_flag_completes_what_the_configuration_begins(self, desk: Path, answer: Callable[..., Any]) -> None:
        (desk / "s.yaml").write_text("hard_weight: 1\n")
        contract = answer("recommend", "--config", "s.yaml", "--kd-weight", "2")["loss_contract"]
        assert (contract["kd_weight"], contract["hard_weight"]) == (2.0, 1.0)


class TestProfile:
    def test_it_is_shown_and_saved(self, desk: Path, run: Run) -> None:
        done = run("profile", "logits.npz", "--logits-from", "train", "-o", "profile.json")
        assert (done.code or 0, done.err) == (0, "")
        assert "300 of 300, from train inputs" in done.out
        assert done.out.splitlines()[-1] == "Next: tempadvisor recommend profile.json"
        assert json.loads((desk / "profile.json").read_text())["logits_from"] == "train"

    def test_all_reads_every_sample(self, answer: Callable[..., Any]) -> None:
        logits, labels = some_logits(n=20_000)
        np.savez("many.npz", logits=logits, labels=labels)
        assert answer("profile", "many.npz")["n_samples"] < 20_000
        assert answer("profile", "many.npz", "--all")["n_samples"] == 20_000

    @pytest.mark.usefixtures("saved")
    def test_a_saved_profile_can_be_told_where_its_logits_came_from(
        self, answer: Callable[..., Any], refused: Callable[..., str]
    ) -> None:
        told = answer("recommend", "profile.json", "--logits-from", "train")
        assert told == answer("recommend", "logits.npz", "--logits-from", "train")
        assert "logits_from_unknown" in {notice["code"] for notice in answer("profile", "profile.json")["warnings"]}
        assert "logits_from_unknown" not in {notice["code"] for notice in told["warnings"]}
        answer("profile", "logits.npz", "--logits-from", "train", "-o", "train.json")
        assert "must be train" in refused("recommend", "train.json", "--logits-from", "test")
        assert "must be train" in refused("recommend", "--demo", "--logits-from", "test")

    def test_an_output_that_recommend_would_not_know_is_refused(
        self, desk: Path, refused: Callable[..., str]
    ) -> None:
        before = (desk / "logits.npz").read_bytes()
        assert "must end in .json" in refused("profile", "logits.npz", "-o", "logits.npz")
        assert "must end in .json" in refused("profile", "logits.npz", "-o", "")
        assert (desk / "logits.npz").read_bytes() == before

    @pytest.mark.parametrize("output", ["missing/p.json", "folder.json", "x" * 300 + ".json"])
    def test_an_output_that_cannot_be_written_is_refused(
        self, desk: Path, refused: Callable[..., str], output: str
    ) -> None:
        (desk / "folder.json").mkdir()
        assert "must be a file that can be written" in refused("profile", "logits.npz", "-o", output)
        assert sorted(path.name for path in desk.iterdir()) == ["folder.json", "logits.npz"]


class TestTheRest:
    def test_version(self, run: Run) -> None:
        assert run("--version").out == f"tempadvisor {tempadvisor.__version__}\n"

    @pytest.mark.parametrize(
        ("words", "example"),
        [
            ([], "tempadvisor recommend --demo"),
            (["--help"], "tempadvisor recommend --demo"),
            (["recommend", "--help"], "Example: tempadvisor recommend logits.npz"),
            (["recommend", "-h"], "Example: tempadvisor recommend logits.npz"),
            (["profile", "--help"], "Example: tempadvisor profile logits.npz"),
        ],
    )
    def test_help_shows_an_example_and_fits_80_columns(self, run: Run, words: list[str], example: str) -> None:
        done = run(*words)
        assert (done.code or 0, done.err) == (0, "")
        assert example in done.out
        assert max(map(len, done.out.splitlines())) <= 80
        assert "…" not in done.out, "no flag is cut"

    def test_control_c_is_one_line_and_130(self, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(teachers, "profile_of", interrupted)
        assert run("recommend", "logits.npz") == Done(130, "", "tempadvisor: Interrupted.\n")


def write_npz(**arrays: Any) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **arrays)


def damaged(value: float) -> np.ndarray[Any, Any]:
    logits = LOGITS.copy()
    logits[7, 3] = value
    return logits


BAD_LOGITS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda _: None, "There is no such file"),
    "empty": (lambda path: path.touch(), "It is empty"),
    "no zip": (lambda path: path.write_bytes(b"hello"), "must be a complete .npz file"),
    "folder": (lambda path: path.mkdir(), "It is a directory"),
    "wrong names": (write_npz(outputs=LOGITS, target=LABELS), "It holds outputs, target."),
    "many wrong names": (write_npz(**{f"w{i}": LOGITS[:1] for i in range(40)}), "w11, w12 and 35 more"),
    "nan": (write_npz(logits=damaged(np.nan)), "must be finite. Got 1 of 1500"),
    "infinity": (write_npz(logits=damaged(np.inf)), "must be finite. Got 1 of 1500"),
    "probabilities": (write_npz(logits=PROBABILITIES), "Got probabilities"),
    "one class": (write_npz(logits=LOGITS[:, :1]), "at least two classes. Got 1"),
    "one sample": (write_npz(logits=LOGITS[:1]), "at least two samples. Got 1"),
    "no sample": (write_npz(logits=LOGITS[:0]), "at least two samples. Got 0"),
    "one dimension": (write_npz(logits=LOGITS[0]), "must be two-dimensional"),
    "three dimensions": (write_npz(logits=LOGITS[None]), "Got shape (1, 300, 5)"),
    "labels from 1": (write_npz(logits=LOGITS, labels=LABELS + 1), "Do they start at 1? Subtract 1."),
    "labels too large": (write_npz(logits=LOGITS, labels=LABELS * 9), "must lie between 0 and 4"),
    "labels below 0": (write_npz(logits=LOGITS, labels=LABELS - 1), "must lie between 0 and 4"),
    "labels too few": (write_npz(logits=LOGITS, labels=LABELS[1:]), "shape (300,)"),
    "labels one-hot": (write_npz(logits=LOGITS, labels=np.eye(5)[LABELS]), "Got one-hot rows"),
    "labels several": (write_npz(logits=LOGITS, labels=(LOGITS > 0).astype(int)), "multi-label"),
    "labels as text": (write_npz(logits=LOGITS, labels=LABELS.astype(str)), "must be whole numbers"),
    "constant": (write_npz(logits=np.ones_like(LOGITS)), "Got one value over and over"),
    "whole numbers": (write_npz(logits=np.arange(1500).reshape(300, 5)), "must be floating-point numbers. Got int64"),
    "complex": (write_npz(logits=LOGITS.astype(complex)), "must be floating-point numbers. Got complex128"),
    "top-k": (write_npz(logits=TOP_THREE), "stored top-k"),
    "other class order": (write_npz(logits=LOGITS, labels=(LABELS + 1) % 5), "in another order: class 0 is output 4"),
}


class TestBadLogits:
    @pytest.mark.parametrize("case", BAD_LOGITS)
    def test_each_is_refused_in_one_line_and_nothing_is_written(
        self, desk: Path, refused: Callable[..., str], case: str
    ) -> None:
        write, message = BAD_LOGITS[case]
        write(desk / "bad.npz")
        (desk / "old.json").write_text("old")
        before = sorted(path.name for path in desk.iterdir())
        assert message in refused("recommend", "bad.npz", "--optimizer", "sgd")
        told = refused("profile", "bad.npz", "-o", "old.json")
        assert message in told
        assert "bad.npz" in told
        assert message in refused("profile", "bad.npz", "-o", "new.json")
        assert sorted(path.name for path in desk.iterdir()) == before
        assert (desk / "old.json").read_text() == "old"

    @pytest.mark.parametrize("kept", [10, 200, 1000, -30])
    def test_a_truncated_file_is_refused(self, desk: Path, refused: Callable[..., str], kept: int) -> None:
        (desk / "cut.npz").write_bytes((desk / "logits.npz").read_bytes()[:kept])
        assert "must be a complete .npz file" in refused("recommend", "cut.npz")

    def test_pickles_are_never_loaded(self, desk: Path, refused: Callable[..., str]) -> None:
        class Payload:
            def __reduce__(self) -> tuple[Any, ...]:
                return Path.touch, (desk / "ran",)

        objects = np.empty((2, 2), object)
        objects[:] = Payload()
        np.savez("bad.npz", logits=objects)
        np.savez("labels.npz", logits=LOGITS, labels=objects)
        np.save("bad.npy", objects, allow_pickle=True)
        for suffix in ("pkl", "pickle", "joblib", "npy", "npz", "csv", "safetensors", "json", "yaml"):
            (desk / f"raw.{suffix}").write_bytes(pickle.dumps(Payload()))
        for name in ("bad.npz", "labels.npz", "bad.npy", "raw.pkl", "raw.pickle", "raw.joblib"):
            assert "pickle" in refused("recommend", name)
        for name in ("raw.npy", "raw.npz", "raw.csv", "raw.safetensors", "raw.json"):
            refused("recommend", name)
        refused("recommend", "--config", "raw.yaml")
        assert not (desk / "ran").exists()
        np.load("bad.npz", allow_pickle=True)["logits"]
        assert (desk / "ran").exists(), "the payload works where pickles are loaded"

    @pytest.mark.parametrize("name", ["bad\x1b[31mname\n.npz", "no\x1b[2J\nsuch.npz", "carriage\rreturn.npz"])
    def test_file_names_cannot_move_the_cursor_or_break_the_line(
        self, refused: Callable[..., str], name: str
    ) -> None:
        if name.startswith("bad"):
            np.savez(name, logits=LOGITS[:, :1])
        assert ".npz" in refused("recommend", name)

    def test_a_strange_name_of_good_logits_is_shown_escaped(self, run: Run) -> None:
        np.savez("[red]x\x1b[31m.npz", logits=LOGITS)
        for words in (["recommend", "[red]x\x1b[31m.npz", "--explain"], ["profile", "[red]x\x1b[31m.npz"]):
            done = run(*words)
            assert done.code in (0, None)
            assert r"[red]x\x1b[31m.npz" in done.out
            assert "\x1b" not in done.out


BAD_SETUPS = [
    ("--optimizer sdg", "Did you mean sgd?"),
    ("--optimizer AdamW", "Did you mean adamw?"),
    ("--lr 0", "lr must be a number above 0. Got 0.0."),
    ("--lr -0.1", "lr must be a number above 0"),
    ("--lr fast", "lr must be a number above 0. Got 'fast'."),
    ("--lr nan", "lr must be a number above 0"),
    ("--lr inf", "lr must be a number above 0"),
    ("--epochs 0", "epochs must be a whole number at least 1. Got 0."),
    ("--epochs -3", "epochs must be a whole number at least 1"),
    ("--epochs 2.5", "epochs must be a whole number at least 1. Got '2.5'."),
    ("--epochs many", "epochs must be a whole number at least 1. Got 'many'."),
    ("--epochs " + "9" * 40, "epochs must be a whole number at least 1. Got a number of more than 15 digits."),
    ("--epochs " + "9" * 6000, "epochs must be a whole number at least 1"),
    ("--batch-size 0", "batch_size must be a whole number at least 1"),
    ("--batch-size -8", "batch_size must be a whole number at least 1"),
    ("--kd-weight 0", "kd_weight must be a number above 0"),
    ("--kd-weight -1", "kd_weight must be a number above 0"),
    ("--hard-weight -1", "hard_weight must be a number at least 0"),
    ("--kd-weight 0 --hard-weight 0", "kd_weight must be a number above 0"),
    ("--kd-weight 2", "hard_weight must be given when kd_weight is above 1"),
    ("--label-smoothing 1.5", "label_smoothing must be a number at least 0 and at most 1"),
    ("--teacher-origin scratch --teacher-finetune-epochs 5", "teacher_finetune_epochs must be unset or 0"),
    ("--optimizer adam --momentum 0.9", "momentum must be unset when optimizer is adam"),
    ("--optimiser sgd", "--optimizer"),
    ("--temperature 3", "No such option: --temperature"),
    ("--optimizer", "requires an argument"),
    ("a.npz b.npz", "unexpected extra argument"),
    ("--demo=yes", "does not take a value"),
    ("--demo logits.npz", "--demo brings its own teacher"),
    ("--demo --data photos", "--data and --model must come with the TEACHER"),
    ("--optimizer sgd --model resnet18", "--data and --model must come with the TEACHER"),
    ("logits.npz --data photos", "--data goes with a model"),
    ("profile.json --data photos", "--data goes with a model"),
    ("profile.json --model resnet18", "--model must be left out for a saved profile"),
    ("--config nosuch.yaml", "nosuch.yaml must be a readable file. No such file"),
]


class TestBadUsage:
    @pytest.mark.parametrize(("words", "message"), BAD_SETUPS, ids=[words[:50] for words, _ in BAD_SETUPS])
    def test_each_is_refused_in_one_short_line(self, refused: Callable[..., str], words: str, message: str) -> None:
        told = refused("recommend", *words.split())
        assert message in told
        assert len(told) < 250

    def test_empty_words_are_refused_not_ignored(self, refused: Callable[..., str]) -> None:
        for words in (["", "--optimizer", "sgd"], ["--student", ""], ["--config", "", "--lr", "1"], ["--epochs", ""]):
            assert "Got" in refused("recommend", *words)

    def test_an_unknown_command_names_the_nearest(self, refused: Callable[..., str]) -> None:
        assert "recommend" in refused("recomend", "--demo")

    @pytest.mark.parametrize("words", [["--all"], ["profile.json", "--all"], ["logits.npz", "--logits-from", "tset"]])
    @pytest.mark.usefixtures("saved")
    def test_profile_refuses_what_makes_no_sense(self, refused: Callable[..., str], words: list[str]) -> None:
        refused("profile", *words)

    @pytest.mark.parametrize("words", [["resnet18"], ["x.pt", "--model", "resnet18"], ["pkg.mod:make"], ["x.onnx"]])
    def test_a_model_needs_data(self, refused: Callable[..., str], words: list[str]) -> None:
        for command in ("recommend", "profile"):
            told = refused(command, *words)
            assert words[0] in told
            assert "--data" in told

    def test_a_file_that_is_neither_logits_nor_model_is_named(self, desk: Path, refused: Callable[..., str]) -> None:
        (desk / "notes.txt").write_text("hello")
        assert "must be one of .npz" in refused("recommend", "notes.txt")
        assert "directory" in refused("recommend", ".")


BAD_CONFIGS: dict[str, tuple[str, str]] = {
    "typo.yaml": ("optimiser: sgd\n", "'optimiser' is not a setup key. Did you mean optimizer?"),
    "typo.toml": ("epoch = 3\n", "Did you mean epochs?"),
    "list.yaml": ("- sgd\n", "must hold setup keys such as 'optimizer: sgd'. Got a list."),
    "value.yaml": ("sgd\n", "must hold setup keys"),
    "comment.yaml": ("# optimizer: sgd\n", "must hold setup keys"),
    "empty.yaml": ("", "must not be empty"),
    "broken.yaml": ("optimizer: [sgd\nlr: }", "must be plain YAML. It is not on line 2"),
    "tab.yaml": ("optimizer:\n\tsgd", "must be plain YAML"),
    "broken.toml": ("optimizer = sgd\n", "must be TOML"),
    "nested.toml": ("[training]\nepochs = 3\n", "'training' is not a setup key"),
    "setup.ini": ("optimizer=sgd\n", "must be a .yaml, .yml or .toml file. Got 'setup.ini'."),
    "nan.yaml": ("lr: .nan\n", "lr must be a number above 0. Got nan."),
    "flag.yaml": ("epochs: true\n", "epochs must be a whole number at least 1. Got True."),
    "text.yaml": ("t_squared: maybe\n", "t_squared must be true or false. Got 'maybe'."),
    "date.yaml": ("epochs: 2020-01-01\n", "Got a date."),
    "no date.yaml": ("epochs: 2020-13-45\n", "must be plain YAML"),
    "tag.yaml": ("epochs: !!int many\n", "must be plain YAML"),
    "time.yaml": ("epochs: !!timestamp noon\n", "must be plain YAML"),
    "deep.yaml": ("[" * 5000, "must be plain YAML"),
    "digits.yaml": ("epochs: " + "9" * 6000, "must be plain YAML"),
    "digits.toml": ("epochs = " + "9" * 6000, "must be TOML"),
    "escape.yaml": ('"\\e[2Jlr": 1\n', r"'\x1b[2Jlr' is not a setup key"),
    "bomb.yaml": (
        "lr:\n- &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"- &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        "lr must be a number above 0. Got a list.",
    ),
}


class TestBadConfig:
    @pytest.mark.parametrize("name", BAD_CONFIGS)
    def test_each_is_refused_with_its_name(self, desk: Path, refused: Callable[..., str], name: str) -> None:
        text, message = BAD_CONFIGS[name]
        (desk / name).write_text(text)
        told = refused("recommend", "--config", name)
        assert message in told
        assert name in told

    def test_yaml_makes_no_python_objects(self, desk: Path, refused: Callable[..., str]) -> None:
        (desk / "s.yaml").write_text(f"optimizer: !!python/object/apply:os.system ['touch {desk / 'ran'}']\n")
        assert "must be plain YAML" in refused("recommend", "--config", "s.yaml")
        assert not (desk / "ran").exists()

    def test_bytes_that_are_no_text_are_refused(self, desk: Path, refused: Callable[..., str]) -> None:
        (desk / "s.yaml").write_bytes(b"\xff\xfe\x00")
        assert "must be text in UTF-8" in refused("recommend", "--config", "s.yaml")

    def test_the_file_is_not_blamed_for_a_flag(self, desk: Path, refused: Callable[..., str]) -> None:
        (desk / "s.yaml").write_text("optimizer: sgd\n")
        assert "s.yaml" not in refused("recommend", "--config", "s.yaml", "--lr", "x")


BAD_PROFILES: dict[str, tuple[Callable[[dict[str, Any]], str], str]] = {
    "empty": (lambda _: "", "must not be empty"),
    "garbage": (lambda _: "{}}", "must be JSON"),
    "list": (lambda _: "[]", "Got a list."),
    "deep": (lambda _: "[" * 100_000, "must be JSON"),
    "digits": (lambda _: '{"schema": ' + "9" * 6000 + "}", "must be JSON"),
    "huge": (lambda _: " " * (17 * 2**20), "must be at most 16 MiB"),
    "other file": (lambda _: '{"name": "package"}', "It lacks accuracy"),
    "other schema": (lambda profile: json.dumps(profile | {"schema": 2}), "schema must be 1. Got 2."),
    "nan": (lambda profile: json.dumps(profile | {"margin": float("nan")}), "margin does not fit."),
    "text": (lambda profile: json.dumps(profile | {"margin": "3"}), "margin does not fit."),
    "huge number": (lambda profile: json.dumps(profile | {"margin": 10**400}), "margin does not fit."),
    "huge count": (lambda profile: json.dumps(profile | {"n_classes": 10**30}), "n_classes does not fit."),
    "negative": (lambda profile: json.dumps(profile | {"logit_std": -1.0}), "logit_std must lie between"),
    "notices": (lambda profile: json.dumps(profile | {"warnings": [{"kode": "x"}]}), "warnings does not fit."),
    "accuracy": (lambda profile: json.dumps(profile | {"accuracy": 94.0}), "accuracy must lie between 0 and 1"),
    "softness": (
        lambda profile: json.dumps(profile | {"entropy_nats": [9.0] * len(profile["temperatures"])}),
        "entropy_nats must lie between",
    ),
}


class TestBadProfile:
    @pytest.mark.parametrize("case", BAD_PROFILES)
    def test_each_is_refused_with_what_does_not_fit(
        self, saved: Path, refused: Callable[..., str], case: str
    ) -> None:
        make, message = BAD_PROFILES[case]
        Path("bad.json").write_text(make(json.loads(saved.read_text())))
        told = refused("recommend", "bad.json")
        assert message in told
        assert "bad.json" in told
        assert len(told) < 700


def start(*words: str, **options: Any) -> subprocess.Popen[bytes]:
    settings: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([sys.executable, "-m", "tempadvisor", *words], **settings)


class TestProcess:
    """The same as a real process, where streams, signals and imports are real."""

    def test_a_pipe_gets_no_color_even_where_color_is_forced(self) -> None:
        out, err = start("recommend", "--demo", env={**os.environ, "FORCE_COLOR": "1"}).communicate(timeout=60)
        assert b"\x1b" not in out
        assert err == b""
        assert max(map(len, out.decode().splitlines()[:-1])) == 100

    def test_an_error_is_exit_code_2_and_no_traceback(self, tmp_path: Path) -> None:
        process = start("recommend", str(tmp_path / "nosuch.npz"))
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err.count(b"\n")) == (2, b"", 1)

    @pytest.mark.parametrize("words", [["--version"], ["recommend", "--demo", "--explain"]])
    def test_a_reader_that_goes_away_is_no_error(self, words: list[str]) -> None:
        process = start(*words)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 0
        process.stderr.close()

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
    def test_a_full_disk_is_one_line(self) -> None:
        with Path("/dev/full").open("w") as full:
            process = start("recommend", "--demo", stdout=full)
            _, err = process.communicate(timeout=60)
        assert process.returncode == 2
        assert err == b"tempadvisor: stdout must be readable or writable. No space left on device. Check it.\n"

    def test_a_console_without_bars_shows_question_marks(self) -> None:
        process = start("recommend", "--demo", env={**os.environ, "PYTHONIOENCODING": "ascii"})
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, b"")
        assert b"Use T=" in out

    @pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
    def test_control_c_in_the_middle_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "slow.py").write_text(
            "import pathlib, time\ndef teacher():\n    pathlib.Path('begun').touch()\n    time.sleep(60)\n"
        )
        process = start("recommend", "slow:teacher", "--data", "sklearn/digits", cwd=tmp_path)
        deadline = time.monotonic() + 50
        while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (130, b"", b"tempadvisor: Interrupted.\n")

    @pytest.mark.parametrize(
        "words", [["--help"], ["--version"], ["recommend", "--help"], ["recommend", "p.json"], ["profile", "l.npz"]]
    )
    def test_light_commands_load_nothing_heavy(self, desk: Path, run: Run, words: list[str]) -> None:
        (desk / "l.npz").write_bytes((desk / "logits.npz").read_bytes())
        run("profile", "l.npz", "-o", "p.json")
        code = (
            "import sys\n"
            "from tempadvisor.cli import main\n"
            f"sys.argv = ['tempadvisor', *{words!r}]\n"
            "try:\n"
            "    main()\n"
            "except SystemExit as stop:\n"
            f"    print(stop.code or 0, sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert done.stdout
        assert done.stderr == "0 []\n"


def test_to_json_of_the_demo_holds_no_numpy(answer: Callable[..., Any]) -> None:
    from tempadvisor.advise import recommend

    told = answer("recommend", "--demo")
    assert told == json.loads(json.dumps(as_dict(recommend(teachers.demo_profile()))))


class TestBench:
    SUITE = """
        name = "tiny"
        temperatures = [1, 4]
        seeds = 2
        [teachers.t]
        model = "mlp-8"
        epochs = 1
        [[design]]
        dataset = "sklearn/digits"
        teacher = "t"
        student = "mlp-4"
        optimizer = "sgd"
        lr = 0.05
        epochs = 1
        batch_size = 32
        n_train = 100
        n_val = 50
        n_test = 60
        kd_weight = 0.9
    """

    @pytest.fixture(autouse=True)
    def desk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("TEMPADVISOR_CACHE", str(tmp_path / "cache"))
        (tmp_path / "tiny.toml").write_text(self.SUITE)

    def test_a_dry_run_tells_runs_and_minutes_and_writes_nothing(self, answer: Callable[..., Any]) -> None:
        plan = answer("bench", "tiny.toml", "--dry-run")
        assert (plan["n_runs"], plan["n_todo"]) == (6, 6)  # two seeds of two temperatures and no KD
        assert plan["minutes"] > 0
        assert not Path("tiny.csv").exists()

    def test_runs_become_rows_and_a_second_run_needs_resume(self, run: Run, refused: Callable[..., str]) -> None:
        assert run("bench", "tiny.toml").out == "6 runs done, 6 in all: tiny.csv\n"
        assert Path("tiny.csv").read_text().count("FINISHED") == 6
        assert "--resume" in refused("bench", "tiny.toml")
        assert run("bench", "tiny.toml", "--resume").out == "0 runs done, 6 in all: tiny.csv\n"

    @pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
    def test_being_told_to_stop_is_one_line_and_keeps_the_rows(self, tmp_path: Path) -> None:
        slow = self.SUITE.replace('"mlp-4"', '"cnn-4"').replace("seeds = 2", "seeds = 2000")
        (tmp_path / "tiny.toml").write_text(slow)
        process = start("bench", "tiny.toml", cwd=tmp_path)
        deadline = time.monotonic() + 50
        while not (tmp_path / "tiny.csv").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (130, b"", b"tempadvisor: Interrupted.\n")
        assert "FINISHED" in Path("tiny.csv").read_text()
        assert list(tmp_path.glob(".tiny*")) == []

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            ((), "needs a suite"),
            (("nothing.toml",), "nothing.toml must be a suite file"),
            (("tiny.toml", "--jobs", "two"), "--jobs must be a whole number at least 1. Got 'two'"),
            (("tiny.toml", "--jobs", "0"), "jobs must be at least 1"),
            (("tiny.toml", "-o", "nowhere/runs.csv"), "must be a folder"),
        ],
    )
    def test_what_cannot_be_is_refused(self, refused: Callable[..., str], words: tuple[str, ...], says: str) -> None:
        assert says in refused("bench", *words)
