"""The part of the page that follows its slider: drawings, a few samples, the classes alike, and the data for them.

Everything a temperature does to logits is computed by `page/page.js`; without JavaScript the drawings stand still at
the advised temperature.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

from tempadvisor import charts
from tempadvisor.errors import one_line
from tempadvisor.exhibits import Alike, Exhibits, Sample
from tempadvisor.records import Recommendation, TeacherProfile
from tempadvisor.render import axis_of
from tempadvisor.temperatures import Axis, span, written
from tempadvisor.verification import Verification

LONGEST_NAME = 80
USUAL = 4.0  # where the slider starts if nothing is advised
FEW_CLASSES = 5  # of which all pairs are listed
STEPS = 24  # of the slider, an octave
_BEST = "where the single best T lies (90 %)"
NOT_KEPT = (
    "A saved profile holds no samples, nor which classes are alike. They are shown where the page is made from "
    "logits or a model, with the same flag."
)


@dataclasses.dataclass(frozen=True)
class Subject:
    """What a page is about: a verification with its recommendation, a recommendation, or a profile alone."""

    found: Verification | None
    advice: Recommendation | None
    profile: TeacherProfile | None
    exhibits: Exhibits | None

    @staticmethod
    def of(record: TeacherProfile | Recommendation | Verification, exhibits: Exhibits | None) -> Subject:
        """Return the subject that a record is; where a teacher lies on this machine is not for others to read."""
        if isinstance(record, TeacherProfile):
            return Subject(None, None, _unlocated(record), exhibits)
        found, advice = (record, record.recommendation) if isinstance(record, Verification) else (None, record)
        return Subject(found, advice, advice.profile and _unlocated(advice.profile), exhibits)

    @property
    def temperature(self) -> float:
        """The temperature to use, or the usual one where nothing is advised."""
        return self.found.temperature if self.found else self.advice.temperature if self.advice else USUAL

    @property
    def axis(self) -> Axis:
        """The scale of all drawings and of the slider."""
        axis = axis_of(self.advice) if self.advice else Axis.holding(())
        tried = (rung.temperature for rung in self.found.curve) if self.found else ()
        return Axis.holding((axis.low, axis.high, self.temperature, *tried))

    @property
    def standardized(self) -> bool:
        """Whether the temperature counts in standard deviations of a sample's logits."""
        return self.advice is not None and self.advice.loss_contract.standardized

    @property
    def unit(self) -> float:
        """What one unit of temperature is worth in logits; the mean over samples where that differs."""
        return self.profile.logit_std if self.standardized and self.profile else 1.0


def _unlocated(profile: TeacherProfile) -> TeacherProfile:
    path = PurePath(profile.teacher)
    return dataclasses.replace(profile, teacher=path.name) if path.is_absolute() else profile


def explorer(subject: Subject) -> str:
    """Return slider, drawings, samples and classes as HTML."""
    parts = [_bar(subject)]
    advice, profile, exhibits = subject.advice, subject.profile, subject.exhibits
    line = mark('<line class="line" x1="0" x2="100%" y1="50%" y2="50%"/>')
    if advice:
        band = mark(
            '<rect class="band" width="100%" height="100%"/><line class="line" x1="0" x2="100%" y1="50%" y2="50%"/>'
        )
        near = mark('<rect class="range" width="100%" height="100%"/>')
        best = mark('<line class="best" x1="0" x2="100%" y1="50%" y2="50%"/>')
        parts.append(
            '<div class="drawn"><h3>Expected accuracy</h3><p class="soft small">Points against the best temperature'
            f"{', as expected before any training' if subject.found else ''}.</p>"
            f'<div class="scale follows">{charts.accuracy(advice, subject.axis)}'
            + legend([(band, "mean ± standard deviation"), (near, "near-optimal"), (best, _BEST)])
            + "</div></div>"
        )
    if profile:
        second = mark('<line class="line second" x1="0" x2="100%" y1="50%" y2="50%"/>')
        unit = (
            f" The loss standardizes logits, so T counts in their standard deviation, {subject.unit:.3g} on average."
            if subject.standardized
            else ""
        )
        parts.append(
            '<div class="drawn"><h3>How soft the teacher’s answers are</h3><p class="soft small">'
            f"Means over {profile.n_samples:,} samples{_measured_from(subject, profile)}.{unit}</p>"
            f'<div class="scale follows">'
            f"{charts.softness(profile, subject.temperature if advice else None, subject.axis, subject.unit)}"
            + legend([(line, "entropy, as a share of its maximum"), (second, "probability of the top class")])
            + "</div></div>"
        )
        parts.append(_samples(exhibits) if exhibits else f'<h3>Samples</h3><p class="soft">{NOT_KEPT}</p>')
    if exhibits and exhibits.alike:
        parts.append(_alike(exhibits.alike))
    return "\n".join(parts)


