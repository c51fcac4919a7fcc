"""One self-contained page about a profile, a recommendation or a verification, to look at and to show.

It loads nothing: style, script, drawings and a few samples' logits lie in the file, and its own policy forbids all
else. What a user handed over (teacher and class names) is text there and never markup. What the slider shows is
computed by `page/page.js`; all that matters can be read without it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import tempadvisor
from tempadvisor import charts, passages
from tempadvisor.documents import write_text
from tempadvisor.errors import one_line
from tempadvisor.exhibits import Exhibits, Reservoir
from tempadvisor.passages import prose, said
from tempadvisor.records import Recommendation, TeacherProfile
from tempadvisor.render_verify import doubts
from tempadvisor.resources import page_path
from tempadvisor.verification import Verification

LONGEST_NAME = 80
TAKES_SAMPLES = "They are shown where the page is made from logits or a model, with the same flag."


def page(
    record: TeacherProfile | Recommendation | Verification,
    *,
    exhibits: Exhibits | None = None,
    exports: Mapping[str, str] | None = None,
) -> str:
    """Return the page as HTML.

    Args:
        record: what it is about.
        exhibits: samples and class relations to show, where they were kept.
        exports: the settings by the name of their format; those of this project's own loss unless given.
    """
    found = record if isinstance(record, Verification) else None
    advice = found.recommendation if found else record if isinstance(record, Recommendation) else None
    profile = advice.profile if advice else record if isinstance(record, TeacherProfile) else None
    sections = [_header(found, advice, profile)]
    if found:
        sections.append(_measured(found))
    sections.append(_words(advice, profile))
    if profile or advice:
        sections.append(_explored(found, advice, profile, exhibits))
    if advice:
        sections.append(_why(advice))
        temperature = found.temperature if found else advice.temperature
        contract = found.loss_contract if found else advice.loss_contract
        texts = exports or passages.plain_exports(contract, temperature)
        sections.append(_section("The exact settings", passages.settings(contract, temperature, texts), "side"))
    elif profile and profile.warnings:
        sections.append(_section("What lowers trust", passages.warnings(profile), "side"))
    sections += [_numbers(advice, profile), _footer(advice)]
    name = profile.teacher if profile else "no teacher"
    style, script = (page_path(file).read_text(encoding="utf-8") for file in ("style.css", "page.js"))
    return Template(page_path("page.html").read_text(encoding="utf-8")).substitute(
        version=tempadvisor.__version__,
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'",
        title=said(f"{_title(found, advice)} – {name}"),
        style=style,
        body="\n".join(part for part in sections if part),
        data=_embedded(_data(found, advice, profile, exhibits)),
        script=script,
    )


def write_page(
    record: TeacherProfile | Recommendation | Verification,
    path: Path,
    *,
    reservoir: Reservoir | None = None,
    exports: Mapping[str, str] | None = None,
) -> None:
    """Write the page, atomically; `reservoir` saw the teacher's logits while it was profiled.

    Raises:
        InputError: the file cannot be written.
    """
    exhibits = reservoir.exhibits() if reservoir else None
    write_text(path, page(record, exhibits=exhibits, exports=exports))


def _hash(text: str) -> str:
    """Return the word by which a policy admits one inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embedded(data: Any) -> str:
    """Return data as JSON that no text in it can end or turn into markup: ASCII, and no <, > or &."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _data(
    found: Verification | None,
    advice: Recommendation | None,
    profile: TeacherProfile | None,
    exhibits: Exhibits | None,
) -> dict[str, Any]:
    """Return what the script needs to follow the slider."""
    data: dict[str, Any] = {
        "low": charts.LOW,
        "high": charts.HIGH,
        "start": min(max(_start(found, advice), charts.LOW), charts.HIGH),
    }
    if profile:
        data["k"] = profile.n_classes
        data["softness"] = {
            "t": _few(profile.temperatures),
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
        data["samples"] = [{"z": one.logits, "label": one.label} for one in exhibits.samples]
        if exhibits.alike:
            alike = exhibits.alike
            data["alike"] = {
                "classes": alike.classes,
                "order": alike.order,
                "near": alike.near,
                "distances": alike.distances,
            }
    return data


def _few(values: Any) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def _start(found: Verification | None, advice: Recommendation | None) -> float:
    return found.temperature if found else advice.temperature if advice else 1.0


# The parts.


def _section(title: str, body: str, kind: str = "") -> str:
    of = f' class="{kind}"' if kind else ""
    return f"<section{of}>\n<h2>{title}</h2>\n<div>{body}</div>\n</section>"


def _title(found: Verification | None, advice: Recommendation | None) -> str:
    if found:
        told = "Undecided" if found.verdict == "undecided" else "Verified"
        return f"{told}: temperature {found.temperature:.3g}"
    return f"Temperature {advice.temperature:.2g}" if advice else "Teacher profile"


def _header(found: Verification | None, advice: Recommendation | None, profile: TeacherProfile | None) -> str:
    if found:
        kind, facts = "verification", passages.measured_facts(found)
        headline, big = found.headline, f"<i>T</i> = {found.temperature:.3g}"
    elif advice:
        kind, facts, headline = "recommendation", passages.facts(advice), advice.headline
        big = f"<i>T</i> = {advice.temperature:.2g}"
    else:
        assert profile is not None
        kind, facts, big = "teacher profile", passages.profile_facts(profile), "Teacher"
        headline = passages.profile_headline(profile)
    doubted = "".join(f'<p class="headline doubt">{prose(line)}</p>' for line in (doubts(found) if found else ()))
    if profile:
        inputs = f"{profile.logits_from} " if profile.logits_from else ""
        about = (
            f"Teacher: <b>{said(profile.teacher)}</b>, {profile.n_classes:,} classes, seen on "
            f"{profile.n_samples:,} {inputs}samples."
        )
    else:
        about = "No teacher was seen; the rules answer alone."
    return (
        f'<header>\n<p class="kicker">tempadvisor · {kind}</p>\n<h1>{big}</h1>\n'
        f'<p class="headline">{prose(headline)}</p>'
        f'{doubted}\n<p class="soft">{about}</p>\n{facts}\n</header>'
    )


def _words(advice: Recommendation | None, profile: TeacherProfile | None) -> str:
    if advice:
        told = list(passages.in_words(advice))
    else:
        assert profile is not None
        told = [passages.softness_in_words(profile, 2.0)]
    body = "".join(f"<p>{prose(line)}</p>" for line in told)
    return _section("In words", f'<div class="prose">{body}</div>', "side")


def _measured(found: Verification) -> str:
    before = _mark('<line class="line before" x1="0" x2="100%" y1="50%" y2="50%"/>')
    dot, hollow, pair = (f'<circle class="{kind}" cx="50%" cy="50%" r="{r}"/>' for kind, r in _MARKS)
    legend = _legend(
        [
            (
                _mark('<line class="spread" x1="50%" x2="50%" y1="-20%" y2="120%"/>' + dot),
                "believed, with 95 % interval",
            ),
            (_mark(hollow), "believed where nothing was trained"),
            (_mark(pair), "one student against the advised T, same seed"),
            (before, "expected before any training"),
        ]
    )
    return _section(
        "What the trainings said",
        f'<p class="prose">Validation accuracy in points over that at T = {found.recommendation.temperature:.3g}.</p>'
        f'<div class="scale">{charts.measured(found)}{legend}</div>{passages.measured_table(found)}',
    )


_MARKS = (("dot", 5), ("dot hollow", 5), ("pair", 3))


def _mark(shape: str) -> str:
    return f'<svg aria-hidden="true">{shape}</svg>'


def _legend(entries: list[tuple[str, str]]) -> str:
    return f'<div class="legend">{"".join(f"<span>{mark}{text}</span>" for mark, text in entries)}</div>'


def _explored(
    found: Verification | None,
    advice: Recommendation | None,
    profile: TeacherProfile | None,
    exhibits: Exhibits | None,
) -> str:
    parts = [_bar(found, advice, profile)]
    line = _mark('<line class="line" x1="0" x2="100%" y1="50%" y2="50%"/>')
    if advice:
        band = _mark(
            '<rect class="band" width="100%" height="100%"/><line class="line" x1="0" x2="100%" y1="50%" y2="50%"/>'
        )
        near = _mark('<rect class="range" width="100%" height="100%"/>')
        parts.append(
            "<h3>Expected accuracy</h3><p class='soft small'>Points against the best temperature.</p>"
            f'<div class="scale follows">{charts.accuracy(advice)}'
            + _legend([(band, "mean ± standard deviation"), (near, "near-optimal")])
            + "</div>"
        )
    if profile:
        second = _mark('<line class="line second" x1="0" x2="100%" y1="50%" y2="50%"/>')
        parts.append(
            "<h3>How soft the teacher’s answers are</h3><p class='soft small'>Means over "
            f"{profile.n_samples:,} samples.</p>"
            f'<div class="scale follows">{charts.softness(profile, _start(found, advice) if advice else None)}'
            + _legend([(line, "entropy, as a share of its maximum"), (second, "probability of the top class")])
            + "</div>"
        )
    if profile:
        parts.append(_samples(exhibits) if exhibits else f'<h3>Samples</h3><p class="soft">{_NOT_KEPT}</p>')
    if exhibits and exhibits.alike:
        parts.append(_alike(exhibits))
    return _section("What the student would see", "\n".join(parts), "explore")


_NOT_KEPT = f"A saved profile holds no samples, nor which classes are alike. {TAKES_SAMPLES}"


def _bar(found: Verification | None, advice: Recommendation | None, profile: TeacherProfile | None) -> str:
    """Return the slider with its readings; the near-optimal range and the usual temperatures lie under it."""
    jumps = [("T = 1", 1.0), ("T = 4", 4.0)]
    marks = [
        f'<line class="mark" x1="{charts.x(t)}%" x2="{charts.x(t)}%" y1="22%" y2="78%"/>'
        f'<text x="{charts.x(t)}%" y="100%" dy=".55em" text-anchor="middle">{t:g}</text>'
        for _, t in jumps
    ]
    near = ""
    if advice:
        jumps.insert(0, ("Advised", advice.temperature))
        left, right = (charts.x(end) for end in advice.interval)
        here = charts.x(advice.temperature)
        near = f'<rect class="near" x="{left}%" y="25%" width="{right - left:.3f}%" height="50%" rx="3"/>'
        marks.append(f'<line class="rec" x1="{here}%" x2="{here}%" y1="10%" y2="90%"/>')
    if found and advice and found.temperature != advice.temperature:
        jumps.insert(1, ("To use", found.temperature))
    more = []
    if profile:
        more += ["entropy <output id='entropy' for='t'></output>", "top class <output id='top' for='t'></output>"]
    if advice:
        more.append("accuracy <output id='accuracy' for='t'></output> points")
    buttons = "".join(f'<button type="button" data-jump="{t!r}">{name}</button>' for name, t in jumps)
    return (
        '<p class="prose js-only">Move the slider: everything below follows it.</p>'
        '<p class="no-js soft">The slider, the samples and the map of classes need JavaScript; all else is here.</p>'
        '<div class="bar js-only"><div class="reading">'
        '<label for="t"><i>T</i> = <output id="shown" for="t"></output></label>'
        f'<span class="more">{" · ".join(more)}</span><span class="jump">{buttons}</span></div>'
        '<div class="scale"><svg class="track" aria-hidden="true">'
        '<line class="rail" x1="0" x2="100%" y1="50%" y2="50%"/>'
        f'{near}{"".join(marks)}</svg><input type="range" id="t" min="0" max="168" step="1" '
        'aria-label="Temperature, on a logarithmic scale from 0.5 to 64"></div></div>'
    )


def _samples(exhibits: Exhibits) -> str:
    n, wrong = len(exhibits.samples), sum(one.is_wrong for one in exhibits.samples)
    labelled = exhibits.samples[0].label is not None
    which = f", {wrong} of them wrong" if wrong else ", none of them wrong" if labelled else ""
    named = "" if exhibits.class_names else " Classes go by their number."
    return (
        f'<div class="js-only"><h3>Samples</h3><p class="soft small">{n} that were picked to span sure and unsure '
        f"answers{which}. The bars are the softened probabilities, the small marks those at T = 1.{named}</p></div>"
        '<ul class="samples js-only" id="samples"></ul>'
    )


def _alike(exhibits: Exhibits) -> str:
    assert exhibits.alike is not None
    whole, n = exhibits.alike.distances is not None, len(exhibits.alike.classes)
    drawn = ""
    if whole:
        drawn = (
            f'<div><div class="map" id="map"><ol aria-hidden="true"></ol><canvas role="img" aria-label="Map of {n} '
            "classes by {n} classes, in an order that puts those alike beside each other; the closest pairs are "
            'listed beside it."></canvas><p class="small" aria-hidden="true"></p></div>'
            '<p class="ramp" aria-hidden="true">0\xa0% <i></i> 25\xa0% <i></i> 100\xa0%</p></div>'
        ).replace("{n}", str(n))
    return (
        '<div class="js-only"><h3>Classes the teacher thinks alike</h3><p class="soft small">Of two classes, the '
        "probability of the one on a typical sample of the other, as a share of the right one’s: exp(−d/T), "
        "d the mean gap of their logits. As T rises, all classes become alike.</p></div>"
        f'<div class="alike js-only{"" if whole else " list"}">{drawn}<div>'
        '<h4 class="small soft">The closest pairs</h4>'
        '<ul class="rows pairs" id="pairs"></ul><label class="find">Find a class'
        '<input type="search" id="find" autocomplete="off" spellcheck="false"></label>'
        '<div class="found" id="found" aria-live="polite"></div></div></div>'
    )


def _why(advice: Recommendation) -> str:
    told = passages.warnings(advice)
    doubts = f"<h3>What lowers trust</h3>{told}" if told else ""
    return _section("Why", passages.reasons(advice) + doubts + passages.unknown(advice), "side")


def _numbers(advice: Recommendation | None, profile: TeacherProfile | None) -> str:
    parts = [
        passages.expected(advice) + passages.nearest(advice) if advice else "",
        passages.teacher(profile) if profile else "",
    ]
    return _section("All numbers", "".join(parts), "side")


def _footer(advice: Recommendation | None) -> str:
    knowledge = f", knowledge {said(advice.version['knowledge'])}" if advice else ""
    return (
        f"<footer><p>Made by tempadvisor {escape(tempadvisor.__version__)}{knowledge}. "
        "This file loads nothing and sends nothing.</p></footer>"
    )
