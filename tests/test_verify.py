"""A temperature verified by training: in which order, on which data, interrupted, and on whatever a user hands over.

Students are perceptrons of 8 units on 100 digits. Workers, servers and real signals are in `test_verify_workers.py`.
"""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from sklearn.datasets import load_digits
from test_cli import Run, answer, refused, run
from torch import Tensor, nn

from tempadvisor import distill, plans, students, study, verify
from tempadvisor.case import Case, Task
from tempadvisor.errors import InputError, UsageError
from tempadvisor.imports import read_file
from tempadvisor.material import start_of
from tempadvisor.models import weights_hash
from tempadvisor.pictures import verification_svg
from tempadvisor.progress import progress_bar
from tempadvisor.records import TrainingSetup
from tempadvisor.study import load_study, public
from tempadvisor.verification import Trial, Verification

__all__ = ["answer", "refused", "run"]

TUTORS = '''
import torch
from sklearn.datasets import load_digits
from torch import nn


class Tutor(nn.Module):
    """Nearest class mean of the digits."""

    def __init__(self, answer=lambda logits: logits):
        super().__init__()
        digits = load_digits()
        images, labels = torch.tensor(digits.data).float() / 16, torch.tensor(digits.target)
        means = torch.stack([images[labels == k].mean(0) for k in range(10)])
        self.weight, self.bias = nn.Parameter(means), nn.Parameter(-(means**2).sum(1) / 2)
        self.answer = answer

    def forward(self, images):
        return self.answer(images.flatten(1) @ self.weight.T + self.bias)


def wrong(logits):
    raise KeyError("a bug")


def loud(logits):
    print("hello from the teacher")
    return logits


def a_tutor(): return Tutor()
def scaled(): return Tutor(lambda logits: 2 * logits)
def a_nan(): return Tutor(lambda logits: logits * torch.nan)
def a_tuple(): return Tutor(lambda logits: (logits, logits))
def one_number(): return Tutor(lambda logits: logits[:, 0])
def one_row(): return Tutor(lambda logits: logits[:1])
def reordered(): return Tutor(lambda logits: torch.cat([logits[:, :1] + 99, logits.flip(1)], 1))
def five_classes(): return Tutor(lambda logits: logits[:, :5])
def raising(): return Tutor(wrong)
def leaving(): return Tutor(lambda logits: exit(3))
def printing(): return Tutor(loud)
def gone(): exit(3)
def no_model(): return 3


class Plain(nn.Module):
    """Without parameters."""

    def forward(self, images):
        return Tutor()(images).detach()


plain = Plain
'''
SETUP = TrainingSetup(student="mlp-8", optimizer="sgd", lr=0.1, epochs=20, batch_size=32, n_train=100)
TASK = Task(teacher="tutors:a_tutor", data="sklearn/digits", setup=SETUP)
STUDENT = ("--student", "mlp-8", "--optimizer", "sgd", "--lr", "0.1", "--epochs", "20", "--batch-size", "32")
REST = ("--data", "sklearn/digits", *STUDENT, "--n-train", "100", "--budget", "4", "--storage", "a.journal")
WORDS = ("verify", "tutors:a_tutor", *REST)
Trained = list[tuple[float | None, int]]


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder to work in, with its own cache and some teachers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEMPADVISOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delitem(sys.modules, "tutors", raising=False)
    Path("tutors.py").write_text(TUTORS, encoding="utf-8")
    return tmp_path


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    """Return the list of trainings that are really done from now on."""
    done: Trained = []
    train = distill.train

    def noted(student: nn.Module, views: Any, setup: Any, temperature: float | None, *, seed: int) -> None:
        done.append((temperature, seed))
        train(student, views, setup, temperature, seed=seed)

    monkeypatch.setattr(students, "train", noted)
    return done


def untimed(found: Verification) -> Verification:
    """Return what was found without the seconds it took."""
    trials = tuple(dataclasses.replace(one, seconds=None) for one in found.trials)
    return dataclasses.replace(found, trials=trials, cost=dataclasses.replace(found.cost, seconds=0.0), storage="")


def cells(trials: tuple[Trial, ...]) -> set[tuple[float | None, int]]:
    return {(one.temperature, one.seed) for one in trials}


def teacher_logits() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the tutor's logits of all digits, and the labels."""
    images, labels = load_digits(return_X_y=True)
    images = images / 16
    means = np.stack([images[labels == k].mean(0) for k in range(10)])
    return (images @ means.T - (means**2).sum(1) / 2).astype(np.float32), labels


class TestOrder:
    def test_the_recommended_temperature_goes_first_with_seed_0(self, trained: Trained) -> None:
        found = verify.verify(TASK, budget="6")
        assert trained[0] == (found.recommendation.temperature, 0)
        assert len(trained) == len(set(trained)) == found.cost.trainings <= 6
        assert cells(found.trials) == set(trained)

    def test_a_seed_is_new_to_the_recommended_temperature_before_it_is_to_another(self, trained: Trained) -> None:
        best = verify.verify(TASK, budget="12").recommendation.temperature
        for i, (temperature, seed) in enumerate(trained):
            assert temperature == best or (best, seed) in trained[:i]

    def test_no_kd_and_4_are_trained_where_the_budget_allows_it(self) -> None:
        assert {None, 4.0} <= {one.temperature for one in verify.verify(TASK, budget="20").trials}

    def test_first_weights_and_data_order_hang_on_the_seed_alone(self) -> None:
        unweighted = dataclasses.replace(SETUP, kd_weight=1e-30, hard_weight=1.0)  # T changes nothing else
        case = dataclasses.replace(TASK, setup=unweighted).case()
        one, other, next_seed = (students.student(case, cell).state_dict() for cell in ((1.0, 3), (8.0, 3), (8.0, 4)))
        assert all(torch.equal(one[name], other[name]) for name in one)
        assert not all(torch.equal(next_seed[name], other[name]) for name in one)

    def test_a_student_is_the_same_to_the_bit_whatever_was_trained_before(
        self, monkeypatch: pytest.MonkeyPatch, trained: Trained
    ) -> None:
        case = TASK.case()
        alone = students.student(case, (4.0, 1)).state_dict()
        monkeypatch.setenv("TEMPADVISOR_CACHE", "elsewhere")
        torch.manual_seed(5)
        students.student(TASK.case(), (2.0, 1))
        again = students.student(case, (4.0, 1)).state_dict()
        assert trained == [(4.0, 1), (2.0, 1), (4.0, 1)]
        assert all(torch.equal(alone[name], again[name]) for name in alone)