def _measured_from(subject: Subject, profile: TeacherProfile) -> str:
    low, high = charts.seen(profile, subject.unit)
    whole = low <= subject.axis.low and subject.axis.high <= high
    return "" if whole else f", measured from T = {span((low, high))}"


def mark(shape: str) -> str:
    """Return a small drawing for a legend."""
    return f'<svg aria-hidden="true">{shape}</svg>'


def legend(entries: Iterable[tuple[str, str]]) -> str:
    """Return what the marks of a drawing mean."""
    return f'<div class="legend">{"".join(f"<span>{shape}{text}</span>" for shape, text in entries)}</div>'


def _bar(subject: Subject) -> str:
    """Return the slider with its readings; the near-optimal range and the usual temperatures lie under it."""
    advice, axis, x = subject.advice, subject.axis, charts.across(subject.axis)
    jumps = [(f"T = {written(t)}", t) for t in charts.MARKED]
    marks = [
        f'<line class="mark" x1="{x(t)}%" x2="{x(t)}%" y1="22%" y2="78%"/>'
        f'<text x="{x(t)}%" y="100%" dy=".55em" text-anchor="middle">{written(t)}</text>'
        for _, t in jumps
    ]
    near = ""
    if advice:
        jumps.insert(0, ("Advised", advice.temperature))
        left, right = (x(end) for end in advice.interval)
        here = x(advice.temperature)
        near = f'<rect class="near" x="{left}%" y="25%" width="{right - left:.3f}%" height="50%" rx="3"/>'
        marks.append(f'<line class="rec" x1="{here}%" x2="{here}%" y1="10%" y2="90%"/>')
        if subject.temperature != advice.temperature:
            jumps.insert(1, ("To use", subject.temperature))
    more = []
    if subject.profile:
        more += ['entropy <output id="entropy" for="t"></output>', 'top class <output id="top" for="t"></output>']
    if advice:
        more.append('accuracy <output id="accuracy" for="t"></output> points')
    buttons = "".join(f'<button type="button" data-jump="{t!r}">{name}</button>' for name, t in jumps)
    return (
        '<p class="prose js-only">Move the slider: everything below follows it.</p>'
        '<p class="no-js soft">The slider, the samples and the map of classes need JavaScript; all else is here.</p>'
        '<div class="bar js-only"><div class="reading">'
        '<label for="t"><i>T</i> = <output id="shown" for="t"></output></label>'
        f'<span class="more">{" · ".join(more)}</span><span class="jump">{buttons}</span></div>'
        '<div class="scale"><svg class="track" aria-hidden="true">'
        '<line class="rail" x1="0" x2="100%" y1="50%" y2="50%"/>'
        f'{near}{"".join(marks)}</svg><input type="range" id="t" min="0" max="{STEPS * axis.octaves}" step="1" '
        f'aria-label="Temperature, on a logarithmic scale from {span((axis.low, axis.high))}"></div></div>'
    )


