"""Data: names load, splits are fixed by their seed and disjoint, what is wrong ends in one line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tempadvisor.datasets import Data, load, split
from tempadvisor.errors import InputError
from tempadvisor.glyphs import FONTS, render


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPADVISOR_CACHE", str(tmp_path / "cache"))


def made(n: int = 40, test_start: int | None = None, n_classes: int = 4) -> Data:
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 1, 2, 2)
    labels = torch.arange(n) % n_classes
    return Data(
        name="made",
        source="made",
        images=images,
        labels=labels,
        n_classes=n_classes,
        moves="shift",
        test_start=test_start,
    )


def picture(file: Path, value: int, size: int = 4) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size), (value, 0, 0)).save(file)


def idx(file: Path, array: np.ndarray) -> None:
    shape = b"".join(side.to_bytes(4, "big") for side in array.shape)
    file.write_bytes(bytes([0, 0, 8, array.ndim]) + shape + array.astype(np.uint8).tobytes())


def test_digits_are_all_there():
    digits = load("sklearn/digits")
    assert (digits.images.shape, digits.images.dtype) == ((1797, 1, 8, 8), torch.uint8)
    assert (digits.n_classes, digits.images.max().item()) == (10, 255)


def test_a_data_set_is_resized_where_asked():
    assert load("sklearn/digits", image_size=4).images.shape == (1797, 1, 4, 4)


def test_an_idx_folder_keeps_its_official_test_split(tmp_path: Path):
    for stem, n in (("train", 6), ("t10k", 4)):
        idx(tmp_path / f"{stem}-images-idx3-ubyte", np.full((n, 2, 3), n))
        idx(tmp_path / f"{stem}-labels-idx1-ubyte", np.arange(n) % 2)
    data = load(str(tmp_path))
    assert data.images.shape == (10, 1, 2, 3)
    assert data.images[:, 0, 0, 0].tolist() == [6] * 6 + [4] * 4
    assert data.test_start == 6


def test_an_image_folder_is_decoded_once(tmp_path: Path):
    for part, value in (("train", 10), ("test", 20)):
        for name in ("cat", "dog"):
            picture(tmp_path / "data" / part / name / "1.png", value + (name == "dog"))
    data = load(str(tmp_path / "data"))
    assert data.images[:, 0, 0, 0].tolist() == [10, 11, 20, 21]
    assert (data.labels.tolist(), data.test_start) == ([0, 1, 0, 1], 2)
    (cached,) = (tmp_path / "cache").iterdir()
    before = cached.stat().st_mtime_ns
    assert torch.equal(load(str(tmp_path / "data")).images, data.images)
    assert cached.stat().st_mtime_ns == before


def test_classes_may_stand_directly_in_the_folder(tmp_path: Path):
    for name in ("a", "b"):
        picture(tmp_path / name / "1.png", 1)
    assert load(str(tmp_path)).test_start is None


def test_an_npz_may_hold_bytes_or_fractions(tmp_path: Path):
    np.savez(tmp_path / "x.npz", images=np.full((2, 3, 3), 0.2), labels=np.array([0, 1]))
    assert load(str(tmp_path / "x.npz")).images.unique().tolist() == [51]


def test_an_npz_may_hold_vectors_which_have_no_size_in_pixels_and_nothing_moves(tmp_path: Path):
    file = tmp_path / "x.npz"
    np.savez(file, vectors=np.full((2, 5), 0.2), labels=np.array([0, 1]))
    data = load(str(file))
    assert (data.images.shape, data.moves) == ((2, 1, 1, 5), "none")
    with pytest.raises(InputError, match=r"must be used without image_size, since it holds vectors\. Got 4\."):
        load(str(file), image_size=4)
    np.savez(file, vectors=np.full((2, 5, 5), 0.2), labels=np.array([0, 1]))
    with pytest.raises(InputError, match=r"must hold vectors \(N, d\)\. Got \(2, 5, 5\)\."):
        load(str(file))


def test_splits_are_disjoint_and_nested_in_n_train():
    small, large = (split(made(), n_train=n, n_val=8, n_test=12, seed=3) for n in (8, 20))
    assert torch.equal(small.test, large.test)
    assert torch.equal(small.val, large.val)
    assert torch.equal(small.train, large.train[:8])
    assert len(torch.cat([large.train, large.val, large.test]).unique()) == 40


def test_another_split_seed_gives_another_split():
    assert not torch.equal(*(split(made(), n_train=20, n_val=8, n_test=12, seed=s).test for s in (0, 1)))


def test_the_official_test_split_is_never_trained_on():
    parts = split(made(test_start=30), n_train=20, n_val=10, n_test=10, seed=0)
    assert parts.test.min() >= 30
    assert max(parts.train.max(), parts.val.max()) < 30


def test_too_many_samples_and_empty_classes_are_refused_by_name():
    with pytest.raises(InputError, match=r"n_train must be at most 20 for made\. Got 21\."):
        split(made(), n_train=21, n_val=8, n_test=12, seed=0)
    with pytest.raises(InputError, match=r"n_test must be at most 10 for made\. Got 11\."):
        split(made(test_start=30), n_train=9, n_val=8, n_test=11, seed=0)
    with pytest.raises(InputError, match="every class must have a training sample"):
        split(made(n_classes=30), n_train=20, n_val=8, n_test=12, seed=0)


def test_three_labelings_are_of_the_same_glyphs():
    fonts = sorted(FONTS.rglob("*.ttf"))
    if not fonts:
        pytest.skip("no fonts are installed: apt install fonts-dejavu")
    coarse, medium, fine = (render(f"latin-{grain}", 8) for grain in ("coarse", "medium", "fine"))
    assert np.array_equal(coarse.images, fine.images)
    assert [len(np.unique(one.labels)) for one in (coarse, medium, fine)] == [3, 36, 124]
    for finer, coarser in ((fine, medium), (fine, coarse)):
        pairs = {(int(a), int(b)) for a, b in zip(finer.labels, coarser.labels, strict=True)}
        assert len(pairs) == len(np.unique(finer.labels))  # each finer class lies in one coarser class
    assert len(np.unique(fine.images.reshape(len(fine.images), -1), axis=0)) == len(fine.images)


def test_without_fonts_the_next_step_is_said():
    with pytest.raises(InputError, match=r"must have all 3 classes\. The 0 fonts give 0\. Install more fonts: apt"):
        render("latin-coarse", 8, fonts=[])


def broken(folder: Path) -> dict[str, Path]:
    (folder / "empty").mkdir()
    picture(folder / "one" / "class" / "1.png", 1)
    (folder / "hollow" / "a").mkdir(parents=True)
    picture(folder / "hollow" / "b" / "1.png", 1)
    picture(folder / "damaged" / "a" / "1.png", 1)
    (folder / "damaged" / "b").mkdir()
    (folder / "damaged" / "b" / "1.png").write_bytes(b"not a picture")
    picture(folder / "sizes" / "a" / "1.png", 1)
    picture(folder / "sizes" / "b" / "1.png", 1, size=5)
    (folder / "idx").mkdir()
    (folder / "idx" / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03\0\0")
    np.savez(folder / "names.npz", pictures=np.zeros((2, 2, 2)), labels=np.arange(2))
    np.savez(folder / "length.npz", images=np.zeros((2, 2, 2)), labels=np.arange(3))
    np.savez(folder / "range.npz", images=np.full((2, 2, 2), 7.0), labels=np.arange(2))
    np.savez(folder / "pickle.npz", images=np.array([{}, {}]), labels=np.arange(2))
    (folder / "cut.npz").write_bytes((folder / "length.npz").read_bytes()[:100])
    return {entry.name: entry for entry in folder.iterdir()}


FOLDERS = ["empty", "one", "hollow", "damaged", "sizes", "idx"]
FILES = ["names.npz", "length.npz", "range.npz", "pickle.npz", "cut.npz"]


@pytest.mark.parametrize("case", [*FOLDERS, *FILES, "none.npz", "nowhere"])
def test_what_is_no_data_set_ends_in_one_line_that_names_it(tmp_path: Path, case: str):
    broken(tmp_path)
    with pytest.raises(InputError, match=re.escape(case)) as caught:
        load(str(tmp_path / case))
    assert "must" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_near_name_is_suggested():
    with pytest.raises(InputError, match="Did you mean sklearn/digits"):
        load("sklearn/digit")


@pytest.mark.parametrize("channels", [1, 3])
def test_images_with_channels_first_or_last_are_the_same_images(tmp_path: Path, channels: int) -> None:
    images = np.arange(2 * 8 * 6 * channels, dtype=np.uint8).reshape(2, 8, 6, channels)
    np.savez(tmp_path / "last.npz", images=images, labels=[0, 1])
    np.savez(tmp_path / "first.npz", images=np.moveaxis(images, 3, 1), labels=[0, 1])
    first, last = (load(str(tmp_path / name)).images for name in ("first.npz", "last.npz"))
    assert first.shape == (2, channels, 8, 6)
    assert first.equal(last)


@pytest.mark.parametrize("shape", [(2, 3, 8, 3), (2, 1, 8, 1), (2, 8, 8, 8)])
def test_images_whose_channels_cannot_be_told_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.savez(tmp_path / "x.npz", images=np.zeros(shape, np.uint8), labels=[0, 1])
    with pytest.raises(InputError, match="either second or last"):
        load(str(tmp_path / "x.npz"))
