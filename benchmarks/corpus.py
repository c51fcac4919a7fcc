"""Write what the measured runs say: plots, a section of the data card between two markers, and the rules' tally.

    python benchmarks/corpus.py

Running it again changes nothing unless runs came in. Only complete curves count. The frozen source is left out.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from curve_plots import draw
from groups import Array, by_source, difference, macro

from tempadvisor.curves import SMOOTHER, SPLITS, TEMPERATURES, Curve, floor, read_curves, regrets
from tempadvisor.rules import load_rules
from tempadvisor.standing import save_standings, tally

KNOWLEDGE = Path(__file__).resolve().parent.parent / "knowledge"
BEGIN, END = "<!-- made by benchmarks/corpus.py -->", "<!-- end of what benchmarks/corpus.py makes -->"
SHOWN = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
HIGH, LOW = (12.0, 16.0, 24.0, 40.0), (2.0, 3.0, 4.0)
SHORT, CLIP = 100, 10.0
RELATED, SHARP, AHEAD = 0.5, 2.5, 0.05
# fewest and most epochs of a suite, by the first part of its name
EPOCHS = {"conv": ((6, 10), (30,)), "pretrained": ((6, 10), (30,)), "strong": ((20,), (120,))}
Test = Callable[[Curve], bool]


def tilt(curve: Curve) -> float:
    """Return what temperatures of 12 to 40 gain over 2 to 4, in points, at most 10 either way."""
    return float(np.clip(100 * curve.contrast(HIGH, LOW)[0], -CLIP, CLIP))


def gain_at_4(curve: Curve) -> float:
    """Return the gain of T=4 over no KD, in points, at most 10 either way."""
    return float(np.clip(100 * curve.gain[:, TEMPERATURES.index(4.0)].mean(), -CLIP, CLIP))


def spread(curve: Curve) -> float:
    """Return the height of the smoothed curve, in points, at most 10."""
    smooth = SMOOTHER @ curve.accuracy.mean(0)
    return float(min(100 * (smooth.max() - smooth.min()), CLIP))


class Claim(NamedTuple):
    """A finding put as a difference between two groups of curves: `sign` is the predicted one, 0 for none."""

    finding: str
    says: str
    one: Test
    other: Test
    value: Callable[[Curve], float]
    sign: int
    where: Test = lambda curve: curve.steps >= SHORT


def _epochs(curve: Curve, *, most: bool) -> bool:
    suite = str(curve.run.suite)
    levels = EPOCHS.get(suite.partition("-")[0], ((10,), (160,)))
    return curve.run.setup.epochs in levels[most]


def _teacher(*names: str) -> Test:
    return lambda curve: curve.run.teacher in names


def _measure(curve: Curve, name: str) -> float:
    value = getattr(curve.profile, name, None)
    return float("nan") if value is None else float(value)


def _softness(curve: Curve) -> float:
    """Return the temperature at which the teacher's mean entropy is half of log K."""
    if curve.profile is None:
        return float("nan")
    found = curve.profile.softness_temperatures[curve.profile.softness_levels.index(0.5)]
    return float("nan") if found is None else found


def _ahead(curve: Curve) -> float:
    """Return how much better the teacher is than the student without KD, on the test split."""
    return (curve.run.teacher_test_accuracy or float("nan")) - float(curve.without.mean())


def _optimizer(*names: str) -> Test:
    return lambda curve: curve.run.setup.optimizer in names


def _everywhere(_: Curve) -> bool:
    return True


def _t_squared(curve: Curve) -> bool:
    return curve.run.setup.t_squared is not False


