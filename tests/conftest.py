"""No test meets the knowledge of whoever runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True, scope="session")
def nobodys_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        patch.delenv("TEMPADVISOR_KNOWLEDGE", raising=False)
        yield


@pytest.fixture
def rules_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No model is shipped, so that what is tested are the rules, or a model made by the test."""
    monkeypatch.setattr("tempadvisor.belief.shipped_model_path", lambda: tmp_path / "none.npz")
