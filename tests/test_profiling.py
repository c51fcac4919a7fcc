"""Profiles: of files, arrays and live teachers; adaptive against full; and the sanity gate before any advice."""

import itertools
import json
import math

import numpy as np
import pytest

import tempadvisor.profiling
from tempadvisor.errors import InputError, OutOfScopeError, UsageError
from tempadvisor.gate import shuffled
from tempadvisor.measures import (
    SOFTNESS_LEVELS,
    calibration_bins,
    calibration_error,
    entropy_temperature,
    softmax_entropy,
)
from tempadvisor.profiling import profile
from tempadvisor.records import as_dict


def made(n=400, k=10, seed=0, spike=4.0, scale=1.0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) * k // n  # sorted by class, as files often are
    logits = rng.normal(0, 1, (n, k)) + rng.normal(0, 1, (k, k))[labels]
    logits[np.arange(n), labels] += spike * (0.5 + rng.random(n))
    return logits * scale, labels


def codes(found):
    return {notice.code for notice in found.warnings}


def test_every_number_of_a_full_profile_agrees_with_a_slow_reference():
    logits, labels = made()
    found = profile(logits, labels, read_all=True, logits_from="train")
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    right = logits.argmax(axis=1) == labels
    ordered = np.sort(logits, axis=1)

    assert (found.n_samples, found.n_available, found.n_classes, found.logits_from) == (400, 400, 10, "train")
    for temperature, entropy in zip(found.temperatures, found.entropy_nats, strict=True):
        assert entropy == pytest.approx(softmax_entropy(logits, temperature).mean(), abs=1e-4)
    for level, temperature in zip(SOFTNESS_LEVELS, found.softness_temperatures, strict=True):
        assert temperature == pytest.approx(entropy_temperature(logits, level), rel=2e-3)
    assert found.curve_at(1.0, found.top1_probability) == pytest.approx(p.max(axis=1).mean(), abs=1e-5)
    assert found.accuracy == pytest.approx(right.mean())
    assert found.nll_nats == pytest.approx(-np.log(p[np.arange(400), labels]).mean(), abs=1e-5)
    assert found.calibration_error == pytest.approx(
        calibration_error(calibration_bins(p.max(axis=1), right)), abs=1e-6
    )
    assert found.margin == pytest.approx((ordered[:, -1] - ordered[:, -2]).mean(), rel=1e-5)
    assert found.logit_std == pytest.approx(logits.std(axis=1).mean(), rel=1e-5)
    assert found.top_gap == pytest.approx((ordered[:, -1] - ordered[:, :-1].mean(axis=1)).mean(), rel=1e-5)
    assert found.rest_std == pytest.approx(ordered[:, :-1].std(axis=1).mean(), rel=1e-5)
    assert found.std_errors["margin"] == pytest.approx(
        (ordered[:, -1] - ordered[:, -2]).std() / math.sqrt(399), rel=1e-4
    )


def test_without_labels_what_needs_them_is_unknown_and_the_rest_is_there():
    found = profile(made()[0])
    assert (found.accuracy, found.nll_nats, found.calibration_error, found.calibration_temperature) == (None,) * 4
    assert found.granularity is not None


def test_a_profile_is_plain_json_without_nan():
    text = json.dumps(as_dict(profile(*made())), allow_nan=False)
    assert json.loads(text)["n_classes"] == 10


@pytest.mark.parametrize("factor", [3.0, 100.0, 0.05])
def test_scaling_the_logits_scales_the_softness_temperatures_and_nothing_of_the_relations(factor):
    logits, labels = made(k=30)
    one, other = profile(logits, labels), profile(logits * factor, labels)
    assert other.softness_temperatures == pytest.approx([factor * t for t in one.softness_temperatures], rel=0.005)
    assert other.spike_temperature == pytest.approx(factor * one.spike_temperature, rel=1e-4)
    assert other.granularity == pytest.approx(one.granularity, rel=0.005)
    assert other.related_mass == pytest.approx(one.related_mass, rel=0.005)


