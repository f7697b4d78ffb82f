"""Keys of a configuration: defaults, units, validation; and the YAML dialect they are written in."""

from __future__ import annotations

import difflib
import logging
import math
import os
import re
from collections.abc import Callable, Collection, Hashable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from glrnn_hpc.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

SPLIT_SEED = 42

#: Keys of GrainLearning's older versions, with the one value that they always have here.
ALWAYS = {"use_windows": True, "conditional": True}


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads numbers as YAML 1.2 does: `1e-4` is one, `1:30` is none.

    It refuses duplicate keys and mappings within themselves.
    """

    def construct_document(self, node: yaml.Node) -> Any:
        # Otherwise PyYAML makes what is inside later, and an alias of the outside is an endless mapping.
        self.deep_construct = True
        return super().construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a scalar", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key!r}", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quote the strings that `_Loader` would read as numbers, such as the group name 0.2e6."""


def _number_without_colons(kind: str, construct: Callable[[_Loader, yaml.ScalarNode], Any]) -> None:
    # YAML 1.1 counts in sixties: a time of 12:00:00 would be the number 43200.
    def constructed(loader: _Loader, node: yaml.ScalarNode) -> Any:
        return node.value if ":" in node.value else construct(loader, node)

    _Loader.add_constructor(f"tag:yaml.org,2002:{kind}", constructed)


_number_without_colons("int", _Loader.construct_yaml_int)
_number_without_colons("float", _Loader.construct_yaml_float)

for _dialect in (_Loader, _Dumper):
    _dialect.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
        list("-+.0123456789"),
    )


def parse_yaml(text: str, where: str) -> Any:
    """Parse YAML text; `where` names it in the error.

    Raises
    ------
    ConfigError
        If the text is not YAML, a mapping has a key twice, or something is part of itself or nested too deeply.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError as error:
        raise ConfigError(f"{where}: not valid YAML: it is nested too deeply.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Raises
    ------
    ConfigError
        If the file is missing, is no text, is not YAML, or holds something else than a mapping.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text: {error}") from error
    content = parse_yaml(text, str(path))
    if not isinstance(content, dict):
        kind = "an empty file" if content is None else f"a {type(content).__name__}"
        raise ConfigError(f"{path}: a mapping of keys to values is needed, this is {kind}.")
    return content


def dump_yaml(content: Mapping[str, Any]) -> str:
    """Write a mapping as YAML text in the order of its keys."""
    return str(
        yaml.dump(
            dict(content), Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120
        )
    )


def nearest(name: str, names: Collection[str]) -> str | None:
    """Return the most similar of `names`, None if none is similar."""
    matches = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown_key(path: str, names: Collection[str]) -> ConfigError:
    """Return the error for the last part of a key path, with the nearest of `names`, or all of them."""
    guess = nearest(path.rpartition(".")[2], names)
    hint = f"did you mean {guess}?" if guess else f"known keys: {', '.join(sorted(names))}."
    return ConfigError(f"{path}: unknown key; {hint}")


def not_a_bool(value: Any) -> Any:
    """Refuse `true` and `yes` where a number is needed, which pydantic takes for 1."""
    if isinstance(value, bool):
        raise ValueError("a number is needed")
    return value


Count = Annotated[int, BeforeValidator(not_a_bool), Field(ge=1)]
Seed = Annotated[int, BeforeValidator(not_a_bool), Field(ge=0, lt=2**32)]
Fraction = Annotated[float, BeforeValidator(not_a_bool), Field(gt=0, lt=1)]
Positive = Annotated[float, BeforeValidator(not_a_bool), Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, BeforeValidator(not_a_bool), Field(ge=0, allow_inf_nan=False)]
Decay = Annotated[float, BeforeValidator(not_a_bool), Field(ge=0, lt=1)]
FilePath = Annotated[str, BeforeValidator(lambda value: os.fspath(value) if isinstance(value, os.PathLike) else value)]
GroupName = Annotated[str | float, BeforeValidator(not_a_bool)]
GroupChoice = GroupName | list[GroupName]


class Keys(BaseModel):
    """Keys of a YAML file with their types and defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def as_dict(self) -> dict[str, Any]:
        """Return a plain dict; optional Adam arguments that were not given are left out."""
        return self.model_dump(exclude_none=True)