CLAIMS = (
    Claim("S2", "AdamW is more robust to temperature than SGD: height of the curve, AdamW less SGD",
          _optimizer("adamw"), _optimizer("sgd"), spread, -1),
    Claim("S2", "SGD: longer training favors larger temperatures: tilt, most epochs less fewest",
          lambda c: _optimizer("sgd")(c) and _epochs(c, most=True),
          lambda c: _optimizer("sgd")(c) and _epochs(c, most=False), tilt, 1, _everywhere),
    Claim("", "The same under Adam and AdamW, for comparison",
          lambda c: _optimizer("adam", "adamw")(c) and _epochs(c, most=True),
          lambda c: _optimizer("adam", "adamw")(c) and _epochs(c, most=False), tilt, 0, _everywhere),
    Claim("S3", "Large temperatures help with strong class relations and long training: tilt of the longest "
          "trainings, teachers with much related mass less those with little",
          lambda c: _epochs(c, most=True) and _measure(c, "related_mass") > RELATED,
          lambda c: _epochs(c, most=True) and _measure(c, "related_mass") <= RELATED, tilt, 1),
    Claim("S4", "Fine labels like higher temperatures than coarse ones, same images: tilt, fine less coarse",
          lambda c: str(c.run.dataset).endswith("-fine"), lambda c: str(c.run.dataset).endswith("-coarse"), tilt, 1),
    Claim("S5", "Little fine-tuning of a pretrained teacher helps, excess hurts: gain at T=4, 2 epochs less 20 to 60",
          _teacher("pretrained_brief", "lite_brief"), _teacher("pretrained_over", "lite_over"), gain_at_4, 1),
    Claim("S5", "The same for teachers from scratch: gain at T=4, brief less over-trained",
          _teacher("brief"), _teacher("overtrained"), gain_at_4, 1),
    Claim("S6", "A student trained on the labels first gains less: gain at T=4, target-trained less random",
          lambda c: c.run.setup.student_init == "target", lambda c: c.run.setup.student_init == "random",
          gain_at_4, -1),
    Claim("S6", "So does one pretrained on other data, fine-tuned or not: gain at T=4, those less random",
          lambda c: (c.run.setup.student_init or "").startswith("pretrained"),
          lambda c: c.run.setup.student_init == "random" and str(c.run.suite) in ("pretrained", "conv-images"),
          gain_at_4, -1),
    Claim("S7", "A sharper teacher wants higher temperatures: tilt, logits times 3 less as they are",
          lambda c: c.run.teacher_logit_scale == 3.0, lambda c: c.run.teacher_logit_scale == 1.0, tilt, 1),
    Claim("S7", "A softer teacher wants lower ones: tilt, teachers trained with label smoothing or mixup less others",
          _teacher("smoothed", "mixed", "resnet_smoothed"),
          lambda c: c.run.teacher not in ("smoothed", "mixed", "resnet_smoothed"), tilt, -1),
    Claim("S7", "The same by the measured temperature of half softness: tilt, above 2.5 less below",
          lambda c: _softness(c) > SHARP, lambda c: _softness(c) <= SHARP, tilt, 1),
    Claim("beyond", "A teacher ahead of the student by 5 points or more favors higher temperatures: tilt, those less "
          "others",
          lambda c: _ahead(c) > AHEAD, lambda c: _ahead(c) <= AHEAD, tilt, 0),
    Claim("beyond", "The same: gain at T=4", lambda c: _ahead(c) > AHEAD, lambda c: _ahead(c) <= AHEAD, gain_at_4, 0),
    Claim("beyond", "A larger KD weight favors higher temperatures: tilt, weight 0.9 and 1 less 0.1",
          lambda c: (c.run.setup.kd_weight or 0) >= 0.9, lambda c: c.run.setup.kd_weight == 0.1, tilt, 1),
    Claim("beyond", "Mixup favors lower temperatures: tilt, mixup less none",
          lambda c: c.run.setup.augmentation == "mixup", lambda c: c.run.setup.augmentation == "none", tilt, -1),
    Claim("beyond", "Label noise favors lower temperatures: tilt, 20 % noise less none",
          lambda c: bool(c.run.setup.label_noise), lambda c: not c.run.setup.label_noise, tilt, -1),
    Claim("beyond", "Fewer than 100 steps: height of the curve, short less long",
          lambda c: c.steps < SHORT, lambda c: c.steps >= SHORT, spread, 0, _everywhere),
)  # fmt: skip


