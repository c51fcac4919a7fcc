"""Where a shipped file lies: in a checkout `knowledge/` stands beside the package, in a wheel inside it."""

from __future__ import annotations

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
