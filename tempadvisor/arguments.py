"""What a caller of the library may have meant: arguments of `profile` that are plainly something else, named early.

What is inside files, arrays and models is judged elsewhere.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tempadvisor.errors import UsageError
from tempadvisor.records import TeacherProfile


def check_arguments(teacher: Any, labels: Any, data: Any) -> None:
    """Refuse what can be no teacher, or no data of one, and say what to give instead.

    Raises:
        UsageError: it is one of these.

    >>> check_arguments(None, None, None)
    Traceback (most recent call last):
    tempadvisor.errors.UsageError: teacher must be logits or a model. Got None. Name a file, or give logits (N, C).
    """
    torch = sys.modules.get("torch")
    live = torch is not None and isinstance(teacher, torch.nn.Module)
    named = isinstance(teacher, (str, Path))
    if isinstance(teacher, TeacherProfile):
        problem = "Got a TeacherProfile, which is measured already: give it to tempadvisor.recommend."
    elif named and Path(teacher).suffix.lower() == ".json":
        problem = f"{teacher} is a saved profile: give its path to tempadvisor.recommend."
    elif named and data is not None:
        problem = (
            f"Got data beside {str(teacher)[:100]!r}. Load a model first, such as "
            "timm.create_model(name, pretrained=True), and give it as an nn.Module; stored logits need no data."
        )
    elif teacher is None:
        problem = "Got None. Name a file, or give logits (N, C)."
    elif callable(teacher) and not live:
        problem = f"Got {getattr(teacher, '__name__', type(teacher).__name__)}. Give an instance of an nn.Module."
    elif live and isinstance(data, (str, Path)):
        raise UsageError(
            f"data must be tensors, a data set or a loader, preprocessed for the model. Got the path {data}. "
            "Open it first, such as with torchvision.datasets.ImageFolder.",
            code="bad_data",
        )
    elif live and data is None and labels is not None:
        raise UsageError(
            f"data must be given with a live teacher. Got {type(labels).__name__} in the place of labels alone. "
            "Write data=loader.",
            code="no_data",
        )
    else:
        return
    raise UsageError(f"teacher must be logits or a model. {problem}", code="bad_teacher")
