"""Collector under its import path of version 0.1.0."""

from glrnn_hpc.collector.collect import collect

__all__ = ["collect"]