def test_permuted_classes_and_shifted_rows_give_the_same_profile():
    logits, labels = made()
    order = np.random.default_rng(1).permutation(10)
    changed = logits[:, order] + np.linspace(-50, 50, 400)[:, None]
    one, other = as_dict(profile(logits, labels)), as_dict(profile(changed, np.argsort(order)[labels]))
    for name, value in one.items():
        if name not in ("teacher", "logits_from", "warnings", "std_errors"):
            assert other[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


def test_the_result_does_not_depend_on_the_number_of_threads(monkeypatch):
    logits, labels = made(n=6000, k=100)
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(tempadvisor.profiling, "THREADS", threads)
        found.append(profile(logits, labels))
    assert found[0] == found[1]


def test_the_seed_decides_which_samples_are_read():
    logits, labels = made(n=30000)
    assert profile(logits, labels, seed=1) == profile(logits, labels, seed=1)
    assert profile(logits, labels, seed=1) != profile(logits, labels, seed=2)


@pytest.mark.parametrize("k", [5, 50])
def test_adaptive_reading_stops_early_on_sorted_files_and_agrees_with_the_full_profile(tmp_path, k):
    logits, labels = made(n=60000, k=k)
    np.savez(tmp_path / "x.npz", logits=logits.astype(np.float16), labels=labels)
    quick, full = profile(tmp_path / "x.npz"), profile(tmp_path / "x.npz", read_all=True)
    assert quick.n_samples < 0.5 * full.n_samples == 30000
    assert quick.n_available == 60000
    assert quick.softness_temperatures == pytest.approx(full.softness_temperatures, rel=0.03)
    assert quick.accuracy == pytest.approx(full.accuracy, abs=0.02)
    assert quick.granularity == pytest.approx(full.granularity, rel=0.05)
    assert quick.std_errors["softness_temperature_0.5"] < 0.006 * quick.softness_temperatures[2]


def test_a_tighter_tolerance_reads_more():
    logits, labels = made(n=60000)
    assert profile(logits, labels, tolerance=0.02).n_samples < profile(logits, labels, tolerance=0.005).n_samples


def test_standard_errors_cover_the_truth():
    logits, labels = made(n=40000)
    truth = profile(logits, labels, read_all=True)
    inside = 0
    for seed in range(20):
        found = profile(logits, labels, seed=seed, tolerance=0.05)
        error = found.std_errors["softness_temperature_0.5"]
        inside += abs(found.softness_temperatures[2] - truth.softness_temperatures[2]) < 2 * error
    assert inside >= 16


def test_progress_is_told_samples_used_and_available():
    told = []
    found = profile(*made(n=3000), read_all=True, progress=lambda *seen: told.append(seen))
    assert told[-1] == (3000, 3000)
    assert [n for n, _ in told] == sorted(n for n, _ in told)
    assert found.n_samples == 3000


def test_too_many_classes_have_no_class_relations():
    logits = np.random.default_rng(0).normal(size=(20, 5000)).astype(np.float32)
    found = profile(logits)
    assert (found.granularity, found.related_mass, found.block_structure, found.confusable_classes) == (None,) * 4
    assert found.softness_temperatures[2] is not None


def test_two_classes_are_enough():
    found = profile(*made(k=2))
    assert found.nontarget_entropy_nats == (0,) * 29
    assert found.related_mass == 0


def test_the_file_says_where_its_logits_come_from_unless_told_otherwise(tmp_path):
    from safetensors.numpy import save_file

    save_file({"logits": made()[0]}, tmp_path / "x.safetensors", {"logits_from": "train"})
    assert profile(tmp_path / "x.safetensors").logits_from == "train"
    assert profile(tmp_path / "x.safetensors", logits_from="test").logits_from == "test"


# the gate ------------------------------------------------------------------------------------------------------


def softmax(z):
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def with_value(value):
    logits, _ = made()
    logits[37, 3] = value
    return logits


def top_k(fill):
    logits, _ = made(k=50)
    kept = np.argsort(logits, axis=1)[:, -5:]
    out = np.full_like(logits, fill)
    np.put_along_axis(out, kept, np.take_along_axis(logits, kept, axis=1), axis=1)
    return out


LOGITS, LABELS = made()
GATE = {
    "one class": (np.ones((5, 1)), None, "one_class"),
    "no class": (np.ones((5, 0)), None, "one_class"),
    "one sample": (np.array([[1.0, 2.0]]), None, "too_few_samples"),
    "no sample": (np.empty((0, 3)), None, "too_few_samples"),
    "NaN": (with_value(np.nan), None, "not_finite"),
    "infinity": (with_value(np.inf), None, "not_finite"),
    "-infinity": (with_value(-np.inf), None, "not_finite"),
    "probabilities": (softmax(LOGITS), None, "probabilities"),
    "half-precision probabilities": (softmax(LOGITS).astype(np.float16), None, "probabilities"),
    "clamped log-probabilities": (np.log(np.maximum(softmax(LOGITS * 3), 1e-4)), None, "clamped"),
    "constant logits": (np.full((30, 4), 2.5), None, "constant"),
    "one row over and over": (np.tile([1.0, 2.0, 0.5], (30, 1)), None, "constant"),
    "top-k filled with 0": (top_k(0.0), None, "top_k"),
    "top-k filled with -1e4": (top_k(-1e4), None, "top_k"),
    "top-k filled with -inf": (top_k(-np.inf), None, "not_finite"),
    "label too high": (LOGITS, np.where(LABELS == 9, 10, LABELS), "labels_out_of_range"),
    "label below 0": (LOGITS, LABELS - 1, "labels_out_of_range"),
    "labels of another length": (LOGITS, LABELS[:-1], "labels_length"),
    "classes in another order": (LOGITS, (LABELS + 1) % 10, "class_order"),
    "labels at chance": (LOGITS, np.arange(400) % 10, "class_order"),
    "one dimension": (LOGITS[:, 0], None, "not_two_dimensional"),
    "integers": (LOGITS.astype(int), None, "not_float"),
}


@pytest.mark.parametrize("case", GATE)
def test_what_would_make_the_answer_meaningless_is_refused_in_one_line(case):
    logits, labels, code = GATE[case]
    with pytest.raises(InputError) as caught:
        profile(logits, labels)
    assert caught.value.code == code
    assert len(str(caught.value).splitlines()) == 1


def test_nan_far_down_a_file_is_found_when_it_is_read():
    logits, labels = made(n=20000)
    logits[19999, 0] = np.nan
    with pytest.raises(InputError, match="finite"):
        profile(logits, labels, read_all=True)


@pytest.mark.parametrize("read_all", [True, False])
def test_the_first_row_of_a_file_that_is_wrong_is_named(tmp_path, read_all):
    logits, labels = made(n=20000)
    wrong = labels.copy()
    wrong[[1234, 1500]] = -100
    np.savez(tmp_path / "labels.npz", logits=logits, labels=wrong)
    with pytest.raises(
        InputError, match=r"Got 2 outside, -100 the first, in row 1234 counted from 0 \(.*labels\.npz"
    ):
        profile(tmp_path / "labels.npz", read_all=read_all)
    with pytest.raises(InputError, match=r"between 0 and 8\. Got 2000 outside, 9 the first, in row 18000 counted"):
        profile(logits, labels, class_map=range(1, 10), read_all=read_all)
    logits[17, 0], logits[[1234, 5000], 3] = -np.inf, np.nan
    np.savez(tmp_path / "logits.npz", logits=logits, labels=labels)
    with pytest.raises(InputError, match=r"must be finite.*logits\.npz.* The first is in row 17 counted from 0\."):
        profile(tmp_path / "logits.npz", read_all=True)
    with pytest.raises(InputError, match=r"The first is in row 1234 counted from 0\."):
        profile(tmp_path / "logits.npz", np.maximum(labels - 1, 0), class_map=range(1, 10), read_all=True)


def test_segmentation_and_multi_label_teachers_are_out_of_scope():
    with pytest.raises(OutOfScopeError):
        profile(np.zeros((2, 3, 4, 4)))
    with pytest.raises(OutOfScopeError):
        profile(LOGITS, (LOGITS > 1).astype(int))


def test_log_probabilities_are_accepted_with_a_note_and_give_the_same_curves():
    plain, logged = profile(LOGITS, LABELS), profile(np.log(softmax(LOGITS)), LABELS)
    assert "log_probabilities" in codes(logged)
    assert "log_probabilities" not in codes(plain)
    assert logged.entropy_nats == pytest.approx(plain.entropy_nats, abs=1e-5)


def test_an_almost_one_hot_teacher_is_warned_about():
    assert "one_hot" in codes(profile(LOGITS * 50))
    assert "one_hot" not in codes(profile(LOGITS))


def test_where_the_logits_come_from_is_warned_about_when_unknown_or_held_out():
    assert "logits_from_unknown" in codes(profile(LOGITS))
    assert codes(profile(LOGITS, logits_from="train")) == set()
    assert codes(profile(LOGITS, logits_from="test")) == {"logits_from_held_out"}


def test_few_samples_and_a_teacher_hardly_above_chance_are_warned_about():
    assert "few_samples" in codes(profile(LOGITS[::20]))
    weak = np.random.default_rng(0).normal(size=(200, 10))
    labels = (weak.argmax(axis=1) + np.random.default_rng(1).integers(1, 10, 200)) % 10
    labels[:40] = weak[:40].argmax(axis=1)
    assert "near_chance" in codes(profile(weak, labels))


def answers(shares, per_class, seed):
    """Return logits and labels of a teacher that answers class i with j in a share of cases shares[i, j]."""
    rng = np.random.default_rng(seed)
    labels = np.arange(len(shares)).repeat(per_class)
    logits = rng.normal(size=(len(labels), len(shares)))
    predicted = [rng.choice(len(shares), p=shares[label]) for label in labels]
    logits[np.arange(len(labels)), predicted] = 4 + rng.random(len(labels))
    return logits, labels


def test_a_teacher_whose_outputs_belong_to_no_class_is_refused_even_if_it_happens_to_beat_chance():
    refused = lucky = 0
    for seed in range(60):
        shares = np.random.default_rng(seed).dirichlet(np.full(10, 0.5), size=10)  # tells classes apart at random
        lucky += np.trace(shares) / 10 > 0.12
        try:
            profile(*answers(shares, 100, seed))
        except InputError as error:
            refused += error.code == "class_order"
    assert lucky > 15
    assert refused >= 58


@pytest.mark.parametrize("k", [2, 3, 4, 6, 10, 100])
def test_a_weak_teacher_whose_outputs_are_in_order_is_taken(k):
    shares = 0.3 * np.eye(k) + 0.7 / k
    assert profile(*answers(shares, 6000 // k, 0)).accuracy == pytest.approx(0.3 + 0.7 / k, abs=0.03)


@pytest.mark.parametrize("k", [4, 6, 8])
def test_a_teacher_that_only_knows_pairs_of_classes_is_taken(k):
    shares = np.kron(np.eye(k // 2), np.full((2, 2), 0.5))
    assert profile(*answers(shares, 6000 // k, 0)).accuracy == pytest.approx(0.5, abs=0.03)


def test_a_teacher_of_rare_classes_is_judged_by_all_of_them():
    logits, labels = answers(0.8 * np.eye(7) + 0.2 / 7, 300, 0)
    kept = np.concatenate([np.flatnonzero(labels == 0), *(np.flatnonzero(labels == c)[:3] for c in range(1, 7))])
    assert profile(logits[kept], labels[kept]).accuracy > 0.75


def test_the_spread_over_shuffled_outputs_is_that_of_all_orders_one_by_one():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(4, size=50), rng.integers(5, size=50)
    found = [
        np.mean([(np.array(order)[predicted[labels == c]] == c).mean() for c in range(4)])
        for order in itertools.permutations(range(5))
    ]
    assert shuffled(labels, predicted, 5) == pytest.approx((found[0], np.std(found)))
    assert np.mean(found) == pytest.approx(1 / 5)


def test_arguments_that_contradict_or_are_unknown_are_refused():
    for arguments in ({"logits_from": "trian"}, {"tolerance": 0.0}, {"data": LOGITS}):
        with pytest.raises(UsageError):
            profile(LOGITS, **arguments)


# live teachers -------------------------------------------------------------------------------------------------

torch = pytest.importorskip("torch")


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Dropout(0.5), torch.nn.Linear(32, 6))
    net[2].eval()  # modes may differ between parts, and each is put back
    return net


@pytest.fixture
def inputs():
    return torch.randn(3000, 8, generator=torch.Generator().manual_seed(1)) * 4


def wanted(teacher, inputs):
    modes = [module.training for module in teacher.modules()]
    with torch.no_grad():
        logits = teacher.eval()(inputs).numpy()
    for module, mode in zip(teacher.modules(), modes, strict=True):
        module.training = mode
    return logits


def test_a_live_teacher_gives_the_profile_of_its_logits_and_is_left_as_it_was(teacher, inputs):
    logits = wanted(teacher, inputs)
    labels = logits.argmax(axis=1)
    modes = [module.training for module in teacher.modules()]
    found = profile(teacher, data=(inputs, torch.tensor(labels)), read_all=True)
    stored = profile(logits, labels, read_all=True)
    assert found.entropy_nats == pytest.approx(stored.entropy_nats, abs=1e-5)
    assert found.granularity == pytest.approx(stored.granularity, rel=1e-4)
    assert (found.accuracy, found.n_samples, found.n_available) == (1.0, 3000, 3000)
    assert [module.training for module in teacher.modules()] == modes
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_live_teacher_is_not_run_longer_than_it_takes(teacher, inputs):
    many = inputs.repeat(20, 1)
    seen = []
    teacher.register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
    found = profile(teacher, data=many, tolerance=0.02)
    assert sum(seen) < 0.2 * len(many)
    assert found.n_samples <= sum(seen)
    assert found.n_available == 60000


def test_data_sets_and_loaders_are_sampled_at_random_and_other_batches_read_to_their_end(teacher, inputs):
    from torch.utils.data import DataLoader, TensorDataset

    logits = wanted(teacher, inputs)
    order = np.argsort(logits.argmax(axis=1))
    data = TensorDataset(inputs[order], torch.tensor(logits.argmax(axis=1)[order]))
    loader = DataLoader(data, batch_size=50)
    full = profile(teacher, data=data, read_all=True)
    for some in (data, loader):
        quick = profile(teacher, data=some, tolerance=0.05)
        assert quick.n_samples < 3000
        assert quick.softness_temperatures == pytest.approx(full.softness_temperatures, rel=0.1)
    batches = profile(teacher, data=iter(loader), tolerance=0.05)
    assert (batches.n_samples, batches.accuracy) == (3000, 1.0)
    beside = profile(teacher, logits.argmax(axis=1)[order], data=[inputs[order]])
    assert (beside.n_samples, beside.accuracy) == (3000, 1.0)


@pytest.mark.parametrize("names", [("pixel_values", "labels"), ("image", "label")])
def test_batches_as_dicts_are_taken_under_the_names_of_hugging_face_and_their_rows_in_random_order(
    teacher, inputs, names
):
    from torch.utils.data import DataLoader

    labels = torch.tensor(wanted(teacher, inputs).argmax(axis=1))
    order = labels.argsort()
    rows = [dict(zip(names, pair, strict=True)) for pair in zip(inputs[order], labels[order], strict=True)]
    loader = DataLoader(rows, batch_size=50)
    full = profile(teacher, data=(inputs, labels), read_all=True)
    found = profile(teacher, data=loader, read_all=True)
    assert (found.n_samples, found.accuracy) == (3000, 1.0)
    assert found.entropy_nats == pytest.approx(full.entropy_nats, abs=1e-5)
    quick = profile(teacher, data=loader, tolerance=0.05)
    assert quick.n_samples < 3000
    assert quick.softness_temperatures == pytest.approx(full.softness_temperatures, rel=0.1)
    beside = profile(teacher, labels[order], data=[{names[0]: inputs[order]}])
    assert (beside.n_samples, beside.accuracy) == (3000, 1.0)


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        ({"input_ids": [1], "labels": [0]}, "one of pixel_values, .*Got a dict of input_ids, labels"),
        ([object()], "of tensors. Got object for inputs"),
        ({"image": ["a.png", None]}, "of tensors. Got list for inputs"),
    ],
)
def test_batches_in_which_no_inputs_are_found_are_refused_in_one_line(teacher, batch, says):
    with pytest.raises(InputError, match=f"a batch must be .*{says}") as error:
        profile(teacher, data=[batch])
    assert error.value.code == "bad_data"


def test_a_loader_of_a_stream_is_read_to_its_end(teacher, inputs):
    from torch.utils.data import DataLoader, IterableDataset

    class Stream(IterableDataset):
        def __iter__(self):
            return iter(inputs)

    assert profile(teacher, data=DataLoader(Stream(), batch_size=50), tolerance=0.05).n_samples == 3000


def test_a_teacher_in_training_mode_is_run_in_evaluation_mode_and_that_is_said(teacher, inputs):
    found = profile(teacher.train(), data=inputs, read_all=True)
    assert "training_mode" in codes(found)
    assert found.entropy_nats == profile(teacher.eval(), data=inputs, read_all=True).entropy_nats
    assert "training_mode" not in codes(profile(teacher, data=inputs))
    assert "training_mode" not in codes(profile(torch.nn.Linear(8, 6), data=inputs))  # its mode changes nothing


class Small(torch.nn.Module):
    """Has memory for 20 inputs at once."""

    def __init__(self, error):
        super().__init__()
        self.linear, self.error, self.sizes = torch.nn.Linear(8, 6), error, []

    def forward(self, inputs):
        self.sizes.append(len(inputs))
        if len(inputs) > 20:
            raise self.error
        return self.linear(inputs)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
)
def test_where_memory_runs_out_half_as_many_inputs_are_run_at_once_from_then_on(inputs, error):
    small = Small(error)
    found = profile(small, data=inputs, read_all=True)
    assert small.sizes[:4] == [64, 32, 16, 16]
    assert max(small.sizes[2:]) == 16
    with torch.inference_mode():
        logits = small.linear(inputs).numpy()
    assert found.entropy_nats == pytest.approx(profile(logits, read_all=True).entropy_nats, abs=1e-5)


def test_a_teacher_without_memory_for_one_input_is_told(inputs):
    class Full(torch.nn.Module):
        def forward(self, _):
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(InputError, match=r"must run on the data.*out of memory"):
        profile(Full(), data=inputs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_teachers_of_other_precision_are_run_as_they_are(teacher, inputs, dtype):
    found = profile(teacher.to(dtype), data=inputs, read_all=True)
    reference = profile(wanted(teacher.to(torch.float32), inputs), read_all=True)
    assert found.entropy_nats == pytest.approx(reference.entropy_nats, abs=0.01)


class Wrapped(torch.nn.Module):
    def __init__(self, net, form):
        super().__init__()
        self.net, self.form = net, form

    def forward(self, x):
        return self.form(self.net(x))


def test_outputs_with_logits_are_understood_and_others_refused(teacher, inputs):
    class Output:
        def __init__(self, logits):
            self.logits = logits

    plain = profile(teacher, data=inputs)
    for form in (Output, lambda z: {"logits": z, "hidden": 0}):
        assert profile(Wrapped(teacher, form), data=inputs).entropy_nats == plain.entropy_nats
    for form in (lambda z: (z, z), lambda z: {"scores": z}):
        with pytest.raises(InputError) as caught:
            profile(Wrapped(teacher, form), data=inputs)
        assert caught.value.code == "no_logits"
    with pytest.raises(OutOfScopeError):
        profile(Wrapped(teacher, lambda z: z[:, :, None, None].expand(-1, -1, 2, 2)), data=inputs)


def test_a_teacher_that_fails_on_its_data_says_so_and_is_left_as_it_was(teacher):
    with pytest.raises(InputError) as caught:
        profile(teacher, data=torch.zeros(10, 3))
    assert caught.value.code == "teacher_failed"
    assert teacher.training
    with pytest.raises(UsageError):
        profile(teacher)
    with pytest.raises(InputError, match="labels"):
        profile(teacher, np.zeros(4, int), data=torch.zeros(10, 8))


def test_tensors_of_logits_are_taken_like_arrays():
    tensor = torch.tensor(LOGITS, dtype=torch.float32, requires_grad=True)
    found = profile(tensor, torch.tensor(LABELS))
    assert found.entropy_nats == pytest.approx(profile(LOGITS, LABELS).entropy_nats, abs=1e-5)
    assert profile(tensor.detach().bfloat16()).n_classes == 10


@pytest.mark.parametrize("scale", [1e18, 1e300, 1e307])
def test_values_that_no_network_gives_are_refused(scale: float) -> None:
    values = np.random.default_rng(0).normal(size=(50, 4)) * scale
    with pytest.raises(InputError) as error:
        profile(values, logits_from="train")
    assert error.value.code == "too_large"


def test_percentages_are_probabilities_too() -> None:
    raw = np.exp(np.random.default_rng(0).normal(size=(200, 4)))
    with pytest.raises(InputError) as error:
        profile(100 * raw / raw.sum(axis=1, keepdims=True), logits_from="train")
    assert error.value.code == "probabilities"


def test_values_like_sigmoid_outputs_and_sorted_rows_are_warned_of() -> None:
    noise = np.random.default_rng(0).normal(size=(200, 5))
    sigmoid = profile(1 / (1 + np.exp(-noise)), logits_from="train")
    assert "in_unit_range" in {notice.code for notice in sigmoid.warnings}
    ordered = profile(-np.sort(-3 * noise, axis=1), logits_from="train")
    assert "sorted_rows" in {notice.code for notice in ordered.warnings}
    plain = profile(3 * noise, logits_from="train")
    assert not {"in_unit_range", "sorted_rows"} & {notice.code for notice in plain.warnings}
