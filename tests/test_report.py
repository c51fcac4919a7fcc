"""The page as a file: what it says, that it is whole, and that other people's text stays text in it."""

from __future__ import annotations

import dataclasses
import html
import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_cli import Run, refused, run

from tempadvisor import advise, charts, learned, render, render_verify, verification
from tempadvisor.advise import recommend
from tempadvisor.corpus import load_sources
from tempadvisor.exhibits import Exhibits, Reservoir
from tempadvisor.export import FORMATS, export
from tempadvisor.profiling import profile
from tempadvisor.records import Nearest, Notice, Recommendation, TrainingSetup
from tempadvisor.report import page
from tempadvisor.resources import demo_path
from tempadvisor.response import Response
from tempadvisor.search import Search
from tempadvisor.settings import settings
from tempadvisor.teachers import demo_profile
from tempadvisor.verification import Cost, Difference, Rung, Trial, Verification

__all__ = ["refused", "run"]

EVIL = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\x1b[2J\x1b]0;gone\x07",
    "a\u2028b\u202etxt",
    '" onmouseover="alert(1)',
    "$policy ${body}",
    "&lt;b&gt;",
    "\ud800",
    "x" * 300,
    "plain",
)

# What is typed, stored, or a name is exact: options, runs, settings, the loss in code, studies, rows of a table.
EXACT = {"audit.py", "cli.py", "contracts.py", "loss.py", "plans.py", "rivals.py", "settings.py", "store.py"}
VOID = {"meta", "link", "input", "br", "img"}


class Reader(HTMLParser):
    """Collects tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"]:
            self.scripts.append(data)
        elif self.open[-1:] != ["style"]:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    @property
    def data(self) -> Any:
        return json.loads(self.scripts[0])

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        found = [attrs for name, attrs in self.tags if name == tag]
        return [attrs for attrs in found if all(attrs.get(key) == value for key, value in attributes.items())]


@pytest.fixture(scope="module")
def exhibits() -> Exhibits:
    reservoir = Reservoir()
    demo_profile(reservoir)
    found = reservoir.exhibits()
    assert found is not None
    return found


@pytest.fixture(scope="module")
def advice() -> Recommendation:
    return recommend(demo_profile(), TrainingSetup(optimizer="sgd", epochs=300, kd_weight=0.1))


def verified(advice: Recommendation, temperature: float = 8.0) -> Verification:
    """Return a verification by hand: 8 better than the advised temperature on both of two seeds, 1 worse on one."""
    told = advice.temperature
    trials = [
        Trial(temperature=t, seed=seed, val_accuracy=value, seconds=1.0)
        for t, seed, value in (
            (told, 0, 0.80), (told, 1, 0.82), (8.0, 0, 0.83), (8.0, 1, 0.84), (1.0, 0, 0.77), (None, 0, 0.75),
        )
    ]  # fmt: skip
    rungs = ((1.0, 1, -0.03, -0.02), (told, 2, None, 0.0), (4.0, 0, None, 0.01), (8.0, 2, 0.025, 0.022))
    return Verification(
        temperature=temperature,
        verdict="better_found",
        headline="Better found: use T=8.",
        probability=0.97,
        n_val=800,
        rival=8.0,
        difference=Difference(mean=0.022, ci95=(0.004, 0.04)),
        curve=tuple(
            Rung(temperature=t, n_seeds=n, measured=m, prior=-0.01, mean=mean, ci95=(mean - 0.02, mean + 0.02))
            for t, n, m, mean in rungs
        ),
        trials=tuple(trials),
        cost=Cost(trainings=6, budget=10, epochs_each=5, student_epochs=30, seconds=6.0),
        test=verification.Test(
            n_test=500,
            accuracy=(
                verification.Tested(temperature=None, n=1, accuracy=0.76),
                verification.Tested(temperature=8.0, n=2, accuracy=0.81),
            ),
            over_recommended=None,
            over_no_kd=Difference(mean=-0.05, ci95=None),
            kd_may_hurt=True,
        ),
        loss_contract=advice.loss_contract,
        study="verify-x",
        storage="journal:///x",
        recommendation=advice,
        setup=advice.setup,
    )


@pytest.fixture(scope="module")
def soft() -> Recommendation:
    """Return the advice for a teacher so soft that temperatures below 0.5 are advised."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 200, 1500)
    logits = 0.1 * rng.normal(size=(1500, 200))
    logits[np.arange(1500), labels] += 0.5
    return recommend(profile(logits.astype(np.float32), labels), TrainingSetup(optimizer="sgd", epochs=60))


