"""Records of a sweep: one module for each file that a process writes and another one reads.

Each record is a type with one reader and one writer. The writer adds the version of the form; a record without
one is of version 0.1.0, and is still read.
"""