def _samples(exhibits: Exhibits) -> str:
    n, wrong = len(exhibits.samples), sum(one.is_wrong for one in exhibits.samples)
    labelled = exhibits.samples[0].label is not None
    which = f", {wrong} of them wrong" if wrong else ", none of them wrong" if labelled else ""
    named = "" if exhibits.class_names else " Classes go by their number."
    return (
        f'<div class="js-only"><h3>Samples</h3><p class="soft small">{n} that were picked to span sure and unsure '
        f"answers{which}. The bars are the softened probabilities; the small marks, and the words, tell of "
        f"T&nbsp;=&nbsp;1.{named}</p></div>"
        '<ul class="samples js-only" id="samples"></ul>'
    )


def _alike(alike: Alike) -> str:
    whole, n = alike.distances is not None, len(alike.classes)
    find = (
        '<label class="find">Find a class'
        '<input type="search" id="find" autocomplete="off" spellcheck="false"></label>'
        if n > FEW_CLASSES
        else ""
    )
    drawn = (
        '<div><div class="map" id="map"><ol aria-hidden="true"></ol>'
        f'<canvas role="img" aria-label="Map of {n} by {n} classes, in an order that puts those alike beside each '
        'other; the closest pairs are listed beside it."></canvas><p class="small" aria-hidden="true"></p></div>'
        '<p class="ramp" aria-hidden="true">0\xa0% <i></i> 25\xa0% <i></i> 100\xa0%</p></div>'
    )
    return (
        '<div class="js-only"><h3>Classes the teacher thinks alike</h3><p class="soft small">Of two classes, the '
        "probability of the one on a typical sample of the other, as a share of the right one’s: exp(−d/T), "
        "d the mean gap of their logits. As T rises, all classes become alike.</p></div>"
        f'<div class="alike js-only{"" if whole else " list"}">{drawn if whole else ""}<div>'
        '<h4 class="small soft">The closest pairs</h4>'
        '<ul class="rows pairs" id="pairs"></ul>'
        f'{find}<div class="found" id="found" aria-live="polite"></div></div></div>'
    )


# What the script gets.


def embedded(subject: Subject) -> str:
    """Return the script's data as JSON that no text in it can end or turn into markup: ASCII, and no <, > or &."""
    text = json.dumps(_data(subject), separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _data(subject: Subject) -> dict[str, Any]:
    advice, profile, exhibits = subject.advice, subject.profile, subject.exhibits
    data: dict[str, Any] = {
        "low": subject.axis.low,
        "high": subject.axis.high,
        "start": subject.temperature,
    }
    if profile:
        data["k"] = profile.n_classes
        data["softness"] = {
            "t": _few(t / subject.unit for t in profile.temperatures),
            "entropy": _few(profile.entropy_nats),
            "top": _few(profile.top1_probability),
        }
    if advice:
        data["curve"] = {
            "t": [p.temperature for p in advice.curve],
            "mean": _few(p.mean for p in advice.curve),
            "std": _few(p.std for p in advice.curve),
            "extent": charts.extent(advice.curve),
        }
    if exhibits:
        names = exhibits.class_names
        data["names"] = [_shortened(one_line(name)) for name in names] if names else None
        data["samples"] = [
            {"z": _standardized(one) if subject.standardized else one.logits, "label": one.label}
            for one in exhibits.samples
        ]
        if exhibits.alike:
            data["alike"] = _measured_in(subject.unit, exhibits.alike)
    return data


def _standardized(sample: Sample) -> list[float]:
    """Return logits over their standard deviation, as `distill.kd_loss` does."""
    n = len(sample.logits)
    mean = sum(sample.logits) / n
    spread = math.sqrt(sum((z - mean) ** 2 for z in sample.logits) / n)
    return _few(z / spread for z in sample.logits)


def _measured_in(unit: float, alike: Alike) -> dict[str, Any]:
    def each(values: Sequence[float]) -> Sequence[float]:
        return values if unit == 1 else _few(value / unit for value in values)

    return {
        "classes": alike.classes,
        "order": alike.order,
        "near": [list(zip([k for k, _ in row], each([d for _, d in row]), strict=True)) for row in alike.near],
        "distances": alike.distances and [each(row) for row in alike.distances],
    }


def _few(values: Iterable[float]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
