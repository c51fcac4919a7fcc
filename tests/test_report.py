"""The page as a file: what it says, that it is whole, and that other people's text stays text in it."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_cli import Run, refused, run

from tempadvisor import charts, verification
from tempadvisor.advise import recommend
from tempadvisor.corpus import load_sources
from tempadvisor.exhibits import Exhibits, Reservoir
from tempadvisor.export import FORMATS, export
from tempadvisor.records import Notice, Recommendation, TrainingSetup
from tempadvisor.report import page
from tempadvisor.resources import demo_path
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


class TestWords:
    def test_it_says_what_the_terminal_says(self, advice: Recommendation) -> None:
        words = Reader(page(advice)).words
        low, high = advice.interval
        for told in (advice.headline, f"T from {low:.2g} to {high:.2g}", *(one.text for one in advice.reasons)):
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
        unit = measured.logit_std
        assert scored["softness"]["t"] == pytest.approx([t / unit for t in plain["softness"]["t"]], rel=1e-5)
        assert scored["alike"]["distances"][0][1] == pytest.approx(plain["alike"]["distances"][0][1] / unit, rel=1e-5)
        assert scored["alike"]["near"][0][0][1] == pytest.approx(plain["alike"]["near"][0][0][1] / unit, rel=1e-5)


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
