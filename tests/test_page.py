"""The page in a real browser: what it shows, and how it answers to keyboard, phone, dark and paper.

The browser is Debian's Chromium, as `browser.py` says.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, DRIVER, Browser, browser
from PIL import Image
from test_report import EVIL, soft, verified

from tempadvisor.advise import recommend
from tempadvisor.exhibits import Exhibits, Reservoir
from tempadvisor.export import FORMATS, export
from tempadvisor.measures import softmax_entropy
from tempadvisor.profiling import profile
from tempadvisor.records import Recommendation, TrainingSetup
from tempadvisor.report import page
from tempadvisor.settings import settings
from tempadvisor.teachers import demo_profile
from tempadvisor.temperatures import written
from tempadvisor.verification import Rung, Verification

__all__ = ["soft"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed"),
]
FRAME_MS = 16
PDFTOPPM = shutil.which("pdftoppm")

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


def tried(advice: Recommendation) -> Verification:
    """Return a verification with as many temperatures as the demo's."""
    rungs = tuple(
        Rung(temperature=t, n_seeds=2, measured=-0.01, prior=-0.01, mean=-0.01, ci95=(-0.02, 0.01))
        for t in (1.0, advice.temperature, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 40.0)
    )
    return dataclasses.replace(verified(advice), curve=rungs)


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
    assert re.fullmatch(r"T = 64, mean entropy \S+ % of its maximum, top class \S+ %, accuracy not known", told)
    chromium.click('[data-jump="4.0"]')
    told = chromium.run("return document.getElementById('t').getAttribute('aria-valuetext')")
    assert re.fullmatch(
        r"T = 4, mean entropy \S+ % of its maximum, top class \S+ %, accuracy .+ against the best", told
    )


@pytest.mark.parametrize("width", [320, 1200])
@pytest.mark.parametrize("temperature", [None, 0.175, 120.0])
def test_slider_band_and_marks_reach_a_temperature_beyond_the_usual_and_agree_where_it_is(
    chromium: Browser, tmp_path: Path, soft: Recommendation, temperature: float | None, width: int
) -> None:
    path = tmp_path / "page.html"
    told = soft if temperature is None else dataclasses.replace(soft, temperature=temperature)
    path.write_text(page(told), encoding="utf-8")
    chromium.resize(width)
    chromium.open(path)
    assert chromium.text("#shown") == f"{told.temperature:g}"
    places = chromium.run(
        "const middle = (one) => { const box = one.getBoundingClientRect(); return (box.left + box.right) / 2; };"
        "const slider = document.getElementById('t'), rail = document.querySelector('.rail').getBoundingClientRect();"
        "return [rail.left + rail.width * slider.value / slider.max,"
        " ...[...document.querySelectorAll('line.rec, .plot line.now')].map(middle)]"
    )
    assert len(places) == 6  # slider, its mark, and in each of two drawings the mark and the slider's line
    assert max(places) - min(places) < 2.5  # pixels; the slider has 24 steps an octave
    low, high = (float(str(chromium.run(f"return JSON.parse(data.textContent).{end}"))) for end in ("low", "high"))
    box = chromium.run(
        "const [near, rail] = ['.near', '.rail'].map((one) => document.querySelector(one).getBoundingClientRect());"
        "return [(near.left - rail.left) / rail.width, (near.right - rail.left) / rail.width]"
    )
    assert box == pytest.approx([math.log(end / low) / math.log(high / low) for end in told.interval], abs=1e-3)
    assert box[1] - box[0] > 0.1
    chromium.press("#t", "home")
    assert chromium.text("#shown") == f"{low:g}" == "0.125"
    chromium.press("#t", "end")
    assert chromium.text("#shown") == f"{high:g}" == ("128" if temperature == 120 else "64")


def test_what_is_not_known_is_not_shown(chromium: Browser, tmp_path: Path, soft: Recommendation) -> None:
    path = tmp_path / "page.html"
    path.write_text(page(soft), encoding="utf-8")
    hidden = "return getComputedStyle(document.querySelector('circle.now')).display === 'none'"
    chromium.open(path).press("#t", "home")
    assert [chromium.text(f"#{name}") for name in ("entropy", "top")] == ["?", "?"]  # measured from 0.5 on
    assert chromium.text("#accuracy") != "?"
    assert not chromium.run(hidden)
    chromium.press("#t", "end")
    assert chromium.text("#entropy").endswith(" %")
    assert chromium.text("#accuracy") == "?"  # nothing is expected above 40
    assert chromium.run(hidden)


