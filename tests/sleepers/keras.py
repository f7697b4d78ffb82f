"""Keras of ranks whose trials sleep."""
