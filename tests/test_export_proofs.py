"""Each export against the trainer it is for: the package's own loss, built from the exported text, trains as ours.

`pip install '.[trainers]'` brings the packages; a package that is missing skips its proof.
"""

from __future__ import annotations

import re
import shlex
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from tempadvisor.distill import kd_loss
from tempadvisor.export import export
from tempadvisor.records import LossContract
from tempadvisor.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore")  # other people's packages

N = 6
CASES = [
    (temperature, contract, n_classes)
    for temperature, contract, n_classes in product(
        (0.7, 1.0, 2.88, 20.0),
        (
            LossContract(kd_weight=0.9),
            LossContract(kd_weight=0.5, t_squared=False),
            LossContract(kd_weight=0.9, reduction="mean"),
            LossContract(kd_weight=3.0, hard_weight=1.5, t_squared=False, reduction="mean"),
            LossContract(kd_weight=0.25, hard_weight=0.25),
            LossContract(kd_weight=1.0),
        ),
        (2, 10),
    )
]
every_case = pytest.mark.parametrize(("temperature", "contract", "n_classes"), CASES)


def wanted(temperature: float, contract: LossContract, n_classes: int, smoothing: float | None = None) -> Settings:
    return Settings(
        temperature=temperature,
        contract=contract,
        headline="Use it.",
        version="0",
        n_classes=n_classes,
        label_smoothing=smoothing,
    )


def batch(n_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n_classes)
    z_s, z_t = (2 * torch.randn(N, n_classes, dtype=torch.float64, generator=generator) for _ in range(2))
    return z_s, z_t, torch.arange(N) % n_classes


def ours(temperature: float, contract: LossContract, n_classes: int, smoothing: float = 0.0) -> Tensor:
    z_s, z_t, labels = batch(n_classes)
    z_s.requires_grad_()
    return torch.autograd.grad(kd_loss(z_s, z_t, labels, temperature, contract, smoothing), z_s)[0]


class Logits(nn.Module):
    """Answer with the same logits whatever comes in; timm wants to know the rest."""

    num_classes, in_chans = 1, 3
    pretrained_cfg = {"mean": (0.0,) * 3, "std": (1.0,) * 3}  # noqa: RUF012

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, _: Tensor) -> Tensor:
        return self.logits


def options(text: str) -> dict[str, str]:
    words = shlex.split(text, comments=True)
    start = words.index("$@") + 1
    return dict(zip(words[start::2], words[start + 1 :: 2], strict=True))


def timm_options(form: str, settings: Settings) -> dict[str, float]:
    text = export(settings, form).text
    if form == "timm-yaml":
        return dict(yaml.safe_load(text))
    return {name.removeprefix("--").replace("-", "_"): float(value) for name, value in options(text).items()}


@pytest.mark.parametrize("form", ["timm", "timm-yaml"])
@every_case
def test_timm_trains_as_exported(form: str, temperature: float, contract: LossContract, n_classes: int) -> None:
    task = pytest.importorskip("timm.task")
    given = timm_options(form, wanted(temperature, contract, n_classes))
    z_s, z_t, labels = batch(n_classes)
    student = Logits(z_s)
    distilling = task.LogitDistillationTask(
        student_model=student,
        teacher_model=Logits(z_t),
        criterion=nn.CrossEntropyLoss(),
        temperature=given["kd_temperature"],
        task_loss_weight=given["task_loss_weight"],
        distill_loss_weight=given["distill_loss_weight"],
        dtype=torch.float64,
        verbose=False,
    )
    distilling(torch.zeros(N, 3, 2, 2, dtype=torch.float64), labels)["loss"].backward()
    assert student.logits.grad is not None
    torch.testing.assert_close(student.logits.grad, ours(temperature, contract, n_classes), rtol=1e-7, atol=1e-10)


@every_case
def test_torchdistill_trains_as_exported(temperature: float, contract: LossContract, n_classes: int) -> None:
    pytest.importorskip("torchdistill")
    from torchdistill.losses.registry import get_high_level_loss

    text = export(wanted(temperature, contract, n_classes), "torchdistill").text
    criterion = get_high_level_loss(yaml.safe_load(text)["criterion"])
    z_s, z_t, labels = batch(n_classes)
    z_s.requires_grad_()
    seen = {"student": {".": {"output": z_s}}, "teacher": {".": {"output": z_t}}}
    (gradient,) = torch.autograd.grad(criterion(seen, {}, labels), z_s)
    torch.testing.assert_close(gradient, ours(temperature, contract, n_classes), rtol=1e-7, atol=1e-10)


