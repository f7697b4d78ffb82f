from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import pytest

from glrnn_hpc.config import PreprocessingConfig
from glrnn_hpc.errors import ConfigError, DataError, ModelError
from glrnn_hpc.experiments.labels import ExactRelation, LabelTransform
from glrnn_hpc.experiments.triaxial import TRIAXIAL, TriaxialCompression
from glrnn_hpc.preprocessor.from_file import FilePreprocessor
from glrnn_hpc.records.train_stats import plain
from glrnn_hpc.targets import Targets, choose_targets, targets_of
from tests.conftest import CONTACT_KEYS, INPUT_KEYS, OUTPUT_KEYS, write_steps

PARAMS = [*CONTACT_KEYS, "pressure", "experiment_type", "e0"]


def chosen(
    types: tuple[str, ...] = ("drained", "undrained"),
    inputs: tuple[str, ...] = INPUT_KEYS,
    params: list[str] = PARAMS,
    **keys: Any,
) -> Targets | None:
    config = PreprocessingConfig(raw_data="a.hdf5", **keys)
    return choose_targets(TRIAXIAL, config, {"input": inputs, "param": params, "label": OUTPUT_KEYS}, types)


def learnt(targets: Targets | None) -> list[str]:
    assert targets is not None
    return [each.label for each in targets.transforms]


@pytest.mark.parametrize("kind", ["linear", "log", "asinh"])
@pytest.mark.parametrize("reference", [None, np.array([0.2, 1.0])])
@pytest.mark.parametrize("xp", [np, keras.ops], ids=["numpy", "keras"])
def test_a_transform_and_its_inverse_cancel_in_numpy_and_in_keras(kind: Any, reference: Any, xp: Any):
    transform = LabelTransform("x", kind, "pressure", offset=1.0)
    values = np.array([[0.1, 40.0], [3.0, 0.5]])
    there = transform.forward(values, reference, xp)
    np.testing.assert_allclose(np.asarray(transform.inverse(there, reference, xp)), values, rtol=1e-6)


def test_the_transforms_of_triaxial_tests_are_volume_strain_and_logarithms():
    targets = chosen(label_scaling="physical")
    assert targets is not None
    labels = np.array([[0.6, 0.4, -1.0, 50.0, 0.3, 0.2, 0.1]])
    params = np.array([[9.0, 0.2, 0.5, 0.5, 30.0, 0.2, 1.0, 0.7]])
    expected = [np.log(1.6 / 1.7), np.log(2.0), np.arcsinh(-5.0), np.log(50.0), 0.3, 0.2, 0.1]
    np.testing.assert_allclose(targets.of_labels(labels, params)[0], expected)
    np.testing.assert_allclose(targets.to_labels(targets.of_labels(labels, params), np.zeros((1, 3)), params), labels)


def test_a_reference_that_the_model_does_not_have_is_left_out():
    targets = chosen(label_scaling="physical", params=[*CONTACT_KEYS])
    assert targets is not None
    labels = np.array([[0.6, 0.4, 1.0, 50.0, 0.3, 0.2, 0.1]])
    found = targets.of_labels(labels, np.zeros((1, 5)))[0, :3]
    np.testing.assert_allclose(found, [np.log(1.6), np.log(0.4), np.arcsinh(1.0)])


def test_relations_hold_in_the_dem_data_and_leave_nothing_to_learn(real_file: Path):
    for types, left_out in ((["drained"], {"e", "p"}), (["undrained"], {"e"}), (["drained", "undrained"], {"e"})):
        preprocessor = FilePreprocessor(raw_data=str(real_file), add_e0=True, exact=True, experiment_type=types)
        prepared = preprocessor.prepare_arrays()
        targets = targets_of(prepared.train_stats, {"raw_data": "", "experiment": None})
        assert set(OUTPUT_KEYS) - set(learnt(targets)) == left_out
        assert prepared.train_stats["num_targets"] == len(OUTPUT_KEYS) - len(left_out)
        inputs, params, labels = (values.astype("float64") for values in preprocessor.all_sequences().arrays())
        assert targets is not None
        outputs = targets.of_labels(labels, params[:, None])
        back = targets.to_labels(outputs, inputs, params[:, None])
        np.testing.assert_allclose(back[..., 0], labels[..., 0], atol=1e-6)  # e
        np.testing.assert_allclose(back[..., 1], labels[..., 1], rtol=2e-3)  # p
        np.testing.assert_allclose(back[..., 2:], labels[..., 2:], rtol=1e-6, atol=1e-9)


