"""Typed records of the files that a sweep leaves: each with one reader and one writer."""
