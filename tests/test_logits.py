"""Stored logits: every format gives back what was saved, any rows, lazily; every broken file one clear error."""

import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tempadvisor.errors import InputError, OutOfScopeError, TempAdvisorError
from tempadvisor.logits import from_arrays, open_logits

LOGITS = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
LABELS = np.arange(20) % 4


def write_csv(path, header=True):
    lines = ["a,b,label,c,d"] if header else []
    lines += [
        ",".join([f"{a}", f"{b}", str(y), f"{c}", f"{d}"]) for (a, b, c, d), y in zip(LOGITS, LABELS, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")


def save(path):
    match path.name:
        case "plain.npy":
            np.save(path, LOGITS)
        case "fortran.npy":
            np.save(path, np.asfortranarray(LOGITS))
        case "plain.npz":
            np.savez(path, logits=LOGITS, labels=LABELS)
        case "packed.npz":
            np.savez_compressed(path, logits=LOGITS, labels=LABELS)
        case "plain.safetensors":
            save_file({"logits": LOGITS, "labels": LABELS}, path, {"logits_from": "train"})
        case "headed.csv":
            write_csv(path)
    return path


FORMATS = ["plain.npy", "fortran.npy", "plain.npz", "packed.npz", "plain.safetensors", "headed.csv"]


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_gives_back_the_rows_asked_for_in_file_order(tmp_path, name):
    stored = open_logits(save(tmp_path / name))
    assert (stored.n_samples, stored.n_classes) == (20, 4)
    np.testing.assert_allclose(stored.read(np.array([17, 3, 4])), LOGITS[[3, 4, 17]], rtol=1e-6)
    np.testing.assert_allclose(stored.read(np.arange(5, 9)), LOGITS[5:9], rtol=1e-6)
    if name.endswith("npy"):
        assert stored.labels is None
    else:
        np.testing.assert_array_equal(stored.labels, LABELS)


@pytest.mark.parametrize("name", ["plain.npy", "plain.npz", "plain.safetensors"])
def test_uncompressed_arrays_are_mapped_not_loaded(tmp_path, name, monkeypatch):
    mapped = []
    real = np.memmap
    monkeypatch.setattr(np, "memmap", lambda *a: mapped.append(a[4]) or real(*a))
    open_logits(save(tmp_path / name))
    assert (20, 4) in mapped


def test_a_csv_without_header_has_no_labels(tmp_path):
    path = tmp_path / "x.csv"
    np.savetxt(path, LOGITS, delimiter=",")
    stored = open_logits(path)
    assert stored.labels is None
    np.testing.assert_allclose(stored.read(np.array([0, 19])), LOGITS[[0, 19]])


def test_a_byte_order_mark_and_windows_line_ends_do_not_matter(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xef\xbb\xbf1.5,2\r\n3,4\r\n\r\n")
    assert open_logits(path).read(np.array([0, 1])).tolist() == [[1.5, 2], [3, 4]]


def test_what_a_safetensors_file_says_of_itself_is_kept(tmp_path):
    assert open_logits(save(tmp_path / "plain.safetensors")).metadata["logits_from"] == "train"


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.dtype(">f4")])
def test_other_float_types_are_read(tmp_path, dtype):
    np.save(tmp_path / "x.npy", LOGITS.astype(dtype))
    block = open_logits(tmp_path / "x.npy").read(np.arange(20))
    assert block.dtype == (np.float64 if dtype == np.float64 else np.float32)
    np.testing.assert_allclose(block, LOGITS.astype(dtype), rtol=1e-6)


def test_bfloat16_is_read(tmp_path):
    import torch
    from safetensors.torch import save_file as save_tensors

    tensor = torch.tensor(LOGITS).bfloat16()
    save_tensors({"logits": tensor}, tmp_path / "x.safetensors")
    np.testing.assert_array_equal(open_logits(tmp_path / "x.safetensors").read(np.arange(20)), tensor.float().numpy())


def refused(path, code, error=InputError):
    def read_all():
        stored = open_logits(path)
        stored.read(np.arange(stored.n_samples))

    with pytest.raises(error) as caught:
        read_all()
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_paths_that_are_no_file_are_refused(tmp_path):
    refused(tmp_path / "none.npy", "missing_file")
    refused(tmp_path, "directory")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".csv"])
