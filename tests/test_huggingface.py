"""Transformers as teachers, of images and of texts, made here from tiny configurations."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tempadvisor import models
from tempadvisor.errors import InputError, OutOfScopeError
from tempadvisor.huggingface import is_transformer
from tempadvisor.teachers import profile_of

transformers = pytest.importorskip("transformers")


def image_classifier(folder: Path, **more: object) -> torch.nn.Module:
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8,
        num_labels=3, id2label={0: "ant", 1: "bee", 2: "cat"}, **more,
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(folder)
    processor = {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 16, "width": 16},
        "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7],
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return model


def text_classifier(folder: Path) -> None:
    """Save a classifier that tells good from bad by its word embeddings alone."""
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "a"]
    (folder / "vocab.txt").parent.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words))
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=32, num_labels=2,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config)
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    texts = [f"{'a ' * i}{word} film" for i in range(3) for word in ("bad", "good")]
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    for _ in range(60):
        optimizer.zero_grad()
        model(**tokens, labels=torch.tensor([0, 1] * 3)).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def test_an_image_classifier_gets_the_inputs_that_its_processor_makes(tmp_path: Path) -> None:
    model = image_classifier(tmp_path / "vit")
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "vit")
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    live = models.live(str(tmp_path / "vit")).cpu().eval()
    with torch.inference_mode():
        wanted = model(**processor(Image.fromarray(pixels), return_tensors="pt")).logits
        ours = live(torch.from_numpy(pixels).permute(2, 0, 1)[None])
    torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-4)
    assert live.framing is not None
    assert (live.framing.size, live.framing.interpolation) == ((16, 16), "bilinear")


def test_a_text_classifier_is_profiled_on_a_table_of_texts(tmp_path: Path) -> None:
    text_classifier(tmp_path / "bert")
    lines = [f"{'a ' * (i % 3)}{word} film,{label}" for i in range(30) for word, label in (("good", 1), ("bad", 0))]
    (tmp_path / "texts.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    found = profile_of(str(tmp_path / "bert"), data=str(tmp_path / "texts.csv"), logits_from="train")
    assert (found.n_samples, found.n_classes, found.accuracy) == (60, 2, 1.0)


def test_texts_for_a_model_of_images_and_images_for_one_of_texts_are_refused(tmp_path: Path) -> None:
    image_classifier(tmp_path / "vit")
    text_classifier(tmp_path / "bert")
    (tmp_path / "texts.csv").write_text("text,label\ngood,1\nbad,0\n")
    with pytest.raises(InputError, match=r"It takes images, and the data are texts\. Give --data images"):
        profile_of(str(tmp_path / "vit"), data=str(tmp_path / "texts.csv"))
    with pytest.raises(InputError, match=r"It takes texts, and the data are images\. Give --data FILE\.csv"):
        profile_of(str(tmp_path / "bert"), data="sklearn/digits")


def test_a_classifier_with_several_labels_is_out_of_scope(tmp_path: Path) -> None:
    image_classifier(tmp_path / "vit", problem_type="multi_label_classification")
    with pytest.raises(OutOfScopeError, match="multi-label"):
        models.live(str(tmp_path / "vit"))


def test_what_is_no_classifier_or_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    config = transformers.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    transformers.ViTModel(config).save_pretrained(tmp_path / "body")
    with pytest.raises(InputError, match=r"must be a classifier of images or texts.*Got ViTModel"):
        models.live(str(tmp_path / "body"))
    with pytest.raises(InputError, match="must be a classifier of transformers that can be loaded") as error:
        models.live(f"transformers:{tmp_path}/none")
    assert "\n" not in str(error.value)


class Bomb:
    def __reduce__(self):
        return (os.system, ("touch executed",))


def test_neither_pickles_nor_code_of_a_folder_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    image_classifier(tmp_path / "vit")
    (tmp_path / "vit" / "model.safetensors").unlink()
    torch.save({"bomb": Bomb()}, tmp_path / "vit" / "pytorch_model.bin")
    with pytest.raises(InputError, match="can be loaded"):
        models.live(str(tmp_path / "vit"))
    config = json.loads((tmp_path / "vit" / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "code.Config"}}
    (tmp_path / "vit" / "config.json").write_text(json.dumps(config))
    (tmp_path / "vit" / "code.py").write_text("open('executed', 'w')\n")
    with pytest.raises(InputError, match="can be loaded"):
        models.live(str(tmp_path / "vit"))
    assert not (tmp_path / "executed").exists()


def test_a_folder_of_timm_is_none_of_transformers(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architecture": "resnet18"}')
    assert not is_transformer(str(tmp_path))
    assert is_transformer("transformers:google/vit-base-patch16-224")
