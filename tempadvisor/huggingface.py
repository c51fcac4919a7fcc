"""Classifiers of Hugging Face transformers, for images and for texts, with the processor or tokenizer they come with.

Code that comes with a model is never run (`trust_remote_code=False`), and weights are read as tensors alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tempadvisor.errors import InputError, OutOfScopeError
from tempadvisor.hub import offline_without_network, quiet

PREFIX = "transformers:"
_MOST_TOKENS = 512
_RESAMPLING = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers


class Classifier(nn.Module):
    """A classifier that returns its logits alone; a tokenizer makes it one of texts."""

    def __init__(self, model: nn.Module, config: dict[str, Any], tokenizer: Any = None) -> None:
        super().__init__()
        self.model, self.pretrained_cfg, self.tokenizer = model, config, tokenizer
        labels: dict[int, str] = model.config.id2label  # type: ignore[assignment, union-attr]
        self.class_names = tuple(str(labels[number]) for number in sorted(labels))
        self.channels: int | None = getattr(model.config, "num_channels", None)

    def forward(self, inputs: Any) -> Tensor:
        """Return logits (n, K) of images, or of a list of n texts."""
        if self.tokenizer is None:
            logits: Tensor = self.model(pixel_values=inputs).logits
            return logits
        if not isinstance(inputs, list):
            raise InputError(
                "the data must be what the teacher takes. It takes texts, and the data are images. Give --data "
                "FILE.csv with columns text and label, or a teacher of images.",
                code="other_inputs",
            )
        where = next(self.model.parameters()).device
        most = min(self.tokenizer.model_max_length, _MOST_TOKENS)
        tokens = self.tokenizer(inputs, padding=True, truncation=True, max_length=most, return_tensors="pt")
        found: Tensor = self.model(**tokens.to(where)).logits
        return found


def is_transformer(spec: str) -> bool:
    """Tell whether a teacher is named as one of transformers, or is a folder that one was saved to."""
    if spec.startswith(PREFIX):
        return True
    config = Path(spec) / "config.json"
    try:
        return config.is_file() and "model_type" in json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def load_transformer(spec: str) -> Classifier:
    """Return the classifier of a folder, or of a name on the hub, in evaluation mode.

    Raises:
        InputError: it cannot be had, or is no classifier.
        OutOfScopeError: it gives several labels.
    """
    name = spec.removeprefix(PREFIX)
    try:
        import transformers
    except ImportError:
        raise InputError(
            f"{spec[:100]} must have its library. Install it: pip install 'tempadvisor[transformers]'.",
            code="missing_package",
        ) from None
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    try:
        with quiet(), offline_without_network(not Path(name).is_dir()):
            config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
            kind = next(iter(config.architectures or ["none"]))
            if getattr(config, "problem_type", None) == "multi_label_classification":
                raise OutOfScopeError(
                    f"{name[:100]} must give one label. It is a multi-label classifier, which this advice does "
                    "not cover.",
                    code="multi_label",
                )
            if kind.endswith("ForImageClassification"):
                of = transformers.AutoModelForImageClassification
                model = of.from_pretrained(name, trust_remote_code=False)
                return Classifier(model, _image_config(transformers, name, config)).eval()
            if kind.endswith("ForSequenceClassification"):
                tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
                of = transformers.AutoModelForSequenceClassification
                return Classifier(of.from_pretrained(name, trust_remote_code=False), {}, tokenizer).eval()
    except (InputError, OutOfScopeError):
        raise
    except Exception as error:  # transformers and its hub raise whatever they meet on the way
        reason = " ".join(str(error).split()).split(". ")[0][:160].rstrip(".")
        raise InputError(
            f"{name[:100]} must be a classifier of transformers that can be loaded. "
            f"Got {type(error).__name__}: {reason}. Check the folder, or the name and the network.",
            code="no_weights",
        ) from None
    raise InputError(
        f"{name[:100]} must be a classifier of images or texts (ForImageClassification, ForSequenceClassification). "
        f"Got {kind[:60]}.",
        code="no_classifier",
    )


def _image_config(transformers: Any, name: str, config: Any) -> dict[str, Any]:
    """Return what a model's image processor does, in timm's words; nothing is known where it has none."""
    try:
        found = transformers.AutoImageProcessor.from_pretrained(name, trust_remote_code=False).to_dict()
    except (OSError, ValueError):
        size = getattr(config, "image_size", None)
        return {"input_size": (3, size, size)} if isinstance(size, int) else {}
    size = found.get("size") or {}
    crop = found.get("crop_size") if found.get("do_center_crop") else None
    resized = size.get("height") or size.get("shortest_edge")
    wide = size.get("width") or resized
    target = (crop["height"], crop["width"]) if crop else (resized, wide)
    told: dict[str, Any] = {"interpolation": _RESAMPLING.get(found.get("resample", 3), "bicubic")}
    if found.get("do_resize", True) and all(target):
        told |= {
            "input_size": (3, *target),
            "crop_pct": min(target[0] / resized, 1.0) if resized else 1.0,
            "crop_mode": "squash" if size.get("height") else "center",
        }
    if found.get("do_normalize", True):
        told |= {"mean": found.get("image_mean"), "std": found.get("image_std")}
    return told
