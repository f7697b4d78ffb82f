"""Texts and scales of the figures."""

from __future__ import annotations

from glrnn_hpc.report import plot_style


def test_values_are_shortened_and_names_broken_where_they_are_long():
    assert [plot_style.shorten(value) for value in (True, 3, -0.0, 0.123456, "a" * 20, ["x", 1], None)] == [
        "True",
        "3",
        "0",
        "0.1235",
        "a" * 13 + "…",
        "x+1",
        "None",
    ]
    assert plot_style.wrap_name("gradient_accumulation_steps") == "gradient_\naccumulation_\nsteps"
    assert plot_style.wrap_name("learning_rate") == "learning_rate"
    assert not plot_style.is_log_scaled([])
    assert not plot_style.is_log_scaled([0.0, 100.0])
    assert plot_style.is_log_scaled([1.0, 100.0])
