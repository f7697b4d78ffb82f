"""Networks: the surrogates' architectures, built from a configuration."""

from glrnn_hpc.models.lstm import rnn_model, rnn_model_for_triax

__all__ = ["rnn_model", "rnn_model_for_triax"]
