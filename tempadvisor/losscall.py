"""How a user's loss is imported and called: which parameter is which, and what a call returns.

Everything that runs here is the user's code: what it raises becomes one line, and what it prints is no answer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tempadvisor.errors import InputError, UsageError


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STUDENT = _words(
    "student_logits logits_student student_outputs student_output outputs_student student z_s y_s s logits_s "
    "s_logits student_out out_s preds_s pred_s outputs output logits input inputs preds"
)
TEACHER = _words(
    "teacher_logits logits_teacher teacher_outputs teacher_output outputs_teacher teacher z_t y_t t logits_t "
    "t_logits teacher_out out_t preds_t pred_t soft_targets"
)
LABELS = _words("labels label targets target y gt y_true ground_truth hard_targets hard_labels")
TEMPERATURE = _words("temperature T tau temp kd_T kd_temperature _temperature")
SOFT_WEIGHTS = _words("kd_weight soft_weight distill_weight distill_loss_weight kd_loss_weight lambda_kd")
HARD_WEIGHTS = _words("hard_weight ce_weight task_weight task_loss_weight student_loss_weight lambda_ce")
WEIGHTS = SOFT_WEIGHTS | HARD_WEIGHTS | _words("alpha beta gamma lam lambda_ weight")
USUAL_TEMPERATURE = 4.0

Call = Callable[[Tensor, Tensor, Tensor], Any]
Value = bool | int | float | str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
    """A user's loss, ready to be called.

    `temperature` is what it is told (None where it takes none), `weights` are those of its parameters that can be
    set and are called like a weight; `make` returns the loss for a temperature and changed weights.
    """

    name: str
    called_as: str
    temperature: float | None
    weights: Mapping[str, float]
    takes_labels: bool
    make: Callable[[float | None, Mapping[str, Value]], Call]


def load_loss(spec: str, *, temperature: float | None = None, given: Mapping[str, Value] | None = None) -> Loss:
    """Import `package.module:name` and find out how to call it.

    Args:
        spec: a function, an nn.Module or another callable object, or a class that makes one.
        temperature: what the loss is told, where it takes one; its own default if None, else 4.
        given: values of other parameters, by name.

    Raises:
        UsageError: `spec` is no such name, or a parameter has no value.
        InputError: the module cannot be imported, or what it has is no loss.
    """
    if not re.fullmatch(r"[\w.]+:\w+(\.\w+)*", spec):
        raise UsageError(
            f"a loss must be named package.module:function. Got {spec[:100]!r}. Name its module by dots.",
            code="bad_loss",
        )
    return read_loss(_imported(spec), spec, temperature=temperature, given=given)


def read_loss(
    thing: Any, name: str, *, temperature: float | None = None, given: Mapping[str, Value] | None = None
) -> Loss:
    """Find out how to call `thing`, a function, a callable object, or a class that makes one. See `load_loss`."""
    rest = dict(given or {})
    if not callable(thing):
        raise InputError(f"{name} must be callable. Got a {type(thing).__name__}.", code="bad_loss")
    if inspect.isclass(thing):
        return _of_class(thing, name, temperature, rest)
    roles = _roles(thing, name)
    told, values = _values(thing, name, roles, temperature, rest)
    attribute = None
    if told is None and isinstance(thing, nn.Module):
        attribute = next((n for n in TEMPERATURE if isinstance(getattr(thing, n, None), int | float)), None)

    def make(t: float | None, changed: Mapping[str, Value]) -> Call:
        keywords = {**values, **changed}
        if told is not None and t is not None:
            keywords[roles["temperature"]] = t

        def function(z_s: Tensor, z_t: Tensor, y: Tensor) -> Any:
            with _attribute(thing, attribute, t):
                return thing(**_tensors(roles, z_s, z_t, y), **keywords)

        return function

    return Loss(
        name=name,
        called_as=_shown(name, roles, told, values),
        temperature=float(getattr(thing, attribute)) if attribute else told,
        weights=_numbers(values),
        takes_labels="labels" in roles,
        make=make,
    )


def call(loss: Loss, function: Call, z_s: Tensor, z_t: Tensor, y: Tensor) -> Tensor:
    """Return the loss of a batch as a scalar.

    Raises:
        InputError: the loss raises, or returns something else.
    """
    with _users_code(loss.called_as):
        found = function(z_s, z_t, y)
    if isinstance(found, Mapping) and "loss" in found:
        found = found["loss"]
    if isinstance(found, tuple | list) and found:
        found = found[0]
    if not isinstance(found, Tensor) or found.numel() != 1:
        got = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise InputError(
            f"{loss.name} must return one number as a tensor. Called as {loss.called_as}, it returned {got}. "
            "Wrap it in a function that does.",
            code="bad_loss",
        )
    return found.reshape(())


def _imported(spec: str) -> Any:
    module, name = spec.split(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        with _users_code(spec):
            found: Any = _module(module)
            for part in name.split("."):
                if not hasattr(found, part):
                    raise InputError(
                        f"module {module} must have {name}. It lacks {part}. Name a function or an nn.Module of it.",
                        code="missing_function",
                    )
                found = getattr(found, part)
            return found
    finally:
        sys.path.remove(here)


def _module(name: str) -> Any:
    """Import a module of the user's.

    Raises:
        InputError: it is not found, or one that it imports is not.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if f"{name}.".startswith(f"{error.name}."):
            said = (
                f"module {name} could not be imported: {error.name} is neither in the current directory, "
                f"{Path.cwd()}, nor on PYTHONPATH, nor an installed package. "
                "Change to the directory it is in, or install it."
            )
        else:
            said = (
                f"module {name} could not be imported: it needs {error.name}, which is not found. "
                f"Install that in the Python of tempadvisor, {sys.executable}."
            )
        raise InputError(said, code="missing_module") from None


