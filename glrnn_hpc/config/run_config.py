"""Keys of a training with their defaults and units: what selects and prepares the data, the network, the optimizer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from glrnn_hpc.config.keys import (
    Count,
    Decay,
    ExactChoice,
    FilePath,
    Fraction,
    GroupChoice,
    Keys,
    NameList,
    NotNegative,
    Positive,
    Seed,
    TypeChoice,
    not_a_bool,
)
from glrnn_hpc.errors import DataError

SPLIT_SEED = 42


class PreprocessingConfig(Keys):
    """How data are selected, extended, split, scaled and windowed."""

    raw_data: FilePath = Field(description="path of the HDF5 file")
    experiment: str | None = Field(None, description="triaxial, or module:Class of a user's own; triaxial if left out")
    pressure: GroupChoice = Field("All", description="group name or value in Pa, a list of them, or All")
    experiment_type: TypeChoice = Field("All", description="drained, undrained, a list of them, or All")
    add_e0: bool = Field(False, description="append the initial void ratio to the parameters")
    add_pressure: bool = Field(True, description="append the confining pressure in MPa to the parameters")
    add_experiment_type: bool = Field(True, description="append 1 (drained) or 0 (undrained) to the parameters")
    inputs: NameList | None = Field(
        None, description="load features that the network sees, of the file or derived; all of the file if left out"
    )
    inputs_drained: NameList | None = Field(None, description="the same, of drained experiments")
    inputs_undrained: NameList | None = Field(None, description="the same, of undrained experiments")
    label_scaling: Literal["raw", "physical"] = Field(
        "raw", description="labels as they are, or transformed as the experiment declares"
    )
    exact: ExactChoice = Field(False, description="labels that relations of the experiment give: true, or their names")
    train_frac: Fraction = Field(0.7, description="fraction of the sequences to train on")
    val_frac: Fraction = Field(0.15, description="fraction of the sequences to validate on; the rest is the test split")
    window_size: Count = Field(10, description="steps that the network sees at once")
    window_step: Count = Field(1, description="steps between two training windows")
    pad_length: Annotated[int, BeforeValidator(not_a_bool), Field(ge=0)] = Field(
        0, description="how often the first step is repeated in front; window_size predicts every step"
    )
    standardize_outputs: bool = Field(True, description="train on labels of zero mean and unit variance")
    standardize_inputs: bool = Field(False, description="train on inputs and parameters of zero mean, unit variance")

    @model_validator(mode="after")
    def _check_together(self) -> PreprocessingConfig:
        if self.train_frac + self.val_frac >= 1 - 1e-9:
            raise ValueError(
                f"train_frac={self.train_frac} and val_frac={self.val_frac} leave nothing for the test split; "
                "their sum must be below 1"
            )
        return self


class TrainingConfig(Keys):
    """The network and how it is trained."""

    network: str | None = Field(None, description="lstm, gru, or module:function of a user's own; lstm if left out")
    lstm_units: Count = Field(200, description="units of the LSTM, or of the GRU")
    dense_units: Count = Field(200, description="units of the dense layer after it")
    patience: Count = Field(5, description="epochs without a better val_loss before training stops")
    epochs: Count = Field(100, description="epochs at most")
    learning_rate: Positive = Field(1e-3, description="of Adam")
    learning_rate_schedule: Literal["constant", "cosine", "plateau"] = Field(
        "constant", description="the rate stays, falls like a cosine over epochs, or falls where val_loss stays"
    )
    plateau_factor: Fraction = Field(0.5, description="of plateau: what the rate is multiplied by")
    plateau_epochs: Count = Field(2, description="of plateau: epochs without a better val_loss before the rate falls")
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
    use_ema: bool | None = Field(None, description="of Adam; true if one of the next two keys is given")
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

    @model_validator(mode="after")
    def _check_plateau(self) -> TrainingConfig:
        if self.learning_rate_schedule == "plateau" and self.plateau_epochs >= self.patience:
            raise ValueError(
                f"plateau_epochs={self.plateau_epochs} must be below patience={self.patience}: the training would stop "
                "before the learning rate falls; lower plateau_epochs, or raise patience"
            )
        return self

    @property
    def keeps_average(self) -> bool:
        """Whether Adam keeps a moving average of the weights: its keys ask for one, and `use_ema` is not false."""
        if self.use_ema is not None:
            return self.use_ema
        return self.ema_momentum is not None or self.ema_overwrite_frequency is not None

    def adam_arguments(self) -> dict[str, Any]:
        """Return the arguments for `keras.optimizers.Adam` that were given, the learning rate, and `use_ema`."""
        given = self.model_dump(include=set(ADAM_KEYS), exclude_none=True)
        return {"learning_rate": self.learning_rate, **given, "use_ema": self.keeps_average}


ADAM_KEYS = frozenset(name for name, field in TrainingConfig.model_fields.items() if field.default is None) - {
    "network"
}


class RunConfig(PreprocessingConfig, TrainingConfig):
    """Everything that decides one training."""


PREPROCESSING_KEYS = frozenset(PreprocessingConfig.model_fields)
TRAINING_KEYS = frozenset(TrainingConfig.model_fields)
RUN_KEYS = frozenset(RunConfig.model_fields)

#: Arrays that configurations of GrainLearning hold where the data are in memory.
ARRAY_KEYS = frozenset({"input_data", "param_data", "output_data"})


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