def test_a_relation_of_one_type_holds_for_its_sequences_alone():
    targets = chosen(exact=["p"])
    assert targets is not None
    assert learnt(targets) == [*OUTPUT_KEYS]  # p of undrained tests must be learnt
    outputs = np.tile([0.6, 7.0, 3.0, 1.0, 0.0, 0.0, 0.0], (2, 1))
    params = np.tile([9.0, 0.2, 0.5, 0.5, 30.0, 0.2, 1.0, 0.7], (2, 1))
    params[1, 6] = 0.0  # undrained
    labels = targets.to_labels(outputs, np.zeros((2, 3)), params)
    np.testing.assert_allclose(labels[:, 1], [0.2 + 3.0 / 3, 7.0])
    np.testing.assert_allclose(labels[:, [0, 2, 3, 4, 5, 6]], outputs[:, [0, 2, 3, 4, 5, 6]])


def test_the_void_ratio_of_drained_tests_is_learnt_where_the_lateral_strains_are_not_given():
    assert "e" in learnt(chosen(("drained",), ("e_z",), exact=True))
    assert "e" not in learnt(chosen(("undrained",), ("e_z",), exact=True))
    assert "e" in learnt(chosen(inputs=("e_z",), exact=True))  # undrained ones are computed, drained ones learnt


def test_an_exact_label_without_the_columns_that_it_needs_is_refused():
    with pytest.raises(ConfigError, match=r"exact: e is not exact here: .* needs e_x, e_y.*has e_z, E, v"):
        chosen(("drained",), ("e_z",), exact=["e"])
    with pytest.raises(ConfigError, match=r"no label is exact here: .*needs e0.*needs pressure"):
        chosen(("drained",), params=[*CONTACT_KEYS], exact=True)
    with pytest.raises(ConfigError, match="declares no relation that gives f0; it declares some for e, p"):
        chosen(exact=["f0"])


def test_an_experiment_without_transforms_or_relations_says_so():
    class Bare(TriaxialCompression):
        name: ClassVar[str] = "bare"

        def label_transforms(self) -> list[LabelTransform]:
            return []

        def exact_relations(self) -> list[ExactRelation]:
            return []

    names = {"input": INPUT_KEYS, "param": PARAMS, "label": OUTPUT_KEYS}
    for keys, message in (
        ({"label_scaling": "physical"}, "the experiment bare declares no transform of e, p"),
        ({"exact": True}, "no label is exact here: the experiment declares no relation"),
    ):
        with pytest.raises(ConfigError, match=message):
            choose_targets(Bare(), PreprocessingConfig(raw_data="a.hdf5", **keys), names, ["drained"])


def test_relations_that_give_all_labels_leave_nothing_to_train():
    names = {"input": INPUT_KEYS, "param": PARAMS, "label": ["e"]}
    with pytest.raises(ConfigError, match="relations give all labels, e; there is nothing to train"):
        choose_targets(TRIAXIAL, PreprocessingConfig(raw_data="a.hdf5", exact=True), names, ["drained"])


def test_targets_come_back_from_the_statistics_of_a_training(real_file: Path):
    preprocessor = FilePreprocessor(raw_data=str(real_file), add_e0=True, exact=True, label_scaling="physical")
    prepared = preprocessor.prepare_arrays()
    recorded = targets_of(plain(prepared.train_stats), preprocessor.config.as_dict())
    given = prepared.splits["train"].targets
    assert recorded is not None
    assert given is not None
    assert (recorded.transforms, recorded.relations) == (given.transforms, given.relations)
    labels, params = np.random.default_rng(0).random((3, 7)), np.random.default_rng(1).random((3, 8)) + 0.1
    np.testing.assert_allclose(recorded.of_labels(labels, params), given.of_labels(labels, params), rtol=1e-12)


