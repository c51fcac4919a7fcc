"""Class relations: by hand, invariants, sampling noise, and the order coarse, medium, fine on rendered glyphs."""

import math

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from tempadvisor.measures import entropy_temperature, split
from tempadvisor.relations import ClassMargins, margin_sums, relations


def margins_of(logits, labels):
    margins = ClassMargins(logits.shape[1])
    for start in range(0, len(logits), 50):
        margins.add(margin_sums(split(logits[start : start + 50], labels[start : start + 50])))
    return margins


def related(logits, labels):
    found = margins_of(logits, labels).distances()
    return relations(found, entropy_temperature(logits, 0.3), entropy_temperature(logits, 0.5))


def blocks_of_classes(n_per_class=40, k=24, size=4, within=5.0, seed=0, noise=0.5):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(k), n_per_class)
    block = np.arange(k) // size
    means = within * (block[:, None] == block) + 4.0 * np.eye(k)
    return (means[labels] + rng.normal(0, noise, (len(labels), k))), labels


def test_distances_by_hand():
    logits = np.array([[4.0, 1.0, 0.0], [6.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.0, 0.0, 3.0]])
    margins = margins_of(logits, np.array([0, 0, 1, 2]))
    assert margins.sums / margins.counts[:, None] == pytest.approx(np.array([[0, 4, 5], [2, 0, 1], [3, 3, 0]]))
    two = margins_of(np.array([[4.0, 1.0], [0.0, 5.0]]), np.array([0, 1]))
    assert two.distances() == pytest.approx(np.array([[0, 4], [4, 0]]))


def test_many_samples_leave_the_distances_as_they_are():
    logits, labels = blocks_of_classes(n_per_class=400)
    mean = np.stack([logits[labels == c].mean(axis=0) for c in range(24)])
    one_way = np.diag(mean)[:, None] - mean
    assert margins_of(logits, labels).distances() == pytest.approx((one_way + one_way.T) / 2, abs=0.06)


def test_a_class_that_never_occurs_is_left_out():
    logits, labels = blocks_of_classes(k=24)
    kept = labels != 5
    assert margins_of(logits[kept], labels[kept]).distances().shape == (23, 23)


def test_equally_distant_classes_are_not_related():
    found = relations(3.0 * (1 - np.eye(10)), 1.0, 2.0)
    assert found.related_mass == pytest.approx(0, abs=1e-6)
    assert found.block_structure == 0
    assert found.confusable_classes == pytest.approx(9 * math.exp(-3), rel=1e-5)
    assert found.granularity == pytest.approx(math.log(1 + 9 * math.exp(-3)), rel=1e-5)


def test_mass_on_one_of_three_others_is_two_thirds_beyond_uniform():
    distances = np.full((4, 4), 100.0)
    distances[[0, 1, 2, 3], [1, 0, 3, 2]] = 1.0
    np.fill_diagonal(distances, 0.0)
    assert relations(distances, 1.0, 1.0).related_mass == pytest.approx(2 / 3)


def test_blocks_of_classes_show_as_related_mass_and_block_structure():
    blocks, none = related(*blocks_of_classes()), related(*blocks_of_classes(within=0.0))
    assert blocks.related_mass > 0.5 > 0.1 > none.related_mass
    assert blocks.block_structure > 0.9 > 0.1 > none.block_structure


def test_scale_offset_and_class_order_change_nothing():
    logits, labels = blocks_of_classes()
    order = np.random.default_rng(3).permutation(24)
    wanted = related(logits, labels)
    for changed in (
        related(logits * 7, labels),
        related(logits + np.arange(len(logits))[:, None], labels),
        related(logits[:, order], np.argsort(order)[labels]),
    ):
        for name in ("related_mass", "confusable_classes", "block_structure", "granularity"):
            assert getattr(changed, name) == pytest.approx(getattr(wanted, name), rel=2e-3, abs=1e-6)


