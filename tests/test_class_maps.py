"""Class maps: teachers that know the classes in another order, or more of them, are found out and helped."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tempadvisor.class_maps import proposed, read_class_map
from tempadvisor.errors import ClassOrderError, InputError
from tempadvisor.orders import other_order
from tempadvisor.profiling import profile
from tempadvisor.teachers import profile_of

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 400)
# a teacher of six classes, right in 9 of 10: class c of the data is its output OUTPUTS[c]
OUTPUTS = (5, 0, 3, 1)
SIX = RNG.normal(size=(400, 6)).astype(np.float32)
SIX[np.arange(400), np.where(RNG.random(400) < 0.9, np.array(OUTPUTS)[LABELS], RNG.integers(0, 6, 400))] += 6


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("map.csv", "cat,5\ndog,0\nfox,3\nowl,1\n"),
        ("map.csv", "class,output\nowl,1\nfox,3\ndog,0\ncat,5\n"),
        ("map.txt", "dog\nowl\nant\nfox\nbee\ncat\n"),
        ("map.json", json.dumps({"cat": 5, "dog": 0, "fox": 3, "owl": 1, "bee": 4})),
        ("map.json", json.dumps({"5": "cat", "0": "dog", "3": "fox", "1": "owl"})),
        ("map.json", json.dumps(["dog", "owl", "ant", "fox", "bee", "cat"])),
    ],
)
def test_each_way_to_write_a_map_says_the_same(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_class_map(tmp_path / name, ("cat", "dog", "fox", "owl")) == OUTPUTS


def test_data_without_names_have_numbers_for_classes(tmp_path: Path) -> None:
    (tmp_path / "map.csv").write_text("2,3\n0,5\n1,0\n3,1\n")
    assert read_class_map(tmp_path / "map.csv", None) == OUTPUTS


def test_a_proposal_is_read_as_it_was_written_whatever_the_names(tmp_path: Path) -> None:
    names = ('a,"b"', "c d", "\x1b[2J", "<b>")
    assert read_class_map(proposed(OUTPUTS, names, tmp_path), names) == OUTPUTS
    assert read_class_map(proposed(OUTPUTS, None, tmp_path), None) == OUTPUTS


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"cat,5\ndog,0\nfox,3\n", "It lacks owl"),
        (b"cat,5\ndog,0\nfox,3\nowl,5\n", "Got output 5 twice"),
        (b"cat,5\ncat,0\n", "Its content is none"),
        (b"\x80\x04\x95garbage\x00", "Its content is none"),
        (b"{" * 100_000, "must map every class|Its content is none"),
        (b"cat,99999999999999\ndog,1\n", "Its content is none"),
        (b"", "It is empty"),
    ],
)
def test_what_is_no_map_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    for name in ("map.csv", "map.json"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=says if name == "map.csv" else "must be a class map") as error:
            read_class_map(tmp_path / name, ("cat", "dog", "fox", "owl"))
        assert "\n" not in str(error.value)


def test_an_order_is_found_where_outputs_are_a_superset_of_the_classes() -> None:
    found = other_order(LABELS, SIX.argmax(1), 6)
    assert found is not None
    assert found.columns == OUTPUTS
    assert found.accuracy > 0.85


@pytest.mark.parametrize("n_classes", [2, 10, 100])
def test_no_order_is_found_for_a_teacher_that_is_right_or_one_that_guesses(n_classes: int) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, n_classes, 3000)
    noisy = np.where(rng.random(3000) < 0.4, labels, rng.integers(0, n_classes, 3000))
    for predicted in (labels, noisy, rng.integers(0, n_classes, 3000), np.zeros(3000, np.int64)):
        assert other_order(labels, predicted, n_classes) is None


def test_a_swap_of_two_classes_is_found_where_there_are_no_more() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 500)
    found = other_order(labels, np.where(rng.random(500) < 0.95, 1 - labels, labels), 2)
    assert found is not None
    assert found.columns == (1, 0)


def answers(labels: np.ndarray, confusions: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the output that is largest for each label, drawn from the rows of a confusion matrix."""
    draws = np.random.default_rng(seed).random(len(labels))
    return (confusions.cumsum(axis=1)[labels] < draws[:, None]).sum(axis=1).clip(max=confusions.shape[1] - 1)