def harmless(found: Verification) -> Verification:
    """Return a verification in which KD hurts nothing."""
    return dataclasses.replace(found, test=dataclasses.replace(found.test, kd_may_hurt=False))


def read_headline(claim: verification.Claim, recommended: float, temperature: float) -> str:
    """Return the headline of a claim: 2.2 points over the recommended temperature."""
    prior = Response(np.array([4.0, 8.0]), np.zeros((4, 2)))
    search = Search(prior=prior, recommended=recommended, temperatures=(4.0, 8.0), cells={}, n_val=800, budget=10)
    return verification._headline(search, claim, temperature, 0.022, (0.004, 0.04), 0.97)


def slider(advice: Recommendation) -> dict[str, str | None]:
    """Return the attributes of a page's slider."""
    (found,) = Reader(page(advice)).all("input", type="range")
    return found


def number(percent: str | None) -> float:
    """Read a place in percent."""
    return float(str(percent).rstrip("%"))


class TestWords:
    def test_it_says_what_the_terminal_says(self, advice: Recommendation) -> None:
        words = Reader(page(advice)).words
        low, high = advice.interval
        for told in (advice.headline, f"T from {low:g} to {high:g}", *(one.text for one in advice.reasons)):
            assert told in words

    def test_reasons_link_to_their_sources(self, advice: Recommendation) -> None:
        links = {attrs["href"] for attrs in Reader(page(advice)).all("a")}
        urls = {str(load_sources()[one.source].url) for one in advice.reasons if one.source in load_sources()}
        assert links == {url for url in urls if url.startswith("http")}
        assert links

    def test_the_settings_are_there_word_for_word_in_each_format(self, advice: Recommendation) -> None:
        text = page(advice)
        for form in FORMATS:
            assert f"<pre>{html.escape(export(settings(advice), form).text.strip())}</pre>" in text.replace(
                "\n</pre>", "</pre>"
            )
        assert "<pre>--kd-weight 0.1 --hard-weight 0.9 --t-squared" in text

    def test_where_a_conversion_needs_a_teacher_the_page_says_so(self) -> None:
        words = Reader(page(recommend(None, TrainingSetup(optimizer="sgd", standardized=True)))).words
        assert "how wide the teacher's logits are" in words

    def test_a_profile_has_a_page_of_its_own_that_advises_nothing(self, exhibits: Exhibits) -> None:
        reader = Reader(page(demo_profile(), exhibits=exhibits))
        assert "Teacher profile" in reader.words
        assert "Advised" not in reader.words
        assert "curve" not in reader.data
        assert reader.data["start"] == 4

    def test_without_a_teacher_it_says_so_and_draws_the_accuracy_alone(self) -> None:
        reader = Reader(page(recommend(None, TrainingSetup(optimizer="sgd"))))
        assert "No teacher was seen" in reader.words
        assert len(reader.all("svg", **{"class": "plot tall"})) == 1
        assert reader.data.keys() == {"low", "high", "start", "curve"}

    def test_a_saved_profile_says_that_it_holds_no_samples(self, advice: Recommendation) -> None:
        reader = Reader(page(advice))
        assert "A saved profile holds no samples" in reader.words
        assert "samples" not in reader.data

    def test_it_does_not_say_where_a_teacher_lies_on_this_machine(self) -> None:
        text = page(dataclasses.replace(demo_profile(), teacher="/home/ann/secret/best.pt"))
        assert "best.pt" in text
        assert "ann" not in Reader(text).words
        assert "hf-hub:org/name" in page(dataclasses.replace(demo_profile(), teacher="hf-hub:org/name"))

    def test_warnings_stand_in_the_page(self, advice: Recommendation) -> None:
        doubtful = dataclasses.replace(advice, warnings=(Notice("x", "Mind the <gap>."),))
        assert "Mind the <gap>." in Reader(page(doubtful)).words

    def test_a_verification_shows_each_temperature_and_each_paired_difference(self, advice: Recommendation) -> None:
        found = verified(advice)
        reader = Reader(page(found))
        assert "What the trainings said" in reader.words
        assert "KD may hurt here" in reader.words
        assert "is believed to be 2.20 points above the advised" in reader.words
        assert "−5.00" in reader.words
        pairs = reader.all("circle", **{"class": "pair"})
        assert len(pairs) == 3 + 1  # and one in the legend
        told = [(t, round(value, 9)) for t, value in sorted(charts.differences(found))]
        assert told == [(1.0, -0.03), (8.0, 0.02), (8.0, 0.03)]
        assert len(reader.all("line", **{"class": "spread"})) == 2 + 1

    def test_a_verification_gives_the_settings_of_the_temperature_to_use(self, advice: Recommendation) -> None:
        reader = Reader(page(verified(advice)))
        assert '"temperature": 8.0' in reader.words
        assert reader.data["start"] == 8
        assert {"8.0", repr(advice.temperature)} <= {
            one["data-jump"] for one in reader.all("button") if "data-jump" in one
        }

    def test_standardized_logits_are_shown_as_the_loss_sees_them(self, exhibits: Exhibits) -> None:
        measured = demo_profile()
        plain = Reader(page(recommend(measured, TrainingSetup()), exhibits=exhibits)).data
        scored = Reader(page(recommend(measured, TrainingSetup(standardized=True)), exhibits=exhibits)).data
        z = np.array(plain["samples"][0]["z"])
        assert scored["samples"][0]["z"] == pytest.approx(list(z / z.std()), rel=1e-5)
        words = [
            Reader(page(recommend(measured, TrainingSetup(standardized=one)))).words.replace("\xa0", " ")
            for one in (False, True)
        ]
        assert ["at T = 1 they are as the teacher gives them" in one for one in words] == [True, False]
        assert ["T counts in standard deviations of" in one for one in words] == [False, True]
        unit = measured.logit_std
        assert scored["softness"]["t"] == pytest.approx([t / unit for t in plain["softness"]["t"]], rel=1e-5)
        assert scored["alike"]["distances"][0][1] == pytest.approx(plain["alike"]["distances"][0][1] / unit, rel=1e-5)
        assert scored["alike"]["near"][0][0][1] == pytest.approx(plain["alike"]["near"][0][0][1] / unit, rel=1e-5)


