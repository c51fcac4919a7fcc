"""One self-contained page about a profile, a recommendation or a verification, to look at and to show.

It loads nothing: style, script, drawings and a few samples' logits lie in the file, and its own policy forbids all
else. What a user handed over (teacher and class names) is text there and never markup. All that matters can be read
without JavaScript; the rest is in `explorer.py`.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from string import Template

import tempadvisor
from tempadvisor import charts, passages, tables
from tempadvisor.documents import write_text
from tempadvisor.errors import UsageError
from tempadvisor.exhibits import Exhibits, Reservoir
from tempadvisor.explorer import Subject, embedded, explorer, legend, mark
from tempadvisor.export import FORMATS, export
from tempadvisor.passages import prose, said
from tempadvisor.records import Recommendation, TeacherProfile
from tempadvisor.render_verify import doubts
from tempadvisor.resources import page_path
from tempadvisor.settings import settings
from tempadvisor.temperatures import written
from tempadvisor.verification import Verification


def page(
    record: TeacherProfile | Recommendation | Verification,
    *,
    exhibits: Exhibits | None = None,
) -> str:
    """Return the page as HTML.

    Args:
        record: what it is about.
        exhibits: samples and class relations to show, where they were kept.
    """
    subject = Subject.of(record, exhibits)
    style, script = (page_path(file).read_text(encoding="utf-8") for file in ("style.css", "page.js"))
    return Template(page_path("page.html").read_text(encoding="utf-8")).substitute(
        version=tempadvisor.__version__,
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'",
        title=said(f"{_title(subject)} – {subject.profile.teacher if subject.profile else 'no teacher'}"),
        style=style,
        body="\n".join(_sections(subject)),
        data=embedded(subject),
        script=script,
    )


def write_page(
    record: TeacherProfile | Recommendation | Verification,
    path: Path,
    *,
    reservoir: Reservoir | None = None,
) -> None:
    """Write the page, atomically; `reservoir` saw the teacher's logits while it was profiled.

    Raises:
        InputError: the file cannot be written.
    """
    write_text(path, page(record, exhibits=reservoir.exhibits() if reservoir else None))


def _hash(text: str) -> str:
    """Return the word by which a policy admits one inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _sections(subject: Subject) -> list[str]:
    found, advice, profile = subject.found, subject.advice, subject.profile
    sections = [_header(subject)]
    if found:
        sections.append(_section("What the trainings said", _measured(subject, found)))
    told = "".join(f"<p>{prose(line)}</p>" for line in _words(subject))
    sections.append(_section("In words", f'<div class="prose">{told}</div>', "side"))
    title = "What the student would see" if profile else "What is expected over temperature"
    sections.append(_section(title, explorer(subject), "explore"))
    if advice:
        sections.append(_section("Why", _why(advice), "side"))
        contract = found.loss_contract if found else advice.loss_contract
        told = passages.settings(contract, subject.temperature, _exports(subject, advice))
        sections.append(_section("The exact settings", told, "side"))
    elif profile and profile.warnings:
        sections.append(_section("What lowers trust", passages.warnings(profile), "side"))
    numbers = tables.expected(advice) + tables.nearest(advice) if advice else ""
    numbers += tables.teacher(profile) if profile else ""
    return [*sections, _section("All numbers", numbers, "side numbers"), _footer(advice)]


def _exports(subject: Subject, advice: Recommendation) -> dict[str, str]:
    """Return the settings for each trainer, or why there are none, by the name of the format."""
    wanted = settings(advice, temperature=subject.temperature, headline=(subject.found or advice).headline)
    texts = {"flags of tempadvisor": passages.flags(wanted.contract)}
    for form in FORMATS:
        try:
            texts[form] = export(wanted, form).text
        except UsageError as error:  # a conversion that needs a teacher's profile
            texts[form] = str(error)
    return texts


def _section(title: str, body: str, kind: str = "") -> str:
    of = f' class="{kind}"' if kind else ""
    return f"<section{of}>\n<h2>{title}</h2>\n<div>{body}</div>\n</section>"


