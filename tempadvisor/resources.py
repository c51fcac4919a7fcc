"""Where a shipped file lies, beside the package or in a wheel inside it, and where what this user has lies."""

from __future__ import annotations

import os
from pathlib import Path

from tempadvisor.errors import KnowledgeError

_PACKAGE = Path(__file__).resolve().parent


def knowledge_path(name: str) -> Path:
    """Return the path of the shipped knowledge file `name`, for example "rules.toml".

    Raises:
        KnowledgeError: neither place has it, so the installation is broken.
    """
    for folder in (_PACKAGE / "knowledge", _PACKAGE.parent / "knowledge"):
        if (folder / name).exists():
            return folder / name
    raise KnowledgeError(
        f"knowledge file {name} must be installed with the package. It is missing beside {_PACKAGE}. "
        "Install tempadvisor again.",
        code="missing_knowledge",
    )


def demo_path() -> Path:
    """Return the embedded logits of the digits teacher (made by `benchmarks/make_demo.py`)."""
    return _PACKAGE / "data" / "digits-teacher.safetensors"


def page_path(name: str) -> Path:
    """Return where a part of the page lies: page.html, style.css or page.js."""
    return _PACKAGE / "page" / name


def shipped_model_path() -> Path:
    """Return where the model that is shipped lies, if one is."""
    return knowledge_path("rules.toml").with_name("model.npz")


def model_path() -> Path:
    """Return where the model fitted for this user lies, if one is."""
    return data_home() / "tempadvisor" / "model.npz"


def previous_path() -> Path:
    """Return where the model before it lies."""
    return model_path().with_name("model.previous.npz")


def standing_path(version: str) -> Path:
    """Return where the tally of the rules lies that was counted with the user's model of this version."""
    return model_path().with_name(f"standing.{version}.json")


def data_home() -> Path:
    """Return the folder of the user's data; a relative XDG_DATA_HOME counts as none, as its standard says."""
    named = Path(os.environ.get("XDG_DATA_HOME") or "")
    return named if named.is_absolute() else Path.home() / ".local" / "share"


def cache_folder() -> Path:
    """Return the folder of what can be made again: $TEMPADVISOR_CACHE, or tempadvisor in the user's cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tempadvisor"
    folder = Path(os.environ.get("TEMPADVISOR_CACHE") or default)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
