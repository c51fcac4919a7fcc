"""Teachers that come as programs: TorchScript, `torch.export` (.pt2) and ONNX files, without the code behind them.

A program computes whatever it says, so each file is looked through before it is loaded, and only a copy of what was
looked at is loaded. `torch.export.load` would unpickle, evaluate and run what a file says in its names; TorchScript
may open files. Neither gets so far: see `_exported` and `_script`. ONNX Runtime refuses data outside the file's
folder.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from tempadvisor.errors import InputError
from tempadvisor.files import check_regular
from tempadvisor.hub import quiet

SUFFIXES = (".pt2", ".onnx")
_MOST_BYTES = 8 << 30  # of an archive's content
_FEW = 32  # images at once: fewer use a processor badly
_WORD = re.compile(r"[\w.]*", re.ASCII)
_NUMBER = (
    r"Symbol|Integer|Add|Mul|Pow|Max|Min|Mod|FloorDiv|PythonMod|CleanDiv|True|False|positive|integer|nonnegative"
)
_EXPRESSION = re.compile(rf"(?:\b(?:{_NUMBER}|'?[su]\d+'?|\d+)\b'?|[-+*/(),= '])*", re.ASCII)
_OPERATOR = re.compile(r"torch\.ops\.aten\.\w+\.\w+|_operator\.(?:add|sub|mul|floordiv|mod|getitem|ge|le|gt|lt|eq)")
_FORBIDDEN = ("from_file", "_import", "save", "load", "set_data", "classes.")  # in names of operators and their code
_EXPORTED = ("archive_format", "archive_version", "byteorder", ".data/version", ".data/serialization_id")


class Program(nn.Module):
    """A program as a module that takes images (n, channels, height, width); what it asks for is brought about.

    It lies outside the registered parts, as it has no modes. `stamp` is the file's hash, so that programs differ.
    """

    stamp: Tensor

    def __init__(self, run: Callable[[Tensor], Tensor], shape: tuple[int | None, ...], digest: bytes) -> None:
        super().__init__()
        self.run = run
        self.register_buffer("stamp", torch.frombuffer(bytearray(digest), dtype=torch.uint8))
        self.last = len(shape) == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3)  # channels come last
        count, *rest = shape if len(shape) == 4 else (None, None, None, None)
        channels, height, width = (rest[2], rest[0], rest[1]) if self.last else rest
        self.count, self.channels = count, channels
        self.pretrained_cfg = {"input_size": (channels, height, width)} if height and width else {}

    def forward(self, images: Tensor) -> Tensor:
        if self.last:
            images = images.permute(0, 2, 3, 1)
        images, n = images.contiguous(), len(images)
        if self.count is None:
            return self.run(images)
        short = -n % self.count
        parts = torch.split(pad(images, (0, 0) * (images.ndim - 1) + (0, short)), self.count)
        return torch.cat([self.run(part) for part in parts])[:n]


def is_program(path: Path) -> bool:
    """Tell whether a file is a program: by its suffix, or as a TorchScript archive by what it holds."""
    if path.suffix.lower() in SUFFIXES:
        return True
    if not path.is_file():  # a pipe would be waited for
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(re.fullmatch(r"[^/]+/(?:constants\.pkl|code/.*\.py)", name) for name in archive.namelist())
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError):
        return False


def load_program(path: Path) -> Program:
    """Return a program as a module in evaluation mode; one that takes few images at once is said on stderr.

    Raises:
        InputError: it is damaged, does what no classifier does, or is for another version of its runtime.
    """
    check_regular(path, "a program: TorchScript, torch.export (.pt2) or ONNX")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        load = {".onnx": _onnx, ".pt2": _exported}.get(path.suffix.lower(), _script)
        with quiet(), torch.inference_mode(False):
            program = Program(*load(path), digest).eval()
    except InputError:
        raise
    except Exception as error:  # each runtime has its own
        reason = " ".join(str(error).split())[:160].rstrip(".")
        raise InputError(
            f"{path} must be a program that can be loaded. Got {type(error).__name__}: {reason}. Export it again.",
            code="bad_program",
        ) from None
    if program.count is not None and program.count < _FEW:
        print(
            f"tempadvisor: {path} takes exactly {program.count} images at once, so it runs slowly. Export it with "
            'dynamic_shapes=({0: torch.export.Dim("n")},) to take any number.',
            file=sys.stderr,
        )
    return program


def _refused(path: Path, what: str) -> InputError:
    return InputError(
        f"{path} must be a program that computes logits and no more. It has {what[:100]!r}, which is never run. "
        "Give a checkpoint and --model NAME instead.",
        code="unsafe_program",
    )


def _members(path: Path) -> dict[str, bytes]:
    """Return the content of an archive by name, without the folder it all lies in."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        whole = sum(info.file_size for info in archive.infolist())
        if whole > min(_MOST_BYTES, max(200 * path.stat().st_size, 1 << 26)) or len(names) > len(set(names)):
            raise _refused(path, f"{whole:,} bytes packed, or a name twice")
        return {name.partition("/")[2]: archive.read(name) for name in names}


