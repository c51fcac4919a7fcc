"""What a user of `tempadvisor knowledge` types and gets: data on stdout, one line for a mistake, exit codes."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tempadvisor import cli
from tempadvisor.documents import save_profile
from tempadvisor.evidence import read_profiles, write_profiles
from tempadvisor.resources import model_path
from tempadvisor.runs import read_runs
from tempadvisor.teachers import demo_profile

SWEEP = "seed,T,val_accuracy,acc,host\n0,,0.8,0.79,a\n0,1,0.81,0.8,a\n0,4,0.83,0.82,b\n"
MAP = ("--map", "T=temperature", "--map", "acc=test_accuracy")
SET = tuple(
    word
    for pair in ("source=photos", "dataset=photos", "teacher=resnet50", "kd_weight=0.9", "t_squared=true")
    for word in ("--set", pair)
)


class Done(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder to work in, with `sweep.csv` and `flat.csv`, in which no temperature does anything."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("TEMPADVISOR_KNOWLEDGE", raising=False)
    (tmp_path / "sweep.csv").write_text(SWEEP)
    (tmp_path / "flat.csv").write_text("seed,T,val_accuracy,acc\n" + "".join(f"0,{t},0.5,0.5\n" for t in (1, 2, 4)))
    return tmp_path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a knowledge command in this process."""

    def command(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["tempadvisor", "knowledge", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return Done(int(stop.value.code or 0), *capsys.readouterr())

    return command


@pytest.fixture
def answer(run: Run) -> Callable[..., Any]:
    """Return a function that gives the JSON answer to a command, which is all of stdout."""

    def command(*words: str) -> Any:
        done = run(*words, "--json")
        assert (done.code, done.err) == (0, "")
        return json.loads(done.out)

    return command


def test_a_file_is_added_and_listed_and_removed(run: Run, answer: Callable[..., Any]) -> None:
    added = run("add", "sweep.csv", *MAP, *SET)
    assert (added.code, added.err) == (0, "")
    assert added.out.startswith("sweep.csv: 3 runs of 1 temperature curve added, import ")
    assert "left out, as no columns of a run: host" in added.out
    (listed,) = answer("list")["imports"]
    assert listed.keys() == {"id", "file", "rows", "curves", "added"}
    assert (listed["file"], listed["rows"], listed["curves"]) == ("sweep.csv", 3, 1)
    assert run("list").out.split()[5:10] == [listed["id"], "sweep.csv", "3", "1", listed["added"][:19] + "Z"]
    assert run("remove", listed["id"]).out == f"3 runs of sweep.csv removed, import {listed['id']}\n"
    assert answer("list") == {"imports": []}
    assert run("list").out.startswith("No runs of your own yet.\nNext: ")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_adding_shows_a_bar_on_a_terminal_and_leaves_stdout_to_the_answer() -> None:
    master, terminal = os.openpty()
    command = [sys.executable, "-m", "tempadvisor", "knowledge", "add", "sweep.csv", *MAP, *SET, "--json"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, env=environment, timeout=60)
    os.close(terminal)
    shown = os.read(master, 100_000)
    os.close(master)
    assert done.returncode == 0
    assert b"Adding runs" in shown
    assert json.loads(done.stdout)["files"][0]["rows"] == 3


def test_adding_again_says_that_all_is_known(run: Run, answer: Callable[..., Any]) -> None:
    run("add", "sweep.csv", *MAP, *SET)
    assert run("add", "sweep.csv", *MAP, *SET).out.startswith("sweep.csv: no new runs added, 3 known already\n")
    (file,) = answer("add", "sweep.csv", *MAP, *SET)["files"]
    assert (file["imported"], file["rows"], file["known"], file["refused"]) == (None, 3, 3, [])


def test_refused_rows_are_lines_on_stderr_with_file_row_and_reason_and_exit_code_2(desk: Path, run: Run) -> None:
    (desk / "bad.csv").write_text(SWEEP.replace("0.8,0.79", "0.8,79.5").replace(",4,", ",hot,"))
    done = run("add", "bad.csv", "sweep.csv", *MAP, *SET)
    assert done.code == 2
    assert [line.split(": ")[0] for line in done.out.splitlines()[:2]] == ["bad.csv", "sweep.csv"]
    assert done.out.startswith("bad.csv: nothing added\nsweep.csv: 3 runs")
    assert done.err.splitlines() == [
        "bad.csv row 2: test_accuracy must be a fraction from 0 to 1. Got percent, it seems: divide by 100.",
        "bad.csv row 4: temperature must be a number above 0. Got 'hot'.",
        "tempadvisor: bad.csv must hold only rows that can be taken. Reasons against: 2, so nothing of it was added. "
        "Mend it and add it again.",
    ]


def test_a_file_with_one_reason_against_it_is_one_line_on_stderr(desk: Path, run: Run) -> None:
    (desk / "bad.csv").write_text(SWEEP.replace(",4,", ",hot,"))
    assert run("add", "none.csv", *MAP, *SET).err == (
        "tempadvisor: none.csv must be a readable text file of runs. No such file or directory. Mend it. "
        "Nothing of it was added.\n"
    )
    assert run("add", "bad.csv", *MAP, *SET).err == (
        "tempadvisor: bad.csv row 4: temperature must be a number above 0. Got 'hot'. Nothing of it was added.\n"
    )


def test_refused_rows_are_objects_in_json(desk: Path, run: Run) -> None:
    (desk / "bad.csv").write_text(SWEEP.replace("0.8,0.79", "0.8,79.5"))
    done = run("add", "bad.csv", *MAP, *SET, "--json")
    (file,) = json.loads(done.out)["files"]
    assert file["refused"] == [
        {
            "file": "bad.csv",
            "row": 2,
            "column": "test_accuracy",
            "reason": "test_accuracy must be a fraction from 0 to 1. Got percent, it seems: divide by 100.",
        }
    ]
    assert (done.code, json.loads(done.err)["code"]) == (2, "refused_rows")


def test_a_thousand_refused_rows_do_not_flood_the_terminal(desk: Path, run: Run) -> None:
    rows = "0,hot,0.5,0.5\n" * 1000 + "".join(f"0,hot{i},0.5,0.5\n" for i in range(1000))
    (desk / "bad.csv").write_text(f"seed,T,val_accuracy,acc\n{rows}")
    lines = run("add", "bad.csv", *MAP, *SET).err.splitlines()
    assert lines[0] == "bad.csv rows 2, 3, 4 and 997 more: temperature must be a number above 0. Got 'hot'."
    assert lines[-2] == "951 more with --json"
    assert len(lines) == 52
    (file,) = json.loads(run("add", "bad.csv", *MAP, *SET, "--json").out)["files"]
    assert len(file["refused"]) == 2000


def test_check_is_exit_code_1_when_it_finds_something(run: Run) -> None:
    run("add", "sweep.csv", *MAP, *SET)
    sound = run("check")
    assert (sound.code, sound.err) == (0, "")
    assert "no duplicates" in sound.out
    run("add", "flat.csv", *MAP, *SET, "--set", "epochs=3")
    found = run("check")
    assert (found.code, found.err) == (1, "")
    assert found.out.startswith("implausible: suite own, curve photos-")
    as_json = run("check", "--json")
    assert (as_json.code, as_json.err) == (1, "")
    (finding,) = json.loads(as_json.out)["findings"]
    assert finding.keys() == {"kind", "code", "imports", "suite", "curve", "text"}


def test_a_hundred_findings_of_one_sort_are_shown_by_a_few_and_counted(run: Run) -> None:
    for epochs in range(1, 6):
        run("add", "flat.csv", *MAP, *SET, "--set", f"epochs={epochs}")
    Path("far.csv").write_text("seed,T,val_accuracy,acc\n0,1,0.9,0.5\n0,2,0.9,0.51\n0,4,0.9,0.5\n")
    run("add", "far.csv", *MAP, *SET, "--set", "epochs=9")
    lines = run("check").out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        *["implausible"] * 4,
        "  and 2 more of this sort; --json has all",
        "6 findings. Next",
    ]
    assert len({line.split(",")[1] for line in lines[1:4]}) == 3
    codes = [one["code"] for one in json.loads(run("check", "--json").out)["findings"]]
    assert sorted(codes) == ["far_apart", *["temperature_unused"] * 5]


def test_stats_show_coverage_and_gaps_shipped_and_own(run: Run, answer: Callable[..., Any]) -> None:
    run("add", "sweep.csv", *MAP, *SET)
    found = answer("stats")
    assert found["runs"][0] > 10_000
    assert (found["runs"][1], found["curves"][1], found["complete"][1]) == (3, 1, 0)
    photos = {"value": "photos", "shipped": 0, "own": 1, "complete": [0, 0], "with_profile": [0, 0]}
    assert photos in found["sources"]
    assert 0 < found["with_profile"][0] <= found["complete"][0]
    assert "lion" in next(axis for axis in found["axes"] if axis["name"] == "optimizer")["gaps"]
    done = run("stats")
    assert "with a profile" in done.out
    assert "add it again with --profile" in done.out
    assert re.search(r"\n +shipped +complete +profile +own +complete +profile\n", done.out)
    assert re.search(r"\nincomplete, but they teach +0 +0\n", done.out)
    assert re.search(r"\nrenamed copies, left out +0 +0\n", done.out)
    assert (found["glimpses"], found["renamed"]) == (0, 0)
    assert re.search(r"\n  photos +0 +0 +0 +1 +0 +0\n", done.out)
    assert "temperature (curves)" in done.out
    assert "none: nadam" in done.out


def test_export_goes_to_stdout_or_to_a_file_that_can_be_added(
    desk: Path, run: Run, answer: Callable[..., Any]
) -> None:
    assert run("export") == Done(0, run("export").out, "")
    run("add", "sweep.csv", *MAP, *SET)
    text = run("export").out
    assert run("export", "-o", "out.csv").out == "3 runs: out.csv\n"
    assert (desk / "out.csv").read_text() == text
    assert len(read_runs(desk / "out.csv")) == 3
    lines = run("export", "--format", "jsonl").out.splitlines()
    assert [json.loads(line)["test_accuracy"] for line in lines] == [0.79, 0.8, 0.82]
    assert answer("export", "-o", "out.parquet") == {"file": "out.parquet", "rows": 3, "profiles": None}
    assert run("add", "out.csv", "--knowledge", "sqlite:///b.db").out.startswith("out.csv: 3 runs of 1 temperature")


def test_export_names_the_file_of_the_teachers_profiles_that_it_writes_too(
    desk: Path, run: Run, answer: Callable[..., Any]
) -> None:
    run("add", "sweep.csv", *MAP, *SET, "--set", "curve=c")
    write_profiles(desk / "sweep.teachers.jsonl", {"c": demo_profile()})
    run("add", "sweep.csv", *MAP, *SET, "--set", "curve=c")
    assert not (desk / "out.teachers.jsonl").exists()
    done = run("export", "-o", "out.csv")
    assert done.out == "3 runs: out.csv\ntheir teachers' profiles: out.teachers.jsonl\n"
    assert (desk / "out.teachers.jsonl").exists()
    assert answer("export", "-o", "out.csv")["profiles"] == "out.teachers.jsonl"


def test_the_url_and_the_variable_name_the_database(desk: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("add", "sweep.csv", *MAP, *SET, "--knowledge", "sqlite:///a.db")
    assert "No runs" in run("list").out
    monkeypatch.setenv("TEMPADVISOR_KNOWLEDGE", f"sqlite:///{desk}/a.db")
    assert "sweep.csv" in run("list").out
    assert not (desk / "data").exists()


@pytest.mark.parametrize(
    "words", [("list",), ("stats",), ("check",), ("export",), ("remove", "x"), ("evaluate",), ("fit",)]
)
def test_a_database_that_is_named_must_be_there_to_be_read(
    run: Run, desk: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    says = (
        "must name a database that is there. There is no file taem.db. Check the URL; knowledge add begins a new one."
    )
    assert run(*words, "--knowledge", "sqlite:///taem.db") == Done(2, "", f"tempadvisor: --knowledge {says}\n")
    monkeypatch.setenv("TEMPADVISOR_KNOWLEDGE", "sqlite:///taem.db")
    assert run(*words) == Done(2, "", f"tempadvisor: TEMPADVISOR_KNOWLEDGE {says}\n")
    assert not (desk / "taem.db").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("add",), "add needs a file"),
        (("add", "sweep.csv", "--map", "acc"), "--map must be A=B"),
        (("add", "sweep.csv", "--map", "a=lr", "--map", "a=lr"), "each A once"),
        (("add", "sweep.csv", "--map", "acc=accuracy"), "Did you mean"),
        (("add", "sweep.csv", "--set", "optimiser=sgd"), "Did you mean optimizer?"),
        (("remove",), "remove needs the id of an import"),
        (("remove", "x"), "There are none"),
        (("list", "--knowledge", "mysql://x"), "must be sqlite:///FILE or postgresql"),
        (("export", "--format", "xlsx"), "--format must be csv or jsonl"),
        (("export", "out.csv"), "export must be told its file by -o. Got 'out.csv'. Say: -o out.csv"),
        (("export", "--format", "parquet"), "Add -o FILE"),
        (("export", "-o", "out.xlsx"), "must be one of csv, jsonl, parquet"),
        (("lst",), "Did you mean 'list'?"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(run: Run, desk: Path, words: tuple[str, ...], says: str) -> None:
    done = run(*words)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert len(done.err.splitlines()) == 1
    assert not (desk / "data").exists()


@pytest.mark.parametrize(
    "words", [(), ("--help",), *((name, "--help") for name in ("add", "list", "stats", "check", "remove", "export"))]
)
def test_help_shows_an_example_and_fits_80_columns(run: Run, words: tuple[str, ...]) -> None:
    done = run(*words)
    assert (done.code, done.err) == (0, "")
    assert "tempadvisor knowledge" in done.out.split("Options")[1]
    assert max(map(len, done.out.splitlines())) <= 80


def test_knowledge_misspelled_is_named(run: Run, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert run("list").code == 0
    monkeypatch.setattr(sys, "argv", ["tempadvisor", "knowlege", "list"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "Did you mean 'knowledge'?" in capsys.readouterr().err


def test_the_help_of_add_names_what_each_flag_takes_and_what_a_row_must_tell(run: Run) -> None:
    text = run("add", "--help").out
    for part in ("FILE ", "--map THEIRS=OURS", "--set OURS=VALUE", "--knowledge URL", "t_squared"):
        assert part in text
    assert "<" not in text


def test_a_corrupt_database_is_one_line_and_recommend_works_without_it(desk: Path, run: Run) -> None:
    path = desk / "data" / "tempadvisor" / "knowledge.db"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database at all " * 100)
    for words in (("list",), ("stats",), ("check",), ("export",), ("add", "sweep.csv", *MAP, *SET), ("remove", "x")):
        done = run(*words)
        assert (done.code, done.out) == (2, "")
        assert len(done.err.splitlines()) == 1
        assert "recommend works without it" in done.err
    advice = subprocess.run(
        [sys.executable, "-m", "tempadvisor", "recommend", "--demo", "--json"], capture_output=True, text=True
    )
    assert (advice.returncode, advice.stderr) == (0, "")


@pytest.mark.parametrize("words", [["--help"], ["recommend", "--demo"], ["knowledge", "--help"]])
def test_other_commands_do_not_load_the_database(words: list[str]) -> None:
    code = (
        "import sys\nfrom tempadvisor.cli import main\n"
        f"sys.argv = ['tempadvisor', *{words!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n"
        "    print(sorted({'sqlalchemy', 'optuna', 'torch', 'pyarrow'} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr == "[]\n"


def test_a_name_of_a_file_cannot_move_the_cursor(desk: Path, run: Run) -> None:
    name = "a\x1b[2J\n.csv"
    (desk / name).write_text(SWEEP)
    for done in (run("add", name), run("add", name, *MAP, *SET), run("list")):
        assert "\x1b" not in done.out + done.err
        assert "a\\x1b[2J .csv" in done.out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_one_line(run: Run) -> None:
    run("add", "sweep.csv", *MAP, *SET)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tempadvisor", "knowledge", "export"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_a_profile_given_beside_a_sweep_is_that_of_its_curves_even_afterwards(answer: Any, desk: Path) -> None:
    save_profile(demo_profile(), desk / "profile.json")
    assert answer("add", "sweep.csv", *MAP, *SET)["files"][0]["profiles"] == 0
    added = answer("add", "sweep.csv", *MAP, *SET, "--profile", "profile.json")["files"][0]
    assert (added["rows"], added["known"], added["profiles"], added["imported"]) == (3, 3, 1, None)
    assert [source["with_profile"][1] for source in answer("stats")["sources"] if source["own"]] == [0]  # incomplete
    assert answer("export", "-o", "out.csv")["profiles"] == "out.teachers.jsonl"


def test_a_profile_that_cannot_be_of_the_rows_teacher_is_refused(run: Run, desk: Path) -> None:
    save_profile(demo_profile(), desk / "profile.json")
    (desk / "two.csv").write_text("seed,temperature,val_accuracy,name,n_classes\n0,1,0.8,a,7\n0,1,0.8,b,7\n")
    words = [word for i, word in enumerate(SET) if "teacher=resnet50" not in SET[i : i + 2]]
    done = run("add", "two.csv", *words, "--map", "name=teacher", "--profile", "profile.json")
    assert done.code == 2
    assert "--profile must be of the one teacher of all rows. Got 2: a, b. Add a file for each." in done.err
    assert "--profile must have n_classes as the rows have. Got 10 against 7." in done.err


def test_logits_given_as_a_profile_are_refused_with_the_command_that_makes_one(run: Run, desk: Path) -> None:
    (desk / "my logits.npz").write_bytes(b"\xff\xfe not looked into")
    done = run("add", "sweep.csv", *MAP, *SET, "--profile", "my logits.npz")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "tempadvisor: my logits.npz must be a profile. Got a file of logits, by its name. "
        "Make one: tempadvisor profile 'my logits.npz' -o profile.json\n"
    )
    assert run("list").out.startswith("No runs of your own yet.")


def test_add_says_what_its_curves_lack_to_be_learned_from_and_what_to_do(run: Run, answer: Any, desk: Path) -> None:
    save_profile(demo_profile(), desk / "profile.json")
    done = run("add", "sweep.csv", *MAP, *SET)
    assert "1 curve lacks a profile of the teacher: " in done.out
    assert "add the file again with --profile FILE" in done.out
    assert "1 curve lacks n_val, the size of the validation split: " in done.out
    (desk / "two.csv").write_text(
        SWEEP.replace("seed,", "curve,seed,").replace("\n0,", "\nc,0,") + "d,0,4,0.8,0.8,a\n"
    )
    assert "2 curves lack a profile of the teacher: " in run("add", "two.csv", *MAP, *SET).out
    assert "add it with --set n_val=N" in done.out
    assert answer("add", "sweep.csv", *MAP, *SET, "--profile", "profile.json")["files"][0]["lacking"] == {
        "n_val, the size of the validation split": 1
    }
    whole = run("add", "sweep.csv", *MAP, *SET, "--set", "n_val=1000", "--profile", "profile.json")
    assert "lack" not in whole.out


def test_a_profile_that_is_named_goes_before_one_beside_the_file(run: Run, desk: Path) -> None:
    write_profiles(desk / "sweep.teachers.jsonl", {"c": demo_profile()})
    other = dataclasses.replace(demo_profile(), teacher="another")
    save_profile(other, desk / "profile.json")
    (desk / "sweep.csv").write_text(SWEEP.replace("seed,", "curve,seed,").replace("\n0,", "\nc,0,"))
    assert run("add", "sweep.csv", *MAP, *SET, "--profile", "profile.json").code == 0
    run("export", "-o", "out.csv")
    assert read_profiles(desk / "out.teachers.jsonl")["c"].teacher == "another"


def test_remove_tells_of_the_model_that_learned_from_what_is_gone(run: Run, answer: Any) -> None:
    run("add", "sweep.csv", *MAP, *SET)
    (listed,) = answer("list")["imports"]
    model_path().parent.mkdir(parents=True, exist_ok=True)
    model_path().write_bytes(b"any")
    assert "Next: tempadvisor knowledge fit, or knowledge restore" in run("remove", listed["id"]).out


def test_what_is_wrong_with_a_whole_file_is_said_once(run: Run, desk: Path) -> None:
    (desk / "semicolons.csv").write_text(SWEEP.replace(",", ";"))
    assert "Columns must be separated by commas. Got ';' instead" in run("add", "semicolons.csv", *MAP, *SET).err
    (desk / "utf16.csv").write_text(SWEEP, encoding="utf-16")
    assert "It is in another encoding than UTF-8" in run("add", "utf16.csv", *MAP, *SET).err
    (desk / "percent.csv").write_text(SWEEP.replace("0.8", "80."))
    said = run("add", "percent.csv", *MAP, *SET).err
    assert said.count("divide by 100") == 2, "once a column"
    (desk / "zero.csv").write_text(SWEEP.replace("0,,", "0,0,"))
    assert "Leave it empty where a student was trained without KD" in run("add", "zero.csv", *MAP, *SET).err


def test_export_writes_no_format_under_the_name_of_another(run: Run) -> None:
    run("add", "sweep.csv", *MAP, *SET)
    assert "--format must be what out.csv ends in" in run("export", "-o", "out.csv", "--format", "jsonl").err