def test_torchdistills_own_reader_reads_the_export(tmp_path: Path) -> None:
    reader = pytest.importorskip("torchdistill.common.yaml_util")
    text = export(wanted(2.88, LossContract(), 10), "torchdistill").text
    (tmp_path / "criterion.yaml").write_text(text)
    assert reader.load_yaml_file(str(tmp_path / "criterion.yaml")) == yaml.safe_load(text)


def test_torchdistill_smooths_labels_as_exported() -> None:
    pytest.importorskip("torchdistill")
    from torchdistill.losses.registry import get_high_level_loss

    text = export(wanted(4.0, LossContract(), 10, smoothing=0.1), "torchdistill").text
    criterion = get_high_level_loss(yaml.safe_load(text)["criterion"])
    z_s, z_t, labels = batch(10)
    z_s.requires_grad_()
    seen = {"student": {".": {"output": z_s}}, "teacher": {".": {"output": z_t}}}
    (gradient,) = torch.autograd.grad(criterion(seen, {}, labels), z_s)
    torch.testing.assert_close(gradient, ours(4.0, LossContract(), 10, smoothing=0.1))


@pytest.fixture
def keras(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    module = pytest.importorskip("keras")
    before = module.config.floatx()
    module.config.set_floatx("float64")
    yield module
    module.config.set_floatx(before)


def keras_distiller(keras: Any, text: str, n_classes: int) -> Any:
    inputs = keras.Input((2 * n_classes,), dtype="float64")
    student = keras.Model(inputs, inputs[:, :n_classes])
    teacher = keras.Model(inputs, inputs[:, n_classes:])
    names = {"student": student, "teacher": teacher, "optimizer": keras.optimizers.SGD()}
    exec(text, names)
    return names["distiller"]


def keras_gradient(distiller: Any, n_classes: int, labels: Tensor) -> Tensor:
    z_s, z_t, _ = batch(n_classes)
    both = torch.cat([z_s, z_t], dim=1).requires_grad_()
    (gradient,) = torch.autograd.grad(distiller.compute_loss(x=both, y=labels), both)
    return gradient[:, :n_classes]


@every_case
def test_keras_trains_as_exported(keras: Any, temperature: float, contract: LossContract, n_classes: int) -> None:
    text = export(wanted(temperature, contract, n_classes), "keras").text
    distiller = keras_distiller(keras, text, n_classes)
    gradient = keras_gradient(distiller, n_classes, batch(n_classes)[2])
    told = re.search(r"multiply the learning rate by ([\d.]+\d)", text)
    scale = float(told[1]) if told else 1.0
    assert (told is not None) == (contract.hard >= 1)
    torch.testing.assert_close(scale * gradient, ours(temperature, contract, n_classes), rtol=1e-5, atol=1e-6)


def test_keras_smooths_labels_as_exported(keras: Any) -> None:
    text = export(wanted(4.0, LossContract(), 10, smoothing=0.1), "keras").text
    one_hot = torch.nn.functional.one_hot(batch(10)[2], 10).double()
    gradient = keras_gradient(keras_distiller(keras, text, 10), 10, one_hot)
    torch.testing.assert_close(gradient, ours(4.0, LossContract(), 10, smoothing=0.1), rtol=1e-5, atol=1e-6)


def test_the_default_of_keras_that_the_export_warns_of_is_no_distillation_loss(keras: Any) -> None:
    z_s, z_t, _ = batch(10)
    z_s.requires_grad_()
    by_name = keras.distillation.LogitsDistillation(temperature=4.0)
    by_object = keras.distillation.LogitsDistillation(temperature=4.0, loss=keras.losses.KLDivergence())
    gradients = [torch.autograd.grad(one.compute_loss(z_t, z_s), z_s)[0] for one in (by_name, by_object)]
    kd_alone = ours(4.0, LossContract(kd_weight=1.0), 10)
    torch.testing.assert_close(gradients[1], kd_alone, rtol=1e-5, atol=1e-6)
    assert torch.nn.functional.cosine_similarity(gradients[0].flatten(), kd_alone.flatten(), dim=0) < 0.9


@every_case
def test_the_hugging_face_trainer_trains_as_exported(
    temperature: float, contract: LossContract, n_classes: int, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    names: dict[str, Any] = {}
    exec(export(wanted(temperature, contract, n_classes), "hf-trainer").text, names)
    z_s, z_t, labels = batch(n_classes)

    class Answers(Logits):
        def forward(self, pixel_values: Tensor) -> Any:
            return SimpleNamespace(logits=super().forward(pixel_values))

    student = Answers(z_s)
    trainer = names["DistillationTrainer"](
        model=student,
        args=transformers.TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True),
        teacher=Answers(z_t),
    )
    loss = trainer.compute_loss(student, {"pixel_values": torch.zeros(N), "labels": labels})
    loss.backward()
    assert student.logits.grad is not None
    torch.testing.assert_close(student.logits.grad, ours(temperature, contract, n_classes), rtol=1e-7, atol=1e-10)


class Net(nn.Module):
    """Answer through one linear layer, and take any keyword, as many models of transformers do."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(4, 3, generator=generator))

    def forward(self, x: Tensor, **_: Any) -> Any:
        return SimpleNamespace(logits=x @ self.weight)


def test_the_hugging_face_trainer_accumulates_gradients_to_those_of_the_whole_batch(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    names: dict[str, Any] = {}
    exec(export(wanted(2.0, LossContract(), 3), "hf-trainer").text, names)
    inputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    data = [{"x": x, "labels": i % 3} for i, x in enumerate(inputs)]

    def trained(batch_size: int, steps: int) -> Tensor:
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path),
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=steps,
            max_steps=1,
            optim="sgd",
            learning_rate=1.0,
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            remove_unused_columns=False,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        )
        student = Net(1)
        names["DistillationTrainer"](model=student, args=arguments, train_dataset=data, teacher=Net(2)).train()
        return student.weight.detach()

    whole = trained(6, 1)
    assert not torch.equal(whole, Net(1).weight)
    torch.testing.assert_close(trained(2, 3), whole, rtol=1e-5, atol=1e-6)


@every_case
def test_modelopt_trains_as_exported(temperature: float, contract: LossContract, n_classes: int) -> None:
    pytest.importorskip("modelopt.torch.distill", exc_type=ImportError)
    z_s, z_t, labels = batch(n_classes)
    names: dict[str, Any] = {"student": Logits(z_s), "teacher": Logits(z_t)}
    exec(export(wanted(temperature, contract, n_classes), "modelopt").text, names)
    model = names["model"]
    model.train()
    logits = model(torch.zeros(N))
    names["distillation_loss"](nn.functional.cross_entropy(logits, labels)).backward()
    torch.testing.assert_close(model.logits.grad, ours(temperature, contract, n_classes), rtol=1e-7, atol=1e-10)


MDISTILLER = {
    "DISTILLER": {"TYPE": "NONE"},
    "KD": {"TEMPERATURE": 4, "LOSS": {"CE_WEIGHT": 0.1, "KD_WEIGHT": 0.9}},
}  # the defaults of mdistiller/engine/cfg.py at commit a08d46f, which decide on the types that options may have


def test_mdistillers_configuration_takes_whole_temperatures_and_any_weights() -> None:
    yacs = pytest.importorskip("yacs.config")
    config = yacs.CfgNode(MDISTILLER)
    text = export(wanted(3.0, LossContract(kd_weight=1.0), 10), "mdistiller").text
    config.merge_from_list([word for pair in options(text).items() for word in pair])
    assert config.KD == {"TEMPERATURE": 3, "LOSS": {"CE_WEIGHT": 0.0, "KD_WEIGHT": 1.0}}


def test_mdistillers_configuration_takes_a_fraction_after_the_edit_that_is_asked_for_only() -> None:
    yacs = pytest.importorskip("yacs.config")
    made = export(wanted(2.88, LossContract(), 10), "mdistiller")
    given = [word for pair in options(made.text).items() for word in pair]
    config = yacs.CfgNode(MDISTILLER)
    with pytest.raises(ValueError, match="Type mismatch"):
        config.merge_from_list(given)
    assert "CFG.KD.TEMPERATURE = 4.0" in made.warnings[0]
    config.KD.TEMPERATURE = 4.0
    config.merge_from_list(given)
    assert config.KD.TEMPERATURE == 2.88