def verdict(claim: Claim, mean: float, error: float) -> str:
    """Return confirmed or contradicted beyond three standard errors, qualified beyond two, or what else there is."""
    if np.isnan(mean):
        return "not yet measured"
    if not claim.sign:
        return "no prediction"
    if abs(mean) <= 2 * error:
        return "open: within 2 standard errors"
    favors = mean * claim.sign > 0
    if abs(mean) <= 3 * error:
        return f"qualified: {'for' if favors else 'against'} it, by less than 3 standard errors"
    return "confirmed" if favors else "contradicted"


def finding_rows(curves: Sequence[Curve]) -> list[str]:
    """Return the table of findings. Curves without T squared are left out: there high T means little KD."""
    usable = [curve for curve in curves if _t_squared(curve)]
    rows = [
        "| finding | put as a difference between curves | measured, points | curves | sources | verdict |",
        "|---|---|---|---|---|---|",
        "| S1 | A fixed temperature with KL is the most robust choice: no other method was trained | | | "
        "| not measured |",
    ]
    for claim in CLAIMS:
        there = [curve for curve in usable if claim.where(curve)]
        one, other = ([c for c in there if test(c)] for test in (claim.one, claim.other))
        mean, error, n = difference(one, other, claim.value)
        said = "" if np.isnan(mean) else f"{mean:+.2f} ± {error:.2f}"
        counts = f"{len(one)} and {len(other)}"
        rows.append(f"| {claim.finding} | {claim.says} | {said} | {counts} | {n} | {verdict(claim, mean, error)} |")
    return [*rows[:2], *sorted(rows[2:], key=lambda row: (row.startswith("| beyond"), _order(row)))]


def _order(row: str) -> str:
    """Return the finding of a row; one without stays behind the row before it."""
    name = row.split("|")[1].strip()
    return name or "S2~"


Losses = dict[int, tuple[Array, float]]


def losses(curves: Sequence[Curve]) -> Losses:
    """Return what each temperature loses in each curve, and what a perfect advisor would show, in points."""
    lost = {}
    for curve in curves:
        rng = np.random.default_rng(list(str(curve.run.curve).encode()))  # so that a new curve changes no other
        lost[id(curve)] = 100 * regrets(curve.accuracy, rng), 100 * floor(curve.accuracy, rng)
    return lost


def regret_rows(curves: Sequence[Curve], lost: Losses, groups: Sequence[tuple[str, Test]]) -> list[str]:
    """Return the table of what fixed temperatures lose, and what a perfect advisor would show."""
    rows = [f"| setups | curves | | {' | '.join(f'T={t:g}' for t in SHOWN)} | perfect advisor |"]
    rows.append("|---|---|---|" + "---|" * (len(SHOWN) + 1))
    columns = [TEMPERATURES.index(t) for t in SHOWN]
    for name, test in groups:
        group = [curve for curve in curves if test(curve)]
        if not group:
            continue
        for word, middle in (("mean", np.mean), ("median", np.median)):
            cells = [_macro(group, _lost(lost, k), middle) for k in columns]
            cells.append(_macro(group, lambda c: lost[id(c)][1], middle))
            rows.append(f"| {name} | {len(group)} | {word} | {' | '.join(f'{cell:.2f}' for cell in cells)} |")
    return rows


def _lost(lost: Losses, k: int) -> Callable[[Curve], float]:
    return lambda curve: float(lost[id(curve)][0][k])


def _macro(curves: Sequence[Curve], value: Callable[[Curve], float], middle: Callable[[Array], np.floating]) -> float:
    return float(np.mean([middle(part) for part in by_source(curves, value).values()]))