@contextlib.contextmanager
def _attribute(thing: Any, name: str | None, value: float | None) -> Iterator[None]:
    """Set an attribute, where there is one to set, for as long as this lasts."""
    if name is None or value is None:
        yield
        return
    before = getattr(thing, name)
    setattr(thing, name, value)
    try:
        yield
    finally:
        setattr(thing, name, before)


@contextlib.contextmanager
def _users_code(called_as: str) -> Iterator[None]:
    try:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (KeyboardInterrupt, InputError):
        raise
    except BaseException as error:  # it is the user's code, which may even exit
        said = str(error)[:200].rstrip(". \n")
        raise InputError(
            f"{called_as} must run. It raised {type(error).__name__}{said and f': {said}'}. Mend it, or wrap it in a "
            "function of student_logits, teacher_logits and labels.",
            code="loss_raised",
        ) from None


def _of_class(thing: Any, name: str, temperature: float | None, rest: dict[str, Value]) -> Loss:
    """Read a class by its constructor and by what it makes; its temperature is set by making it anew."""
    parameters = _parameters(thing, name)
    own = {n: rest.pop(n) for n in list(rest) if n in parameters}
    word = next((n for n in parameters if n in TEMPERATURE), None)
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in own and n != word]
    if missing:
        raise _lacking(name, missing)
    told = None if word is None else _told(temperature, parameters[word].default)
    values: dict[str, Value] = {n: p.default for n, p in parameters.items() if p.default is not p.empty} | own
    if word is not None:
        values.pop(word, None)

    def instance(t: float | None, changed: Mapping[str, Value]) -> Any:
        keywords = {**own, **{n: v for n, v in changed.items() if n in values}}
        with _users_code(name):
            return thing(**keywords, **({} if word is None else {word: t}))

    inner = read_loss(instance(told, {}), name, temperature=temperature, given=rest)
    if told is None:
        return inner

    def make(t: float | None, changed: Mapping[str, Value]) -> Call:
        new = read_loss(instance(t, changed), name, temperature=temperature, given=rest)
        return new.make(None, {n: v for n, v in changed.items() if n in inner.weights and n not in values})

    arguments = ", ".join(f"{n}={v}" for n, v in {str(word): f"{told:g}", **own}.items())
    return dataclasses.replace(
        inner,
        called_as=inner.called_as.replace(name, f"{name}({arguments})", 1),
        temperature=told,
        weights={**inner.weights, **_numbers(values)},
        make=make,
    )