def test_targets_have_zero_mean_and_unit_variance_in_the_training_split(real_file: Path):
    preprocessor = FilePreprocessor(raw_data=str(real_file), add_e0=True, exact=True, label_scaling="physical")
    prepared = preprocessor.prepare_arrays()
    targets = prepared.splits["train"].arrays()[2]
    np.testing.assert_allclose(targets.mean(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(targets.std(axis=(0, 1)), 1, rtol=1e-5)
    assert "mean" not in prepared.train_stats
    np.testing.assert_array_equal(
        prepared.train_stats["labels_std"],
        FilePreprocessor(raw_data=str(real_file)).prepare_arrays().train_stats["std"],
    )


def test_a_relation_that_the_experiment_no_longer_declares_is_named(real_file: Path):
    preprocessor = FilePreprocessor(raw_data=str(real_file), add_e0=True, exact=["e"])
    stats = plain(prepared := preprocessor.prepare_arrays().train_stats)
    assert prepared["targets"]["exact"][0]["relation"].startswith("e = (1 + e0)")
    stats["targets"]["exact"][0]["relation"] = "e = 1"
    with pytest.raises(ModelError, match="needs the relation e = 1, which its experiment does not declare"):
        targets_of(stats, preprocessor.config.as_dict())
    with pytest.raises(ModelError, match="targets is broken"):
        targets_of({**stats, "targets": {}}, preprocessor.config.as_dict())


def test_a_value_without_a_logarithm_is_named_with_its_group_sequence_and_step(tmp_path: Path):
    # Void ratios and pressures of this file are step numbers, so that p is 1000 at step 0; e begins at 0.
    path = write_steps(tmp_path / "a.hdf5", groups=("0.2e6/drained", "1.0e6/undrained"))
    FilePreprocessor(raw_data=str(path), window_size=3, label_scaling="physical").prepare_arrays()
    import h5py

    with h5py.File(path, "r+") as file:
        file["1.0e6/undrained/outputs"][4, 7, 1] = -2.0
    with pytest.raises(
        DataError, match=r"1.0e6/undrained, sequence 4, step 7: p is -2 and .*pressure is 1; .*its log.*above 0"
    ):
        FilePreprocessor(raw_data=str(path), window_size=3, label_scaling="physical").prepare_arrays()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"inputs": []}, "inputs: a list of at least one name is needed"),
        ({"inputs": ["e_z", "e_z"]}, "inputs: e_z is named twice"),
        ({"inputs": [3]}, "inputs: a list of at least one name is needed"),
        ({"exact": "yes, please"}, "declares no relation that gives yes, please"),
        ({"exact": 1}, "exact: true, false, or names of labels; a list of at least one name is needed"),
        ({"label_scaling": "log"}, "label_scaling: "),
    ],
)
def test_wrong_values_of_the_keys_are_refused(real_file: Path, keys: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        FilePreprocessor(raw_data=str(real_file), **keys).prepare_arrays()


class Layered(TriaxialCompression):
    """Experiment with a relation that needs a label which another one gives."""

    name: ClassVar[str] = "layered"

    def exact_relations(self) -> list[ExactRelation]:
        return [
            ExactRelation("e", ("e0",), lambda columns, xp: columns["e0"], "e = e0"),
            ExactRelation("f0", ("e",), lambda columns, xp: 10 * columns["e"], "f0 = 10 e"),
        ]


def test_relations_are_applied_in_the_order_of_their_declaration_whatever_that_of_the_key_is():
    names = {"input": INPUT_KEYS, "param": PARAMS, "label": OUTPUT_KEYS}
    config = PreprocessingConfig(raw_data="a.hdf5", exact=["f0", "e"])
    targets = choose_targets(Layered(), config, names, ["drained"])
    assert learnt(targets) == ["p", "q", *OUTPUT_KEYS[4:]]
    params = np.array([[9.0, 0.2, 0.5, 0.5, 30.0, 0.2, 1.0, 0.7]])
    assert targets is not None
    labels = targets.to_labels(np.zeros((1, 5)), np.zeros((1, 3)), params)
    np.testing.assert_allclose(labels[0, [0, 3]], [0.7, 7.0])


def test_a_relation_that_needs_what_a_later_one_gives_is_refused():
    class Reversed(Layered):
        def exact_relations(self) -> list[ExactRelation]:
            return super().exact_relations()[::-1]

    names = {"input": INPUT_KEYS, "param": PARAMS, "label": OUTPUT_KEYS}
    with pytest.raises(
        ConfigError, match=r"the relation f0 = 10 e of the experiment layered needs e, which a relation"
    ):
        choose_targets(Reversed(), PreprocessingConfig(raw_data="a.hdf5", exact=True), names, ["drained"])
    config = PreprocessingConfig(raw_data="a.hdf5", exact=["f0"])
    assert "e" in learnt(choose_targets(Reversed(), config, names, ["drained"]))  # learnt, and f0 follows from it


def test_a_transform_of_an_unknown_kind_is_refused_in_an_experiment_and_in_the_files_of_a_model(real_file: Path):
    unknown: Any = "ln"  # what a user writes without a type checker
    with pytest.raises(ConfigError, match="transform of p is of the kind 'ln'; it must be one of linear, log, asinh"):
        LabelTransform("p", unknown)
    preprocessor = FilePreprocessor(raw_data=str(real_file), label_scaling="physical")
    stats = plain(preprocessor.prepare_arrays().train_stats)
    stats["targets"]["transforms"][0]["kind"] = unknown
    with pytest.raises(ModelError, match="targets is broken: .*the kind 'ln'"):
        targets_of(stats, preprocessor.config.as_dict())


def test_a_reference_that_is_no_divisor_is_named(tmp_path: Path):
    path = write_steps(tmp_path / "a.hdf5", groups=("0/drained",))
    message = (
        r"0/drained, sequence 0, step 0: p is 1000 and the parameter pressure is 0; .*values and a pressure above 0"
    )
    with pytest.raises(DataError, match=message):
        FilePreprocessor(raw_data=str(path), window_size=3, label_scaling="physical").prepare_arrays()