SECTION = """{begin}
## What the runs say
{n_curves} complete curves ({parts}), {n_runs:,} runs, {n_teachers} teachers, {n_failed} failed runs;
{incomplete:,} more runs belong to curves that are not complete yet and count nowhere. Accuracy is that of the test
split; differences are paired by seed. A frozen source would not be among them.

**In short**: the first question is whether a student can follow its teacher's logits, in its steps and at its
learning rate. Where students learned their task at every temperature ({n_followed} curves), T=1 loses {followed_1}
points on average and T=4 {followed_4}; where at some temperature they did not, T=1 loses {lost_1} and T=4 {lost_4}.

**Best temperature** (top of the curve smoothed over 0.4 octaves), number of curves:
{best}.
Teachers at least 5 points ahead of their student without KD: {best_ahead}. Others: {best_behind}.
In {n_tall} of {n_curves} curves the height, best less worst temperature, exceeds twice its paired standard error.
In {n_harmed} of {n_curves} curves no temperature beats training without KD; in {n_weak} of these the teacher is no
better than the student without KD. Gain at T=4 over no KD, clipped at 10 points: {gain_short} under {short} steps,
{gain_long} from there on.

**Read this first: one learning rate serves all temperatures of a curve.** In {n_unlearned} of {n_curves} curves some
temperature costs more than 10 points against no KD on the training images and on the test images alike; in
{unlearned_high} of them T=40 does, in {unlearned_low} T=1 does. Those students have not learned their task in the
steps they had. Looked into on the ten of them from digits and Fashion-MNIST (8 seeds that are in no suite, validation
accuracy, rates times 1, 0.3, 0.1, 0.03; higher ones not tried): in four, all SGD with T², a third or a tenth of the
rate lifts T=40, from 13, 20, 36 and 9 % to 41, 45, 66 and 14 %, so the rate was too high for that temperature; yet
T=1 at its own best rate stays ahead with 63, 68, 72 and 40 %. In the other six a lower rate is worse at T=40 or
changes nothing: they have 10 to 160 steps, which may be too few for what high temperatures ask, or no T².

### What a fixed temperature loses
Points of accuracy against the best temperature, cross-fitted: the best is chosen on half of the seeds by the smoothed
curve, both are scored on the other half, {splits} splits, both ways. Mean or median over the curves of a source, then
the mean over sources. A perfect advisor scores a little below zero here, since the choice on half of the seeds is not
perfect: that is the floor. Halves share teacher, split and test images, so this speaks of seeds, not of new data.

{regrets}

### What they say about the study's findings
*Tilt* is the mean accuracy at T of 12 to 40 less that at 2 to 4; values of a curve are clipped at 10 points, so that
a few collapses do not decide. Curves with T² and at least {short} steps, but for the rows on duration, which take all
lengths. Groups are compared within a source, then averaged over sources where both have two curves or more; the error
is over curves. *Confirmed* and *contradicted* mean beyond three such errors. The contrasts and the {short} steps were
chosen after seeing some of the data, and there are more than a dozen: all of this is exploratory. Curves of a source
share images and teachers, so the errors are rather too small.

{findings}

{plots}
{end}"""