def test_an_empty_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    path.touch()
    refused(path, "empty_file")


def test_a_csv_with_a_header_only_has_no_samples(tmp_path):
    (tmp_path / "x.csv").write_text("a,b,label\n")
    assert open_logits(tmp_path / "x.csv").n_samples == 0


def test_unknown_suffixes_and_pickles_are_refused_unopened(tmp_path):
    (tmp_path / "x.txt").write_text("1")
    assert ".npz, .npy, .safetensors, .csv" in refused(tmp_path / "x.txt", "unsupported_file")
    (tmp_path / "x.pt").write_bytes(pickle.dumps(1))
    refused(tmp_path / "x.pt", "pickled")


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_object_arrays_are_never_unpickled(tmp_path):
    bomb = np.array([[Bomb(), 1]], dtype=object)
    np.save(tmp_path / "x.npy", bomb, allow_pickle=True)
    refused(tmp_path / "x.npy", "pickled")
    np.savez(tmp_path / "x.npz", logits=LOGITS, labels=bomb)
    refused(tmp_path / "x.npz", "pickled")
    (tmp_path / "y.npy").write_bytes(pickle.dumps(Bomb()))
    refused(tmp_path / "y.npy", "broken_file")


@pytest.mark.parametrize("name", ["plain.npy", "plain.npz", "packed.npz", "plain.safetensors"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path, name, share):
    path = save(tmp_path / name)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError) as caught:
        open_logits(path)
    assert caught.value.code in ("truncated", "broken_file")


@pytest.mark.parametrize("name", ["plain.npy", "plain.npz", "packed.npz", "plain.safetensors"])
def test_a_damaged_file_gives_an_error_of_ours_or_other_numbers_but_no_crash(tmp_path, name):
    path = save(tmp_path / name)
    whole = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            stored = open_logits(path)
            stored.read(np.arange(min(stored.n_samples, 20)))
        except TempAdvisorError:
            pass


def test_wrong_names_are_named_with_the_nearest(tmp_path):
    np.savez(tmp_path / "x.npz", logit=LOGITS)
    message = refused(tmp_path / "x.npz", "wrong_names")
    assert "It holds logit." in message
    assert "Did you mean logit" in message
    save_file({"a": LOGITS}, tmp_path / "x.safetensors")
    assert "It holds a." in refused(tmp_path / "x.safetensors", "wrong_names")


def test_a_member_that_lies_about_its_size_is_refused_before_unpacking(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("logits.npy", "w") as f,
    ):
        np.lib.format.write_array_header_1_0(f, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 10**4)})
        f.write(bytes(1000))
    refused(tmp_path / "x.npz", "truncated")


def test_a_compressed_array_larger_than_half_the_free_disk_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "packed.npz")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100})())
    refused(path, "too_large")


def test_a_safetensors_header_with_nonsense_is_refused(tmp_path):
    for entry in (
        {"dtype": "F32", "shape": [20, 4], "data_offsets": [0, 1]},
        {"dtype": "F32", "shape": [-1, 4], "data_offsets": [0, 1]},
        {"dtype": "F32", "shape": [20, 4]},
        [],
    ):
        header = json.dumps({"logits": entry}).encode()
        (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(400))
        refused(tmp_path / "x.safetensors", "broken_file")


def test_integers_are_not_logits():
    with pytest.raises(InputError, match="floating-point") as caught:
        from_arrays(np.ones((3, 2), int))
    assert caught.value.code == "not_float"