class TestScale:
    """What slider and drawings reach from and to, where the advice lies beyond the usual."""

    def test_it_is_the_usual_one_where_that_holds_all(self, advice: Recommendation) -> None:
        told = dataclasses.replace(advice, best_temperature_ci90=(0.5, 64.0))
        data = Reader(page(told)).data
        assert (data["low"], data["high"]) == (0.5, 64)
        assert slider(told)["max"] == str(24 * 7)

    def test_it_reaches_down_to_the_advice_for_a_soft_teacher_and_so_does_the_curve(
        self, soft: Recommendation
    ) -> None:
        spoken_of = (soft.temperature, *soft.interval, *soft.best_temperature_ci90)
        assert soft.temperature < 0.3
        reader = Reader(page(soft))
        assert reader.data["low"] == 0.125
        assert reader.data["start"] == soft.temperature
        assert reader.data["curve"]["t"][0] == 0.125
        assert min(spoken_of) >= reader.data["low"]
        assert slider(soft)["max"] == str(24 * 9)
        assert slider(soft)["aria-label"] == "Temperature, on a logarithmic scale from 0.125 to 64"

    @pytest.mark.parametrize(
        "beyond",
        [
            {"temperature": 120.0},
            {"temperature": 0.175},
            {"interval": (0.3, 5.0)},
            {"interval": (1.0, 100.0)},
            {"best_temperature_ci90": (0.2, 5.0)},
            {"best_temperature_ci90": (1.0, 70.0)},
        ],
        ids=str,
    )
    def test_whatever_is_advised_lies_where_it_belongs_in_every_drawing(
        self, advice: Recommendation, beyond: dict[str, Any]
    ) -> None:
        within = {"temperature": 2.0, "interval": (1.0, 4.0), "best_temperature_ci90": (0.5, 8.0), **beyond}
        told = dataclasses.replace(advice, **within)
        reader = Reader(page(told))
        low, high = reader.data["low"], reader.data["high"]
        octaves = math.log2(high / low)
        assert octaves == round(octaves)

        def place(temperature: float) -> float:
            return 100 * math.log2(temperature / low) / octaves

        (near,), (best,) = (
            reader.all("rect", **{"class": "near"}),
            reader.all("line", **{"class": "best", "y1": "96%"}),
        )
        assert number(near["x"]) == pytest.approx(place(told.interval[0]), abs=1e-3)
        assert number(near["width"]) == pytest.approx(place(told.interval[1]) - place(told.interval[0]), abs=2e-3)
        ends = [number(best["x1"]), number(best["x2"])]
        assert ends == pytest.approx([place(t) for t in told.best_temperature_ci90], abs=1e-3)
        marks = {number(line["x1"]) for line in reader.all("line", **{"class": "rec"})}
        assert list(marks) == [pytest.approx(place(told.temperature), abs=1e-3)]
        for end in (*told.interval, *told.best_temperature_ci90, told.temperature):
            assert 0 <= place(end) <= 100
        assert reader.data["start"] == told.temperature

    def test_softness_is_drawn_and_told_only_where_it_was_measured(self, soft: Recommendation) -> None:
        reader = Reader(page(soft))
        assert "measured from T = 0.5 to 64" in reader.words.replace("\xa0", " ")
        told = f"At T = 0.5, the nearest to T = {soft.temperature:g} that was measured, the teacher’s top class"
        assert told in reader.words.replace("\xa0", " ")
        lines = [str(one["points"]).split(" ") for one in reader.all("polyline")]
        kinds = ("accuracy", "entropy", "top")
        first = {kind: float(one[0].split(",")[0]) for kind, one in zip(kinds, lines[:3], strict=True)}
        assert first == {"accuracy": 0, "entropy": pytest.approx(200 / 9, 1e-4), "top": pytest.approx(200 / 9, 1e-4)}

    def test_a_verification_reaches_to_all_that_was_tried(self, advice: Recommendation) -> None:
        found = verified(dataclasses.replace(advice, temperature=0.175), temperature=100.0)
        data = Reader(page(found)).data
        assert (data["low"], data["high"], data["start"]) == (0.125, 128, 100)


