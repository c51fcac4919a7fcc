"""Setups, profiles and texts on disk: what is read means what was written, and a file is whole or untouched."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tempadvisor.documents import (
    load_profile,
    profile_from,
    read_setup,
    save_profile,
    setup_from,
    to_json,
    write_text,
)
from tempadvisor.errors import InputError, TempAdvisorError, UsageError
from tempadvisor.records import Estimate, Notice, TeacherProfile, TrainingSetup, as_dict
from tempadvisor.teachers import demo_profile


@pytest.fixture(scope="module")
def profile() -> TeacherProfile:
    return demo_profile()


def config(folder: Path, text: str, name: str = "setup.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


class TestReadSetup:
    def test_nothing_is_everything_unknown(self) -> None:
        assert read_setup(None, {}) == TrainingSetup()
        assert read_setup(None, {"optimizer": None, "epochs": None}) == TrainingSetup()

    def test_flags_come_as_texts(self) -> None:
        setup = read_setup(None, {"lr": "1e-3", "epochs": "30", "optimizer": "sgd", "t_squared": False})
        assert setup == TrainingSetup(lr=0.001, epochs=30, optimizer="sgd", t_squared=False)

    @pytest.mark.parametrize("written", ["1e-3", "0.001", "1.0e-3", "'1e-3'", ".001"])
    def test_a_number_in_yaml_may_be_written_in_any_way(self, tmp_path: Path, written: str) -> None:
        assert read_setup(config(tmp_path, f"lr: {written}\n"), {}).lr == 0.001

    @pytest.mark.parametrize("written", ["50000", "5e4", "5.0e+4", "50000.0", "'50000'", "50_000"])
    def test_a_count_in_yaml_may_be_written_in_any_way(self, tmp_path: Path, written: str) -> None:
        n_train = read_setup(config(tmp_path, f"n_train: {written}\n"), {}).n_train
        assert (n_train, type(n_train)) == (50_000, int)

    @pytest.mark.parametrize("written", ["50000", "5e4", "50_000", "'5e4'"])
    def test_a_count_in_toml_may_be_written_in_any_way(self, tmp_path: Path, written: str) -> None:
        assert read_setup(config(tmp_path, f"n_train = {written}\n", "s.toml"), {}).n_train == 50_000

    @pytest.mark.parametrize("written", ["2.5", "'2.5'", "1e400", "true", "[1]", "ten", "''"])
    def test_a_count_that_is_none_is_refused(self, tmp_path: Path, written: str) -> None:
        with pytest.raises(UsageError, match=r"epochs must be a whole number at least 1. Got .*setup.yaml"):
            read_setup(config(tmp_path, f"epochs: {written}\n"), {})

    def test_a_name_that_looks_like_a_number_stays_a_text_as_a_flag(self) -> None:
        assert read_setup(None, {"student": "18"}).student == "18"

    def test_an_unset_key_is_unknown(self, tmp_path: Path) -> None:
        assert read_setup(config(tmp_path, "optimizer:\nepochs: 3\n"), {}) == TrainingSetup(epochs=3)

    def test_flags_override_the_file_and_keep_the_rest(self, tmp_path: Path) -> None:
        path = config(tmp_path, "optimizer: adam\nepochs: 3\n")
        assert read_setup(path, {"optimizer": "sgd"}) == TrainingSetup(optimizer="sgd", epochs=3)

    def test_a_flag_may_heal_what_the_file_gets_wrong(self, tmp_path: Path) -> None:
        assert read_setup(config(tmp_path, "epochs: 0\n"), {"epochs": "3"}).epochs == 3

    def test_a_contradiction_between_flag_and_file_names_the_file(self, tmp_path: Path) -> None:
        path = config(tmp_path, "momentum: 0.9\n")
        with pytest.raises(UsageError, match=r"momentum must be unset when optimizer is adam.*setup.yaml") as caught:
            read_setup(path, {"optimizer": "adam"})
        assert caught.value.code == "contradiction"

    def test_all_unknown_keys_are_named_at_once(self) -> None:
        with pytest.raises(UsageError, match=r"'epoch' .*mean epochs\? 'optimiser' .*mean optimizer\? \(here\)"):
            setup_from({"epoch": 3, "optimiser": "sgd"}, where="here")

    @pytest.mark.parametrize("name", ["missing.yaml", "folder.yaml", "null\0byte.yaml"])
    def test_what_cannot_be_read_is_an_input_error(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "folder.yaml").mkdir()
        with pytest.raises(InputError, match="must be a readable file"):
            read_setup(tmp_path / name, {})


class TestProfiles:
    def test_a_profile_comes_back_as_it_was_saved(self, profile: TeacherProfile, tmp_path: Path) -> None:
        save_profile(profile, tmp_path / "p.json")
        assert load_profile(tmp_path / "p.json") == profile

    def test_it_is_strict_json(self, profile: TeacherProfile) -> None:
        assert json.loads(to_json(profile), parse_constant=pytest.fail) == json.loads(json.dumps(as_dict(profile)))
        with pytest.raises(ValueError, match="not JSON compliant"):
            to_json(Estimate(float("nan"), 0.0))

    def test_warnings_come_back_as_notices(self, profile: TeacherProfile) -> None:
        told = profile_from(as_dict(profile) | {"warnings": [{"code": "c", "text": "t"}]}, where="p.json")
        assert told.warnings == (Notice("c", "t"),)

    @pytest.mark.parametrize(
        "warnings",
        [
            [{"kode": "x"}],
            [{"code": "x"}],
            [{"code": "x", "text": "y", "more": "z"}],
            [{"code": 1, "text": "y"}],
            [{"code": "x", "text": None}],
            ["x"],
            [None],
            [["code", "text"]],
            {"code": "x", "text": "y"},
            "none",
            None,
        ],
    )
    def test_malformed_warnings_are_refused(self, profile: TeacherProfile, warnings: Any) -> None:
        with pytest.raises(InputError, match="warnings does not fit") as caught:
            profile_from(as_dict(profile) | {"warnings": warnings}, where="p.json")
        assert caught.value.code == "not_a_profile"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("n_samples", 0),
            ("n_samples", 12.5),
            ("n_samples", True),
            ("n_samples", 10**16),
            ("n_available", 3),
            ("n_classes", 1),
            ("logits_from", "elsewhere"),
            ("teacher", None),
            ("teacher", 3),
            ("temperatures", []),
            ("temperatures", "1234"),
            ("temperatures", {"0": 1.0}),
            ("entropy_nats", [0.5]),
            ("entropy_nats", [-1.0] * 29),
            ("entropy_nats", [99.0] * 29),
            ("top1_probability", [1.5] * 29),
            ("softness_levels", [0.1, 0.3, 0.5, 0.7, 9.0]),
            ("softness_temperatures", [0.0, 1.0, 2.0, 3.0, 4.0]),
            ("spike_temperature", -1.0),
            ("margin", float("inf")),
            ("margin", 10**400),
            ("logit_std", 0.0),
            ("rest_std", -1.0),
            ("accuracy", 94),
            ("accuracy", "0.94"),
            ("nll_nats", -0.1),
            ("calibration_temperature", 0.0),
            ("std_errors", [0.1]),
            ("std_errors", {"margin": "0.1"}),
            ("std_errors", {"margin": None}),
            ("schema", 2),
            ("schema", "1"),
        ],
    )
    def test_a_doctored_value_is_refused_by_name(self, profile: TeacherProfile, name: str, value: Any) -> None:
        if name in ("entropy_nats", "top1_probability") and len(value) > 1:
            value = value[:1] * len(profile.temperatures)
        with pytest.raises(InputError, match=name):
            profile_from(as_dict(profile) | {name: value}, where="p.json")

    @pytest.mark.parametrize("missing", ["accuracy", "schema", "warnings", "temperatures"])
    def test_a_missing_field_is_refused_by_name(self, profile: TeacherProfile, missing: str) -> None:
        values = as_dict(profile)
        del values[missing]
        with pytest.raises(InputError, match=f"It lacks {missing}"):
            profile_from(values, where="p.json")


class TestWriteText:
    def test_it_writes_over_an_old_file_and_leaves_nothing_else(self, tmp_path: Path) -> None:
        for text in ("old", "new ẑ\n"):
            write_text(tmp_path / "a.json", text)
        assert (tmp_path / "a.json").read_text(encoding="utf-8") == "new ẑ\n"
        assert [path.name for path in tmp_path.iterdir()] == ["a.json"]

    @pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
    @pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
    def test_a_failure_in_the_middle_leaves_the_old_file_and_no_other(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, failure: BaseException
    ) -> None:
        (tmp_path / "a.json").write_text("old")

        def fails(*_: object, **__: object) -> None:
            raise failure

        monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, step)), fails)
        with pytest.raises((TempAdvisorError, KeyboardInterrupt)) as caught:
            write_text(tmp_path / "a.json", "new")
        monkeypatch.undo()
        assert isinstance(failure, KeyboardInterrupt) or "No space left on device" in str(caught.value)
        assert (tmp_path / "a.json").read_text() == "old"
        assert [path.name for path in tmp_path.iterdir()] == ["a.json"]

    @pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
    def test_permissions_follow_the_umask(self, tmp_path: Path, mask: int, mode: int) -> None:
        before = os.umask(mask)
        try:
            write_text(tmp_path / "a.json", "x")
            assert os.umask(mask) == mask, "the umask is left as it was"
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == mode

    @pytest.mark.parametrize("name", ["missing/a.json", "folder.json", "null\0.json", "x" * 300])
    def test_what_cannot_be_written_is_an_input_error(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "folder.json").mkdir()
        with pytest.raises(InputError, match="must be a file that can be written") as caught:
            write_text(tmp_path / name, "x")
        assert caught.value.code == "unwritable"
        assert [path.name for path in tmp_path.iterdir()] == ["folder.json"]


@pytest.mark.parametrize("name", ["p.json", "s.yaml", "s.toml"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_or_device_is_refused_before_it_is_read(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match="must be a regular file"):
        load_profile(path) if name == "p.json" else read_setup(path, {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr: 0.1\nlr: 0.2\n", "on line 2: lr is given twice"),
        ("epochs: 1:30\n", "on line 1: 1:30 is no plain number"),
        ("lr: 1:30.5\n", "on line 1: 1:30.5 is no plain number"),
    ],
)
def test_yaml_that_would_mean_something_else_in_silence_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_setup(config(tmp_path, text), {})


@pytest.mark.parametrize("text", ["&a {lr: *a}\n", "lr: &a [*a]\n", "&a [*a]\n", "? &a [*a]\n: 1\n"])
def test_yaml_that_holds_itself_is_refused_in_a_short_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(TempAdvisorError) as caught:
        read_setup(config(tmp_path, text), {})
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("related_mass", 1.5),
        ("related_mass", -0.5),
        ("granularity", -1.0),
        ("calibration_error", -0.1),
        ("confusable_classes", -2.0),
        ("softness_temperatures", [1.0, 2.0, 3.0, 4.0, 4096.0]),
        ("softness_temperatures", [0.001, 2.0, 3.0, 4.0, 5.0]),
        ("softness_temperatures", [1.0, 2.0, None, 1.5, 5.0]),
    ],
)
def test_a_value_that_no_teacher_has_is_refused(profile: TeacherProfile, key: str, value: Any) -> None:
    content = json.loads(to_json(profile)) | {key: value}
    with pytest.raises(InputError, match=key):
        profile_from(content, where="p.json")
