"""Exports that are Python to paste: keras, the Hugging Face Trainer, NVIDIA ModelOpt."""

from __future__ import annotations

from tempadvisor.contracts import to_alpha
from tempadvisor.records import LossContract
from tempadvisor.settings import Export, Settings, number, remarks, usual

KERAS = """\
import keras

# teacher, student: keras models that return logits; optimizer: the student's
distiller = keras.distillation.Distiller(
    teacher=teacher,
    student=student,
    distillation_losses=[
        keras.distillation.LogitsDistillation(temperature={temperature}, loss=keras.losses.KLDivergence())
    ],
    distillation_loss_weights=[{kd}],
    student_loss_weight={hard},
)
distiller.compile(optimizer=optimizer, loss={loss})
"""

TRAINER = """\
import torch
from torch.nn import functional as F
from transformers import Trainer

TEMPERATURE = {temperature}


class DistillationTrainer(Trainer):
    def __init__(self, *args, teacher, **kwargs):
        super().__init__(*args, **kwargs)
        self.teacher = teacher.eval().requires_grad_(False).to(self.args.device)
        self.model_accepts_loss_kwargs = False  # a mean over the batch: the Trainer divides by accumulation steps

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        inputs = dict(inputs)
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        with torch.no_grad():
            target = F.log_softmax(self.teacher(**inputs).logits / TEMPERATURE, dim=-1)
        student = F.log_softmax(outputs.logits / TEMPERATURE, dim=-1)
        soft = F.kl_div(student, target, reduction="batchmean", log_target=True)
        hard = F.cross_entropy(outputs.logits, labels, label_smoothing={smoothing})
        loss = {hard} * hard + {kd} * TEMPERATURE**2 * soft
        return (loss, outputs) if return_outputs else loss
"""

MODELOPT = '''\
import modelopt.torch.distill as mtd

# teacher, student: modules that return logits
config = {{
    "teacher_model": teacher,
    "criterion": mtd.LogitsDistillationLoss(temperature={temperature}, reduction="batchmean"),
    "loss_balancer": mtd.StaticLossBalancer(kd_loss_weight={alpha}),
}}
model = mtd.convert(student, mode=[("kd_loss", config)])


def distillation_loss(student_loss):
    """Return the loss of a batch after model(batch); student_loss is the batch mean of the cross-entropy."""
    return {scale}model.compute_kd_loss(student_loss=student_loss)
'''


def keras(wanted: Settings) -> Export:
    """Return a keras Distiller, its KL given as an object: as a text keras takes the KL of raw logits."""
    plain = usual(wanted)
    if plain.hard_weight < 1:
        hard, kd, scale = plain.hard_weight, plain.kd_weight / (1 - plain.hard_weight), 1.0
    else:
        alpha = to_alpha(LossContract(kd_weight=plain.kd_weight, hard_weight=plain.hard_weight), on="hard")
        hard, kd, scale = alpha.alpha, 1.0, alpha.loss_scale
    rate = (
        ()
        if scale == 1
        else (
            "student_loss_weight must be at most 1, so both weights are divided by their sum: multiply the learning "
            f"rate by {number(scale)} (SGD; Adam and AdamW hardly see a scale).",
        )
    )
    smooth = wanted.label_smoothing
    loss = (
        f"keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing={number(smooth)})"
        if smooth
        else "keras.losses.SparseCategoricalCrossentropy(from_logits=True)"
    )
    body = KERAS.format(temperature=number(plain.temperature), kd=number(kd), hard=number(hard), loss=loss)
    lines = (
        *plain.notes,
        *plain.doubts,
        "keras' loss: student_loss_weight CE + (1 - student_loss_weight) distillation_loss_weight T^2 KL, mean over "
        "the batch.",
        *rate,
        'Keep KLDivergence() an object: LogitsDistillation\'s default, the text "kl_divergence", takes the KL of raw '
        "logits in keras 3.15.1, without softmax and T^2.",
        "The Distiller class of the older keras.io example is another loss, without T^2 (keras-io #869).",
        "keras clips probabilities at 1e-7, so classes below that give no gradient.",
        *(("Label smoothing needs one-hot labels.",) if smooth else ()),
    )
    return Export(text=remarks(wanted, "keras", lines) + body, warnings=(*plain.doubts, *rate))


def hf_trainer(wanted: Settings) -> Export:
    """Return a subclass of the Hugging Face Trainer, which has no distillation loss of its own."""
    plain = usual(wanted)
    body = TRAINER.format(
        temperature=number(plain.temperature),
        hard=number(plain.hard_weight),
        kd=number(plain.kd_weight),
        smoothing=number(wanted.label_smoothing or 0.0),
    )
    lines = (
        *plain.notes,
        *plain.doubts,
        "transformers has no distillation loss: this is one. TrainingArguments(label_smoothing_factor=...) does not "
        "reach it.",
    )
    return Export(text=remarks(wanted, "the Hugging Face Trainer", lines) + body, warnings=plain.doubts)


def modelopt(wanted: Settings) -> Export:
    """Return a ModelOpt configuration, its reduction given: by default it averages over classes too."""
    plain = usual(wanted)
    contract = LossContract(kd_weight=plain.kd_weight, hard_weight=plain.hard_weight)
    alpha = to_alpha(contract, on="soft")
    scaled = abs(alpha.loss_scale - 1) > 1e-9
    body = MODELOPT.format(
        temperature=number(plain.temperature),
        alpha=number(alpha.alpha),
        scale=f"{number(alpha.loss_scale)} * " if scaled else "",
    )
    lines = (
        *plain.notes,
        *plain.doubts,
        "ModelOpt's loss: kd_loss_weight T^2 KL + (1 - kd_loss_weight) student_loss.",
        *(("Its weights must sum to 1; the factor before compute_kd_loss restores their sum.",) if scaled else ()),
        *(
            (f"student_loss is to have the label smoothing: {number(wanted.label_smoothing)}.",)
            if wanted.label_smoothing
            else ()
        ),
        'Keep reduction="batchmean": its default "mean" averages over classes too, a KD term 1/K as strong.',
    )
    return Export(text=remarks(wanted, "NVIDIA ModelOpt", lines) + body, warnings=plain.doubts)
