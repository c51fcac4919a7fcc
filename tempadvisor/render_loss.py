"""How the check of a loss looks in a terminal. Returns; the CLI prints."""

from __future__ import annotations

import shlex
import textwrap
from typing import TYPE_CHECKING

from tempadvisor.errors import one_line
from tempadvisor.settings import formula

if TYPE_CHECKING:
    from tempadvisor.losscheck import LossCheck

WIDTH = 100


def loss_check(found: LossCheck) -> str:
    """Lay out what a loss is, what is wrong with it, and the words that tell `recommend` of it."""
    unknown = any(notice.code == "unknown_loss" for notice in found.problems)
    wrong = "is no known loss contract" if unknown else "is wrong"
    head = "implements a known loss contract" if found.verdict == "known" else wrong
    lines = [f"{found.function} {head}.", f"Called as {found.called_as}."]
    lines += [f"✗ {notice.text} [{notice.code}]" for notice in found.problems]
    if found.loss_contract is not None and found.temperature is not None:
        smoothed = f", label smoothing {found.label_smoothing:g}" if found.label_smoothing else ""
        lines.append(f"Found: {formula(found.temperature, found.loss_contract)}{smoothed}")
    lines += [f"· {notice.text} [{notice.code}]" for notice in found.notes]
    if found.gradient_error is not None and found.loss_contract is not None:
        lines.append(f"It explains the gradients on all reference logits within {found.gradient_error:.1g}.")
    text = "\n".join(textwrap.fill(one_line(line), WIDTH, subsequent_indent="  ") for line in lines)
    if found.flags is None or found.problems:
        return text
    asked = shlex.join(["tempadvisor", "recommend", "TEACHER", *found.flags.split()])
    return f"{text}\nThe temperature for it: {asked}"