class TestTemperatures:
    """Panel, page, explanation and exports write a temperature alike."""

    @pytest.mark.parametrize("awkward", [3.45, 0.175, 2.05, 12.5, 0.155, 1.125])
    def test_one_number_has_one_spelling_wherever_it_is_told(self, advice: Recommendation, awkward: float) -> None:
        text = "1.13" if awkward == 1.125 else str(awkward)
        told = dataclasses.replace(
            advice,
            temperature=awkward,
            interval=(awkward, awkward),
            best_temperature_ci90=(awkward, awkward),
            kd_weights=tuple(dataclasses.replace(one, temperature=awkward) for one in advice.kd_weights),
            nearest=(Nearest(setup="x", distance=0.5, best_temperature=awkward),),
            headline="",
            reasons=(),
            warnings=(),
        )
        panel = render.recommendation(told, explain=True, next_command="x")
        words = Reader(page(told)).words.replace("\xa0", " ")
        assert f"Temperature {text} " in panel
        assert f"T from {text} to {text}; the single best lies in {text} to {text} (90 %)" in panel
        assert f"T = {text}, KL" in panel
        assert f"0.5 → T={text}" in panel
        assert f"▲ {text} " in panel
        assert f"0.5 {text} " in " ".join(panel.split())  # of the nearest setup
        assert words.startswith(f"Temperature {text} – ")
        assert f"T from {text} to {text} expected" in words
        assert f"The single best T {text} to {text} 90" in words
        assert f"Any temperature from {text} to {text} should" in words
        assert f"the answer is T = {text} at" in words
        assert f"T = {text}, KL averaged" in words

    @pytest.mark.parametrize("awkward", [3.45, 0.175, 2.05, 12.5])
    def test_a_verification_and_an_export_write_it_so_too(self, advice: Recommendation, awkward: float) -> None:
        found = verified(dataclasses.replace(advice, temperature=awkward), temperature=awkward)
        panel = render_verify.verification(found, output=None, kept=False)
        words = Reader(page(found)).words.replace("\xa0", " ")
        assert f"erified: temperature {awkward} " in panel
        assert f"T=8 over T={awkward}" in panel or f"over T={awkward}, " in panel
        assert f"the advised T = {awkward} (" in words
        assert f"advised {awkward}" in words
        for form in FORMATS:
            assert str(awkward) in export(settings(found.recommendation), form).text

    @pytest.mark.parametrize("awkward", [3.45, 0.175, 2.05, 12.5])
    def test_headlines_and_reasons_write_it_so_too(self, awkward: float) -> None:
        flat = Response(np.array([1.0, 4.0]), np.zeros((2, 2)))
        for verdict in ("use", "indifferent", "kd_may_hurt", "unknown"):
            told = advise._headline(verdict, awkward, (awkward, awkward), flat, None)
            assert f"T={awkward}" in told
            assert (f"{awkward} to {awkward}" in told) == (verdict in ("use", "indifferent"))
        for distance, best in ((0.0, f"best at T={awkward})"), (0.5, "the nearest 0.5 away")):
            nearest = Nearest(setup="x", distance=distance, best_temperature=awkward)
            reason = learned._measured(3, 0.5, awkward, 4.0, nearest)
            assert reason.text.endswith(f"say T={awkward}.")
            assert best in reason.text

    def test_the_headline_states_the_interval_of_the_record(self) -> None:
        for epochs in (5, 20, 60, 100, 240):
            answer = recommend(demo_profile(), TrainingSetup(optimizer="sgd", epochs=epochs))
            low, high = answer.interval
            assert f"T={answer.temperature:g}" in answer.headline
            assert f"{low:g} to {high:g}" in answer.headline

    def test_no_module_has_a_spelling_of_its_own(self) -> None:
        own = re.compile(r"T ?= ?\{[^{}]*:[^{}]*g\}|\{[^{}]*(?:temperature|interval|_ci90)[^{}]*:\.?\d*g\}")
        found = {
            path.name: own.findall(path.read_text(encoding="utf-8"))
            for path in Path(charts.__file__).parent.glob("*.py")
            if path.name not in EXACT
        }
        assert {name: spelled for name, spelled in found.items() if spelled} == {}