def weak(n_classes: int, accuracy: float) -> np.ndarray:
    """Return the confusions of a teacher that errs evenly."""
    other = (1 - accuracy) / (n_classes - 1)
    return np.full((n_classes, n_classes), other) + np.eye(n_classes) * (accuracy - other)


def test_two_outputs_swapped_among_ten_are_found_and_the_others_left() -> None:
    labels = np.arange(800) % 10
    swapped = np.array([0, 1, 3, 2, 4, 5, 6, 7, 8, 9])
    found = other_order(labels, swapped[answers(labels, weak(10, 0.85))], 10)
    assert found is not None
    assert found.columns == tuple(swapped)
    assert found.accuracy == pytest.approx(0.85, abs=0.05)


def test_all_outputs_of_a_weak_teacher_in_another_order_are_found() -> None:
    labels, shifted = np.arange(800) % 10, (np.arange(10) + 3) % 10
    found = other_order(labels, shifted[answers(labels, weak(10, 0.32))], 10)
    assert found is not None
    assert found.columns == tuple(shifted)
    assert found.accuracy == pytest.approx(0.32, abs=0.07)


def test_a_class_among_more_outputs_is_found_where_its_own_belongs_to_none() -> None:
    labels = np.arange(400) % 4
    found = other_order(labels, np.array([0, 1, 7, 2])[answers(labels, weak(4, 0.9))], 8)
    assert found is not None
    assert found.columns == (0, 1, 7, 2)


def test_a_class_that_no_sample_had_keeps_its_own_output_and_each_output_stands_for_one_class() -> None:
    labels = np.repeat([0, 2, 3], 100)
    found = other_order(labels, np.array([7, 1, 2, 3])[labels], 8)
    assert found is not None
    assert found.columns == (7, 1, 2, 3)
    labels = np.repeat([0, 1, 2, 3, 4], [100, 100, 50, 100, 100])
    never_right = other_order(labels, np.array([7, 1, 1, 2, 4])[labels], 8)  # class 2 is taken for class 1
    assert never_right is not None
    assert [never_right.columns[label] for label in (0, 1, 3, 4)] == [7, 1, 2, 4]
    assert len(set(never_right.columns)) == 5


def test_an_output_that_a_weak_teacher_favors_takes_no_other_class_with_it() -> None:
    labels, shifted = np.arange(1000) % 10, (np.arange(10) + 3) % 10
    confusions = 0.6 * weak(10, 0.5)
    confusions[:, 4] += 0.4
    confusions[4] = 0.1  # and which it does not favor for the class itself
    found = other_order(labels, shifted[answers(labels, confusions)], 10)
    assert found is not None
    assert found.columns == tuple(shifted)


def test_all_samples_say_which_output_it_is_once_half_of_them_have_borne_it_out() -> None:
    labels, turned = np.arange(360) % 30, np.arange(30)[::-1]
    found = other_order(labels, turned[answers(labels, weak(30, 0.5))], 30)
    assert found is not None
    assert found.columns == tuple(turned)


@pytest.mark.parametrize("n_classes", [4, 10, 100])
@pytest.mark.parametrize("n_samples", [40, 400, 2000])
def test_no_order_is_found_for_honest_teachers_however_weak(n_classes: int, n_samples: int) -> None:
    labels = np.arange(n_samples) % n_classes
    own, next_one = np.eye(n_classes), np.roll(np.eye(n_classes), 1, axis=1)
    twin = own[np.arange(n_classes) ^ 1]
    favorite = np.zeros((n_classes, n_classes)) + own[0]
    merged = weak(n_classes, 0.5)
    merged[0] = own[1]  # called by the name of a class that is itself called by it half the time
    kinds = {
        "evenly wrong": weak(n_classes, 0.3),
        "twins never told apart": (own + twin) / 2,
        "twins told apart a little worse than by chance": 0.45 * own + 0.55 * twin,
        "one output is said of most": 0.2 * own + 0.8 * favorite,
        "as often the next class": (own + next_one) / 2,
        "two classes called by one name": merged,
    }
    for said, confusions in kinds.items():
        for seed in range(20):
            assert other_order(labels, answers(labels, confusions, seed), n_classes) is None, (said, seed)