class TestTestData:
    @pytest.fixture
    def read(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float | None]]:
        """Return the list of accuracies that are asked for from now on: of which split, at which temperature."""
        asked: list[tuple[str, float | None]] = []
        sizes = {len(TASK.case().material.samples.val[1]): "val", len(TASK.case().material.samples.test[1]): "test"}
        student, accuracy = students.student, students.accuracy

        def noted_student(case: Case, training: tuple[float | None, int]) -> nn.Module:
            found = student(case, training)
            found.temperature = training[0]  # type: ignore[assignment]
            return found

        def noted(student: Any, images: Tensor, labels: Tensor) -> float | None:
            asked.append((sizes[len(labels)], student.temperature))
            return accuracy(student, images, labels)

        monkeypatch.setattr(verify, "student", noted_student)
        monkeypatch.setattr(verify, "accuracy", noted)
        return asked

    def test_it_is_read_at_the_end_for_the_temperature_to_use_and_the_references(
        self, read: list[tuple[str, float | None]]
    ) -> None:
        found = verify.verify(TASK, budget="20")
        splits = [split for split, _ in read]
        assert splits == ["val"] * found.cost.trainings + ["test"] * (len(splits) - found.cost.trainings)
        told = {found.temperature, found.recommendation.temperature, 4.0, None}
        assert {temperature for split, temperature in read if split == "test"} == told
        assert len({one.temperature for one in found.trials} - told) > 2, "others were trained"
        assert {one.temperature for one in found.trials if one.test_accuracy is not None} == told
        assert {one.temperature for one in found.test.accuracy} == told

    def test_a_resumed_study_does_not_read_it_again(self, read: list[tuple[str, float | None]]) -> None:
        first = verify.verify(TASK, budget="4")
        read.clear()
        assert verify.verify(TASK, budget="4", resume=True) == first
        assert read == []

    def test_with_another_budget_only_what_was_not_read_is_read(self, read: list[tuple[str, float | None]]) -> None:
        first = verify.verify(TASK, budget="4")
        read.clear()
        more = verify.verify(TASK, budget="12", resume=True)
        before, after = (
            {(one.temperature, one.seed): one.test_accuracy for one in found.trials if one.test_accuracy is not None}
            for found in (first, more)
        )
        again = verify.verify(TASK, budget="12", resume=True)
        assert sorted(str(t) for split, t in read if split == "test") == sorted(
            str(t) for t, _ in after.keys() - before
        )
        assert all(before[cell] == after[cell] for cell in before.keys() & after)
        assert again == more

    def test_all_else_comes_from_the_validation_split(self, monkeypatch: pytest.MonkeyPatch) -> None:
        honest = verify.verify(TASK, budget="8", storage="a.journal")
        true_case = Task.case

        def spoiled(task: Task) -> Case:
            case = true_case(task)
            images, labels = case.material.samples.test
            samples = case.material.samples._replace(test=(images, (labels + 1) % 10))
            return case._replace(material=case.material._replace(samples=samples))

        monkeypatch.setattr(Task, "case", spoiled)
        other = verify.verify(TASK, budget="8", storage="b.journal")
        assert max(one.accuracy for one in other.test.accuracy) < min(one.accuracy for one in honest.test.accuracy)
        blind = [
            dataclasses.replace(
                untimed(one),
                test=honest.test,
                trials=tuple(dataclasses.replace(t, test_accuracy=None, seconds=None) for t in one.trials),
            )
            for one in (honest, other)
        ]
        assert blind[0] == blind[1]