class PreprocessingConfig(Keys):
    """How data are selected, extended, split, scaled and windowed."""

    raw_data: FilePath = Field(description="path of the HDF5 file")
    pressure: GroupChoice = Field("All", description="group name or value in Pa, a list of them, or All")
    experiment_type: str | list[str] = Field("All", description="drained, undrained, a list of them, or All")
    add_e0: bool = Field(False, description="append the initial void ratio to the parameters")
    add_pressure: bool = Field(True, description="append the confining pressure in MPa to the parameters")
    add_experiment_type: bool = Field(True, description="append 1 (drained) or 0 (undrained) to the parameters")
    train_frac: Fraction = Field(0.7, description="fraction of the sequences to train on")
    val_frac: Fraction = Field(0.15, description="fraction of the sequences to validate on; the rest is the test split")
    window_size: Count = Field(10, description="steps that the network sees at once")
    window_step: Count = Field(1, description="steps between two training windows")
    pad_length: Annotated[int, Field(ge=0)] = Field(0, description="0, or window_size: repeat the first step in front")
    standardize_outputs: bool = Field(True, description="train on labels of zero mean and unit variance")
    standardize_inputs: bool = Field(False, description="train on inputs and parameters of zero mean, unit variance")

    @model_validator(mode="after")
    def _check_together(self) -> PreprocessingConfig:
        if self.pad_length not in (0, self.window_size):
            raise ValueError(f"pad_length={self.pad_length} must be 0 or window_size={self.window_size}")
        if self.train_frac + self.val_frac >= 1 - 1e-9:
            raise ValueError(
                f"train_frac={self.train_frac} and val_frac={self.val_frac} leave nothing for the test split; "
                "their sum must be below 1"
            )
        return self


class TrainingConfig(Keys):
    """The network and how it is trained."""

    lstm_units: Count = Field(200, description="units of the LSTM")
    dense_units: Count = Field(200, description="units of the dense layer after the LSTM")
    patience: Count = Field(5, description="epochs without a better val_loss before training stops")
    epochs: Count = Field(100, description="epochs at most")
    learning_rate: Positive = Field(1e-3, description="of Adam")
    batch_size: Count = Field(256, description="windows per step")
    save_weights_only: bool = Field(False, description="save the weights instead of the whole model")
    seed: Seed = Field(42, description="initial weights and order of training")
    checkpoint_every: NotNegative = Field(0, description="seconds between checkpoints; 0 means every epoch")
    ranks_per_trial: Count = Field(1, description="MPI ranks that train one trial together")
    kernel: Literal["auto"] = Field("auto", description="how the model is run; auto chooses")
    beta_1: Decay | None = Field(None, description="of Adam; Keras' default")
    beta_2: Decay | None = Field(None, description="of Adam; Keras' default")
    epsilon: Positive | None = Field(None, description="of Adam; Keras' default")
    amsgrad: bool | None = Field(None, description="of Adam; Keras' default")
    weight_decay: NotNegative | None = Field(None, description="of Adam; Keras' default")
    clipnorm: Positive | None = Field(None, description="of Adam; Keras' default")
    clipvalue: Positive | None = Field(None, description="of Adam; Keras' default")
    global_clipnorm: Positive | None = Field(None, description="of Adam; Keras' default")
    use_ema: bool | None = Field(None, description="of Adam; Keras' default")
    ema_momentum: Decay | None = Field(None, description="of Adam; Keras' default")
    ema_overwrite_frequency: Count | None = Field(None, description="of Adam; Keras' default")
    loss_scale_factor: Positive | None = Field(None, description="of Adam; Keras' default")
    gradient_accumulation_steps: Annotated[Count, Field(ge=2)] | None = Field(
        None, description="of Adam; Keras' default"
    )

    @model_validator(mode="after")
    def _check_clipping(self) -> TrainingConfig:
        clips = [key for key in ("clipnorm", "clipvalue", "global_clipnorm") if getattr(self, key) is not None]
        if len(clips) > 1:
            raise ValueError(f"{' and '.join(clips)} exclude each other; give one of them")
        return self

    def adam_arguments(self) -> dict[str, Any]:
        """Return the arguments for `keras.optimizers.Adam` that were given, and the learning rate."""
        given = self.model_dump(include=set(ADAM_KEYS), exclude_none=True)
        return {"learning_rate": self.learning_rate, **given}


