"""Triaxial compression: its columns, groups and parameters, and the relations of its strains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.errors import DataError
from glrnn_hpc.experiments.base import (
    TYPE_PARAMETER,
    Column,
    DerivedInputs,
    Experiment,
    ExtraParameter,
    Group,
    UnderivableInputs,
    is_number,
)
from glrnn_hpc.experiments.derived_features import DerivedFeatures
from glrnn_hpc.experiments.labels import ExactRelation, LabelTransform
from glrnn_hpc.experiments.load_history import history_features
from glrnn_hpc.experiments.small_strain import small_strain_features

Array = NDArray[Any]

#: No laboratory reaches this confining pressure [MPa]; it must be one in Pa.
_HIGHEST_PRESSURE = 1e3

#: The history of the axial strain, and its logarithm.
_DERIVED = (history_features("e_z"), small_strain_features("e_z"))

#: The output whose first value is the initial void ratio.
VOID_RATIO = "e"

#: By this part the first mean stress of a test may differ from its confining pressure: noise, and load before row 1.
_SAME_PRESSURE = 0.5

#: A void ratio that changes by less is that of an undrained test; one that changes by more is not, even if measured.
_LEAST_DRAINED, _MOST_UNDRAINED = 1e-3, 1e-2


class TriaxialCompression(Experiment):
    """Triaxial compression of YADE, with the columns of GrainLearning's data.

    Groups are ``pressure/experiment_type`` with the pressure in Pa, such as ``0.2e6/drained``. Strains are logarithmic
    and compression is positive.
    """

    name = "triaxial"
    contact_params = (Column("E", "log10 Pa"), Column("v"), Column("kr"), Column("eta"), Column("mu", "degrees"))
    inputs = (Column("e_x"), Column("e_y"), Column("e_z", title="axial strain"))
    outputs = (
        Column("e"),
        Column("p", "MPa", raw_divisor=1e6),
        Column("q", "MPa", raw_divisor=1e6),
        Column("f0", "N"),
        Column("a_c"),
        Column("a_n"),
        Column("a_t"),
    )
    type_codes = MappingProxyType({"drained": 1.0, "undrained": 0.0})
    control = "e_z"
    state_outputs = ("e",)
    raw_group_keys = ("conf", "mode")
    unused_constants = ("conf", "mode", "num")
    unused_sequences = ("dt", "numIter", "K", "A")

    def raw_group(self, constants: Mapping[str, Any]) -> str | None:
        """Return the group of `conf`, log10 of the pressure in Pa, and `mode`, the experiment type."""
        if "conf" not in constants or "mode" not in constants:
            return None
        conf, mode = constants["conf"], constants["mode"]
        try:
            pressure_pa = math.pow(10.0, float(conf))
        except (TypeError, ValueError, OverflowError):
            pressure_pa = math.nan
        if not math.isfinite(pressure_pa):
            raise ValueError(f"conf={conf!r} is no log10 of a pressure in Pa.")
        if not isinstance(mode, str) or not mode or "/" in mode:
            raise ValueError(f"mode={mode!r} is no experiment type, such as drained.")
        return f"{pressure_name(pressure_pa)}/{mode}"

    def is_same_group(self, folder: str, stated: str) -> bool:
        """Return whether both have one type and one pressure; a folder may have a name in place of its pressure."""
        pressure, _, experiment_type = folder.partition("/")
        if not is_number(pressure):
            return experiment_type == stated.partition("/")[2]
        return super().is_same_group(folder, stated)

    def group_problems(self, pressure: str, experiment_type: str) -> list[str]:
        """Return what is wrong with a group's name."""
        problems = super().group_problems(pressure, experiment_type)
        if is_number(pressure):
            return problems
        return [f"{pressure} is no pressure in Pa; add_pressure must be False", *problems]

    def extra_parameters(self) -> tuple[ExtraParameter, ...]:
        """Return the confining pressure, the experiment type and the initial void ratio."""
        return (
            ExtraParameter("pressure", _pressure_mpa, "MPa"),
            ExtraParameter(TYPE_PARAMETER, self.type_code),
            ExtraParameter("e0", _initial_void_ratio),
        )

    def check_parameter(self, name: str, value: float) -> None:
        """Refuse a confining pressure in Pa."""
        if name == "pressure" and value > _HIGHEST_PRESSURE:
            raise DataError(f"known parameter: pressure={value:g} cannot be in MPa; divide by 1e6 if it is in Pa.")

    def derived_features(self) -> Sequence[DerivedFeatures]:
        """Return the history of the axial strain (its direction, extremes, path and reversals), and its logarithm."""
        return _DERIVED

    def label_transforms(self) -> Sequence[LabelTransform]:
        """Return stresses over the confining pressure, the volume strain, and logarithms; q may have any sign."""
        return (
            LabelTransform("e", "log", reference="e0", offset=1.0),
            LabelTransform("p", "log", reference="pressure"),
            LabelTransform("q", "asinh", reference="pressure"),
            LabelTransform("f0", "log"),
        )

    def exact_relations(self) -> Sequence[ExactRelation]:
        """Return the void ratio of a volume strain, and the mean stress at a constant lateral stress."""
        return (
            ExactRelation("e", ("e0", "e_x", "e_y", "e_z"), _void_ratio, "e = (1 + e0) exp(-(e_x + e_y + e_z)) - 1"),
            ExactRelation("e", ("e0",), lambda columns, xp: columns["e0"], "e = e0", "undrained"),
            ExactRelation("p", ("pressure", "q"), _drained_pressure, "p = pressure + q / 3", "drained"),
        )

    def initial_parameters(self, first: Mapping[str, float]) -> Mapping[str, float]:
        """Return the initial void ratio."""
        return {"e0": first["e"]} if "e" in first else {}

    def derive_inputs(
        self, columns: Mapping[str, Array], missing: Sequence[str], control: str, type_code: float | None
    ) -> DerivedInputs:
        """Return the lateral strains: of an undrained test by its constant volume, else by the void ratio."""
        if control != "e_z" or set(missing) != {"e_x", "e_y"}:
            raise UnderivableInputs("the model has other load features than the strains of a triaxial test")
        axial = columns[control]
        if type_code == self.type_codes["undrained"]:
            lateral = undrained_lateral_strain(axial)
            return DerivedInputs(
                {"e_x": lateral, "e_y": lateral}, "e_x and e_y are -e_z/2: undrained, the volume is constant."
            )
        if type_code == self.type_codes["drained"] and "e" in columns:
            lateral = drained_lateral_strain(axial, columns["e"])
            return DerivedInputs(
                {"e_x": lateral, "e_y": lateral},
                "e_x = e_y follow from the void ratio: e_x + e_y + e_z = -ln((1 + e) / (1 + e0)).",
            )
        if type_code is None:
            raise UnderivableInputs(
                "say whether the test is drained or undrained (--experiment-type), so that they can be derived"
            )
        raise UnderivableInputs("in a drained test they follow from the void ratio, but there is no column e either")

    def contradictions(
        self,
        first: Mapping[str, float],
        spans: Mapping[str, float],
        known: Mapping[str, float],
        type_code: float | None,
    ) -> list[str]:
        """Compare the first mean stress with the confining pressure, and the void ratio with the type."""
        sentences = []
        if "pressure" in known and "p" in first:
            begins, given = first["p"], known["pressure"]
            if abs(begins - given) > _SAME_PRESSURE * max(abs(begins), abs(given)):
                sentences.append(
                    f"begins with p={begins:.4g} MPa, but pressure={given:.4g} MPa is given as known; a triaxial test "
                    "begins at its confining pressure. Is this the pressure of the experiment?"
                )
        span = spans.get("e")
        mismatch = None
        if span is not None and type_code == self.type_codes["drained"] and span < _LEAST_DRAINED:
            mismatch = "drained", "does not change, as in an undrained test"
        elif span is not None and type_code == self.type_codes["undrained"] and span > _MOST_UNDRAINED:
            mismatch = "undrained", f"changes by {span:.3g}, as in a drained test"
        if mismatch:
            sentences.append(
                "the experiment is taken for {}, but its void ratio {}. Is this the type of the experiment?".format(
                    *mismatch
                )
            )
        return sentences


