"""Preprocessor with a configuration whose keys are its attributes, too, as those of GrainLearning's are."""

from __future__ import annotations

from typing import Any

from glrnn_hpc.config import PREPROCESSING_KEYS, PreprocessingConfig, parse
from glrnn_hpc.preprocessor.base import ArrayPreprocessor

#: Keys that are attributes; `experiment` is the object that the key names.
_ATTRIBUTES = PREPROCESSING_KEYS - {"experiment"}


class ConfiguredPreprocessor(ArrayPreprocessor, is_seed_free=True):
    """Preprocessor that keeps its configuration in step with the attributes of the same names.

    Attributes
    ----------
    config : PreprocessingConfig
        Its configuration. ``preprocessor.window_size`` is ``preprocessor.config.window_size``, and so are the others;
        a value that is set is validated.
    """

    config: PreprocessingConfig

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _ATTRIBUTES and "config" in self.__dict__:
            given = {key: getattr(self.config, key) for key in self.config.model_fields_set}
            self.configure(parse(PreprocessingConfig, {**given, name: value}, "preprocessor"))
            return
        super().__setattr__(name, value)
        if name == "config" and isinstance(value, PreprocessingConfig):
            # Into the instance's own dict: the class has a method of the same name as one of the keys.
            self.__dict__.update({key: getattr(value, key) for key in _ATTRIBUTES})

    def configure(self, config: PreprocessingConfig) -> None:
        """Take another configuration."""
        self.config = config