def _copy(members: dict[str, bytes]) -> io.BytesIO:
    """Return an archive of these members as torch writes it: stored, and aligned by its own writer."""
    buffer = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    for name, content in members.items():
        if name not in ("version", ".data/version", ".data/serialization_id", "byteorder"):
            writer.write_record(name, content, len(content))
    writer.write_end_of_file()
    buffer.seek(0)
    return buffer


# torch.export --------------------------------------------------------------------------------------------------


def _exported(path: Path) -> tuple[Callable[[Tensor], Tensor], tuple[int | None, ...]]:
    """Load an exported program whose names are names, whose operators are ATen's, and which holds no pickle.

    `torch.export.load` of torch 2.14 unpickles weights, constants and sample inputs, evaluates expressions of sizes
    with sympy, resolves operators to any attribute of torch, writes names into code that it runs, and loads compiled
    libraries. So only graph and plain weights go into the copy, and sample inputs, guards and metadata do not.
    """
    members = _members(path)
    (name,) = [name for name in members if name.startswith("models/")] or [""]
    if name != "models/model.json":
        raise _refused(path, name or "no model")
    kept: dict[str, bytes] = {key: members[key] for key in ["archive_format", "archive_version"]}
    for kind, prefix in (("weights", "weight"), ("constants", "tensor")):
        config = f"data/{kind}/model_{kind}_config.json"
        kept[config] = members[config]
        for key, payload in json.loads(members[config])["config"].items():
            file = str(payload["path_name"])
            if payload["use_pickle"] or not re.fullmatch(rf"{prefix}_\d+", file) or not _WORD.fullmatch(key):
                raise _refused(path, f"{key} pickled in {file}")
            kept[f"data/{kind}/{file}"] = members[f"data/{kind}/{file}"]
    program = json.loads(members[name])
    program["guards_code"], program["torch_version"] = [], ""
    _check_program(program, path)
    kept[name] = json.dumps(program).encode()
    kept["data/sample_inputs/model.pt"] = b""
    found = torch.export.load(_copy(kept))
    (given,) = found.graph_signature.user_inputs
    shape = next(node.meta["val"].shape for node in found.graph.nodes if node.name == given)
    if torch.cuda.is_available():
        from torch.export.passes import move_to_device_pass

        found = move_to_device_pass(found, "cuda")
    module = found.module(check_guards=False)
    return lambda images: _first(module(images)), tuple(n if isinstance(n, int) else None for n in shape)


