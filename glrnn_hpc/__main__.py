"""``python -m glrnn_hpc`` is ``glrnn``."""

from glrnn_hpc.cli import main

main()
