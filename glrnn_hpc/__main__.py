"""``python -m glrnn_hpc`` is ``glrnn``."""

from glrnn_hpc.import_path import leave_out_current_folder

leave_out_current_folder()

from glrnn_hpc.cli import main  # noqa: E402

main()
