"""`tempadvisor.profile` and `tempadvisor.recommend` take what one has at hand, and name what they do not take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import tempadvisor as ta
from tempadvisor.documents import save_profile

RNG = np.random.default_rng(0)
LABELS = np.arange(600) % 6
LOGITS = RNG.normal(size=(600, 6)) + 4 * np.eye(6)[LABELS]
NET = torch.nn.Linear(6, 6, dtype=torch.float64)
torch.nn.init.eye_(NET.weight)
torch.nn.init.zeros_(NET.bias)  # so that its answers to LOGITS are LOGITS
X, Y = torch.tensor(LOGITS), torch.tensor(LABELS)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("logits.npz", logits=LOGITS, labels=LABELS)
    np.save("logits.npy", LOGITS)
    save_profile(ta.profile(LOGITS, LABELS), Path("profile.json"))


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    "call",
    {
        "arrays": lambda: ta.profile(LOGITS, LABELS),
        "lists": lambda: ta.profile(LOGITS.tolist(), LABELS.tolist()),
        "tensors": lambda: ta.profile(X, Y),
        "a tensor with gradient": lambda: ta.profile(X.clone().requires_grad_(), labels=Y),
        "the name of a file": lambda: ta.profile("logits.npz"),
        "a path, and labels": lambda: ta.profile(Path("logits.npy"), LABELS),
        "a module and tensors": lambda: ta.profile(NET, data=(X, Y)),
        "a module, labels and inputs": lambda: ta.profile(NET, Y, data=X),
        "a module and an array": lambda: ta.profile(NET, Y, data=LOGITS),
        "a module and a data set": lambda: ta.profile(NET, data=TensorDataset(X, Y)),
        "a module and a loader": lambda: ta.profile(NET, data=DataLoader(TensorDataset(X, Y), batch_size=50)),
        "a module and batches": lambda: ta.profile(
            NET, data=zip(torch.split(X, 50), torch.split(Y, 50), strict=True)
        ),
    }.items(),
    ids=lambda call: call[0],
)
def test_the_same_teacher_gives_the_same_profile_however_it_is_handed_over(
    call: tuple[str, Callable[[], ta.TeacherProfile]],
) -> None:
    wanted, got = ta.profile(LOGITS, LABELS, read_all=True), call[1]()
    assert (got.n_samples, got.n_classes) == (600, 6)
    assert got.accuracy == wanted.accuracy
    assert got.entropy_nats == pytest.approx(wanted.entropy_nats, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        (lambda: ta.profile(None), r"Got None\. Name a file, or give logits \(N, C\)\."),
        (
            lambda: ta.profile(len, data=X),
            r"Got len\. Give an instance of an nn\.Module\.",
        ),
        (lambda: ta.profile(torch.nn.Linear, data=X), r"Got Linear\. Give an instance"),
        (lambda: ta.profile("profile.json"), "profile.json is a saved profile: give its path to tempadvisor.recomm"),
        (lambda: ta.profile(ta.profile(LOGITS)), "measured already: give it to tempadvisor.recommend"),
        (lambda: ta.profile("resnet18.a1_in1k", data=X), r"Load a model first, such as timm\.create_model"),
        (lambda: ta.profile(NET, data="photos/"), "Open it first, such as with torchvision"),
        (lambda: ta.profile(NET, DataLoader(TensorDataset(X, Y))), r"Got DataLoader in the place .* data=loader"),
        (lambda: ta.profile(NET), "data must be given with a live teacher"),
        (lambda: ta.profile("nowhere.npz"), "nowhere.npz must exist"),
        (lambda: ta.recommend(LOGITS), r"Got ndarray\. tempadvisor\.profile makes one\."),
        (lambda: ta.recommend("logits.npz"), r"Got logits\.npz\. tempadvisor\.profile measures"),
        (lambda: ta.recommend("nowhere.json"), r"nowhere\.json"),
        (lambda: ta.recommend(None, {"optimizer": "sgd"}), r"Got dict\. Write tempadvisor\.TrainingSetup\("),
        (lambda: ta.recommend(ta.TrainingSetup()), r"Got TrainingSetup\. tempadvisor\.profile makes one\."),
    ],
)
def test_what_is_something_else_is_named_in_one_line_with_what_to_do(call: Callable[[], Any], wanted: str) -> None:
    with pytest.raises(ta.TempAdvisorError, match=wanted) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("files")
def test_a_saved_profile_is_recommended_from_by_its_path() -> None:
    setup = ta.TrainingSetup(optimizer="sgd", epochs=100)
    wanted = ta.recommend(ta.profile(LOGITS, LABELS), setup)
    assert ta.recommend("profile.json", setup).temperature == wanted.temperature
    assert ta.recommend(Path("profile.json"), setup).interval == wanted.interval


def test_a_recommendation_prints_as_its_sentence() -> None:
    advice = ta.recommend(setup=ta.TrainingSetup(optimizer="sgd"))
    assert str(advice) == advice.headline
    assert str(advice).startswith("Use T=")