def _title(subject: Subject) -> str:
    found, advice = subject.found, subject.advice
    if found:
        return f"{_judged(found)}: temperature {written(found.temperature)}"
    return f"Temperature {written(advice.temperature)}" if advice else "Teacher profile"


def _judged(found: Verification) -> str:
    return "Undecided" if found.verdict == "undecided" else "Verified"


def _header(subject: Subject) -> str:
    found, advice, profile = subject.found, subject.advice, subject.profile
    if found:
        kind, facts = f"{_judged(found)} temperature", passages.measured_facts(found)
        headline, big = found.headline, f"<i>T</i> = {written(found.temperature)}"
    elif advice:
        kind, facts, headline = "recommended temperature", passages.facts(advice), advice.headline
        big = f"<i>T</i> = {written(advice.temperature)}"
    else:
        assert profile is not None
        kind, facts, big = "teacher profile", passages.profile_facts(profile), "Teacher"
        headline = passages.profile_headline(profile)
    verdict = found.verdict if found else advice.verdict if advice else ""
    doubtful = " doubt" if verdict in ("better_found", "undecided", "kd_may_hurt", "unknown") else ""
    doubted = "".join(f'<p class="headline doubt">{prose(line)}</p>' for line in (doubts(found) if found else ()))
    about = "No teacher was seen; the rules answer alone."
    if profile:
        inputs = f"{profile.logits_from} " if profile.logits_from else ""
        about = (
            f"Teacher: <b>{said(profile.teacher)}</b>, {profile.n_classes:,} classes, seen on "
            f"{profile.n_samples:,} {inputs}samples."
        )
    return (
        f'<header>\n<p class="kicker">Knowledge distillation · {kind}</p>\n<h1>{big}</h1>\n'
        f'{doubted}<p class="headline{doubtful}">{prose(headline)}</p>\n'
        f'<p class="soft">{about}</p>\n{facts}\n</header>'
    )


def _words(subject: Subject) -> list[str]:
    verified = passages.verified_in_words(subject.found) if subject.found else ()
    told = [passages.distillation(subject.standardized), *verified]
    if subject.advice:
        return [*told, *passages.in_words(subject.advice, subject.unit)]
    assert subject.profile is not None
    return [*told, passages.softness_in_words(subject.profile, passages.half_soft(subject.profile) or 2.0)]


def _measured(subject: Subject, found: Verification) -> str:
    dot, hollow, pair = (
        f'<circle class="{kind}" cx="50%" cy="50%" r="{r}"/>'
        for kind, r in (("dot", 5), ("dot hollow", 5), ("pair", 3))
    )
    marks = [
        ('<line class="spread" x1="50%" x2="50%" y1="-20%" y2="120%"/>' + dot, "believed, with 95 % interval"),
        (hollow, "believed where nothing was trained"),
        (pair, "one student against the advised T, same seed"),
        ('<line class="line before" x1="0" x2="100%" y1="50%" y2="50%"/>', "expected before any training"),
    ]
    told = f"Validation accuracy in points over that at T = {written(found.recommendation.temperature)}."
    return (
        f'<p class="prose">{prose(told)}</p><div class="scale">{charts.measured(found, subject.axis)}'
        f"{legend((mark(shape), text) for shape, text in marks)}</div>{tables.measured_table(found)}"
    )


def _why(advice: Recommendation) -> str:
    told = passages.warnings(advice)
    doubted = f"<h3>What lowers trust</h3>{told}" if told else ""
    return passages.reasons(advice) + doubted + passages.unknown(advice)


def _footer(advice: Recommendation | None) -> str:
    knowledge = f", knowledge {said(advice.version['knowledge'])}" if advice else ""
    return (
        f"<footer><p>Made by tempadvisor {said(tempadvisor.__version__)}{knowledge}. "
        "This file loads nothing and sends nothing.</p></footer>"
    )
