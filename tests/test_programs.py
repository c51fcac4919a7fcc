"""Programs: exported teachers answer as the modules they were made of, and none does more than that."""

from __future__ import annotations

import io
import json
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tempadvisor import models
from tempadvisor.errors import InputError
from tempadvisor.programs import load_program
from tempadvisor.teachers import profile_of

SIZE = (3, 8, 8)


def teacher() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 5)
    ).eval()


def exported(file: Path, batch: int | None = None) -> Path:
    shape = None if batch else ({0: torch.export.Dim("n", min=1)},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(
            torch.export.export(teacher(), (torch.rand(batch or 2, *SIZE),), dynamic_shapes=shape), file
        )
    return file


def scripted(file: Path, module: nn.Module | None = None) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.jit.script(module) if module else torch.jit.trace(teacher(), torch.rand(2, *SIZE))
        made.save(str(file))
    return file


IMAGES = torch.randint(0, 256, (7, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: exported(folder / "t.pt2"),
        lambda folder: exported(folder / "t.pt2", batch=3),
        lambda folder: scripted(folder / "t.pt"),
    ],
    ids=["torch.export", "torch.export of batches of 3", "TorchScript"],
)
def test_a_program_answers_as_the_module_it_was_made_of(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    live = models.live(str(make(tmp_path)), image_shape=SIZE)
    with torch.inference_mode():
        wanted = teacher()(IMAGES / 255)
        torch.testing.assert_close(live(IMAGES.to(live.teacher.stamp.device)).cpu(), wanted, rtol=1e-4, atol=1e-5)


def test_a_program_of_a_fixed_small_batch_is_said_to_be_slow_and_how_it_is_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load_program(exported(tmp_path / "fixed.pt2", batch=3))
    said = capsys.readouterr()
    assert said.out == ""
    assert "fixed.pt2 takes exactly 3 images at once" in said.err
    assert len(said.err.splitlines()) == 1
    mended = {"dynamic_shapes": eval(said.err[said.err.index("=(") + 1 : said.err.index(" to take")])}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(teacher(), (torch.rand(3, *SIZE),), **mended), tmp_path / "any.pt2")
    assert load_program(tmp_path / "any.pt2").count is None
    load_program(exported(tmp_path / "large.pt2", batch=32))
    assert capsys.readouterr().err == ""


def test_a_size_that_a_program_was_made_for_is_heeded(tmp_path: Path) -> None:
    live = models.live(str(exported(tmp_path / "t.pt2")), image_shape=(3, 20, 20))
    assert live.framing is not None
    assert live.framing.size == (8, 8)


def test_a_program_is_profiled_without_a_models_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (300, 8, 8, 3), dtype=np.uint8)
    with torch.inference_mode():
        labels = teacher()(torch.from_numpy(images).permute(0, 3, 1, 2) / 255).argmax(1).numpy()
    labels[:5] = np.arange(5)
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    found = profile_of(str(scripted(tmp_path / "t.pt")), data=str(tmp_path / "data.npz"))
    assert found.accuracy is not None
    assert found.accuracy > 0.95