def sampled(means, n_per_class, seed):
    """Return class relations of noisy samples around class means, as measured and without regard to noise."""
    labels = np.repeat(np.arange(len(means)), n_per_class)
    logits = means[labels] + np.random.default_rng(seed).normal(0, 1.5, (len(labels), len(means)))
    margins = margins_of(logits, labels)
    plain = margins.sums / margins.counts[:, None]
    levels = entropy_temperature(means, 0.3), entropy_temperature(means, 0.5)
    return relations(margins.distances(), *levels), relations((plain + plain.T) / 2, *levels)


def test_few_samples_a_class_do_not_make_classes_look_alike():
    means = 9 * np.eye(60) + np.random.default_rng(0).normal(0, 1, (60, 60))
    (full, _), (few, plain) = sampled(means, 400, 0), sampled(means, 6, 1)
    assert few.granularity == pytest.approx(full.granularity, rel=0.1)
    assert few.related_mass == pytest.approx(full.related_mass, rel=0.05)
    assert plain.related_mass > 1.15 * full.related_mass


def test_few_samples_a_class_leave_classes_alike_that_are():
    block = np.arange(60) // 4
    means = 7 * np.eye(60) + 3.0 * (block[:, None] == block)
    (full, _), (few, _) = sampled(means, 400, 0), sampled(means, 6, 1)
    assert few.related_mass == pytest.approx(full.related_mass, rel=0.15)


LETTERS = "ABDEGHKMNPQRSTXZ"


def glyph(letter, style, rng):
    """Render a letter upright, bold, slanted or turned, with jitter, as 144 pixels."""
    image = Image.new("L", (24, 24))
    where = tuple(12 + rng.uniform(-1.2, 1.2, 2))
    font = ImageFont.load_default(17)
    ImageDraw.Draw(image).text(where, letter, fill=255, font=font, anchor="mm", stroke_width=int(style == 1))
    if style == 2:
        image = image.transform(image.size, Image.Transform.AFFINE, (1, 0.45, -5.4, 0, 1, 0))
    image = image.rotate((35 if style == 3 else 0) + rng.uniform(-6, 6), Image.Resampling.BILINEAR)
    return np.asarray(image.resize((12, 12), Image.Resampling.BILINEAR), float).ravel() / 255


def discriminant(images, labels):
    """Return the logits of a linear discriminant teacher, in closed form."""
    means = np.stack([images[labels == c].mean(axis=0) for c in range(labels.max() + 1)])
    left = images - means[labels]
    covariance = left.T @ left / len(images)
    covariance = 0.7 * covariance + 0.3 * np.eye(len(covariance)) * np.trace(covariance) / len(covariance)
    weights = np.linalg.solve(covariance, means.T)
    return images @ weights - (means.T * weights).sum(axis=0) / 2


def ridge(images, labels):
    """Return the logits of a ridge regression teacher on centered one-hot labels, in closed form."""
    wanted = np.eye(labels.max() + 1)[labels] - 1 / (labels.max() + 1)
    weights = np.linalg.solve(images.T @ images + 30 * np.eye(images.shape[1]), images.T @ wanted)
    return 10 * (images - images.mean(axis=0)) @ weights


@pytest.mark.parametrize("teacher", [discriminant, ridge])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_images_labelled_coarse_medium_and_fine_come_out_in_that_order(teacher, seed):
    rng = np.random.default_rng(seed)
    made = [(i, s, glyph(c, s, rng)) for i, c in enumerate(LETTERS) for s in range(4) for _ in range(8)]
    letters, styles = np.array([row[0] for row in made]), np.array([row[1] for row in made])
    images = np.stack([row[2] for row in made]) + rng.normal(0, 0.25, (len(made), 144))

    coarse, medium, fine = (
        related(teacher(images, labels), labels).granularity
        for labels in (letters // 4, letters, letters * 4 + styles)
    )
    assert coarse < 0.9 * medium < 0.9 * 0.9 * fine

    four = letters < 4  # as many classes as there are letters, but alike: four letters in four styles
    alike = related(teacher(images[four], (letters * 4 + styles)[four]), (letters * 4 + styles)[four])
    assert alike.granularity > 1.1 * medium