def section(curves: Sequence[Curve], incomplete: int, plots: Sequence[str]) -> str:
    """Return the section of the data card."""
    sources = Counter(str(curve.run.source) for curve in curves)
    lost = losses(curves)
    ahead = [curve for curve in curves if _ahead(curve) >= AHEAD]
    behind = [curve for curve in curves if _ahead(curve) < AHEAD]
    harmed = [curve for curve in curves if (SMOOTHER @ curve.gain.mean(0)).max() < 0]
    gains = [macro([c for c in curves if test(c)], gain_at_4) for test in (_short, _long)]
    gain_short, gain_long = (f"{mean:+.2f} ± {error:.2f}" for mean, error in gains)
    groups: tuple[tuple[str, Test], ...] = (
        ("all", _everywhere),
        (f"under {SHORT} steps", _short),
        (f"{SHORT} steps and more", _long),
        ("those, with T²", lambda curve: _long(curve) and _t_squared(curve)),
        ("teacher ahead by 5 points or more", lambda curve: _ahead(curve) >= AHEAD),
        ("teacher ahead by less", lambda curve: _ahead(curve) < AHEAD),
        ("learned at every T", _followed),
        ("not learned at some T", lambda curve: not _followed(curve)),
    )
    return SECTION.format(
        begin=BEGIN,
        end=END,
        n_curves=len(curves),
        parts=", ".join(f"{name} {n}" for name, n in sorted(sources.items())),
        n_runs=sum(curve.accuracy.size + len(curve.without) for curve in curves),
        n_teachers=len({curve.run.teacher_hash for curve in curves}),
        n_failed=sum(curve.n_failed for curve in curves),
        incomplete=incomplete,
        best=_best_counts(curves),
        best_ahead=_best_counts(ahead),
        best_behind=_best_counts(behind),
        n_tall=sum(map(_tall, curves)),
        n_harmed=len(harmed),
        n_weak=sum((curve.run.teacher_test_accuracy or 0) <= curve.without.mean() for curve in harmed),
        n_unlearned=sum(bool(curve.unlearned.any()) for curve in curves),
        unlearned_high=sum(bool(curve.unlearned[-1]) for curve in curves),
        unlearned_low=sum(bool(curve.unlearned[0]) for curve in curves),
        gain_short=gain_short,
        gain_long=gain_long,
        short=SHORT,
        splits=SPLITS,
        regrets="\n".join(regret_rows(curves, lost, groups)),
        n_followed=sum(map(_followed, curves)),
        **{
            f"{name}_{t}": f"{_macro(part, _lost(lost, TEMPERATURES.index(t)), np.mean):.2f}" if part else "none"
            for name, part in (
                ("followed", [curve for curve in curves if _followed(curve)]),
                ("lost", [curve for curve in curves if not _followed(curve)]),
            )
            for t in (1, 4)
        },
        findings="\n".join(finding_rows(curves)),
        plots="\n\n".join(f"![Curves of {name}](plots/{name}.svg)" for name in plots),
    )


def _best_counts(curves: Sequence[Curve]) -> str:
    counts = Counter(curve.best for curve in curves)
    return ", ".join(f"T={t:g} {counts[t]}" for t in TEMPERATURES if counts[t])


def _tall(curve: Curve) -> bool:
    """Return whether best and worst temperature of half of the seeds differ by two standard errors on the others."""
    half = len(curve.gain) // 2
    smooth = SMOOTHER @ curve.gain[:half].mean(0)
    each = curve.gain[half:, int(np.argmax(smooth))] - curve.gain[half:, int(np.argmin(smooth))]
    return bool(each.mean() > 2 * each.std(ddof=1) / len(each) ** 0.5)


def _followed(curve: Curve) -> bool:
    return not curve.unlearned.any()


def _short(curve: Curve) -> bool:
    return curve.steps < SHORT


def _long(curve: Curve) -> bool:
    return curve.steps >= SHORT


def put(card: str, text: str) -> str:
    """Return the data card with `text` between the markers, or at its end."""
    before, found, rest = card.partition(BEGIN)
    after = rest.partition(END)[2] if found else "\n"
    return f"{before.rstrip()}\n\n{text}{after}"


def main() -> int:
    """Read the runs, write plots, section and tally."""
    files = [path for path in sorted((KNOWLEDGE / "runs").glob("*.csv")) if not path.name.startswith("frozen")]
    curves, incomplete = read_curves(files)
    suites = sorted({str(curve.run.suite) for curve in curves})
    (KNOWLEDGE / "plots").mkdir(exist_ok=True)
    for name in suites:
        own = [curve for curve in curves if curve.run.suite == name]
        (KNOWLEDGE / "plots" / f"{name}.svg").write_text(draw(name, own), encoding="utf-8")
    card = KNOWLEDGE / "README.md"
    card.write_text(put(card.read_text(encoding="utf-8"), section(curves, incomplete, suites)), encoding="utf-8")
    book = load_rules()
    save_standings(KNOWLEDGE / "standing.json", tally(curves, book), book)
    return 0


if __name__ == "__main__":
    sys.exit(main())