def _check_program(value: Any, path: Path, key: str = "") -> None:
    """See that all names are words, sizes are plain expressions, and operators are ATen's; drop the metadata."""
    if isinstance(value, dict):
        if "metadata" in value:
            value["metadata"] = {}
        for name, inner in value.items():
            if not _WORD.fullmatch(name):
                raise _refused(path, name)
            _check_program(inner, path, name)
    elif isinstance(value, list):
        for inner in value:
            _check_program(inner, path, key)
    elif isinstance(value, str):
        if key in ("in_spec", "out_spec"):
            _check_structure(json.loads(value), path)
        elif not (_EXPRESSION if key == "expr_str" else _WORD).fullmatch(value):
            raise _refused(path, value)
        if key == "target" and not (_OPERATOR.fullmatch(value) and not any(bad in value for bad in _FORBIDDEN)):
            raise _refused(path, value)


def _check_structure(value: Any, path: Path) -> None:
    """See that inputs and outputs are tuples, lists and dictionaries of tensors, named by words."""
    if isinstance(value, dict):
        if value.get("type") not in (None, "builtins.tuple", "builtins.list", "builtins.dict"):
            raise _refused(path, str(value["type"]))
        if not re.fullmatch(r'null|\[[\w", ]*\]', str(value.get("context") or "null"), re.ASCII):
            raise _refused(path, str(value["context"]))
        value = value.get("children_spec", [])
    if isinstance(value, list):
        for inner in value:
            _check_structure(inner, path)


# TorchScript ---------------------------------------------------------------------------------------------------


def _script(path: Path) -> tuple[Callable[[Tensor], Tensor], tuple[int | None, ...]]:
    """Load a TorchScript archive whose code calls no operator that reads or writes files.

    `torch.jit.load` reads its pickles with a reader of its own that knows tensors and TorchScript classes alone; but
    it runs `__setstate__` methods at once, and `torch.from_file` makes files.
    """
    members = _members(path)
    for name, content in members.items():
        if name.endswith(".py"):
            text = content.decode()
            if bad := next((word for word in _calls(text) if any(one in word for one in _FORBIDDEN)), None):
                raise _refused(path, bad)
    where = "cuda" if torch.cuda.is_available() else "cpu"
    module = torch.jit.load(_copy(members), map_location=where).eval()  # type: ignore[no-untyped-call]
    return lambda images: _first(module(images)), ()


def _calls(code: str) -> Iterator[str]:
    """Yield what TorchScript code calls of torch, and which of its own classes it names."""
    yield from re.findall(r"\b(?:torch|ops|aten|prim|__torch__)\.[\w.]+", code)


# ONNX ----------------------------------------------------------------------------------------------------------


def _onnx(path: Path) -> tuple[Callable[[Tensor], Tensor], tuple[int | None, ...]]:
    """Open an ONNX file in its runtime, which knows the standard operators alone."""
    try:
        import onnxruntime
    except ImportError:
        raise InputError(
            f"{path} must have its runtime to be run. Install it: pip install 'tempadvisor[onnx]'.",
            code="missing_package",
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    known = onnxruntime.get_available_providers()
    providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in known]
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        got = ", ".join(f"{one.name} {one.shape}" for one in inputs)
        raise InputError(f"{path} must take one batch of images. Got {got[:150]}.", code="bad_program")
    named, kind = inputs[0].name, inputs[0].type

    def run(images: Tensor) -> Tensor:
        given = (images * 255).round().byte() if "uint8" in kind else images.half() if "float16" in kind else images
        outputs = [torch.from_numpy(output) for output in session.run(None, {named: given.cpu().numpy()})]
        logits: Tensor = _first(outputs).float()
        return logits

    return run, tuple(n if isinstance(n, int) and n > 0 else None for n in inputs[0].shape)


def _first(outputs: Any) -> Any:
    """Return the first output that looks like logits of a batch; a single one as it is."""
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    if isinstance(outputs, (tuple, list)):
        return next((one for one in outputs if isinstance(one, Tensor) and one.ndim == 2), outputs[0])
    return outputs
