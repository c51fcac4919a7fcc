"""The README runs: every command, every snippet, in the order a newcomer meets them."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tempadvisor as ta
from tempadvisor.cli import main
from tempadvisor.logits import open_logits
from tempadvisor.records import Recommendation
from tempadvisor.resources import demo_path

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?:<!-- command: (\w+) -->\n)?```(\w*)\n(.*?)```", README, flags=re.S)


def blocks(language: str, mark: str = "") -> list[str]:
    return [text for marked, kind, text in BLOCKS if kind == language and marked == mark]


COMMANDS = [line for text in blocks("bash") for line in text.splitlines() if line]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of someone who has read the README down to its commands, and works there."""
    monkeypatch.chdir(tmp_path)
    for module in ("my_teachers", "my_losses"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setenv("TEMPADVISOR_CACHE", str(tmp_path / "cache"))
    stored = open_logits(demo_path())
    logits = stored.read(np.arange(stored.n_samples))
    (store,) = (text for text in blocks("python") if "np.savez" in text)
    exec(store, {"logits": logits, "labels": stored.labels})  # the README's own words
    (loss,) = (text for text in blocks("python") if "def kd_loss" in text)
    (tmp_path / "my_losses.py").write_text(loss)
    (setup,) = blocks("yaml")
    (tmp_path / "setup.yaml").write_text(setup)
    for name, level in (("dark", 50), ("bright", 200)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(8):
            Image.new("RGB", (8, 8), (level, level, level + i)).save(tmp_path / "photos" / name / f"{i}.png")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("TEMPADVISOR_KNOWLEDGE", raising=False)
    (tmp_path / "sweep.csv").write_text("seed,T,val_accuracy,acc\n0,,0.8,0.79\n0,1,0.81,0.8\n0,4,0.83,0.82\n")
    (tmp_path / "my_teachers.py").write_text(
        "import torch\n"
        "class Brightness(torch.nn.Module):\n"
        "    def forward(self, images):\n"
        "        mean = 10 * (images.mean((1, 2, 3)) - 0.5)\n"
        "        return torch.stack([mean, -mean], 1)\n"
        "best = Brightness\n"
    )
    return tmp_path


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> int:
    words = shlex.split(command, comments=True)
    if ">" in words:
        words = words[: words.index(">")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as done:
        main()
    return int(done.value.code or 0)


@pytest.mark.filterwarnings("default")
def test_every_command_runs_in_order(
    desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(COMMANDS) >= 7
    for command in COMMANDS:
        assert command.startswith("tempadvisor "), command
        assert run(command, monkeypatch) == 0, (command, capsys.readouterr().err)
        printed = capsys.readouterr()
        assert (printed.err == "") == ("--export mdistiller" not in command), command
        assert "emperature" in printed.out, command
    assert (desk / "profile.json").exists()


def test_the_library_snippet_answers() -> None:
    stored = open_logits(demo_path())
    (snippet,) = (text for text in blocks("python") if "ta.recommend(" in text)
    names: dict[str, object] = {"logits": stored.read(np.arange(stored.n_samples)), "labels": stored.labels}
    exec(snippet, names)  # the README's own words
    assert isinstance(names["advice"], Recommendation)


def test_two_commands_do_all_the_set_up() -> None:
    (attempt,), (test,) = blocks("bash", "try"), blocks("bash", "test")
    assert attempt.strip().endswith("tempadvisor recommend --demo")
    assert test.strip().endswith("-m pytest")
    assert all(len(text.strip().splitlines()) == 1 for text in (attempt, test))


def test_the_answer_shown_is_the_answer_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("tempadvisor recommend --demo", monkeypatch) == 0
    shown = [text for text in blocks("") if "Near-optimal" in text]
    assert [capsys.readouterr().out.strip()] == [text.strip() for text in shown]


def test_every_room_of_the_house_is_on_the_map() -> None:
    rooms = {path.stem for path in (ROOT / "tempadvisor").glob("*.py")} - {"__init__", "__main__"}
    table = README.split("**The house.**")[1].split("`knowledge/` holds")[0]
    assert rooms <= set(re.findall(r"`(\w+)`", table))


def test_the_public_names_are_the_ones_shown() -> None:
    used = set(re.findall(r"\bta\.(\w+)", README))
    assert used <= set(ta.__all__)
