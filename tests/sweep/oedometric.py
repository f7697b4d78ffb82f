"""Oedometric compression as a user's own experiment: copied beside the user's data, it imports nothing of the tests."""

from types import MappingProxyType

from glrnn_hpc.experiments.base import Column, DerivedInputs, Experiment, ExtraParameter, UnderivableInputs

DENSITIES = {"dense": 1.0, "loose": 0.0}


class Oedometric(Experiment):
    """Compression without lateral strain, in groups such as ``dense/loading``."""

    name = "oedometric"
    contact_params = (Column("E", "GPa"), Column("mu"))
    inputs = (Column("e_z", title="vertical strain"),)
    outputs = (Column("s_z", "kPa", raw_divisor=1e3), Column("K0"))
    type_codes = MappingProxyType({"loading": 0.0, "cyclic": 1.0})
    raw_group_keys = ("density", "path")
    unused_constants = ("density", "path")

    def raw_group(self, constants):
        """Return the group of a raw file."""
        if "density" not in constants or "path" not in constants:
            return None
        if constants["density"] not in DENSITIES:
            raise ValueError(f"density={constants['density']!r} is not one of {', '.join(DENSITIES)}.")
        return f"{constants['density']}/{constants['path']}"

    def extra_parameters(self):
        """Return the density, and the type as every experiment has it."""
        return (ExtraParameter("density", lambda group: DENSITIES[group.pressure]), *super().extra_parameters())

    def derive_inputs(self, columns, missing, control, type_code):
        """Return the vertical strain by the stiffness that all samples share."""
        if "s_z" not in columns:
            raise UnderivableInputs("it follows from s_z alone")
        return DerivedInputs({"e_z": columns["s_z"] / 100}, "e_z is s_z / 100.")
