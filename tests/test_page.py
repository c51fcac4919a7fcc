"""The page in a real browser: what it shows, and how it answers to keyboard, phone, dark and paper.

The browser is Debian's Chromium, as `browser.py` says.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, DRIVER, Browser, browser
from test_report import EVIL, verified

from tempadvisor.advise import recommend
from tempadvisor.exhibits import Exhibits, Reservoir
from tempadvisor.export import FORMATS, export
from tempadvisor.measures import softmax_entropy
from tempadvisor.profiling import profile
from tempadvisor.records import Recommendation, TrainingSetup
from tempadvisor.report import page
from tempadvisor.settings import settings
from tempadvisor.teachers import demo_profile

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed"),
]
FRAME_MS = 16

CONTRAST = """
const light = (text) => text.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
  .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const color = getComputedStyle(at).backgroundColor;
    if (!/, 0\\)$/.test(color)) return color;
  }
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !element.getClientRects().length) continue;
  const style = getComputedStyle(element);
  const color = element instanceof SVGElement ? style.fill : style.color;
  const [a, b] = [light(color), light(behind(element))].sort((x, y) => y - x);
  found.push([(a + 0.05) / (b + 0.05), walker.currentNode.data.trim().slice(0, 40)]);
}
return found;
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture(autouse=True)
def reset(chromium: Browser) -> None:
    chromium.resize(1200)
    chromium.scheme("light")