@pytest.mark.parametrize("temperature", [3.45, 0.175, 2.05, 12.5, 1.125, 0.5, 64.0, 2 ** (1 / 24), 0.15625])
def test_the_script_spells_a_temperature_as_all_else_does(chromium: Browser, demo: Path, temperature: float) -> None:
    chromium.open(demo)
    shown = chromium.run(
        "const button = document.querySelector('[data-jump]'); button.dataset.jump = arguments[0]; button.click();"
        "return document.getElementById('shown').textContent",
        repr(temperature),
    )
    assert shown == written(temperature)


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_labels_do_not_touch_each_other(
    chromium: Browser, tmp_path: Path, soft: Recommendation, advice: Recommendation, width: int
) -> None:
    chromium.resize(width)
    near = verified(dataclasses.replace(advice, temperature=2.5), temperature=3.0)
    for i, record in enumerate((soft, near, dataclasses.replace(soft, temperature=120.0))):
        path = tmp_path / f"{i}.html"
        path.write_text(page(record), encoding="utf-8")
        rows = chromium.open(path).run(
            "return [...document.querySelectorAll('.plot')].map((plot) => [...plot.querySelectorAll(':scope > text')]"
            ".filter((text) => text.getAttribute('text-anchor') !== 'end' || text.getAttribute('class') !== 'tick')"
            ".map((text) => { const box = text.getBoundingClientRect(); return [Math.round(box.top), box.left,"
            " box.right, text.textContent]; }).filter(([, left, right]) => right > left))"
        )
        assert rows
        for plot in rows:
            for top in {row[0] for row in plot}:
                line = sorted(row[1:] for row in plot if row[0] == top)
                assert all(one[1] < other[0] for one, other in itertools.pairwise(line)), line
                assert line[0][0] >= 0
                assert line[-1][1] <= width


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


@pytest.mark.skipif(not PDFTOPPM, reason="pdftoppm of poppler-utils is not installed")
def test_no_page_of_paper_is_left_half_empty(
    chromium: Browser, tmp_path: Path, advice: Recommendation, exhibits: Exhibits, thousand: Path
) -> None:
    path = tmp_path / "page.html"
    path.write_text(page(tried(advice), exhibits=exhibits), encoding="utf-8")
    for one in (path, thousand):
        chromium.open(one).pdf(tmp_path / "page.pdf")
        command = [str(PDFTOPPM), "-r", "30", "-gray", str(tmp_path / "page.pdf"), str(tmp_path / one.parent.name)]
        subprocess.run(command, check=True)
        filled = []
        for sheet in sorted(tmp_path.glob(f"{one.parent.name}*.pgm")):
            ink = np.asarray(Image.open(sheet)) < 200
            filled.append(float(np.flatnonzero(ink.any(axis=1))[-1] / len(ink)))
        assert len(filled) >= 4
        assert min(filled[:-1]) > 0.62, filled


def test_paper_keeps_a_drawing_and_a_table_in_one_piece(
    chromium: Browser, tmp_path: Path, advice: Recommendation, exhibits: Exhibits
) -> None:
    path = tmp_path / "page.html"
    path.write_text(page(tried(advice), exhibits=exhibits), encoding="utf-8")
    chromium.open(path)
    chromium.emulate("Emulation.setEmulatedMedia", media="print")
    broken = chromium.run(
        "return [...document.querySelectorAll('.bar, .drawn, .plot, .tables, .facts, .sample, .alike, pre')]"
        ".filter((one) => getComputedStyle(one).breakInside !== 'avoid').map((one) => one.className)"
    )
    assert broken == []
    forced = chromium.run(
        "const breaks = (which, side) => [...document.querySelectorAll(which)].filter((one) =>"
        " getComputedStyle(one)[side] !== 'auto').length;"
        "return breaks('section', 'breakBefore') + breaks('.side > h2', 'breakAfter')"
    )
    assert forced == 0
    chromium.emulate("Emulation.setEmulatedMedia", media="")


def test_two_classes_have_no_map_and_nothing_to_find(chromium: Browser, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    logits = rng.normal(size=(400, 2))
    logits[np.arange(400), labels] += 2.0
    reservoir = Reservoir()
    measured = profile(logits.astype(np.float32), labels, logits_from="train", reservoir=reservoir)
    reservoir.class_names = ("benign", "malignant")
    path = tmp_path / "page.html"
    answer = recommend(measured, TrainingSetup(optimizer="sgd"))
    path.write_text(page(answer, exhibits=reservoir.exhibits()), encoding="utf-8")
    chromium.resize(390)
    chromium.open(path)
    assert quiet(chromium, path)
    assert chromium.run("return document.querySelectorAll('#map, #pairs, #find').length") == 0
    body = chromium.text("body").replace("\xa0", " ")
    assert "what is left for the other class tells a student how sure the teacher is" in body
    assert {"benign", "malignant"} == set(shown_rows(chromium, 0))
    assert chromium.run("return document.querySelectorAll('.others').length") == 0
    assert chromium.run("return document.documentElement.scrollWidth") <= 390


def test_no_name_of_the_others_is_cut_where_there_are_a_thousand_classes(
    chromium: Browser, tmp_path: Path, soft: Recommendation
) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 1000, 2000)
    logits = rng.normal(size=(2000, 1000))
    logits[np.arange(2000), labels] += 5.0
    reservoir = Reservoir()
    reservoir.add(logits, labels)
    path = tmp_path / "page.html"
    path.write_text(page(soft, exhibits=reservoir.exhibits()), encoding="utf-8")
    chromium.resize(390)
    cut = chromium.open(path).run(
        "return [...document.querySelectorAll('.sample .name')].filter((one) => one.scrollWidth > one.clientWidth)"
        ".map((one) => one.textContent)"
    )
    assert cut == []


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
