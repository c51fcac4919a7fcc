"""The gallery's commands are ones that the tool knows, and its files are there."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from tempadvisor import cli

GALLERY = Path(__file__).resolve().parent.parent / "benchmarks" / "gallery"
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"```bash\n(.*?)```", (GALLERY / "README.md").read_text(encoding="utf-8"), re.S)
    for line in block.splitlines()
    if line.startswith("tempadvisor ")
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_flag_of_a_command_is_one_of_its_flags(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = words[1:3] if words[1] == "knowledge" else words[1:2]
    monkeypatch.setattr(sys, "argv", ["tempadvisor", *command, "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    flags = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", capsys.readouterr().out))
    assert {word for word in words[2:] if word.startswith("-")} <= flags


@pytest.mark.parametrize("case", ["confident", "fine", "overtuned"])
def test_each_case_has_its_pages_and_its_answers(case: str) -> None:
    assert {path.name for path in (GALLERY / case).iterdir()} == {
        "advice.html", "advice.txt", "verified.html", "verified.svg", "verified.txt"
    }  # fmt: skip