ADAM_KEYS = frozenset(name for name, field in TrainingConfig.model_fields.items() if field.default is None)


class RunConfig(PreprocessingConfig, TrainingConfig):
    """Everything that decides one training."""


PREPROCESSING_KEYS = frozenset(PreprocessingConfig.model_fields)
TRAINING_KEYS = frozenset(TrainingConfig.model_fields)
RUN_KEYS = frozenset(RunConfig.model_fields)

ConfigT = TypeVar("ConfigT", bound=Keys)


def without_always(raw: Mapping[str, Any], where: str = "config") -> dict[str, Any]:
    """Leave out the keys of GrainLearning's older versions that ask for what is always done here.

    Raises
    ------
    ConfigError
        If one of them asks for something else.
    """
    for key, value in ALWAYS.items():
        if key in raw and raw[key] != value:
            raise ConfigError(
                f"{where}.{key}: {raw[key]!r} was given; the network takes windows and starts from the parameters "
                f"always, which is {key}={value}. Leave the key out."
            )
        if key in raw:
            logger.info("%s.%s: is always so, and ignored", where, key)
    return {key: value for key, value in raw.items() if key not in ALWAYS}


def parse(model: type[ConfigT], raw: Mapping[str, Any], where: str = "config") -> ConfigT:
    """Validate `raw` against `model`.

    Raises
    ------
    ConfigError
        If a key is unknown (the nearest one is named), missing, or its value is not allowed.
    """
    raw = without_always(raw, where)
    for key in raw:
        if key not in model.model_fields:
            raise unknown_key(f"{where}.{key}", model.model_fields)
    for key, value in raw.items():
        if isinstance(value, float) and math.isnan(value):
            raise ConfigError(f"{where}.{key}: {value} is not a number that can be used.")
    try:
        config = model.model_validate(dict(raw))
    except ValidationError as error:
        raise ConfigError(describe(error, where)) from error
    return config


def split_sizes(n: int, train_frac: float, val_frac: float) -> tuple[int, int, int]:
    """Return how many of `n` sequences train, validate and test.

    Raises
    ------
    DataError
        If one of the splits would be empty.
    """
    n_train, n_val = int(train_frac * n), int(val_frac * n)
    sizes = {"train": n_train, "val": n_val, "test": n - n_train - n_val}
    for name, size in sizes.items():
        if size == 0:
            raise DataError(
                f"train_frac={train_frac} and val_frac={val_frac} of {n} sequences leave the {name} split empty "
                f"({', '.join(f'{key} {value}' for key, value in sizes.items())}); "
                "change the fractions or select more groups."
            )
    return n_train, n_val, sizes["test"]


def say_defaults(config: Keys, given: Collection[str], where: str = "config") -> None:
    """Log the defaults that fill what was not given."""
    values = {name: value for name, value in config.as_dict().items() if name not in given}
    if values:
        logger.info("%s: defaults are used for %s", where, ", ".join(f"{key}={value}" for key, value in values.items()))


def describe(error: ValidationError, where: str) -> str:
    """Say a pydantic error in one line per key path."""
    lines = []
    for item in error.errors():
        path = ".".join(
            [where, *(str(part) for part in item["loc"] if not str(part).startswith(("list[", "function-")))]
        )
        if item["type"] == "missing":
            lines.append(f"{path}: this key is required.")
            continue
        message = item["msg"].removeprefix("Value error, ")
        given = "" if isinstance(item["input"], dict) else f" ({item['input']!r} was given)"
        lines.append(f"{path}: {message}{given}.")
    return "\n".join(dict.fromkeys(lines))