class TestResume:
    @pytest.mark.parametrize("share", [0, 0.3, 0.6, 1])
    @pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError("a bug")], ids=["interrupt", "bug"])
    def test_an_interrupted_search_ends_as_one_that_was_not(
        self, share: float, stop: BaseException, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = untimed(verify.verify(TASK, budget="8", storage="whole.journal"))
        at = 1 + round(share * (whole.cost.trainings - 1))
        count, train = 0, distill.train

        def stopping(*words: Any, **more: Any) -> None:
            nonlocal count
            count += 1
            train(*words, **more)
            if count == at:
                raise stop

        monkeypatch.setattr(students, "train", stopping)
        with pytest.raises(type(stop) if isinstance(stop, Exception) else KeyboardInterrupt):
            verify.verify(TASK, budget="8", storage="a.journal")
        assert count == at
        assert untimed(verify.verify(TASK, budget="8", storage="a.journal", resume=True)) == whole
        assert count == whole.cost.trainings + 1, "only the training that was stopped is done again"

    def test_an_interrupt_says_how_to_go_on_where_something_is_kept(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stopped(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(students, "train", stopped)
        line = "Interrupted. Add --resume to go on."
        assert run(*WORDS) == (130, "", f"tempadvisor: {line}\n")
        assert json.loads(run(*WORDS, "--resume", "--json").err) == {"code": "interrupted", "message": line}
        assert run("verify", "--demo") == (130, "", "tempadvisor: Interrupted.\n")
        monkeypatch.setattr(Task, "case", stopped)
        assert run(*WORDS, "--storage", "b.journal") == (130, "", "tempadvisor: Interrupted.\n")

    def test_interrupted_while_the_test_split_is_read_it_is_read_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = untimed(verify.verify(TASK, budget="4", storage="whole.journal"))

        def stopped(*_: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(verify, "_tested", stopped)
            with pytest.raises(KeyboardInterrupt):
                verify.verify(TASK, budget="4", storage="a.journal")
        assert untimed(verify.verify(TASK, budget="4", storage="a.journal", resume=True)) == whole

    def test_a_study_that_exists_is_refused_without_resume(self, run: Run, refused: Callable[..., str]) -> None:
        assert not run(*WORDS).code
        assert refused(*WORDS) == (
            "a.journal must not hold this study yet. It does. Add --resume to go on with it, or another --storage or "
            "--seed to begin anew."
        )

    def test_a_finished_one_trains_nothing_and_answers_the_same_to_the_byte(self, run: Run, trained: Trained) -> None:
        first = run(*WORDS, "--json")
        n = len(trained)
        again = run(*WORDS, "--json", "--resume")
        assert (first.code or 0, again.code or 0, len(trained)) == (0, 0, n)
        assert again.out == first.out

    def test_another_budget_goes_on_with_the_same_trainings(self, trained: Trained) -> None:
        first = verify.verify(TASK, budget="4", storage="a.journal")
        assert len(trained) == 4
        more = verify.verify(TASK, budget="12", storage="a.journal", resume=True)
        assert more.study == first.study
        assert (first.cost.budget, more.cost.budget) == (4, 12)
        seconds = {(one.temperature, one.seed): one.seconds for one in more.trials}
        assert all(seconds[one.temperature, one.seed] == one.seconds for one in first.trials), "none counts twice"
        assert set(trained) == set(seconds) > cells(first.trials)

    def test_without_a_budget_that_of_the_study_holds(self, trained: Trained) -> None:
        first = verify.verify(TASK, budget="4", storage="a.journal")
        n = len(trained)
        assert verify.verify(TASK, storage="a.journal", resume=True) == first
        assert len(trained) == n

    def test_a_smaller_budget_than_was_spent_ends_the_search(self, trained: Trained) -> None:
        first = verify.verify(TASK, budget="6", storage="a.journal")
        n = len(trained)
        less = verify.verify(TASK, budget="2", storage="a.journal", resume=True)
        assert (len(trained), less.cost.budget, cells(less.trials)) == (n, 2, cells(first.trials))

    @pytest.mark.parametrize("place", ["a.journal", "sqlite:///a.db", "cache/other.journal"])
    def test_what_has_not_begun_cannot_be_gone_on_with(self, place: str, refused: Callable[..., str]) -> None:
        verify.verify(TASK, budget="2", storage="cache/other.journal")
        line = refused(*WORDS, "--storage", place, "--lr", "0.2", "--resume")
        assert line.startswith(f"{place} must hold this study, to go on with it. It does not. Leave --resume out to")
        assert not list(Path().glob("a.*"))

    def test_no_student_of_a_teacher_is_taken_for_one_of_another_with_the_same_weights(
        self, trained: Trained
    ) -> None:
        first = verify.verify(TASK, budget="4")
        verify.verify(dataclasses.replace(TASK, teacher="tutors:scaled"), budget="4")
        assert len(trained) == 2 * first.cost.trainings

    @pytest.mark.parametrize(("what", "other"), [("hash", "0" * 16), ("logits", [9.0, *[0.0] * 9])])
    def test_a_study_of_other_data_or_another_teacher_is_not_gone_on_with(
        self, what: str, other: Any, trained: Trained
    ) -> None:
        study = verify.verify(TASK, budget="2", storage="a.journal").study
        trained.clear()
        load_study(study, "a.journal").set_user_attr(what, other)
        for go_on in (
            lambda: verify.verify(TASK, budget="2", storage="a.journal", resume=True),
            lambda: verify.join(study, "a.journal"),
        ):
            with pytest.raises(InputError, match=r"must be the same as where it began\. They are not"):
                go_on()
        assert trained == []

    def test_students_that_start_trained_on_the_labels_start_as_their_own_setup_says(self) -> None:
        weights = []
        for lr in (0.1, 0.01):
            target = dataclasses.replace(SETUP, student_init="target", lr=lr)
            case = dataclasses.replace(TASK, setup=target).case()
            weights.append(weights_hash(start_of(case.curve, *case.material[:2], seed=0)))
        assert weights[0] != weights[1]

    def test_students_are_not_kept_once_the_test_split_is_read(self, desk: Path) -> None:
        verify.verify(TASK, budget="4")
        assert not list((desk / "cache").glob("student-*"))


class TestFailures:
    def failing_at(self, wanted: Callable[[float | None], bool], monkeypatch: pytest.MonkeyPatch) -> None:
        train = distill.train

        def broken(student: nn.Module, views: Any, setup: Any, temperature: float | None, *, seed: int) -> None:
            train(student, views, setup, temperature, seed=seed)
            if wanted(temperature):
                for value in student.parameters():
                    value.data.fill_(torch.nan)

        monkeypatch.setattr(students, "train", broken)

    def test_a_student_that_diverges_is_a_failed_trial_that_guesses(
        self, monkeypatch: pytest.MonkeyPatch, desk: Path
    ) -> None:
        best = plans.plan(TASK).recommended
        self.failing_at(lambda t: t is not None and t != best, monkeypatch)
        found = verify.verify(TASK, budget="10", out=desk / "runs.csv")
        assert found.temperature == best
        assert found.verdict != "better_found"
        assert {one.temperature for one in found.trials if one.val_accuracy is None} <= {
            one.temperature for one in found.curve
        } - {best}
        assert found.difference.mean < -0.2, "it counts as guessing"
        rows = read_file(str(desk / "runs.csv"), {}, {})
        assert rows.refused == ()

    def test_so_it_is_where_it_is_the_recommended_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        best = plans.plan(TASK).recommended
        self.failing_at(lambda t: t == best, monkeypatch)
        found = verify.verify(TASK, budget="20")
        assert found.verdict == "better_found"
        assert found.temperature != best
        tested = {one.temperature: one.accuracy for one in found.test.accuracy}
        assert tested[best] == pytest.approx(0.1)
        assert tested[found.temperature] > 0.3

    def test_where_all_diverge_the_rate_is_to_blame(self, run: Run, refused: Callable[..., str]) -> None:
        words = [word if word != "0.1" else "1e30" for word in WORDS]
        run(*words)
        line = refused(*words, "--resume")
        assert line == "students must train to finite logits. None of 4 did. Lower --lr."

    @pytest.mark.parametrize(
        "error",
        [
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
            MemoryError(),
        ],
        ids=["cuda", "cpu", "python"],
    )
    @pytest.mark.parametrize(("optimizer", "lr"), [("sgd", "0.05"), ("adam", "0.0707")])
    def test_out_of_memory_says_which_batch_and_rate_to_take(
        self,
        error: Exception,
        optimizer: str,
        lr: str,
        monkeypatch: pytest.MonkeyPatch,
        run: Run,
        refused: Callable[..., str],
    ) -> None:
        def full(*_: Any, **__: Any) -> None:
            raise error

        monkeypatch.setattr(students, "train", full)
        words = [optimizer if word == "sgd" else word for word in WORDS]
        run(*words)
        line = refused(*words, "--resume")
        assert line.endswith(f"Verify and train with half of it: --batch-size 16 --lr {lr}.")


class TestJournals:
    def test_a_study_goes_on_from_wherever_a_power_cut_tore_its_journal(
        self, desk: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(verify, "forget", lambda *_: None)  # students are forgotten at the end, not by a cut
        monkeypatch.setattr(study, "GRACE", 0)
        path = desk / "whole.journal"
        whole = verify.verify(TASK, budget="2", storage=str(path))
        data = path.read_bytes()
        begun = data.index(b'"study_name"')
        begun = data.index(b"\n", begun) + 1
        torn = desk / "torn.journal"
        for i, size in enumerate([begun, begun + 9, *range(begun + 1000, len(data), len(data) // 7), len(data) - 1]):
            torn.write_bytes(data[:size])
            monkeypatch.setattr(study, "WORKER", f"{study.WORKER.rpartition(':')[0]}:{i}")  # the old one is gone
            kept = data[: data[:size].rfind(b"\n") + 1]
            found = verify.verify(TASK, budget="2", storage=str(torn), resume=True)
            assert torn.read_bytes().startswith(kept)
            assert untimed(found) == untimed(whole)
            assert len(found.trials) == len(cells(found.trials)) == 2

    @pytest.mark.parametrize("size", [1, 12])
    def test_one_torn_before_the_study_began_begins_anew(self, size: int, desk: Path) -> None:
        path = desk / "a.journal"
        path.write_bytes(b'{"op_code":0,"worker_id":"a"'[:size])
        assert verify.verify(TASK, budget="2", storage=str(path)).cost.trainings == 2

    def test_a_foreign_study_of_the_same_name_is_not_taken_over(self, desk: Path) -> None:
        import optuna

        name = verify.verify(TASK, budget="2", storage="own.journal").study
        backend = optuna.storages.journal.JournalFileBackend("foreign.journal")
        foreign = optuna.create_study(study_name=name, storage=optuna.storages.JournalStorage(backend))
        foreign.enqueue_trial({"x": 1.0})
        before = (desk / "foreign.journal").read_bytes()
        with pytest.raises(InputError, match="was not begun by tempadvisor verify"):
            verify.verify(TASK, storage="foreign.journal", resume=True)
        assert (desk / "foreign.journal").read_bytes() == before

    def test_a_full_disk_is_named_with_how_to_go_on(
        self, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str], run: Run
    ) -> None:
        def full(*_: Any, **__: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(students, "train", full)
            run(*WORDS)
            line = refused(*WORDS, "--resume")
        assert line.startswith("a.journal and the cache folder")
        assert "No space left on device. Free some; what was trained is kept: go on with --resume." in line
        assert not run(*WORDS, "--resume").code


@pytest.fixture
def stored(desk: Path) -> Path:
    """Return a file of logits of all digits in their order."""
    logits, labels = teacher_logits()
    np.savez("digits.npz", logits=logits, labels=labels)
    return desk / "digits.npz"


class TestTeachers:
    @pytest.mark.parametrize("suffix", ["npz", "npy", "safetensors", "NPZ"])
    def test_stored_logits_train_the_students_that_their_model_trains(self, suffix: str, desk: Path) -> None:
        logits, labels = teacher_logits()
        path = desk / f"digits.{suffix}"
        if suffix == "npy":
            np.save(path, logits)
        elif suffix == "safetensors":
            save_file({"logits": logits, "labels": labels}, path)
        else:
            with path.open("wb") as file:
                np.savez(file, logits=logits, labels=labels)
        case = dataclasses.replace(TASK, teacher=str(path)).case()
        live = TASK.case()
        ours, theirs = case.material.views.teacher_logits, live.material.views.teacher_logits
        assert ours is not None
        assert theirs is not None
        torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0)  # pixels are stored as whole numbers
        assert case.profile.accuracy == live.profile.accuracy

    @pytest.mark.parametrize(
        ("plain", "teacher"), [("tutors:a_tutor", "tutors:reordered"), ("digits.npy", "reordered.npy")]
    )
    def test_a_class_map_brings_outputs_to_the_classes_before_students_learn_from_them(
        self, plain: str, teacher: str
    ) -> None:
        logits = teacher_logits()[0]
        np.save("digits.npy", logits)
        np.save("reordered.npy", np.c_[logits[:, :1] + 99, logits[:, ::-1]])
        Path("map.csv").write_text("".join(f"{k},{10 - k}\n" for k in range(10)), encoding="utf-8")
        task = dataclasses.replace(TASK, teacher=teacher)
        expected, mapped = (
            untimed(verify.verify(one, budget="2")).trials
            for one in (dataclasses.replace(TASK, teacher=plain), dataclasses.replace(task, class_map="map.csv"))
        )
        assert mapped == expected
        with pytest.raises(InputError, match="Give --class-map"):
            task.case()

    def test_their_labels_must_be_those_of_the_data(self, refused: Callable[..., str]) -> None:
        logits, labels = teacher_logits()
        labels[7] = (labels[7] + 1) % 10
        np.savez("digits.npz", logits=logits, labels=labels)
        line = refused("verify", "digits.npz", *REST)
        assert line == "digits.npz must hold the labels of sklearn/digits in its order. 1 differ, row 7 first."

    def test_their_rows_must_be_all_of_the_data(self, refused: Callable[..., str]) -> None:
        np.save("digits.npy", teacher_logits()[0][:1000])
        assert "all 1797 training samples of sklearn/digits, in their order. Got 1000 rows" in refused(
            "verify", "digits.npy", *REST
        )

    def test_their_classes_must_be_those_of_the_data(self, refused: Callable[..., str]) -> None:
        np.save("digits.npy", teacher_logits()[0][:, :9])
        assert refused("verify", "digits.npy", *REST).startswith(
            "teacher must have the 10 classes of sklearn/digits."
        )

    def test_they_must_be_finite(self, refused: Callable[..., str]) -> None:
        logits = teacher_logits()[0]
        logits[:] = np.nan
        np.save("digits.npy", logits)
        assert "finite" in refused("verify", "digits.npy", *REST)

    @pytest.mark.usefixtures("stored")
    def test_they_hold_no_augmented_views(self, refused: Callable[..., str]) -> None:
        assert "augmentation must be none with stored logits" in refused(
            "verify", "digits.npz", *REST, "--augmentation", "standard"
        )

    @pytest.mark.usefixtures("stored")
    def test_they_have_no_model(self, refused: Callable[..., str]) -> None:
        assert "model must be left out with stored logits" in refused(
            "verify", "digits.npz", *REST, "--model", "mlp-8"
        )

    @pytest.mark.usefixtures("stored")
    def test_a_profile_holds_no_logits_to_train_with(self, run: Run, refused: Callable[..., str]) -> None:
        assert not run("profile", "digits.npz", "-o", "profile.json").code
        assert "must be a model or a file of its logits, to train students with. Got a profile" in refused(
            "verify", "profile.json", *REST
        )

    def test_a_checkpoint_comes_with_its_model(self, desk: Path, refused: Callable[..., str]) -> None:
        from tempadvisor.models import build

        case = TASK.case()
        model = build("mlp-8", image_shape=(1, 8, 8), n_classes=10, seed=0)
        distill.train(model, case.material.views, dataclasses.replace(SETUP, epochs=40), 2.0, seed=0)
        torch.save(model.state_dict(), desk / "net.pt")
        found = verify.verify(dataclasses.replace(TASK, teacher="net.pt", model="mlp-8"), budget="2")
        assert found.setup.teacher_params == sum(p.numel() for p in model.parameters())
        assert "Add --model NAME" in refused("verify", "net.pt", *REST)

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("a_nan", "teacher must return finite logits. Got NaN or infinity. (tutors:a_nan)"),
            ("a_tuple", "one tensor of logits (8, K) for 8 images. Got tuple. (tutors:a_tuple)"),
            ("one_number", "one tensor of logits (8, K) for 8 images. Got (8,)."),
            ("one_row", "one tensor of logits (8, K) for 8 images. Got (1, 10)."),
            ("five_classes", "teacher must have the 10 classes of sklearn/digits. Got 5 (tutors:five_classes)."),
            ("raising", "teacher must return logits of images (1, 8, 8). Got KeyError: 'a bug'. (tutors:raising)"),
            ("leaving", "teacher must return logits of images (1, 8, 8). It ended the program. (tutors:leaving)"),
            ("gone", "tutors:gone must be a callable without arguments. Got SystemExit"),
            ("no_model", "tutors:no_model must return an nn.Module. Got int."),
            ("missing", "tutors:missing must be a callable without arguments. Got AttributeError"),
        ],
    )
    def test_what_is_no_teacher_is_refused_in_one_line(
        self, name: str, said: str, refused: Callable[..., str]
    ) -> None:
        assert said in refused("verify", f"tutors:{name}", *REST)
        assert not Path("a.journal").exists()

    def test_one_that_prints_spoils_no_json(self, run: Run) -> None:
        done = run("verify", "tutors:printing", *REST, "--json")
        assert "hello from the teacher" in done.err
        assert json.loads(done.out)["verdict"]

    def test_one_without_parameters_works(self) -> None:
        assert verify.verify(dataclasses.replace(TASK, teacher="tutors:plain"), budget="2").cost.trainings == 2


class TestUsage:
    def test_nothing_given_shows_two_examples(self, refused: Callable[..., str]) -> None:
        line = refused("verify")
        assert line.count("tempadvisor verify") == 2
        assert "--demo" in line

    def test_what_is_missing_is_named_together(self, refused: Callable[..., str]) -> None:
        line = refused("verify", "tutors:a_tutor", "--data", "sklearn/digits", "--lr", "0.1")
        assert "--student, --optimizer, --epochs, --batch-size must be given" in line

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--budget", "0"], "budget must be a number of trials, epochs or minutes"),
            (["--budget", "-3"], "budget must be a number of trials, epochs or minutes"),
            (["--budget", "nan"], "budget must be a number of trials, epochs or minutes"),
            (["--budget", "1e999"], "budget must be a number of trials, epochs or minutes"),
            (["--budget", "10 parsecs"], "Got '10 parsecs'"),
            (["--budget", ""], "budget must be a number"),
            (["--budget", "\x1b[2J"], "budget must be a number"),
            (["--budget", "1"], "at least 2 trainings, to compare two temperatures. Got 1"),
            (
                ["--budget", "30epochs"],
                "at least 2 trainings, to compare two temperatures. Got 30epochs, which is 1.5",
            ),
            (["--jobs", "0"], "--jobs must be a whole number of at least 1. Got '0'"),
            (["--jobs", "two"], "--jobs must be a whole number of at least 1. Got 'two'"),
            (["--seed", "-1"], "--seed must be a whole number of at least 0. Got '-1'"),
            (["--student", "resnet19"], "Did you mean"),
            (["--student", "nonsense"], "must be a model"),
            (["--student", "vit_tiny_patch16_224"], "student must take batches of 32 images (1, 8, 8)."),
            (["--data", "nowhere"], "nowhere must be a data set"),
            (["--n-train", "5"], "every class must have a training sample"),
            (["--logits-from", "test"], "logits_from must be train here, since verify asks the teacher"),
            (
                ["--augmentation", "standard", "--logits-from", "train"],
                "logits_from must be train-augmented here, since verify asks",
            ),
            (["--n-train", "1797"], "must have samples to train, to validate and to test on. Got 1797."),
            (
                ["--augmentation", "strong"],
                "must be one of none, standard, mixup, cutmix to be verified",
            ),
            (["--optimizer", "lion"], "optimizer must be one of"),
            (["--demo"], "--demo brings its own teacher, data and setup"),
            (["-o", "nowhere/runs.csv"], "nowhere/runs.csv must be a file that can be written. No such file"),
            (["-o", "runs.txt"], "-o must end in .csv"),
            (["--plot", "plot.png"], "--plot must end in .svg"),
            (["--report", "page.pdf"], "--report must end in .html"),
            (["--config", "none.yaml"], "none.yaml must be a readable file"),
            (["--storage", "cache"], "storage must be a file of its own"),
            (["--storage", "notes.txt"], "notes.txt: it is another file."),
            (["--storage", "st.db"], "st.db: it is a database: sqlite:///st.db."),
            (["--storage", "journal:///notes.txt"], "Got notes.txt: it is another file."),
            (["--storage", "tutors.py"], "tutors.py: it is another file."),
            (["--storage", "ftp://ann:secret@server/x"], "Got ftp://ann@server/x: "),
            (["--storage", "postgresql://ann:secret@127.0.0.1:1/x"], "Got postgresql://ann@127.0.0.1:1/x: "),
            (["--storage", "sqlite:////nowhere/at/all.db"], "storage must be a file of its own"),
        ],
        ids=lambda value: " ".join(value)[:60].replace("\x1b", "ESC") if isinstance(value, list) else "",
    )
    def test_a_mistake_is_one_line_and_nothing_is_trained(
        self, words: list[str], said: str, refused: Callable[..., str], trained: Trained
    ) -> None:
        Path("notes.txt").write_text("one line\n", encoding="utf-8")
        Path("st.db").write_bytes(b"SQLite format 3\0")
        line = refused(*WORDS, *words)
        assert said in line
        assert not line.endswith("..")
        assert "secret" not in line
        assert trained == []
        assert Path("notes.txt").read_text(encoding="utf-8") == "one line\n"

    def test_the_password_of_a_storage_is_not_shown_by_a_dry_run_either(self, run: Run) -> None:
        done = run(*WORDS, "--storage", "postgresql://ann:secret@server/x?sslpassword=secret", "--dry-run")
        assert not done.code
        assert "ann@server" in done.out
        assert "secret" not in done.out + done.err

    @pytest.mark.parametrize(
        "words",
        [
            ["--join", "x"],
            ["--join", "x", "--storage", "a.journal", "--budget", "3"],
            ["--join", "x", "--storage", "a.journal", "--lr", "3"],
            ["--join", "x", "--storage", "a.journal", "--strict"],
        ],
    )
    def test_joining_takes_a_storage_and_nothing_else(self, words: list[str], refused: Callable[..., str]) -> None:
        assert refused("verify", *words).startswith("--join STUDY must come with --storage URL alone")

    def test_what_there_is_not_cannot_be_joined_and_no_file_is_made(self, refused: Callable[..., str]) -> None:
        for place in ("new/a.journal", "sqlite:///new.db"):
            assert "there is none" in refused("verify", "--join", "x", "--storage", place)
        assert not {"new", "new.db"} & {path.name for path in Path().iterdir()}

    def test_a_study_of_another_program_cannot_be_joined(self, refused: Callable[..., str]) -> None:
        import optuna

        optuna.create_study(study_name="mine", storage="sqlite:///own.db")
        assert "must hold the study 'mine' as `tempadvisor verify` begins it" in refused(
            "verify", "--join", "mine", "--storage", "sqlite:///own.db"
        )

    @pytest.mark.usefixtures("stored")
    def test_who_joins_from_another_folder_finds_the_files(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        images, labels = load_digits(return_X_y=True)
        np.savez("d.npz", images=(images.reshape(-1, 8, 8) * 255 / 16).round().astype(np.uint8), labels=labels)
        words = [word if word != "sklearn/digits" else "d.npz" for word in REST]
        begun = json.loads(run("verify", "digits.npz", *words, "--json").out)
        Path("elsewhere").mkdir()
        monkeypatch.chdir("elsewhere")
        done = run("verify", "--join", begun["study"], "--storage", "../a.journal", "--json")
        assert json.loads(done.out) == {"study": begun["study"], "trained": 0}
        assert done.err == "0 students trained here. The verdict comes from the first command with --resume.\n"
        again = ["../d.npz" if word == "d.npz" else "../a.journal" if word == "a.journal" else word for word in words]
        found = run("verify", "../digits.npz", *again, "--resume", "--json")
        assert json.loads(found.out)["trials"] == begun["trials"]

    def test_passwords_are_cut_out_of_urls(self) -> None:
        assert public("postgresql://ann:s@e:cret@h/x?password=secret&a=b") == "postgresql://ann@h/x?password=...&a=b"

    def test_vectors_are_not_augmented(self) -> None:
        rng = np.random.default_rng(0)
        np.savez("v.npz", vectors=rng.random((90, 4), np.float32), labels=np.arange(90) % 3)
        np.save("l.npy", np.eye(3, dtype=np.float32)[np.arange(90) % 3])
        task = dataclasses.replace(
            TASK, data="v.npz", teacher="l.npy", setup=dataclasses.replace(SETUP, n_train=30, augmentation="standard")
        )
        with pytest.raises(InputError, match="none or mixup for vectors"):
            verify.verify(task)

    def test_data_that_are_too_few_are_refused(self) -> None:
        np.savez("few.npz", images=np.zeros((4, 8, 8), np.uint8), labels=np.arange(4) % 2)
        task = dataclasses.replace(TASK, data="few.npz", setup=dataclasses.replace(SETUP, n_train=None))
        with pytest.raises(InputError, match=r"must have samples to train, to validate and to test on\. Got 4"):
            verify.verify(task)

    @pytest.mark.parametrize(
        ("labels", "n_train", "said"),
        [
            ([*range(3), 4] * 30, None, "data must hold samples of every class from 0 to 4; none of class 3 (c.npz)"),
            ([0, 1] * 50 + [2], 5, "Raise n_train."),
            ([0, 1] * 50 + [2], None, "Each class needs more samples."),
        ],
        ids=["no sample", "few taken", "few there"],
    )
    def test_a_class_that_is_not_trained_on_is_told_why(
        self, labels: list[int], n_train: int | None, said: str
    ) -> None:
        np.savez("c.npz", images=np.zeros((len(labels), 8, 8), np.uint8), labels=np.array(labels))
        task = dataclasses.replace(TASK, data="c.npz", setup=dataclasses.replace(SETUP, n_train=n_train))
        with pytest.raises(InputError, match=re.escape(said)):
            task.case()

    @pytest.mark.parametrize("folder", ["/proc/nocache", "notes.txt"])
    def test_a_cache_that_cannot_be_is_not_the_teachers_fault(
        self, folder: str, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
    ) -> None:
        Path("notes.txt").touch()
        monkeypatch.setenv("TEMPADVISOR_CACHE", folder)
        assert refused(*WORDS).startswith(
            f"the cache folder must be one that can be made and written. Got {folder}: "
        )

    def test_jobs_below_one_are_refused_by_the_function_too(self) -> None:
        with pytest.raises(UsageError, match="jobs must be at least 1"):
            verify.verify(TASK, jobs=0)


class TestResults:
    def test_json_is_one_object_with_the_keys_of_the_contract(self, answer: Callable[..., Any]) -> None:
        found = answer(*WORDS)
        assert found.keys() >= {
            "temperature", "verdict", "difference", "trials", "cost", "test", "study", "recommendation", "setup",
        }  # fmt: skip
        assert found["difference"].keys() == {"mean", "ci95"}
        assert found["cost"].keys() >= {"student_epochs", "seconds"}
        assert found["cost"]["student_epochs"] == 20 * len(found["trials"])
        assert found["verdict"] in {"confirmed", "better_found", "no_detectable_difference", "undecided"}
        assert found["recommendation"]["temperature"] == found["trials"][0]["temperature"] or found["trials"]
        assert found["setup"]["student"] == "mlp-8"

    def test_the_panel_says_what_json_says(self, run: Run) -> None:
        told = json.loads(run(*WORDS, "--json").out)
        done = run(*WORDS, "--resume")
        assert (done.code or 0, done.err) == (0, "")
        assert f": temperature {told['temperature']:.3g}" in done.out
        assert done.out.splitlines()[-1] == "Next: optuna-dashboard a.journal"

    def test_a_dry_run_trains_nothing_and_begins_no_study(self, run: Run, trained: Trained, desk: Path) -> None:
        before = {path.name for path in desk.iterdir()}
        done = run(*WORDS, "-o", "runs.csv", "--plot", "plot.svg", "--report", "page.html", "--dry-run")
        assert (done.code or 0, done.err, trained) == (0, "", [])
        assert "4 students at most, 80 epochs" in done.out
        assert {path.name for path in desk.iterdir()} - before <= {"cache", "__pycache__"}
        assert not list((desk / "cache").glob("*.journal"))

    def test_a_dry_run_of_the_demo_names_no_file_that_will_not_be(self, answer: Callable[..., Any]) -> None:
        assert answer("verify", "--demo", "--dry-run")["storage"] == "a temporary file"

    def test_progress_compares_once_there_are_two_temperatures(self) -> None:
        told: list[tuple[int, str]] = []
        found = verify.verify(TASK, budget="6", report=lambda n, _, said="": told.append((n, said)))
        best = f"T={found.recommendation.temperature:.3g}"
        assert [said for n, said in told if n < 2] == [f"{best} first"] * 2
        assert told[-1][1].endswith(f"pp of {best}")

    def test_where_the_terminal_is_narrow_only_what_is_believed_is_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        terminal = io.StringIO()
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("COLUMNS", "80")
        with progress_bar("Training students") as report:
            assert report is not None
            report(3, 10, "confirmed: " + "T=4 is better " * 10)
        shown = re.findall(r"Training students.*", terminal.getvalue())[-1]
        assert re.search(r" 3 of 10 .*-:--:--.* confirmed: .*…", shown), shown

    def test_the_runs_are_taken_by_knowledge_add(
        self, run: Run, answer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TEMPADVISOR_KNOWLEDGE", "sqlite:///own.db")
        done = run(*WORDS, "-o", "runs.csv")
        assert not done.code
        assert done.out.splitlines()[-1] == "Next: tempadvisor knowledge add runs.csv"
        added = run("knowledge", "add", "runs.csv")
        assert (added.code or 0) == 0, added
        told = json.loads(run(*WORDS, "--json", "--resume").out)
        assert answer("knowledge", "list")["imports"][0]["rows"] == len(told["trials"]) == 4

    def test_a_file_of_runs_is_there_whole_or_as_it_was(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("runs.csv").write_text("before\n", encoding="utf-8")

        replace = Path.replace

        def full(path: Path, target: Path) -> Path:
            if target.name == "runs.csv":
                raise OSError(28, "No space left on device")
            return replace(path, target)

        monkeypatch.setattr(Path, "replace", full)
        done = run(*WORDS, "-o", "runs.csv")
        assert done.code == 2
        assert done.err == "tempadvisor: runs.csv must be readable or writable. No space left on device. Check it.\n"
        assert Path("runs.csv").read_text(encoding="utf-8") == "before\n"
        assert not list(Path().glob(".runs*"))

    @pytest.mark.parametrize(
        ("verdict", "code"),
        [("better_found", 1), ("confirmed", 0), ("no_detectable_difference", 0), ("undecided", 0)],
    )
    def test_strict_is_about_better_ones_only(
        self, verdict: Any, code: int, found: Verification, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(verify, "verify", lambda *_, **__: dataclasses.replace(found, verdict=verdict))
        assert (run(*WORDS, "--strict").code or 0) == code
        assert (run(*WORDS).code or 0) == 0

    @pytest.fixture
    def found(self) -> Verification:
        return verify.verify(TASK, budget="4", storage="found.journal")

    @pytest.mark.usefixtures("found")
    def test_the_page_shows_samples_of_what_the_students_see(self, run: Run) -> None:
        assert not run(*WORDS, "--report", "page.html").code
        page = Path("page.html").read_text(encoding="utf-8")
        (data,) = re.findall(r'<script type="application/json" id="data">(.*)</script>', page)
        shown, (logits, labels) = json.loads(data), teacher_logits()
        below = logits - logits.max(1, keepdims=True)
        for sample in shown["samples"]:
            near = np.abs(below - sample["z"]).max(1)
            assert near.min() < 2**-9 * np.abs(logits).max()  # they are kept in half precision
            assert labels[near.argmin()] == sample["label"]
        assert "What the trainings said" in page

    def test_the_plot_is_an_svg(self, run: Run) -> None:
        assert not run(*WORDS, "--plot", "plot.svg").code
        root = ElementTree.parse("plot.svg").getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert len(root.findall("{*}circle")) == len(plans.plan(TASK).temperatures)

    def test_strange_text_is_escaped_in_it(self, found: Verification) -> None:
        strange = 'a < b & "c" \x1b[31m\x00' + " and more words" * 20
        root = ElementTree.fromstring(verification_svg(dataclasses.replace(found, headline=strange)))
        assert str(root.get("aria-label")).startswith('a < b & "c" \\x1b[31m\\x00')
        titles = [str(one.text) for one in root.findall("{*}text") if one.get("class") == "title"]
        assert titles[0].startswith('a < b & "c" \\x1b[31m\\x00 and')
        assert all(len(title) <= 80 for title in titles)

    def test_help_names_it(self, run: Run) -> None:
        assert "verify" in run("--help").out
        done = run("verify", "--help")
        assert not done.code
        for flag in (
            "--budget",
            "--storage",
            "--jobs",
            "--join",
            "--resume",
            "--dry-run",
            "--strict",
            "--plot",
            "--report",
        ):
            assert flag in done.out


class TestProxy:
    def test_it_trains_a_share_of_the_epochs_under_the_whole_schedule_for_the_advice_of_all_of_them(self) -> None:
        half = dataclasses.replace(TASK, proxy=0.5)
        found = verify.verify(half, budget="2", storage="a.journal")
        assert (found.cost.epochs_each, found.cost.student_epochs, found.setup.epochs) == (10, 20, 20)
        whole, short = TASK.case(), dataclasses.replace(TASK, setup=dataclasses.replace(SETUP, epochs=10)).case()
        assert found.recommendation == verify.verify(TASK, budget="2", storage="b.journal").recommendation
        one, other, full = (weights_hash(students.student(case, (2.0, 0))) for case in (half.case(), short, whole))
        assert one == other != full

    def test_the_answer_says_what_it_may_cost(self, run: Run) -> None:
        done = run(*WORDS, "--proxy", "0.25")
        assert not done.code
        assert "5 of 20 epochs each" in done.out
        assert "In measured setups the best T moved" in done.out

    @pytest.mark.parametrize("share", ["0", "1.5", "much", "nan"])
    def test_no_share_is_refused(self, refused: Callable[..., str], share: str) -> None:
        assert "proxy must be" in refused(*WORDS, "--proxy", share)


def test_students_that_do_better_without_kd_are_told_of(run: Run) -> None:
    words = [word if word != "4" else "10" for word in WORDS]  # so that two are trained without KD
    done = run(*words, "--kd-weight", "0.9", "--no-t-squared")
    told = json.loads(run(*words, "--kd-weight", "0.9", "--no-t-squared", "--resume", "--json").out)
    assert told["test"]["over_no_kd"] is not None
    assert ("KD may hurt here" in done.out) == (told["test"]["over_no_kd"]["mean"] < 0)
