"""Draw the curves of a suite as small multiples: one SVG, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tempadvisor.curves import LOG_T, TEMPERATURES, Curve

COLUMNS, WIDTH, HEIGHT, MARGIN = 4, 224, 140, 12
STYLE = """
text { font: 9px system-ui, sans-serif; fill: #444 } .title { font-size: 13px; font-weight: 600 }
.name { font-weight: 600 } .axis { stroke: #999; stroke-width: 1; fill: none } .zero { stroke-dasharray: 3 2 }
.line { stroke: #2878b5; stroke-width: 1.5; fill: none } .bar { stroke: #2878b5; stroke-width: 1 }
.dot { fill: #2878b5 } .harm { fill: #d1495b } .best { stroke: #222; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) { text { fill: #ccc } .line, .bar { stroke: #6db3e8 } .dot { fill: #6db3e8 }
.harm { fill: #f08a97 } .best { stroke: #fff } }
"""


def draw(name: str, curves: Sequence[Curve]) -> str:
    """Return the SVG of a suite: gain over no KD against T, the shortest training first."""
    ordered = sorted(curves, key=lambda curve: (curve.steps, str(curve.run.curve)))
    rows = -(-len(ordered) // COLUMNS)
    width, height = COLUMNS * WIDTH + 2 * MARGIN, rows * HEIGHT + 46
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="{MARGIN}" y="18">{name}: accuracy over no KD, in points, against T</text>',
        f'<text x="{MARGIN}" y="32">Bars: one standard error, paired over {len(ordered[0].gain)} seeds. '
        "Red: below no KD. Ringed: top of the smoothed curve. Fewest steps first; each panel has its scale.</text>",
    ]
    for i, curve in enumerate(ordered):
        x, y = MARGIN + i % COLUMNS * WIDTH, 46 + i // COLUMNS * HEIGHT
        parts.append(f'<g transform="translate({x} {y})">{_panel(curve)}</g>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(curve: Curve) -> str:
    setup, run = curve.run.setup, curve.run
    gain = 100 * curve.gain.mean(0)
    error = 100 * curve.gain.std(0, ddof=1) / len(curve.gain) ** 0.5
    low, high = min(0.0, float((gain - error).min())), max(0.0, float((gain + error).max()))
    span = max(high - low, 0.5)
    left, right, top, bottom = 30, WIDTH - 14, 40, HEIGHT - 20

    def across(log_t: float) -> float:
        return left + 4 + (right - left - 8) * log_t / float(LOG_T[-1])

    def up(value: float) -> float:
        return bottom - (bottom - top) * (value - low) / span

    dataset = str(run.dataset).removeprefix("sklearn/").removeprefix("glyphs/")
    extra = "".join(
        f", {text}"
        for text, there in (
            (f"noise {setup.label_noise or 0:g}", setup.label_noise),
            (str(setup.augmentation), setup.augmentation not in (None, "none")),
            ("no T²", setup.t_squared is False),
            (f"logits x{run.teacher_logit_scale or 1:g}", run.teacher_logit_scale not in (None, 1.0)),
            ("target init", setup.student_init == "target"),
        )
        if there
    )
    recipe = f"{setup.optimizer} {setup.lr:g}, {setup.epochs} ep, n {setup.n_train}, {curve.steps} steps"
    parts = [
        f'<text class="name" x="0" y="9">{dataset}: {setup.student} from {run.teacher}</text>',
        f'<text x="0" y="20">{recipe}</text>',
        f'<text x="0" y="31">KD weight {setup.kd_weight:g}{extra}</text>',
        f'<path class="axis" d="M{left} {top}V{bottom}H{right}"/>',
        f'<path class="axis zero" d="M{left} {up(0):.1f}H{right}"/>',
    ]
    parts += [
        f'<text x="{left - 3}" y="{up(value) + 3:.1f}" text-anchor="end">{value:+.1f}</text>'
        for value in {low: 0, high: 0}
        if abs(value) > 0.05
    ]
    parts += [
        f'<text x="{across(float(np.log2(t))):.1f}" y="{bottom + 11}" text-anchor="middle">{t}</text>'
        for t in (1, 2, 4, 8, 16, 40)
    ]
    points = [(across(float(log_t)), up(float(value))) for log_t, value in zip(LOG_T, gain, strict=True)]
    parts.append(f'<polyline class="line" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
    for (x, y), e, value, t in zip(points, error, gain, TEMPERATURES, strict=True):
        reach = float(e) * (bottom - top) / span
        kind = f"{'dot' if value >= 0 else 'harm'}{' best' if t == curve.best else ''}"
        parts.append(f'<path class="bar" d="M{x:.1f} {y - reach:.1f}V{y + reach:.1f}"/>')
        parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{3.2 if t == curve.best else 2}"/>')
    return "".join(parts)