class TestContradiction:
    """What stands first where trainings speak against the advice."""

    def first(self, found: Verification) -> str:
        text = page(found)
        return str(re.search(r'</h1>\n<p class="headline[^>]*>([^<]*)</p>', text)[1]).replace("&nbsp;", " ")  # type: ignore[index]

    def test_a_better_temperature_is_a_contradiction_in_its_first_sentence(self, advice: Recommendation) -> None:
        told = read_headline("better_found", 4.0, 8.0)
        found = dataclasses.replace(harmless(verified(advice)), headline=told)
        assert self.first(found).startswith("The trainings contradict the advice: use T=8 instead of T=4 (")
        assert '<p class="headline doubt">The trainings contradict' in page(found)

    def test_harm_by_kd_is_said_before_anything_else(self, advice: Recommendation) -> None:
        assert self.first(verified(advice)).startswith("KD may hurt here: students without it reached 5.00 pp more")

    def test_a_confirmation_contradicts_nothing(self, advice: Recommendation) -> None:
        told = read_headline("confirmed", 4.0, 4.0)
        found = dataclasses.replace(harmless(verified(advice)), verdict="confirmed", headline=told)
        assert self.first(found).startswith("Confirmed: T=4 ")
        assert "doubt" not in page(found).split("</header>")[0].split("</style>")[1]

    def test_what_is_undecided_is_not_called_verified(self, advice: Recommendation) -> None:
        found = dataclasses.replace(harmless(verified(advice)), verdict="undecided")
        words = Reader(page(found)).words
        assert "Undecided temperature" in words
        assert "erified temperature" not in words


