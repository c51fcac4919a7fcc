"""Files that mean harm or are broken: nothing runs, memory stays bounded, and one line says what is wrong."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tempadvisor.cli import main

ROOT = Path(__file__).resolve().parent.parent
MOST_MIB = 900  # of a process that has loaded torch and timm, 450 of it for these


def marker(folder: Path) -> Path:
    return folder / "executed"


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (os.system, (f"touch {self.target}",))


def photos(folder: Path) -> Path:
    for name in ("bright", "dark"):
        (folder / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (8, 8), (200 if name == "bright" else 20, i, i)).save(folder / name / f"{i}.png")
    return folder


def weights(folder: Path) -> str:
    torch.manual_seed(0)
    tensors = {"1.weight": torch.randn(4, 192), "1.bias": torch.zeros(4)}
    save_file({**tensors, "3.weight": torch.randn(2, 4), "3.bias": torch.zeros(2)}, folder / "w.safetensors")
    return str(folder / "w.safetensors")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is kept from one test to the next, and none waits for a pipe for ever."""
    monkeypatch.setenv("TEMPADVISOR_CACHE", str(tmp_path / "cache"))
    signal.alarm(120)
    yield
    signal.alarm(0)


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Return a function that runs a command and returns the one line with which it is refused."""

    def command(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["tempadvisor", *words])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return checked(tmp_path, end.value.code, said.out, said.err)

    return command


def checked(folder: Path, code: object, out: str, line: str) -> str:
    assert (code, out, line.count("\n")) == (2, "", 1), line
    assert line.strip().isprintable()
    assert not marker(folder).exists()
    return line


def refused_in_little_memory(folder: Path, *words: str) -> str:
    """Run a command in a process of its own, and see how much memory it took at most."""
    # VmHWM begins at exec; ru_maxrss would hold what this process had when it forked
    told = "next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1]"
    peak = f"import atexit, sys\natexit.register(lambda: print({told}, file=open(PEAK, 'w')))\n"
    run = (
        f"import runpy\nsys.argv = ['tempadvisor', *{words!r}]\nrunpy.run_module('tempadvisor', run_name='__main__')"
    )
    code = peak.replace("PEAK", repr(str(folder / "peak"))) + run
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=ROOT)
    took = int((folder / "peak").read_text()) >> 10
    print(f"{took} MiB at most")
    assert took < MOST_MIB
    return checked(folder, done.returncode, done.stdout, done.stderr)


def run_on(folder: Path, data: Path) -> tuple[str, ...]:
    return "profile", weights(folder), "--model", "mlp-4", "--data", str(data)


@pytest.mark.parametrize("suffix", ["pt", "pth", "bin", "ckpt"])
def test_a_pickle_bomb_in_a_checkpoint_does_not_go_off(
    tmp_path: Path, refused: Callable[..., str], suffix: str
) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1)}, "more": Bomb(marker(tmp_path))}, tmp_path / f"bomb.{suffix}")
    told = refused("profile", str(tmp_path / f"bomb.{suffix}"), "--model", "mlp-4", "--data", "sklearn/digits")
    assert "could run code" in told


def test_a_bare_pickle_bomb_under_a_checkpoints_name_does_not_go_off(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    (tmp_path / "bomb.pt").write_bytes(pickle.dumps(Bomb(marker(tmp_path))))
    told = refused("profile", str(tmp_path / "bomb.pt"), "--model", "mlp-4", "--data", "sklearn/digits")
    assert "must be a checkpoint of tensors" in told


def test_the_bomb_of_these_tests_would_go_off(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(marker(tmp_path))))
    assert marker(tmp_path).exists()


def zeros_npz(file: Path, name: str, shape: tuple[int, ...], n_bytes: int) -> None:
    """Write an .npz whose array of zeros takes `n_bytes` once it is unpacked, and next to nothing before."""
    header = np.lib.format.magic(1, 0)
    text = repr({"descr": "|u1", "fortran_order": False, "shape": shape}).encode()
    text += b" " * (118 - len(text) - 1) + b"\n"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            member.write(header + len(text).to_bytes(2, "little") + text)
            chunk = bytes(1 << 24)
            for _ in range(n_bytes >> 24):
                member.write(chunk)
        with archive.open("labels.npy", "w") as member:
            np.lib.format.write_array(member, np.arange(shape[0]) % 2)


@pytest.mark.slow
def test_a_zip_bomb_of_images_is_not_unpacked(tmp_path: Path) -> None:
    n_bytes = 3 << 30
    zeros_npz(tmp_path / "bomb.npz", "images", (3 << 14, 256, 256), n_bytes)
    assert (tmp_path / "bomb.npz").stat().st_size < n_bytes / 500
    assert "unpack" in refused_in_little_memory(tmp_path, *run_on(tmp_path, tmp_path / "bomb.npz"))


@pytest.mark.slow
def test_a_zip_bomb_of_logits_is_not_unpacked(tmp_path: Path) -> None:
    zeros_npz(tmp_path / "bomb.npz", "logits", (3 << 20, 1024), 3 << 30)
    assert "unpack" in refused_in_little_memory(tmp_path, "profile", str(tmp_path / "bomb.npz"))


@pytest.mark.slow
def test_a_zip_bomb_of_a_checkpoint_is_not_unpacked(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(8)}, tmp_path / "small.pt")
    with (
        zipfile.ZipFile(tmp_path / "small.pt") as small,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in small.namelist():
            bomb.writestr(name, bytes(1 << 28) if "/data/" in name else small.read(name))
    words = "profile", str(tmp_path / "bomb.pt"), "--model", "mlp-4", "--data", "sklearn/digits"
    told = refused_in_little_memory(tmp_path, *words)
    assert "unpacks to" in told


def loop_inside(folder: Path) -> None:
    (folder / "bright" / "again").symlink_to(folder, target_is_directory=True)
    (folder / "around").symlink_to(folder, target_is_directory=True)


def loop_of_itself(folder: Path) -> None:
    (folder / "bright" / "round.png").symlink_to(folder / "bright" / "round.png")


def empty_image(folder: Path) -> None:
    (folder / "dark" / "empty.png").write_bytes(b"")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "dark" / "pipe.png")


def device(folder: Path) -> None:
    (folder / "dark" / "zero.png").symlink_to("/dev/zero")


def huge(folder: Path) -> None:
    row = zlib.compress(bytes(30_001 * 100), 9)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    head = (30_000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    (folder / "dark" / "huge.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", row) + chunk(b"IEND", b"")
    )


def large(folder: Path) -> None:
    """More pixels than are decoded, fewer than Pillow warns of."""
    Image.new("L", (8200, 8200)).save(folder / "dark" / "large.png")


def postscript(folder: Path) -> None:
    """Pillow would hand it to Ghostscript."""
    (folder / "dark" / "odd.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (loop_inside, "around must hold images"),
        (loop_of_itself, r"round\.png must be readable. Too many levels of symbolic links"),
        (empty_image, r"empty\.png must be an image\. It is empty"),
        (pipe, r"pipe\.png must be an image.*a pipe"),
        (device, r"zero\.png must be an image.*a device"),
        (huge, r"huge\.png must have at most 67,108,864 pixels"),
        (large, r"large\.png must have at most 67,108,864 pixels.*8,200 x 8,200"),
        (postscript, r"odd\.png must be an image"),
    ],
)
def test_what_lies_in_an_image_folder_is_no_trap(
    tmp_path: Path, refused: Callable[..., str], spoil: Callable[[Path], None], says: str
) -> None:
    spoil(photos(tmp_path / "photos"))
    assert re.search(says, refused(*run_on(tmp_path, tmp_path / "photos")))


@pytest.mark.slow
def test_an_image_of_30_000_by_30_000_pixels_takes_no_memory(tmp_path: Path) -> None:
    huge(photos(tmp_path / "photos"))
    assert "pixels" in refused_in_little_memory(tmp_path, *run_on(tmp_path, tmp_path / "photos"))


NAME = "\x1b[31m<script>alert(1)<|script>\x1b]0;owned\x07"


def test_class_names_cannot_move_the_cursor(tmp_path: Path, refused: Callable[..., str]) -> None:
    photos(tmp_path / "photos")
    (tmp_path / "photos" / NAME).mkdir()
    told = refused(*run_on(tmp_path, tmp_path / "photos"))
    assert "\\x1b[31m<script>" in told
    (tmp_path / "photos" / NAME / "0.png").write_bytes(b"none")
    assert "must be an image" in refused(*run_on(tmp_path, tmp_path / "photos"))


@pytest.mark.parametrize("kind", ["fifo", "/dev/zero", "folder"])
@pytest.mark.parametrize(
    "name", ["t.npz", "t.npy", "t.csv", "t.safetensors", "t.json", "t.pt", "d.npz", "c.yaml", "m.csv"]
)
def test_a_pipe_a_device_or_a_folder_in_place_of_a_file_is_refused_at_once(
    tmp_path: Path, refused: Callable[..., str], kind: str, name: str
) -> None:
    file = tmp_path / name
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to(kind)
    said = {
        "t.pt": ["profile", str(file), "--model", "mlp-4", "--data", "sklearn/digits"],
        "d.npz": ["profile", weights(tmp_path), "--model", "mlp-4", "--data", str(file)],
        "c.yaml": ["recommend", "--config", str(file)],
        "m.csv": [
            "profile",
            weights(tmp_path),
            "--model",
            "mlp-4",
            "--data",
            "sklearn/digits",
            "--class-map",
            str(file),
        ],
    }
    assert name in refused(*said.get(name, ["profile", str(file)]))


def test_a_configuration_constructs_nothing(tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "c.yaml").write_text(f"optimizer: !!python/object/apply:os.system ['touch {marker(tmp_path)}']\n")
    assert "c.yaml" in refused("recommend", "--config", str(tmp_path / "c.yaml"))


@pytest.mark.parametrize("keep", [4, 40, 300])
def test_a_truncated_safetensors_checkpoint_is_told(tmp_path: Path, refused: Callable[..., str], keep: int) -> None:
    file = Path(weights(tmp_path))
    file.write_bytes(file.read_bytes()[:keep])
    told = refused("profile", str(file), "--model", "mlp-4", "--data", "sklearn/digits")
    assert "must be a checkpoint of tensors" in told


def test_a_class_map_that_is_garbage_is_told(tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "m.csv").write_bytes(os.urandom(4096) + b"\0")
    told = refused(
        *("profile", weights(tmp_path), "--model", "mlp-4", "--data", "sklearn/digits"),
        *("--class-map", str(tmp_path / "m.csv")),
    )
    assert "must be a class map" in told