def test_no_order_is_found_where_outputs_differ_in_fewer_samples_than_change_the_advice() -> None:
    labels = np.arange(20_000) % 400
    swapped = np.array([1, 0, *range(2, 400)])
    assert other_order(labels, swapped[labels], 400) is None
    assert other_order(labels % 100, swapped[labels % 100], 400) is not None


def test_no_order_is_believed_from_a_handful_of_samples() -> None:
    labels = np.arange(40) % 2
    assert other_order(labels[:12], 1 - labels[:12], 2) is None
    assert other_order(labels, 1 - labels, 2) is not None


def test_a_class_map_that_the_labels_contradict_is_believed_and_warned_about() -> None:
    wrong = (OUTPUTS[1], OUTPUTS[0], *OUTPUTS[2:])
    taken = profile(SIX, LABELS, class_map=wrong, logits_from="train")
    (notice,) = [notice for notice in taken.warnings if notice.code == "class_order"]
    assert "class 0 is output 1, 1 is output 0 and the others as they are" in notice.text
    right = profile(SIX, LABELS, class_map=OUTPUTS, logits_from="train")
    assert "class_order" not in {notice.code for notice in right.warnings}


def test_a_class_map_that_leaves_the_teacher_at_chance_is_refused_and_named() -> None:
    shifted = (*OUTPUTS[1:], OUTPUTS[0])
    with pytest.raises(ClassOrderError, match="read by the class map that was given: is it the right way round"):
        profile(SIX, LABELS, class_map=shifted, logits_from="train")


def test_verify_believes_a_class_map_too() -> None:
    import torch

    from tempadvisor.distill import Views
    from tempadvisor.material import profiled

    wrong = torch.tensor(SIX[:, (OUTPUTS[1], OUTPUTS[0], *OUTPUTS[2:])])[None]
    views = Views(images=torch.zeros(1, 400, 1), targets=torch.eye(4)[LABELS][None], teacher_logits=wrong)
    with pytest.raises(ClassOrderError):
        profiled(views, "none", "teacher")
    assert "class_order" in {notice.code for notice in profiled(views, "none", "teacher", stated=True).warnings}


def test_a_proposal_holds_the_classes_that_no_sample_had(tmp_path: Path) -> None:
    path = proposed((1, 3), ("cat", "dog", "fox", "owl"), tmp_path)
    assert path.read_text() == "class,output\ncat,1\ndog,3\nfox,2\nowl,0\n"


def test_a_teacher_that_comes_hardly_better_in_another_order_is_asked_for_its_weights() -> None:
    labels = np.arange(800) % 10
    logits = RNG.normal(size=(800, 10)) / 10
    logits[np.arange(800), (answers(labels, weak(10, 0.32)) + 3) % 10] += 1
    with pytest.raises(ClassOrderError, match="Random weights may come as far"):
        profile(logits, labels)
    with pytest.raises(ClassOrderError) as error:
        profile(SIX, LABELS)
    assert "Random weights" not in str(error.value)


def test_a_teacher_in_another_order_is_refused_with_a_map_that_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPADVISOR_CACHE", str(tmp_path / "cache"))
    file = str(tmp_path / "logits.npz")
    np.savez(file, logits=SIX, labels=LABELS)
    with pytest.raises(ClassOrderError, match=r"4 of its 6 outputs.*--class-map") as error:
        profile_of(file)
    (written,) = re.findall(r"--class-map (\S+)", str(error.value))
    mended = profile_of(file, class_map=written, logits_from="train")
    ordered = profile(SIX[:, OUTPUTS], LABELS, logits_from="train")
    assert (mended.n_classes, mended.accuracy) == (4, ordered.accuracy)
    assert mended.entropy_nats == pytest.approx(ordered.entropy_nats, rel=1e-6)


def test_a_map_to_an_output_that_is_not_there_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "logits.npz", logits=SIX, labels=LABELS)
    (tmp_path / "map.csv").write_text("0,5\n1,0\n2,3\n3,6\n")
    with pytest.raises(InputError, match=r"outputs of the teacher, 0 to 5\. Got 6"):
        profile_of(str(tmp_path / "logits.npz"), class_map=str(tmp_path / "map.csv"))


def test_a_class_order_error_comes_back_whole_from_another_process() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(ClassOrderError("no", code="class_order", columns=(1, 0), accuracy=0.9)))
    assert (str(error), error.code, error.columns, error.accuracy) == ("no", "class_order", (1, 0), 0.9)
