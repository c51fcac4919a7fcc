"""Data read by the sample: shards, torchvision's and Hugging Face's sets, texts; the same, whatever holds them."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tempadvisor.datasets import load, opened
from tempadvisor.errors import InputError
from tempadvisor.images import Framing

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
LABELS = [0, 1, 2, 0, 1, 2]


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def member(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def shard(file: Path, rows: range, folder: str = "") -> Path:
    with tarfile.open(file, "w") as archive:
        for row in rows:
            member(archive, f"{folder}{row:03d}.cls", str(LABELS[row]).encode())
            member(archive, f"{folder}{row:03d}.png", png(IMAGES[row]))
            member(archive, f"{folder}{row:03d}.json", b"{}")
    return file


@pytest.mark.parametrize("name", ["s-{00..01}.tar", "s-*.tar"])
def test_shards_are_read_in_any_order_and_as_a_whole(tmp_path: Path, name: str) -> None:
    shard(tmp_path / "s-00.tar", range(4), "train/")
    shard(tmp_path / "s-01.tar", range(4, 6), "train/")
    found = opened(str(tmp_path / name))
    assert (found.labels.tolist(), found.n_classes, found.shape) == (LABELS, 3, (3, 8, 8))
    assert np.array_equal(found.read([5, 0], None).permute(0, 2, 3, 1), IMAGES[[5, 0]])
    assert found.read([1], Framing((4, 6))).shape == (1, 3, 4, 6)
    whole = load(str(tmp_path / name), image_size=8)
    assert np.array_equal(whole.images.permute(0, 2, 3, 1), IMAGES)
    assert whole.labels.tolist() == LABELS


def hostile_name(archive: tarfile.TarFile, target: Path) -> None:
    member(archive, f"../../{target.name}/evil.png", png(IMAGES[0]))


def absolute_name(archive: tarfile.TarFile, target: Path) -> None:
    member(archive, str(target / "evil.png"), png(IMAGES[0]))


def link(archive: tarfile.TarFile, target: Path) -> None:
    info = tarfile.TarInfo("a.png")
    info.type, info.linkname = tarfile.SYMTYPE, str(target)
    archive.addfile(info)


def device(archive: tarfile.TarFile, _: Path) -> None:
    info = tarfile.TarInfo("a.png")
    info.type = tarfile.CHRTYPE
    archive.addfile(info)


def no_label(archive: tarfile.TarFile, _: Path) -> None:
    member(archive, "a.png", png(IMAGES[0]))


def odd_label(archive: tarfile.TarFile, _: Path) -> None:
    member(archive, "a.png", png(IMAGES[0]))
    member(archive, "a.cls", b"\x80\x04pickle")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (hostile_name, "a name outside of it"),
        (absolute_name, "a name outside of it"),
        (link, "a link or device"),
        (device, "a link or device"),
        (no_label, r"has no class number \(\.cls\)"),
        (odd_label, "must have a class number in .cls"),
    ],
)
def test_a_shard_that_reaches_out_of_itself_or_lacks_something_is_refused(tmp_path: Path, spoil, says: str) -> None:
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in" / "s.tar", "w") as archive:
        spoil(archive, tmp_path / "out")
    with pytest.raises(InputError, match=says):
        opened(str(tmp_path / "in" / "s.tar"))
    assert sorted(one.name for one in tmp_path.rglob("*")) == ["in", "s.tar"]


def test_a_shard_that_is_compressed_damaged_or_a_pipe_is_told(tmp_path: Path) -> None:
    (tmp_path / "s.tar").write_bytes(b"\x1f\x8b" + bytes(600))
    with pytest.raises(InputError, match=r"must be a plain \.tar file"):
        opened(str(tmp_path / "s.tar"))
    os.mkfifo(tmp_path / "p.tar")
    with pytest.raises(InputError, match="Got a pipe"):
        opened(str(tmp_path / "p.tar"))
    with pytest.raises(InputError, match="does not exist"):
        opened(str(tmp_path / "s-{0..1}.tar"))
    with pytest.raises(InputError, match="at most 100000 shards"):
        opened(str(tmp_path / "s-{0..999999999}.tar"))


def test_a_set_of_torchvision_is_read_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for stem, n in (("train", 6), ("t10k", 3)):
        head = b"\0\0\x08\x03" + b"".join(side.to_bytes(4, "big") for side in (n, 28, 28))
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(head + bytes([n]) * (n * 28 * 28))
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + n.to_bytes(4, "big") + bytes(range(n)))
    monkeypatch.setenv("TEMPADVISOR_DATA", str(tmp_path))
    found = load("torch/mnist")
    assert (found.images.shape, found.images.dtype.itemsize, found.test_start) == ((9, 1, 28, 28), 1, 6)
    assert (found.n_classes, found.images[-1].max().item(), found.labels.tolist()[-1]) == (10, 3, 2)
    assert found.class_names is not None
    assert opened("torch/mnist").labels.tolist() == list(range(6))


def test_a_set_of_torchvision_that_is_not_there_is_not_downloaded_and_how_to_get_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"torchvision\.datasets\.CIFAR10\('data', download=True\)"):
        load("torch/cifar10")
    with pytest.raises(InputError, match="Did you mean torch/cifar10"):
        load("torch/cifar1O")
    assert list(tmp_path.iterdir()) == []


def test_a_forged_archive_of_cifar_is_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    class Bomb:
        def __reduce__(self):
            return (os.system, ("touch executed",))

    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError, match="must lie in data"):
        load("torch/cifar10")
    assert not (tmp_path / "executed").exists()


def test_a_set_of_hugging_face_is_read_from_a_folder(tmp_path: Path) -> None:
    hub = pytest.importorskip("datasets")
    features = hub.Features({"image": hub.Image(), "label": hub.ClassLabel(names=["ant", "bee", "cat"])})
    made = hub.Dataset.from_dict(
        {"image": [Image.fromarray(one) for one in IMAGES], "label": LABELS}, features=features
    )
    made.save_to_disk(tmp_path / "one")
    hub.DatasetDict({"train": made, "test": made.select([0, 1])}).save_to_disk(tmp_path / "two")
    for name, n in (("one", 6), ("two", 6), ("two:test", 2)):
        found = opened(f"hfds/{tmp_path / name}")
        assert (found.labels.tolist(), found.class_names, found.shape) == (
            LABELS[:n],
            ("ant", "bee", "cat"),
            (3, 8, 8),
        )
        assert np.array_equal(found.read([1, 0], None).permute(0, 2, 3, 1), IMAGES[[1, 0]])
    with pytest.raises(InputError, match="must have the split"):
        opened(f"hfds/{tmp_path / 'two'}:val")


def test_texts_of_hugging_face_are_texts(tmp_path: Path) -> None:
    hub = pytest.importorskip("datasets")
    hub.Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, 1]}).save_to_disk(tmp_path / "texts")
    found = opened(f"hfds/{tmp_path / 'texts'}")
    assert (found.read([2, 0], None), found.labels.tolist(), found.shape) == (["c", "a"], [0, 1, 1], None)
    hub.Dataset.from_dict({"words": ["a", "b"], "label": [0, 1]}).save_to_disk(tmp_path / "none")
    with pytest.raises(InputError, match="must have a column of images or texts"):
        opened(f"hfds/{tmp_path / 'none'}")
    with pytest.raises(InputError, match="must be a data set that can be loaded"):
        opened(f"hfds/{tmp_path / 'nowhere'}")


def test_labels_of_texts_are_numbers_or_names(tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text('text,label\n"a, b",1\nc,0\n')
    (tmp_path / "s.csv").write_text("id,label,text\n1,pos,good\n2,neg,bad\n")
    numbers, names = opened(str(tmp_path / "n.csv")), opened(str(tmp_path / "s.csv"))
    assert (numbers.read([0], None), numbers.labels.tolist(), numbers.class_names) == (["a, b"], [1, 0], None)
    assert (names.labels.tolist(), names.class_names) == ([1, 0], ("neg", "pos"))
    with pytest.raises(InputError, match="holds texts"):
        load(str(tmp_path / "n.csv"))


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "text,label\nx\n", "text,label\nx,\n", "\0\0"])
def test_what_is_no_table_of_texts_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(InputError, match=r"t\.csv must"):
        opened(str(tmp_path / "t.csv"))


def test_a_folder_may_have_a_validation_split_and_images_of_any_size(tmp_path: Path) -> None:
    for part, size in (("train", 8), ("val", 12)):
        for label, name in enumerate(("ant", "bee")):
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True)
            Image.new("RGB", (size + label, size), (50 * label, 0, 0)).save(folder / "0.png")
    found = opened(str(tmp_path / "photos"))
    assert (found.labels.tolist(), found.class_names) == ([0, 1], ("ant", "bee"))
    assert found.read([0, 1], Framing((6, 6))).shape == (2, 3, 6, 6)
    with pytest.raises(InputError, match="must have one size"):
        found.read([0, 1], None)
    whole = load(str(tmp_path / "photos"), image_size=6)
    assert (whole.images.shape, whole.test_start, whole.class_names) == ((4, 3, 6, 6), 2, ("ant", "bee"))
