"""How the check of a loss looks in a terminal. Returns; the CLI prints."""

from __future__ import annotations

import shlex
import textwrap

from tempadvisor.errors import one_line
from tempadvisor.losscheck import LossCheck, recommend_flags
from tempadvisor.records import LossContract
from tempadvisor.settings import formula

WIDTH = 100


def loss_check(found: LossCheck) -> str:
    """Lay out what a loss is, what is wrong with it, and the words that tell `recommend` of it."""
    codes = {notice.code for notice in (*found.problems, *found.notes)}
    wrong = "is no known loss contract" if "unknown_loss" in codes else "is wrong"
    head = "implements a known loss contract" if found.verdict == "known" else wrong
    rounded = ", in low precision" if found.verdict == "known" and "low_precision" in codes else ""
    contracts = found.either if found.loss_contract is None else (found.loss_contract,)
    lines = [f"{found.function} {head}{rounded}.", f"Called as {found.called_as}."]
    lines += [f"✗ {notice.text} [{notice.code}]" for notice in found.problems]
    if found.temperature is not None:
        smoothed = f", label smoothing {found.label_smoothing:g}" if found.label_smoothing else ""
        for said, contract in zip(("Found:", "Or:"), contracts, strict=False):
            lines.append(f"{said} {formula(found.temperature, contract)}{smoothed}")
    lines += [f"· {notice.text} [{notice.code}]" for notice in found.notes]
    if found.gradient_error is not None and contracts:
        lines.append(f"It explains the gradients on all reference logits within {found.gradient_error:.1g}.")
    text = "\n".join(textwrap.fill(one_line(line), WIDTH, subsequent_indent="  ") for line in lines)
    if found.problems:
        return text
    return "\n".join([text, *(_asked(contract, found) for contract in contracts)])


def _asked(contract: LossContract, found: LossCheck) -> str:
    """Return the command that asks for the temperature of a contract, which is not the only one there may be."""
    words = recommend_flags(contract, found.label_smoothing).split()
    which = f" {'with' if contract.t_squared else 'without'} T^2" if found.either else ""
    return f"The temperature for it{which}: {shlex.join(['tempadvisor', 'recommend', 'TEACHER', *words])}"