@pytest.mark.parametrize(
    ("shape", "code", "error"),
    [
        ((5,), "not_two_dimensional", InputError),
        ((2, 3, 4), "not_classification", OutOfScopeError),
        ((2, 3, 4, 4), "not_classification", OutOfScopeError),
    ],
)
def test_logits_must_have_two_dimensions(shape, code, error):
    with pytest.raises(error) as caught:
        from_arrays(np.zeros(shape))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("labels", "code", "error"),
    [
        (LABELS[:19], "labels_length", InputError),
        (np.zeros((20, 3, 2)), "labels_length", InputError),
        (LABELS + 0.5, "labels_not_whole", InputError),
        (LABELS.astype(str), "labels_not_whole", InputError),
        (np.eye(4)[LABELS], "labels_one_hot", InputError),
        ((np.arange(80).reshape(20, 4) % 3 == 0).astype(int), "multi_label", OutOfScopeError),
    ],
)
def test_labels_must_be_one_class_number_a_sample(labels, code, error):
    with pytest.raises(error) as caught:
        from_arrays(LOGITS, labels)
    assert caught.value.code == code


def test_whole_floats_and_columns_are_fine_as_labels():
    np.testing.assert_array_equal(from_arrays(LOGITS, LABELS.astype(float)[:, None]).labels, LABELS)


def test_a_csv_line_of_another_length_or_with_text_is_named(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n1,2,3\n")
    assert "x.csv, line 3," in refused(tmp_path / "x.csv", "ragged_rows")
    (tmp_path / "x.csv").write_text("a,b\n1,2\n1,two\n")
    assert "x.csv, line 3 must hold numbers" in refused(tmp_path / "x.csv", "not_a_number")


FRACTIONS = "\n".join(",".join(f"{(7 * i + 3 * j) % 11 / 4 + 0.1:.3f}" for j in range(3)) for i in range(12))


class TestCsvColumnsThatAreNoLogits:
    def written(self, folder: Path, header: str, cells: str = "") -> Path:
        rows = [line + (cells.format(i) if cells else "") for i, line in enumerate(FRACTIONS.splitlines())]
        (folder / "logits.csv").write_text("\n".join([*([header] if header else []), *rows]) + "\n")
        return folder / "logits.csv"

    def test_a_header_of_column_numbers_is_a_header(self, tmp_path: Path) -> None:
        assert open_logits(self.written(tmp_path, "0,1,2")).n_samples == 12

    @pytest.mark.parametrize("name", ["label", "Label", "target", "y", "gt"])
    def test_labels_are_known_by_their_usual_names(self, tmp_path: Path, name: str) -> None:
        stored = open_logits(self.written(tmp_path, f"0,1,2,{name}", ",1"))
        assert stored.n_classes == 3
        assert stored.labels is not None

    @pytest.mark.parametrize("name", ["", "index", "Unnamed: 0"])
    def test_an_index_column_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(InputError) as error:
            open_logits(self.written(tmp_path, f"a,b,c,{name}", ",{}"))
        assert error.value.code == "index_column"

    @pytest.mark.parametrize("header", ["", "a,b,c,truth"])
    def test_whole_numbers_among_fractions_are_refused(self, tmp_path: Path, header: str) -> None:
        with pytest.raises(InputError) as error:
            open_logits(self.written(tmp_path, header, ",2"))
        assert error.value.code == "whole_column"

    def test_another_separator_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "logits.csv").write_text("1.5;2.5\n0.5;1.0\n")
        with pytest.raises(InputError, match="separated by commas"):
            open_logits(tmp_path / "logits.csv")


def test_a_header_whose_shape_is_no_number_is_a_broken_file(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 10)))
    raw = (tmp_path / "x.npy").read_bytes().replace(b"(1, 10), }    ", b"(True, 10), } ")
    (tmp_path / "x.npy").write_bytes(raw)
    with pytest.raises(InputError):
        open_logits(tmp_path / "x.npy")