class TestSafety:
    def test_names_of_classes_and_teachers_are_text_and_nothing_else(
        self, advice: Recommendation, exhibits: Exhibits
    ) -> None:
        assert advice.profile is not None
        for name in EVIL:
            teacher = dataclasses.replace(advice, profile=dataclasses.replace(advice.profile, teacher=name))
            text = page(teacher, exhibits=dataclasses.replace(exhibits, class_names=EVIL))
            text.encode()
            reader = Reader(text)
            assert len(reader.scripts) == 2
            assert not reader.all("img")
            assert not [attrs for _, attrs in reader.tags if any(key.startswith("on") for key in attrs)]
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u2028\u2029\u202e\ud800-\udfff]", text)
            assert all(one.isascii() for one in reader.scripts[0])
            names = reader.data["names"]
            assert names[1] == EVIL[1]
            assert names[2] == "\\x1b[2J\\x1b]0;gone\\x07"
            assert names[3] == "a\\u2028b\\u202etxt"
            assert len(names[8]) == 80

    def test_it_names_no_address_but_those_of_the_sources(self, advice: Recommendation, exhibits: Exhibits) -> None:
        reader = Reader(page(advice, exhibits=exhibits))
        loaded = [
            attrs for tag, attrs in reader.tags if tag != "a" and {"src", "href", "srcset", "action"} & attrs.keys()
        ]
        assert loaded == [{"rel": "icon", "href": "data:,"}]
        assert not re.search(
            r"url\(|@import|fetch\(|XMLHttp|WebSocket|(?<!\.)eval\(|innerHTML", page(advice, exhibits=exhibits)
        )
        (policy,) = (a["content"] for a in reader.all("meta") if a.get("http-equiv"))
        assert str(policy).startswith("default-src 'none'; img-src data:; style-src 'sha256-")
        assert "unsafe" not in str(policy)

    def test_the_same_record_gives_the_same_page(self, advice: Recommendation, exhibits: Exhibits) -> None:
        assert page(advice, exhibits=exhibits) == page(advice, exhibits=exhibits)


class TestCommands:
    @pytest.fixture(autouse=True)
    def desk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("TEMPADVISOR_CACHE", str(tmp_path / "cache"))

    def test_recommend_and_profile_write_a_page_beside_their_answer(self, run: Run) -> None:
        for words in (["recommend", "--demo"], ["profile", str(demo_path())]):
            plain, done = run(*words), run(*words, "--report", "page.html")
            assert done == plain
            assert len(Reader(Path("page.html").read_text(encoding="utf-8")).data["samples"]) == 12

    def test_a_saved_profile_will_do(self, run: Run) -> None:
        assert not run("profile", str(demo_path()), "-o", "p.json").code
        assert not run("recommend", "p.json", "--json", "--report", "page.HTML").code
        assert "samples" not in Reader(Path("page.HTML").read_text(encoding="utf-8")).data

    def test_the_names_of_image_folders_are_those_of_the_classes(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for i, name in enumerate(("<b>night</b>"[:8], "day")):
            (Path("photos") / name).mkdir(parents=True)
            for k in range(8):
                Image.new("RGB", (8, 8), (60 + 120 * i + k,) * 3).save(Path("photos") / name / f"{k}.png")
        Path("lamps.py").write_text(
            "import torch\n"
            "class Lamp(torch.nn.Module):\n"
            "    def forward(self, images):\n"
            "        mean = 10 * (images.mean((1, 2, 3)) - 0.5)\n"
            "        return torch.stack([-mean, mean], 1)\n"
        )
        monkeypatch.syspath_prepend(str(Path.cwd()))
        done = run("recommend", "lamps:Lamp", "--data", "photos", "--report", "page.html")
        assert not done.code, done.err
        data = Reader(Path("page.html").read_text(encoding="utf-8")).data
        assert data["names"] == ["<b>night", "day"]
        assert {one["label"] for one in data["samples"]} == {0, 1}

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("page.txt", "--report must end in .html"),
            ("missing/page.html", "missing/page.html must be a file that can be written. No such file or directory."),
            ("folder.html", "folder.html must be a file that can be written. It is a folder."),
            ("a\0.html", "must be a file that can be written."),
            ("x" * 245 + ".html", "must be a file that can be written. File name too long."),
        ],
    )
    @pytest.mark.parametrize("command", [["recommend", "--demo"], ["profile", "logits.npz"], ["verify", "--demo"]])
    def test_a_bad_place_is_refused_before_any_work(
        self, refused: Callable[..., str], command: list[str], name: str, said: str
    ) -> None:
        Path("folder.html").mkdir()
        assert said in refused(*command, "--report", name)
        assert {path.name for path in Path.cwd().iterdir()} <= {"folder.html"}