def _void_ratio(columns: Mapping[str, Any], xp: Any) -> Any:
    """Return the void ratio of logarithmic strains, compression positive: 1 + e grows as the volume."""
    return (1 + columns["e0"]) * xp.exp(-(columns["e_x"] + columns["e_y"] + columns["e_z"])) - 1


def _drained_pressure(columns: Mapping[str, Any], xp: Any) -> Any:
    """Return the mean stress p = (s_z + 2 s_x) / 3 where s_x is the confining pressure and q = s_z - s_x."""
    return columns["pressure"] + columns["q"] / 3


def pressure_name(pressure_pa: float) -> str:
    """Return the name of a pressure group, such as 0.2e6; rounded, since 10**conf is not exact."""
    return f"{np.format_float_positional(round(pressure_pa / 1e6, 6), trim='0')}e6"


def undrained_lateral_strain(axial: Array) -> Array:
    """Return the lateral strain of a test at constant volume, shape (n_steps,)."""
    return -axial / 2


def drained_lateral_strain(axial: Array, void_ratio: Array) -> Array:
    """Return the lateral strain of a drained test, shape (n_steps,).

    Logarithmic strains, compression positive: their sum is ``-ln(V / V0)``, and V grows as ``1 + e``.
    """
    return (-np.log((1 + void_ratio) / (1 + void_ratio[0])) - axial) / 2


def _pressure_mpa(group: Group) -> float:
    try:
        return float(group.pressure) / 1e6
    except ValueError as error:
        raise DataError(
            f"{group.file}: group {group.pressure!r} is no pressure in Pa; set add_pressure to False."
        ) from error


def _initial_void_ratio(group: Group) -> Array:
    if VOID_RATIO not in group.output_names:
        raise DataError(
            f"{group.file}: add_e0 needs an output named {VOID_RATIO}; there are {', '.join(group.output_names)}."
        )
    first: Array = group.outputs[:, 0, group.output_names.index(VOID_RATIO)]
    return first


TRIAXIAL = TriaxialCompression()
