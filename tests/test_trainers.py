"""The README's training loops really distill: a plain loop, Lightning and the Hugging Face Trainer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_readme import blocks
from torch import nn
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader, TensorDataset

import tempadvisor as ta

LONG_SGD = ta.TrainingSetup(optimizer="sgd", epochs=240, augmentation="standard")
INPUTS = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
LABELS = (INPUTS[:, 0] > 0).long()
DATA = TensorDataset(INPUTS, LABELS)


class Teacher(nn.Module):
    """Answer for class 1 where the first input is positive; in training mode, nonsense."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(3.0))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        assert not self.training, "the teacher must be in evaluation mode"
        return torch.stack([-self.weight * inputs[:, 0], self.weight * inputs[:, 0]], 1)


def student() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(6, 2)


def snippet(mark: str) -> str:
    (text,) = (text for text in blocks("python") if mark in text)
    assert len([line for line in text.splitlines() if line.strip()]) <= 10
    return text


def by_hand(model: nn.Module, loss: ta.KDLoss, *, batch: int, set_temperature: Callable[[int], None]) -> nn.Module:
    """Train as a reference: SGD with lr 0.1 over the data once, in order."""
    teacher = Teacher().eval()
    for done, start in enumerate(range(0, len(INPUTS), batch)):
        x, y = INPUTS[start : start + batch], LABELS[start : start + batch]
        set_temperature(done)
        model.zero_grad()
        loss(model(x), teacher(x), y).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter.sub_(0.1 * parameter.grad)
    return model


def constant(done: int) -> None:
    """Leave the temperature as it is."""


def same(one: nn.Module, other: nn.Module) -> None:
    torch.testing.assert_close(one.state_dict(), other.state_dict())


def test_a_plain_loop_distills() -> None:
    advice, model = ta.recommend(setup=LONG_SGD), student()
    names: dict[str, Any] = {
        "ta": ta,
        "torch": torch,
        "advice": advice,
        "teacher": Teacher(),
        "student": model,
        "loader": DataLoader(DATA, batch_size=8),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
    }
    exec(snippet("for inputs, labels in loader"), names)  # the README's own words
    same(model, by_hand(student(), ta.KDLoss.from_recommendation(advice), batch=8, set_temperature=constant))
    assert all(parameter.grad is None for parameter in names["teacher"].parameters())


def test_the_schedule_of_the_snippet_moves_the_loss_of_the_loop() -> None:
    advice = ta.recommend(setup=LONG_SGD)
    loss = ta.KDLoss.from_recommendation(advice)
    names = {"ta": ta, "advice": advice, "loss": loss, "epochs": 2, "loader": [0, 0]}
    exec(snippet("if advice.schedule"), names)
    schedule: Any = names["schedule"]
    for _ in range(4):
        schedule.step()
    assert advice.schedule is not None
    assert loss.temperature == advice.schedule.end


@pytest.mark.filterwarnings("default")
class TestLightning:
    @pytest.fixture
    def made(self) -> tuple[Any, Any]:
        lightning = pytest.importorskip("lightning")
        names = {"lightning": lightning, "torch": torch, "ta": ta, "teacher": Teacher(), "student": student()}
        names["advice"] = ta.recommend(setup=LONG_SGD)
        exec(snippet("lightning.LightningModule"), names)  # the README's own words
        return lightning, names["Distilled"]()

    def fit(self, lightning: Any, module: Any, folder: Path, **arguments: Any) -> Any:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = lightning.Trainer(accelerator="cpu", default_root_dir=folder, max_epochs=1, **quiet, **arguments)
        trainer.fit(module, DataLoader(DATA, batch_size=8))
        return trainer

    def test_it_distills(self, made: tuple[Any, Any], tmp_path: Path) -> None:
        lightning, module = made
        self.fit(lightning, module, tmp_path, enable_checkpointing=False)
        loss = ta.KDLoss.from_recommendation(ta.recommend(setup=LONG_SGD))
        same(module.student, by_hand(student(), loss, batch=8, set_temperature=constant))
        assert module.teacher.weight.item() == 3.0

    def test_its_step_number_moves_a_schedule(self, made: tuple[Any, Any], tmp_path: Path) -> None:
        lightning, module = made
        advice, seen = ta.recommend(setup=LONG_SGD), []
        schedule = ta.TemperatureSchedule.from_recommendation(advice, module.kd_loss, steps=4)
        plain = module.training_step

        def training_step(batch: Any, batch_idx: int) -> Any:
            schedule.step(module.global_step)
            seen.append(module.kd_loss.temperature)
            return plain(batch, batch_idx)

        module.training_step = training_step
        self.fit(lightning, module, tmp_path, enable_checkpointing=False)
        loss = ta.KDLoss.from_recommendation(advice)
        wanted = ta.TemperatureSchedule.from_recommendation(advice, loss, steps=4)
        same(module.student, by_hand(student(), loss, batch=8, set_temperature=wanted.step))
        assert len(set(seen)) == 4