def _parameters(thing: Any, name: str) -> dict[str, inspect.Parameter]:
    """Return the parameters that can be given by name."""
    target = thing.forward if isinstance(thing, nn.Module) else thing
    try:
        found = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        raise InputError(
            f"{name} must tell its parameters. It does not. Wrap it in a function of student_logits, teacher_logits "
            "and labels.",
            code="bad_loss",
        ) from None
    return {p.name: p for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def _roles(thing: Any, name: str) -> dict[str, str]:
    """Return which parameter is the student, the teacher, the labels and the temperature."""
    parameters = _parameters(thing, name)
    roles: dict[str, str] = {}
    known = (("student", STUDENT), ("teacher", TEACHER), ("labels", LABELS))
    for parameter in parameters:
        if parameter in TEMPERATURE:
            roles.setdefault("temperature", parameter)
        for role, words in known:
            if parameter.lower() in words and parameter not in TEMPERATURE:
                roles.setdefault(role, parameter)
    if "teacher" not in roles and "labels" in roles and "student" in roles:
        others = [n for n, p in parameters.items() if n not in {*roles.values(), *WEIGHTS} and p.default is p.empty]
        if not others:  # loss(input, target): two distributions
            roles["teacher"] = roles.pop("labels")
    unnamed = [
        n for n, p in parameters.items() if n not in roles.values() and n not in WEIGHTS and p.default is p.empty
    ]
    for role in ("student", "teacher", "labels"):
        if role not in roles and unnamed:
            roles[role] = unnamed.pop(0)
    missing = [role for role in ("student", "teacher") if role not in roles]
    if missing:
        raise InputError(
            f"{name} must take student_logits and teacher_logits, and may take labels. Its parameters are "
            f"{', '.join(parameters) or 'none'}: none of them is the {missing[0]}. Wrap it in a function that does.",
            code="bad_loss",
        )
    return roles


def _values(
    thing: Any, name: str, roles: Mapping[str, str], temperature: float | None, given: Mapping[str, Value]
) -> tuple[float | None, dict[str, Value]]:
    """Return the temperature that the loss is told, and the values of the parameters that are no tensors."""
    parameters = _parameters(thing, name)
    strange = [n for n in given if n not in parameters or n in (roles["student"], roles["teacher"])]
    if strange:
        raise UsageError(
            f"--set must name a parameter of {name}: {', '.join(parameters)}. Got {strange[0][:60]!r}.",
            code="bad_set",
        )
    values: dict[str, Value] = {}
    for parameter, found in parameters.items():
        if parameter in roles.values():
            continue
        if parameter in given:
            values[parameter] = given[parameter]
        elif found.default is not found.empty and isinstance(found.default, int | float):
            values[parameter] = found.default
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in {*values, *roles.values()}]
    if missing:
        raise _lacking(name, missing)
    word = roles.get("temperature")
    return (None if word is None else _told(temperature, parameters[word].default)), values


def _lacking(name: str, missing: list[str]) -> UsageError:
    asked = " ".join(f"--set {n}=VALUE" for n in missing)
    return UsageError(
        f"{name} needs a value of {', '.join(missing)}. Add {asked}, or wrap it in a function of student_logits, "
        "teacher_logits and labels.",
        code="missing_argument",
    )


def _told(temperature: float | None, default: Any) -> float:
    if temperature is not None:
        return temperature
    return float(default) if isinstance(default, int | float) else USUAL_TEMPERATURE


def _tensors(roles: Mapping[str, str], z_s: Tensor, z_t: Tensor, y: Tensor) -> dict[str, Tensor]:
    tensors = {"student": z_s, "teacher": z_t, "labels": y}
    return {roles[role]: tensor for role, tensor in tensors.items() if role in roles}


def _numbers(values: Mapping[str, Value]) -> dict[str, float]:
    return {
        n: float(v)
        for n, v in values.items()
        if n in WEIGHTS and isinstance(v, int | float) and not isinstance(v, bool)
    }


def _shown(name: str, roles: Mapping[str, str], told: float | None, values: Mapping[str, Value]) -> str:
    parts = [f"{parameter}={role}" for role, parameter in roles.items() if role != "temperature"]
    parts += [] if told is None else [f"{roles['temperature']}={told:g}"]
    parts += [f"{n}={v}" for n, v in values.items() if n in WEIGHTS]
    return f"{name}({', '.join(parts)})"


def double_works(loss: Loss, function: Call, z_s: Tensor, z_t: Tensor, y: Tensor) -> bool:
    """Return whether the loss takes float64; one that does not is checked in float32."""
    try:
        call(loss, function, z_s.double(), z_t.double(), y)
    except InputError:
        call(loss, function, z_s.float(), z_t.float(), y)
        return False
    return call(loss, function, z_s.double(), z_t.double(), y).dtype == torch.float64
