"""tempadvisor recommends the temperature for knowledge distillation before anyone trains.

Importing the package loads neither torch nor numpy: each public name is fetched from its module on first use.

>>> import tempadvisor as ta
>>> ta.TrainingSetup(optimizer="sgd", epochs=100).optimizer
'sgd'
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "KDLoss": "loss",
    "LossContract": "records",
    "Recommendation": "records",
    "TeacherProfile": "records",
    "TempAdvisorError": "errors",
    "TemperatureSchedule": "schedule",
    "TrainingSetup": "records",
    "profile": "profiling",
    "recommend": "advise",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """Fetch a public name from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tempadvisor' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"tempadvisor.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
