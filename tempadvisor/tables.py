"""The page's tables, as HTML: all numbers behind the drawings, for those who want them exactly."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from tempadvisor.passages import said, share, signed
from tempadvisor.records import Recommendation, TeacherProfile
from tempadvisor.render import profile_rows
from tempadvisor.temperatures import written
from tempadvisor.verification import Verification

TABLE = (0.5, 1, 2, 3, 4, 6, 8, 16, 32, 64)  # temperatures


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """Return a table whose cells are HTML already; all columns but the first hold numbers."""
    kind = [""] + [' class="number"'] * (len(heads) - 1)
    head = "".join(f'<th scope="col"{one}>{name}</th>' for name, one in zip(heads, kind, strict=True))
    body = "".join(
        "<tr>"
        + f'<th scope="row">{row[0]}</th>'
        + "".join(f"<td{one}>{cell}</td>" for cell, one in zip(row[1:], kind[1:], strict=True))
        + "</tr>"
        for row in rows
    )
    told = f"<caption>{caption}</caption>" if caption else ""
    return f'<div class="wide"><table>{told}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def teacher(measured: TeacherProfile) -> str:
    """Return all that was measured of a teacher, folded away."""
    rows = "".join(f'<tr><th scope="row">{said(n)}</th><td>{said(v)}</td></tr>' for n, v in profile_rows(measured))
    most = math.log(measured.n_classes)
    curve = []
    for t in TABLE:
        entropy = measured.curve_at(t, measured.entropy_nats)
        top = measured.curve_at(t, measured.top1_probability)
        curve.append((f"{t:g}", f"{entropy:.3f}", share(entropy / most), f"{top:.3f}"))
    return _folded(
        "What was measured of the teacher", f'<div class="wide"><table><tbody>{rows}</tbody></table></div>'
    ) + (_folded("Softness over temperature", table(("T", "entropy, nats", "of log K", "top-1 probability"), curve)))


def expected(advice: Recommendation) -> str:
    """Return the expected accuracy over temperature, and what was said of the training, folded away."""
    rows = [(written(p.temperature), signed(p.mean, 2), f"{100 * p.std:.2f}") for p in advice.curve]
    given = [(said(name), said(_value(value))) for name, value in advice.setup.given().items()]
    return _folded(
        "Expected accuracy over temperature", table(("T", "points against the best", "std"), rows)
    ) + _folded(
        "The training this is for",
        table(("setting", "value"), given) if given else "<p>Nothing was said of the training.</p>",
    )


def measured_table(found: Verification) -> str:
    """Return what was measured at each temperature, and what the test split said."""
    recommended = found.recommendation.temperature
    rows = []
    for rung in found.curve:
        here = rung.temperature == recommended
        span = f"{signed(rung.ci95[0], 2)} to {signed(rung.ci95[1], 2)}"
        paired = "" if rung.measured is None or here else signed(rung.measured, 2)
        rows.append(
            (
                written(rung.temperature),
                str(rung.n_seeds),
                paired,
                "0" if here else signed(rung.mean, 2),
                "advised" if here else span,
            )
        )
    heads = ("T", "students", "measured", "believed", "95 % interval")
    caption = f"Validation accuracy over that at T = {written(recommended)}, in points; measured: on the same seeds."
    tests = [
        ("no KD" if one.temperature is None else written(one.temperature), str(one.n), f"{100 * one.accuracy:.2f} %")
        for one in found.test.accuracy
    ]
    told = f"Test split, read once at the end: {found.test.n_test:,} samples."
    both = table(heads, rows, caption) + table(("T", "students", "test accuracy"), tests, told)
    return f'<div class="tables">{both}</div>'


def nearest(advice: Recommendation) -> str:
    """Return the measured setups that are nearest, if any are known."""
    if not advice.nearest:
        return ""
    rows = [(said(one.setup), f"{one.distance:.2f}", written(one.best_temperature)) for one in advice.nearest]
    return _folded("The nearest measured setups", table(("setup", "distance", "its best T"), rows))


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>{body}</details>"


def _value(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
