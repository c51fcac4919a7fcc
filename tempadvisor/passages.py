"""The page's words, as HTML: what the terminal tells too, with links to the sources of every reason.

All that comes from records passes through `said`, so that it is text and never markup.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape

from tempadvisor import charts
from tempadvisor.corpus import Source, load_sources
from tempadvisor.errors import one_line
from tempadvisor.records import Estimate, LossContract, Reason, Recommendation, TeacherProfile
from tempadvisor.render import basis, loss_formula
from tempadvisor.temperatures import span, written
from tempadvisor.verification import Difference, Verification

MOVES = {"raises": "raises T", "lowers": "lowers T", "none": "no shift"}
WHERE = {"evidence": "own measurements and derivations", "knowledge/runs": "measured runs"}


def said(text: str) -> str:
    """Return text as HTML: control characters visible, markup escaped.

    >>> said("<b>\\x1b[2J")
    '&lt;b&gt;\\\\x1b[2J'
    """
    return escape(one_line(text))


def prose(text: str) -> str:
    """Return a sentence as HTML in which numbers stay with their units.

    >>> prose("T = 4 < 36 %")
    'T&nbsp;=&nbsp;4 &lt; 36&nbsp;%'
    """
    together = re.sub(r"(?<=\bT) = (?=\d)", "&nbsp;=&nbsp;", said(text))
    return re.sub(r"(?<=\d) (?=%|±|pp\b|points\b)|(?<=±) ", "&nbsp;", together)


def points(estimate: Estimate) -> str:
    """Write an accuracy fraction in percentage points, with its standard deviation."""
    return f"{signed(estimate.mean)} ± {100 * estimate.std:.1f}"


def signed(value: float, digits: int = 1) -> str:
    """Write a difference of accuracies in points, with a minus sign that is one.

    >>> signed(-0.0123), signed(0.00001), signed(0.02)
    ('−1.2', '0.0', '+2.0')
    """
    text = f"{100 * value:+.{digits}f}"
    return f"{0:.{digits}f}" if not float(text) else text.replace("-", "−")


# What is said first.


def facts(advice: Recommendation) -> str:
    """Return the numbers that matter, each with what it is."""
    gains = advice.expected_gain
    spread = "points of accuracy, with standard deviation"
    return _facts(
        [
            ("Near-optimal", f"T from {span(advice.interval)}", "expected within 0.2 points of the best"),
            ("The single best T", span(advice.best_temperature_ci90), "90 % interval"),
            ("Confidence", advice.confidence, basis(advice)),
            ("Gain over no KD", points(gains["over_no_kd"]), spread),
            ("Gain over T = 1", points(gains["over_t1"]), spread),
            ("Gain over T = 4", points(gains["over_t4"]), spread),
        ]
    )


def measured_facts(found: Verification) -> str:
    """Return the numbers that matter of a verification."""
    cost, test, advised = found.cost, found.test, found.recommendation
    reached = next((one.accuracy for one in test.accuracy if one.temperature == found.temperature), None)
    rows = [
        (
            f"T = {written(found.rival)} over T = {written(advised.temperature)}",
            f"{signed(found.difference.mean, 2)} points",
            f"validation, {_interval(found.difference)}",
        ),
        ("Probability", _percent(found.probability), found.verdict.replace("_", " ")),
        ("Trained", f"{cost.trainings} students", f"{cost.student_epochs:,} epochs, {cost.seconds:,.0f} s in all"),
        (
            "Advised before",
            f"T = {written(advised.temperature)}",
            f"{advised.confidence} confidence; {basis(advised)}",
        ),
    ]
    if reached is not None:
        rows.append(
            (
                f"Test accuracy at T = {written(found.temperature)}",
                f"{100 * reached:.1f} %",
                f"{test.n_test:,} samples",
            )
        )
    if test.over_no_kd:
        gained = f"{signed(test.over_no_kd.mean, 2)} points"
        rows.append(("Over no KD", gained, f"test, {_interval(test.over_no_kd)}"))
    return _facts(rows)


def profile_facts(measured: TeacherProfile) -> str:
    """Return the numbers that matter of a teacher."""
    half = half_soft(measured)
    rows = [("Classes", f"{measured.n_classes:,}", f"{measured.n_samples:,} samples read")]
    if half is not None:
        rows.append(("Half soft at", f"T = {written(half)}", "mean entropy is half of its maximum"))
    rows.append(("Top probability", share(measured.curve_at(1, measured.top1_probability)), "mean at T = 1"))
    if measured.accuracy is not None:
        rows.append(("Accuracy", f"{100 * measured.accuracy:.1f} %", "on these samples"))
    return _facts(rows)


def distillation(standardized: bool) -> str:
    """Say what a temperature is to someone who has never heard of it; `standardized` as in the loss contract."""
    one = (
        "here T counts in standard deviations of a sample’s logits, and the higher it is, the more probability moves "
        "from the top class to the others"
        if standardized
        else "at T = 1 they are as the teacher gives them; the higher T, the more probability moves from its top "
        "class to the others, and below 1 the other way"
    )
    return (
        "In knowledge distillation (KD) a network, the student, learns from the answers of another one, the teacher. "
        f"A temperature T softens these answers: {one}. Points (pp) are percentage points of accuracy."
    )


def in_words(advice: Recommendation, unit: float) -> Iterable[str]:
    """Yield sentences that say what the drawings show; `unit` as in `charts.softness`."""
    *first, last = (
        f"{100 * max(-mean, 0.0):.1f} ± {100 * std:.1f} at T = {written(t)}"
        for t in (1.0, 4.0, advice.curve[-1].temperature)
        for mean, std in [charts.at(advice.curve, t)]
    )
    yield (
        f"Any temperature from {span(advice.interval)} should do about as well as the best. Against the best, the "
        f"points expected to be lost are {', '.join(first)} and {last}."
    )
    if advice.profile:
        yield softness_in_words(advice.profile, advice.temperature, unit)
    options = advice.kd_weights
    looks = next(option for option in options if option.best)
    answers = {written(option.temperature) for option in options}
    told = ", ".join(f"T = {written(option.temperature)} at {option.kd_weight:g}" for option in options)
    if len(answers) == 1:
        *weights, most = (f"{option.kd_weight:g}" for option in options)
        told = f"T = {answers.pop()} at {', '.join(weights)} and {most} alike"
    yield f"Over weights of the KD term in the loss the answer is {told}; the weight {looks.kd_weight:g} looks best."


def half_soft(measured: TeacherProfile) -> float | None:
    """Return the temperature at which mean entropy is half of its maximum, where that is known."""
    return dict(zip(measured.softness_levels, measured.softness_temperatures, strict=True)).get(0.5)


def verified_in_words(found: Verification) -> Iterable[str]:
    """Yield sentences that say what the trainings showed."""
    advised, mean = found.recommendation.temperature, found.difference.mean
    yield (
        f"{found.cost.trainings} students were trained. On the validation split T = {written(found.rival)} is "
        f"believed to be {100 * abs(mean):.2f} points {'above' if mean >= 0 else 'below'} the advised "
        f"T = {written(advised)} ({_interval(found.difference)})."
    )
    reached = [
        f"{100 * one.accuracy:.1f} % {'without KD' if t is None else f'at T = {written(t)}'}"
        for one in found.test.accuracy
        for t in [one.temperature]
    ]
    yield f"On the test split, which was read once at the end, students reached {', '.join(reached)}."
    yield "What had been expected before any training:"


def softness_in_words(measured: TeacherProfile, temperature: float, unit: float = 1.0) -> str:
    """Say how soft a teacher is at a temperature, or the nearest measured, and at the usual ones.

    `unit` is that of `charts.softness`.
    """
    low, high = charts.seen(measured, unit)
    here = min(max(temperature, low), high)
    others = [t for t in charts.MARKED if low <= t <= high and abs(math.log2(t / here)) > 0.01]

    def told(value: Callable[[float], float]) -> str:
        beside = ", ".join(f"{share(value(t))} at T = {written(t)}" for t in others)
        return f"{share(value(here))}{f' ({beside})' if beside else ''}"

    most = math.log(measured.n_classes)
    top = told(lambda t: measured.curve_at(t * unit, measured.top1_probability))
    entropy = told(lambda t: measured.curve_at(t * unit, measured.entropy_nats) / most)
    nearest = "" if here == temperature else f", the nearest to T = {written(temperature)} that was measured,"
    rest = (
        "the other class tells a student how sure the teacher is of a sample"
        if measured.n_classes == 2
        else "the other classes is what a student can learn beyond the label"
    )
    return (
        f"At T = {written(here)}{nearest} the teacher’s top class gets {top} of the probability on average; what is "
        f"left for {rest}. The entropy of its answers is {entropy} of its maximum."
    )


def profile_headline(measured: TeacherProfile) -> str:
    """Say in one sentence how sure a teacher is."""
    low, high = (share(measured.curve_at(t, measured.top1_probability)) for t in charts.MARKED)
    return f"At T = 1 the top class gets {low} of the probability on average, at T = 4 it gets {high}."


def share(value: float) -> str:
    """Write a fraction in percent, never as all or nothing where it is not.

    >>> share(0.358), share(0.9998), share(0.001)
    ('36 %', 'over 99 %', 'under 1 %')
    """
    rounded = f"{100 * value:.0f} %"
    if value < 1 and rounded == "100 %":
        return "over 99 %"
    return "under 1 %" if value > 0 and rounded == "0 %" else rounded


def _facts(rows: Sequence[tuple[str, str, str]]) -> str:
    cells = "".join(
        f"<div><dt>{prose(name)}</dt><dd>{prose(value)}<small>{prose(note)}</small></dd></div>"
        for name, value, note in rows
    )
    return f'<dl class="facts{" four" if len(rows) == 4 else ""}">{cells}</dl>'


def _percent(probability: float) -> str:
    return "over 99 %" if probability > 0.99 else f"{100 * probability:.0f} %"


def _interval(one: Difference) -> str:
    """Say where a difference lies."""
    if one.ci95 is None:
        return "one seed"
    return f"95 % interval {signed(one.ci95[0], 2)} to {signed(one.ci95[1], 2)}"


# Why.


def reasons(advice: Recommendation) -> str:
    """Return the reasons, each with its source."""
    sources = load_sources()
    return f'<ol class="reasons">{"".join(_reason(one, sources.get(one.source)) for one in advice.reasons)}</ol>'


def _reason(reason: Reason, source: Source | None) -> str:
    factor = f" ×{2**reason.octaves:.2f}" if reason.effect != "none" else ""
    kind = "moves" if reason.effect != "none" else "moves none"
    told = _source(reason.source, source)
    if reason.kind == "rule":
        told += f" Grade {said(reason.grade)}, {said(reason.id)}."
    if reason.standing and reason.standing.n_fired:
        of = reason.standing
        told += (
            f" Of {of.n_fired:,} measured setups in which this rule speaks, {of.n_for:,} are for and "
            f"{of.n_against:,} against it."
        )
    return (
        f'<li><span class="{kind}">{MOVES[reason.effect]}{factor}</span>'
        f"<div>{prose(reason.text)}<small>{told}</small></div></li>"
    )


def _source(key: str, source: Source | None) -> str:
    if source is None:
        return f"{said(WHERE.get(key, key)).capitalize()}."
    by = f"{said(source.authors)}, " if source.authors and source.url and source.url.startswith("http") else ""
    year = f" ({source.year})" if source.year else ""
    title = said(str(source.title))
    if source.url and source.url.startswith(("https://", "http://")):
        title = f'<a href="{said(source.url)}" rel="noreferrer">{title}</a>'
    return f"{by}{title}{year}."


def warnings(record: Recommendation | TeacherProfile) -> str:
    """Return what lowers trust, if anything does."""
    found = "".join(f"<li>{prose(one.text)}</li>" for one in record.warnings)
    return f'<ul class="warnings">{found}</ul>' if found else ""


def unknown(advice: Recommendation) -> str:
    """Say what would narrow the answer most, if anything would."""
    if not advice.unknown:
        return ""
    flags = ", ".join(
        f"<code>--{said(one.name.replace('_', '-'))}</code> (T moves up to {2**one.octaves:.1f}×)"
        for one in advice.unknown[:3]
    )
    return f"<h3>What would narrow it most</h3><p>{flags}</p>"


# The exact settings.


def settings(contract: LossContract, temperature: float, exports: Mapping[str, str]) -> str:
    """Return the loss that the temperature holds for, and its settings in each format, to be copied."""
    formula, letters = loss_formula(contract, temperature)
    blocks = "".join(
        f'<details{" open" if i == 0 else ""}><summary>{said(name)}</summary><div class="copy">'
        f'<button type="button" aria-label="Copy {said(name)}" aria-live="polite">Copy</button>'
        f"<pre>{escape(_visible(text))}</pre></div></details>"
        for i, (name, text) in enumerate(exports.items())
    )
    return (
        f'<p class="formula">{_subscripts(formula)}<small>{_subscripts(letters)}</small></p>'
        '<p class="prose">A temperature holds for one loss only; the same number means something else where T² is '
        "missing, the mean goes over classes too, or the logits are standardized.</p>"
        f'<div class="exports">{blocks}</div>'
    )


def _subscripts(formula: str) -> str:
    """Return a formula as HTML.

    >>> _subscripts("KL(p_t ‖ p_s)")
    'KL(p<sub>t</sub> ‖ p<sub>s</sub>)'
    """
    return re.sub(r"_(\w)", r"<sub>\1</sub>", said(formula))


def flags(contract: LossContract) -> str:
    """Return a loss contract as flags of `tempadvisor recommend`."""
    given = [
        f"--kd-weight {contract.kd_weight:g}",
        f"--hard-weight {contract.hard:g}",
        "--t-squared" if contract.t_squared else "--no-t-squared",
        f"--reduction {contract.reduction}",
        "--standardized" if contract.standardized else "--no-standardized",
    ]
    return " ".join(given)


def _visible(text: str) -> str:
    """Return text with its lines kept and all other control characters escaped."""
    return "\n".join(one_line(line) for line in text.split("\n"))
