"""Labels of an experiment: transforms in which networks learn them, and relations that give them exactly.

Both compute in NumPy and inside a TensorFlow graph alike: they take the namespace of their functions, `numpy` or
`keras.ops`, as `xp`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from glrnn_hpc.errors import ConfigError

#: Names of the transforms.
TransformKind: TypeAlias = Literal["linear", "log", "asinh"]

#: Columns by name, and the namespace of the functions; returns the label.
RelationValue: TypeAlias = "Callable[[Mapping[str, Any], Any], Any]"


@dataclass(frozen=True)
class LabelTransform:
    """Invertible transform of one label, ``f((value + offset) / (reference + offset))``.

    Attributes
    ----------
    label : str
        Name of the label.
    kind : str
        `f`: `linear` (the ratio itself), `log`, for labels that are positive, or `asinh`, which takes any sign and is a
        logarithm of large values.
    reference : str or None
        Parameter, in the unit of the label, that it is divided by. None, or a parameter that a model does not have:
        nothing is divided.
    offset : float
        Added to both, in the unit of the label.

    Raises
    ------
    ConfigError
        If there is no such kind.
    """

    label: str
    kind: TransformKind = "linear"
    reference: str | None = None
    offset: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(TransformKind):
            raise ConfigError(
                f"experiment: the transform of {self.label} is of the kind {self.kind!r}; it must be one of "
                f"{', '.join(get_args(TransformKind))}."
            )

    def forward(self, values: Any, reference: Any, xp: Any) -> Any:
        """Return the transformed values.

        Parameters
        ----------
        values : array
            Of the label, in its unit.
        reference : array or None
            Of the parameter `reference`; it must broadcast against `values`.
        xp : module
            `numpy` or `keras.ops`.
        """
        ratio = values + self.offset
        if reference is not None:
            ratio = ratio / (reference + self.offset)
        if self.kind == "log":
            return xp.log(ratio)
        return xp.arcsinh(ratio) if self.kind == "asinh" else ratio

    def inverse(self, transformed: Any, reference: Any, xp: Any) -> Any:
        """Return the values of the label; see `forward`."""
        ratio = transformed
        if self.kind == "log":
            ratio = xp.exp(transformed)
        elif self.kind == "asinh":
            ratio = xp.sinh(transformed)
        if reference is not None:
            ratio = ratio * (reference + self.offset)
        return ratio - self.offset

    def domain(self) -> str:
        """Return in words which values can be transformed."""
        # Not -offset: of 0 that would be -0.
        bound = f"{0 - self.offset:g}"
        if self.kind == "log":
            subject = "values" if self.reference is None else f"values and a {self.reference}"
            return f"{subject} above {bound}"
        return "finite values" if self.reference is None else f"finite values and a {self.reference} other than {bound}"


@dataclass(frozen=True)
class ExactRelation:
    """Relation that gives a label without a network.

    Attributes
    ----------
    label : str
        Name of the label.
    needs : tuple of str
        Load features, parameters and labels that it is computed from. A label among them must come earlier.
    value : callable
        Takes columns by name, arrays that broadcast, and the namespace `xp`; returns the label in its unit.
    text : str
        The relation as a formula; it identifies the relation in the files of a model.
    experiment_type : str or None
        Type for which it holds; None for all.
    """

    label: str
    needs: tuple[str, ...]
    value: RelationValue
    text: str
    experiment_type: str | None = None