@pytest.mark.filterwarnings("default")
class TestHuggingFaceTrainer:
    @pytest.fixture
    def transformers(self) -> Any:
        pytest.importorskip("accelerate")
        return pytest.importorskip("transformers")

    def trained(self, transformers: Any, folder: Path, *, batch: int, accumulate: int = 1) -> Any:
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
            max_position_embeddings=8, num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )  # fmt: skip
        teacher = transformers.BertForSequenceClassification(config).eval()
        for parameter in teacher.parameters():
            parameter.requires_grad_(False).mul_(3)
        model = transformers.BertForSequenceClassification(config)
        first = copy.deepcopy(model)
        tokens = torch.randint(1, 20, (16, 6), generator=torch.Generator().manual_seed(1))
        rows = [{"input_ids": row, "labels": int(row[0]) % 3} for row in tokens]
        loss = ta.KDLoss.from_recommendation(ta.recommend(setup=LONG_SGD))
        names = {"transformers": transformers, "torch": torch, "teacher": teacher, "kd_loss": loss, "student": model}
        exec(snippet("transformers.Trainer"), names)  # the README's own words
        arguments = transformers.TrainingArguments(
            output_dir=str(folder), per_device_train_batch_size=batch, gradient_accumulation_steps=accumulate,
            num_train_epochs=1, learning_rate=0.1, lr_scheduler_type="constant", optim="sgd", max_grad_norm=0,
            report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=True, seed=3,
        )  # fmt: skip
        trainer = names["Distiller"](model=model, args=arguments, train_dataset=rows, eval_dataset=rows)
        trainer._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(rows)
        trainer.train()
        return trainer, first, teacher, loss, tokens

    @pytest.mark.parametrize(("batch", "accumulate"), [(8, 1), (4, 2)])
    def test_it_distills_and_averages_over_accumulated_batches(
        self, transformers: Any, tmp_path: Path, batch: int, accumulate: int
    ) -> None:
        trainer, model, teacher, loss, tokens = self.trained(
            transformers, tmp_path, batch=batch, accumulate=accumulate
        )
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for rows in tokens.split(8):
            optimizer.zero_grad()
            loss(model(input_ids=rows).logits, teacher(input_ids=rows).logits, rows[:, 0] % 3).backward()
            optimizer.step()
        torch.testing.assert_close(trainer.model.state_dict(), model.state_dict(), rtol=1e-4, atol=1e-6)

    def test_it_evaluates_with_the_same_loss(self, transformers: Any, tmp_path: Path) -> None:
        trainer, _, teacher, loss, tokens = self.trained(transformers, tmp_path, batch=16)
        with torch.no_grad():
            wanted = loss(
                trainer.model.eval()(input_ids=tokens).logits, teacher(input_ids=tokens).logits, tokens[:, 0] % 3
            )
        assert trainer.evaluate()["eval_loss"] == pytest.approx(wanted.item(), rel=1e-4)
        assert trainer.predict(trainer.eval_dataset).predictions.shape == (16, 3)

    def test_its_step_number_moves_a_schedule(self, transformers: Any, tmp_path: Path) -> None:
        trainer, *_ = self.trained(transformers, tmp_path, batch=4)
        advice, seen = ta.recommend(setup=LONG_SGD), []
        loss = trainer.compute_loss.__globals__["kd_loss"]
        schedule = ta.TemperatureSchedule.from_recommendation(advice, loss, steps=4)

        class Scheduled(type(trainer)):  # type: ignore[misc]
            def compute_loss(self, *arguments: Any, **named: Any) -> Any:
                schedule.step(self.state.global_step)
                seen.append(loss.temperature)
                return super().compute_loss(*arguments, **named)

        Scheduled(model=trainer.model, args=trainer.args, train_dataset=trainer.train_dataset).train()
        assert advice.schedule is not None
        start, end = advice.schedule.start, advice.schedule.end
        assert seen == pytest.approx([start + (end - start) * step / 4 for step in range(4)])


def test_labels_that_were_mixed_are_taken_as_they_are() -> None:
    loss = ta.KDLoss(2.0)
    mixed = 0.5 * one_hot(LABELS, 2).float() + 0.5 * one_hot(LABELS.flip(0), 2).float()
    assert torch.isfinite(loss(student()(INPUTS), Teacher().eval()(INPUTS), mixed))
