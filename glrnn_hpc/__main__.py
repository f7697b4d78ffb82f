"""``python -m glrnn_hpc`` is ``glrnn``."""

from glrnn_hpc.import_path import leave_out_current_folder

# Before the first library is imported: PYTHONPATH=:/folder, which `export PYTHONPATH=$PYTHONPATH:/folder` may make,
# has an empty part, which is the current folder, for the command `glrnn` too.
leave_out_current_folder()

from glrnn_hpc.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
