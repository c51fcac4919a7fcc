"""Start from weights that were trained elsewhere: find the file, fit it to a model, and feed that what it expects.

It trains nothing, and does not decide who starts from what: suites say it, and `material.py` does it.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from tempadvisor.errors import InputError
from tempadvisor.models import normalized


class Scaled(nn.Module):
    """A model behind what its weights expect: images of its size, in three channels, normalized.

    A gray image has its one channel repeated.
    """

    def __init__(self, model: nn.Module, size: int) -> None:
        super().__init__()
        self.model, self.size = normalized(model).to(memory_format=torch.channels_last), size

    def forward(self, images: Tensor) -> Tensor:
        pixels = interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)
        logits: Tensor = self.model(pixels.expand(-1, 3, -1, -1))
        return logits


def located(spec: str) -> Path:
    """Return the file that `spec` names: a path, or `package:path` for a file of an installed package.

    Raises:
        InputError: the package is not installed.
    """
    package, _, inside = spec.partition(":")
    if not inside or not re.fullmatch(r"\w+", package):
        return Path(spec)
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise InputError(
            f"{spec} must be a file of an installed package. Run: pip install {package.replace('_', '-')}.",
            code="missing_package",
        )
    return Path(found.submodule_search_locations[0]) / inside


def load_body(model: nn.Module, tensors: Mapping[str, Tensor], head: Collection[str]) -> bool:
    """Load `tensors` into `model`, and say whether its classifier came along.

    Tensors of another library, under other names, are taken in their order: each must be of the same kind (weight,
    bias, running_mean, ...) and shape as the one it stands for.

    Args:
        model: changed in place.
        tensors: a checkpoint; the classifier may be missing from it, or be one for other classes.
        head: names of the model's classifier, which keeps its own weights then.

    Raises:
        InputError: anything else is missing or misfits.
    """
    wanted = model.state_dict()
    kinds = [[name.rpartition(".")[2] for name in names] for names in (tensors, wanted)]
    if kinds[0] == kinds[1]:
        tensors = dict(zip(wanted, tensors.values(), strict=True))
    fits = {name for name in wanted.keys() & tensors.keys() if wanted[name].shape == tensors[name].shape}
    whole = fits.issuperset(head)
    own = set() if whole else set(head)
    wrong = [name for name in wanted if name not in fits | own and not name.endswith("num_batches_tracked")]
    wrong += [name for name in tensors if name not in wanted]
    if wrong:
        raise InputError(
            f"a checkpoint must fit its model. {wrong[0]} does not, nor do {len(wrong) - 1} more tensors.",
            code="misfit",
        )
    with torch.no_grad():
        model.load_state_dict({name: tensors[name] for name in fits - own}, strict=False)
    return whole
