"""Draw a verification as one SVG, readable on light and dark pages: accuracy over temperature, before and after."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from xml.sax.saxutils import escape

from tempadvisor.errors import one_line
from tempadvisor.temperatures import written
from tempadvisor.verification import Rung, Verification

Scale = Callable[[float], float]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 412, 56, 16, 114, 40
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #444 } .title { font-size: 15px; font-weight: 600; fill: #222 }
.axis { stroke: #999; fill: none } .zero { stroke-dasharray: 4 3 }
.prior { stroke: #999; stroke-width: 2; fill: none }
.bar { stroke: #2878b5; stroke-width: 2 } .dot { fill: #2878b5 } .expected { fill: none; stroke: #2878b5 }
.use { stroke: #d1495b; stroke-width: 1.5; stroke-dasharray: 2 3 }
@media (prefers-color-scheme: dark) { text { fill: #ccc } .title { fill: #eee } .bar { stroke: #6db3e8 }
.dot { fill: #6db3e8 } .expected { stroke: #6db3e8 } }
"""


def verification_svg(found: Verification) -> str:
    """Return the SVG of a verification.

    Points and bars are what is believed of each temperature after the trainings, accuracy over that at the
    recommended one with its 95 % interval, on the validation split; the line is what was expected before.
    """
    curve = found.curve
    shown = [rung for rung in curve if rung.n_seeds] or list(curve)
    low = min(-0.005, *(rung.ci95[0] for rung in shown), *(rung.prior for rung in curve))
    high = max(0.005, *(rung.ci95[1] for rung in shown), *(rung.prior for rung in curve))
    logs = [math.log2(rung.temperature) for rung in curve]

    def x(temperature: float) -> float:
        share = (math.log2(temperature) - logs[0]) / (logs[-1] - logs[0])
        return round(LEFT + 12 + share * (WIDTH - LEFT - RIGHT - 24), 1)

    def y(value: float) -> float:
        return round(TOP + (high - min(max(value, low), high)) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    headline = one_line(found.headline)
    here, recommended = x(found.temperature), found.recommendation.temperature
    prior = " ".join(f"{x(rung.temperature)},{y(rung.prior)}" for rung in curve)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="{escape(headline, {chr(34): "&quot;"})}">',
        f"<style>{STYLE}</style>",
        *(
            f'<text class="title" x="{LEFT - 40}" y="{22 + 18 * i}">{escape(line)}</text>'
            for i, line in enumerate(textwrap.wrap(headline, 80)[:3])
        ),
        f'<text x="{LEFT - 40}" y="72">Validation accuracy over that at T={written(recommended)}, in points, '
        "with 95 % intervals;</text>",
        f'<text x="{LEFT - 40}" y="87">hollow where none was trained; gray line: expected before; '
        "red: the temperature to use</text>",
        *_axes(curve, low, high, x, y),
        f'<polyline class="prior" points="{prior}"/>',
        f'<line class="use" x1="{here}" x2="{here}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>',
        *_points(curve, x, y),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _axes(curve: Sequence[Rung], low: float, high: float, x: Scale, y: Scale) -> list[str]:
    step = next(step for step in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if (high - low) / step <= 8)
    ticks = [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    lines = [f'<line class="axis zero" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(0)}" y2="{y(0)}"/>']
    lines += [
        f'<text x="{LEFT - 8}" y="{y(t) + 4}" text-anchor="end">{f"{100 * t:+.1f}" if t else "0"}</text>'
        for t in ticks
    ]
    below = f'y="{HEIGHT - BOTTOM + 18}" text-anchor="middle"'
    lines += [f'<text x="{x(rung.temperature)}" {below}>{written(rung.temperature)}</text>' for rung in curve]
    return [*lines, f'<text x="{WIDTH // 2}" y="{HEIGHT - 6}" text-anchor="middle">temperature</text>']


def _points(curve: Sequence[Rung], x: Scale, y: Scale) -> list[str]:
    drawn = []
    for rung in curve:
        here = x(rung.temperature)
        if rung.n_seeds:
            ends = f'y1="{y(rung.ci95[0])}" y2="{y(rung.ci95[1])}"'
            drawn.append(f'<line class="bar" x1="{here}" x2="{here}" {ends}/>')
        kind = "dot" if rung.n_seeds else "expected"
        drawn.append(
            f'<circle class="{kind}" cx="{here}" cy="{y(rung.mean)}" r="4">'
            f"<title>T={written(rung.temperature)}: {100 * rung.mean:+.2f} pp, n={rung.n_seeds}</title></circle>"
        )
    return drawn