def rewritten(file: Path, change: Callable[[str, bytes], bytes], *more: tuple[str, bytes]) -> Path:
    """Write an archive anew with its members changed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
        for name, content in more:
            new.writestr(f"{old.namelist()[0].partition('/')[0]}/{name}", content)
    file.write_bytes(buffer.getvalue())
    return file


def in_json(file: Path, member: str, change: Callable[[dict], object]) -> Path:
    def one(name: str, content: bytes) -> bytes:
        if not name.endswith(member):
            return content
        value = json.loads(content)
        change(value)
        return json.dumps(value).encode()

    return rewritten(file, one)


def node(program: dict) -> dict:
    return program["graph_module"]["graph"]["nodes"][0]


HARM = "__import__('os').system('touch executed')"
HOSTILE: dict[str, Callable[[Path], Path]] = {
    "an operator that is a function of the system": lambda f: in_json(
        f, "model.json", lambda p: node(p).update(target="torch.os.system")
    ),
    "an operator that opens a file": lambda f: in_json(
        f, "model.json", lambda p: node(p).update(target="torch.ops.aten.from_file.default")
    ),
    "a size that is code": lambda f: in_json(
        f,
        "model.json",
        lambda p: p["graph_module"]["graph"]["sym_int_values"].update(s={"as_expr": {"expr_str": HARM}}),
    ),
    "a name that is code": lambda f: in_json(
        f, "model.json", lambda p: p["graph_module"]["graph"]["inputs"][0]["as_tensor"].update(name=f"x={HARM}")
    ),
    "a pickled weight": lambda f: in_json(
        f, "weights_config.json", lambda c: next(iter(c["config"].values())).update(use_pickle=True)
    ),
    "a pickled constant": lambda f: in_json(
        f, "constants_config.json", lambda c: c["config"].update(o={"path_name": "opaque_obj_0", "use_pickle": True})
    ),
    "another type of inputs": lambda f: in_json(
        f,
        "model.json",
        lambda p: p["graph_module"]["module_call_graph"][0]["signature"].update(
            in_spec='[1, {"type": "os.system", "context": "null", "children_spec": []}]'
        ),
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_exported_program_that_does_more_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="computes logits and no more"):
        load_program(HOSTILE[kind](exported(tmp_path / "t.pt2")))
    assert not (tmp_path / "executed").exists()


class Bomb:
    def __reduce__(self):
        return (os.system, ("touch executed",))


def test_guards_sample_inputs_and_libraries_of_an_exported_program_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bomb = io.BytesIO()
    torch.save(Bomb(), bomb)
    file = in_json(exported(tmp_path / "t.pt2"), "model.json", lambda p: p.update(guards_code=[HARM]))
    rewritten(
        file,
        lambda name, content: bomb.getvalue() if "sample_inputs" in name else content,
        ("data/aotinductor/model/harm.so", b"\x7fELF"),
        ("data/weights/model.pt", bomb.getvalue()),
        ("data/constants/model.pt", bomb.getvalue()),
    )
    assert load_program(file)(IMAGES / 255).shape == (7, 5)
    assert not (tmp_path / "executed").exists()


class MakesFile(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) + torch.from_file("executed", shared=True, size=10).sum()


class MakesFileWhenLoaded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.n = 1

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)

    @torch.jit.export
    def __getstate__(self) -> tuple[int, bool]:
        return 1, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[int, bool]) -> None:
        self.training = state[1]
        self.n = int(torch.from_file("executed", shared=True, size=10).sum())


@pytest.mark.parametrize("kind", [MakesFile, MakesFileWhenLoaded])
def test_torchscript_that_opens_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[nn.Module]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"torch\.from_file.*never run"):
        load_program(scripted(tmp_path / "t.pt", kind()))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("suffix", ["pt2", "onnx"])
def test_a_damaged_program_is_told_in_one_line(tmp_path: Path, suffix: str) -> None:
    if suffix == "onnx":
        pytest.importorskip("onnxruntime")
    for content in (b"none", b"PK\x03\x04" + bytes(100)):
        (tmp_path / f"t.{suffix}").write_bytes(content)
        with pytest.raises(InputError, match="must be a program that can be loaded") as error:
            load_program(tmp_path / f"t.{suffix}")
        assert "\n" not in str(error.value)


# ONNX: files are made by onnx itself, which the runtime does not bring


def onnx_file(file: Path, shape: tuple[str | int, ...], location: str | None = None) -> Path:
    onnx = pytest.importorskip("onnx")
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    weight = np.random.default_rng(0).normal(size=(192, 5)).astype(np.float32)
    tensor = helper.make_tensor("w", real, weight.shape, weight.tobytes(), raw=True)
    if location:
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", str(weight.nbytes))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", real, shape)],
        [helper.make_tensor_value_info("y", real, (shape[0], 5))],
        [tensor],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file.write_bytes(made.SerializeToString())
    return file


@pytest.mark.parametrize("shape", [("n", 3, 8, 8), (2, 3, 8, 8), ("n", 8, 8, 3)])
def test_an_onnx_file_answers_as_it_says(tmp_path: Path, shape: tuple[str | int, ...]) -> None:
    pytest.importorskip("onnxruntime")
    program = load_program(onnx_file(tmp_path / "t.onnx", shape))
    weight = np.random.default_rng(0).normal(size=(192, 5)).astype(np.float32)
    images = IMAGES.float() / 255
    flat = (images.permute(0, 2, 3, 1) if shape[3] == 3 else images).flatten(1)
    torch.testing.assert_close(program(images), flat @ torch.from_numpy(weight), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("location", ["../secret.bin", "link.bin", "/dev/zero"])
def test_an_onnx_file_gets_no_data_from_outside_its_folder(tmp_path: Path, location: str) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(4000))
    (tmp_path / "in" / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(InputError, match="External data path"):
        load_program(onnx_file(tmp_path / "in" / "t.onnx", ("n", 3, 8, 8), location))