@pytest.fixture(scope="module")
def exhibits() -> Exhibits:
    reservoir = Reservoir()
    demo_profile(reservoir)
    found = reservoir.exhibits()
    assert found is not None
    return dataclasses.replace(
        found, class_names=("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    )


@pytest.fixture(scope="module")
def advice() -> Recommendation:
    return recommend(demo_profile(), TrainingSetup(optimizer="sgd", epochs=60, kd_weight=0.9))


@pytest.fixture
def demo(tmp_path: Path, advice: Recommendation, exhibits: Exhibits) -> Path:
    path = tmp_path / "page.html"
    path.write_text(page(advice, exhibits=exhibits), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of a teacher of 1,000 classes in 100 families, with long names."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(1000, 32)) + 1.6 * rng.normal(size=(100, 32)).repeat(10, 0)
    labels = rng.integers(0, 1000, 6500)
    inputs = centers[labels] + 0.55 * rng.normal(size=(6500, 32))
    logits = 0.5 * (inputs @ centers.T - (centers**2).sum(1) / 2)
    reservoir = Reservoir()
    measured = profile(logits.astype(np.float32), labels, logits_from="train", reservoir=reservoir)
    reservoir.class_names = tuple(
        f"family {i // 10}, member {i}, and a long name in Latin beside it" for i in range(1000)
    )
    path = tmp_path_factory.mktemp("thousand") / "page.html"
    path.write_text(
        page(recommend(measured, TrainingSetup(optimizer="sgd")), exhibits=reservoir.exhibits()), encoding="utf-8"
    )
    return path


def quiet(chromium: Browser, path: Path) -> bool:
    """Tell whether a page asked for nothing but itself, and complained of nothing."""
    asked = [url for url in chromium.requests() if url != "data:,"]  # the icon, which is none
    return asked == [path.resolve().as_uri()] and chromium.logs("browser") == []


def percent(value: float) -> str:
    """Write a share as the page does."""
    if value > 0.9995:
        return "> 99.9 %"
    if value < 0.0005:
        return "< 0.1 %"
    return f"{100 * value:.{1 if value < 0.0995 or value > 0.99 else 0}f} %"


def shown_rows(chromium: Browser, sample: int) -> dict[str, str]:
    """Return the names and shares that a sample's card shows."""
    rows = chromium.run(
        "return [...document.querySelectorAll('.sample')[arguments[0]].querySelectorAll('li')]"
        ".map((row) => [row.children[0].textContent, row.children[2].textContent])",
        sample,
    )
    return dict(rows)


def test_it_loads_nothing_and_logs_nothing(chromium: Browser, demo: Path) -> None:
    chromium.open(demo)
    assert quiet(chromium, demo)
    assert chromium.run("return document.documentElement.lang") == "en"


def test_the_slider_starts_at_the_advised_temperature_and_follows_the_keyboard(
    chromium: Browser, demo: Path, advice: Recommendation
) -> None:
    chromium.open(demo)
    assert chromium.text("#shown") == f"{advice.temperature:.3g}"
    chromium.press("#t", "home")
    assert chromium.text("#shown") == "0.5"
    chromium.press("#t", *["right"] * 24)  # an octave
    assert chromium.text("#shown") == "1"
    chromium.press("#t", "end")
    assert chromium.text("#shown") == "64"
    assert chromium.text("#entropy").endswith(" %")
    told = chromium.run("return document.getElementById('t').getAttribute('aria-valuetext')")
    assert re.fullmatch(
        r"T = 64, mean entropy \S+ % of its maximum, top class \S+ %, accuracy .+ against the best", told
    )


@pytest.mark.parametrize("octaves", [0, 1, 3, 5])
def test_what_samples_show_is_numpys_softmax_and_entropy(
    chromium: Browser, demo: Path, exhibits: Exhibits, octaves: int
) -> None:
    temperature = 0.5 * 2.0**octaves
    chromium.open(demo).press("#t", "home", *["right"] * (24 * octaves))
    for i, sample in enumerate(exhibits.samples):
        z = np.array([sample.logits])
        p = np.exp(z[0] / temperature) / np.exp(z[0] / temperature).sum()
        entropy = float(softmax_entropy(z, temperature)[0])
        told = chromium.text(f".sample:nth-child({i + 1}) p")
        assert told == f"entropy {entropy:.3f} nats, {percent(entropy / math.log(10))} of its maximum"
        rows = shown_rows(chromium, i)
        others = rows.pop(next(name for name in rows if name.endswith(" others")))
        assert exhibits.class_names is not None
        assert rows == {name: percent(p[exhibits.class_names.index(name)]) for name in rows}
        assert others == percent(1 - sum(p[exhibits.class_names.index(name)] for name in rows))
        assert sample.label is None or exhibits.class_names[sample.label] in rows


def test_the_readings_are_the_curves_values(chromium: Browser, demo: Path, advice: Recommendation) -> None:
    assert advice.profile is not None
    chromium.open(demo).click('[data-jump="4.0"]')
    assert chromium.text("#shown") == "4"
    entropy = advice.profile.curve_at(4.0, advice.profile.entropy_nats) / math.log(10)
    assert chromium.text("#entropy") == percent(entropy)
    assert chromium.text("#top") == percent(advice.profile.curve_at(4.0, advice.profile.top1_probability))
    (point,) = (one for one in advice.curve if one.temperature == 4)
    assert chromium.text("#accuracy").replace("−", "-") == f"{100 * point.mean:.1f} ± {100 * point.std:.1f}"
    line = chromium.run("return document.querySelector('.follows line.now').getAttribute('x1')")
    assert line == f"{100 * 3 / 7:.3f}%"  # 4 is three of the seven octaves from 0.5 to 64


def test_classes_alike_follow_the_slider_and_can_be_found(chromium: Browser, demo: Path, exhibits: Exhibits) -> None:
    chromium.open(demo).click('[data-jump="4.0"]')
    assert exhibits.alike is not None
    assert exhibits.alike.distances is not None
    assert exhibits.class_names is not None
    distances = np.array(exhibits.alike.distances)
    i, j = np.unravel_index(np.argmin(distances + 1e9 * np.eye(10)), distances.shape)
    first = chromium.text("#pairs li").split("\n")
    assert first[0] == f"{exhibits.class_names[i]} – {exhibits.class_names[j]}"
    assert first[-1] == percent(float(np.exp(-distances[i, j] / 4)))
    chromium.press("#find", "seV")
    assert chromium.text("#found h4") == "seven"
    assert chromium.run("return document.querySelectorAll('#found li').length") == 8
    chromium.press("#find", "zzz")
    assert chromium.text("#found") == "No class is called so."
    pixel = (
        "const context = document.querySelector('canvas').getContext('2d');"
        "return [...context.getImageData(arguments[0], 0, 1, 1).data]"
    )
    far = int(np.argmax(distances[exhibits.alike.order[0]][list(exhibits.alike.order)]))
    cold = chromium.run(pixel, far)
    chromium.press("#t", "end")
    assert cold != chromium.run(pixel, far)


def test_a_screen_reader_finds_a_name_for_whatever_can_be_used(chromium: Browser, demo: Path) -> None:
    chromium.open(demo)
    nodes = chromium.emulate("Accessibility.getFullAXTree")["nodes"]
    used = {"slider", "button", "link", "searchbox", "image", "img", "heading"}
    named = [
        (n["role"]["value"], n.get("name", {}).get("value", ""))
        for n in nodes
        if n.get("role", {}).get("value") in used
    ]
    assert all(name for _, name in named), named
    assert {role for role, _ in named} >= {"slider", "button", "link", "searchbox", "heading"}
    assert [name for role, name in named if role == "slider"] == [
        "Temperature, on a logarithmic scale from 0.5 to 64"
    ]
    levels = chromium.run("return [...document.querySelectorAll('h1, h2, h3, h4')].map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_the_contrast_of_wcag_aa(
    chromium: Browser, tmp_path: Path, advice: Recommendation, exhibits: Exhibits, scheme: str
) -> None:
    path = tmp_path / "page.html"
    path.write_text(page(verified(advice), exhibits=exhibits), encoding="utf-8")
    chromium.scheme(scheme)
    chromium.open(path).run("for (const one of document.querySelectorAll('details')) one.open = true")
    ratios = chromium.run(CONTRAST)
    assert len(ratios) > 200
    assert min(ratios)[0] >= 4.5, min(ratios)
    ink = chromium.run("return getComputedStyle(document.body).color")
    assert ("rgb(3" in ink) == (scheme == "light")


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_phone_shows_it_without_scrolling_sideways(
    chromium: Browser, tmp_path: Path, advice: Recommendation, exhibits: Exhibits, thousand: Path, width: int
) -> None:
    chromium.resize(width)
    path = tmp_path / "page.html"
    path.write_text(page(verified(advice), exhibits=exhibits), encoding="utf-8")
    for one in (path, thousand):
        chromium.open(one).run("for (const one of document.querySelectorAll('details')) one.open = true")
        assert chromium.run("return document.documentElement.scrollWidth") <= width


def test_names_with_markup_and_escape_codes_are_shown_and_not_run(
    chromium: Browser, tmp_path: Path, advice: Recommendation, exhibits: Exhibits
) -> None:
    assert advice.profile is not None
    path = tmp_path / "page.html"
    evil = dataclasses.replace(advice, profile=dataclasses.replace(advice.profile, teacher=" ".join(EVIL[:3])))
    path.write_text(page(evil, exhibits=dataclasses.replace(exhibits, class_names=EVIL)), encoding="utf-8")
    chromium.open(path).press("#find", "s")
    assert quiet(chromium, path)
    assert (
        chromium.run(
            "return document.querySelectorAll('img, script:not([id]) ~ script, [onerror], [onmouseover]').length"
        )
        == 0
    )
    body = chromium.text("body")
    for name in (*EVIL[:2], "\\x1b[2J\\x1b]0;gone\\x07"):
        assert name in body
    assert "\x1b" not in body


def test_its_policy_stops_a_script_that_was_smuggled_in(chromium: Browser, demo: Path) -> None:
    smuggled = "<script>window.bad = 1</script><b id=b onclick='window.bad = 1'>b</b></main>"
    demo.write_text(demo.read_text(encoding="utf-8").replace("</main>", smuggled), encoding="utf-8")
    chromium.open(demo).click("#b")
    assert chromium.run("return window.bad === undefined")
    assert chromium.text("#shown") != ""


def test_a_copy_button_copies_its_settings_as_they_are(
    chromium: Browser, tmp_path: Path, advice: Recommendation
) -> None:
    path = tmp_path / "page.html"
    path.write_text(page(advice), encoding="utf-8")
    chromium.open(path)
    chromium.emulate("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    for number, form in enumerate(FORMATS, 2):  # below the flags of tempadvisor
        text = export(settings(advice), form).text
        chromium.run(f"document.querySelectorAll('details')[{number - 1}].open = true")
        chromium.click(f".exports details:nth-child({number}) button")
        assert chromium.run("return navigator.clipboard.readText()") == text
        assert chromium.text(f".exports details:nth-child({number}) button") == "Copied"


def test_a_browser_that_gives_no_clipboard_copies_the_old_way(chromium: Browser, demo: Path) -> None:
    chromium.open(demo).run("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    chromium.click(".exports button")
    assert chromium.text(".exports button") == "Copied"
    assert chromium.run("return getSelection().toString()").startswith("--kd-weight 0.9 --hard-weight 0.1 ")


def test_paper_shows_the_advised_temperature_wherever_the_slider_stands(
    chromium: Browser, demo: Path, advice: Recommendation, tmp_path: Path
) -> None:
    chromium.scheme("dark")
    chromium.open(demo).click('[data-jump="1.0"]')
    chromium.run(
        "addEventListener('beforeprint', () => {window.printed = document.querySelector('#shown').textContent; })"
    )
    chromium.pdf(tmp_path / "page.pdf")
    assert chromium.run("return window.printed") == f"{advice.temperature:.3g}"
    assert chromium.text("#shown") == "1"
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    chromium.emulate("Emulation.setEmulatedMedia", media="print")
    assert chromium.run("return [...document.querySelectorAll('button, input')].every((one) => !one.offsetParent)")


def test_without_scripts_the_essentials_can_be_read(demo: Path, advice: Recommendation, tmp_path: Path) -> None:
    with browser(tmp_path, scripts=False) as still:
        still.open(demo)
        body = still.text("body").replace("\xa0", " ")
        assert advice.headline in body
        assert "--kd-weight 0.9" in body
        assert "need JavaScript" in body
        assert "Move the slider" not in body
        height = "return document.querySelector('.plot.tall').getBoundingClientRect().height"
        assert still.run(height) > 100


def test_a_thousand_classes_are_small_and_follow_the_slider_within_a_frame(chromium: Browser, thousand: Path) -> None:
    assert thousand.stat().st_size < 3_000_000
    chromium.open(thousand)
    assert quiet(chromium, thousand)
    chromium.press("#find", "family 7,")
    times: list[float] = chromium.run(
        "const slider = document.getElementById('t'); const times = [];"
        "for (let i = 0; i <= 168; i++) {"
        "const began = performance.now(); slider.value = i; slider.dispatchEvent(new Event('input'));"
        "document.body.offsetHeight; times.push(performance.now() - began); }"
        "return times;"
    )
    assert float(np.median(times)) < FRAME_MS
    assert chromium.run("return document.querySelectorAll('#found h4').length") == 5
    assert "The first 5 of 10 classes found." in chromium.text("#found")


def test_the_script_has_no_syntax_that_needs_a_module_or_a_build() -> None:
    script = (Path(__file__).parent.parent / "tempadvisor" / "page" / "page.js").read_text(encoding="utf-8")
    assert not re.search(r"^\s*(import|export)\b", script, flags=re.M)


def test_the_verification_draws_its_points_where_they_belong(
    chromium: Browser, tmp_path: Path, advice: Recommendation
) -> None:
    path = tmp_path / "page.html"
    path.write_text(page(verified(advice)), encoding="utf-8")
    chromium.open(path)
    dots = chromium.run(
        "return [...document.querySelectorAll('section .plot .dot')].map((d) => [parseFloat(d.getAttribute('cx')),"
        "parseFloat(d.getAttribute('cy')), d.getBoundingClientRect().left])"
    )
    assert len(dots) == 4
    assert dots == sorted(dots)
    assert dots[0][1] > dots[1][1] > dots[3][1]  # 1 is worse than the advised one, 8 better
    assert json.loads(chromium.run("return document.getElementById('data').textContent"))["start"] == 8
