"""Parse YADE's raw simulations (.npy) into the one HDF5 file that everything else reads: python jobs/parse_yade.py."""

from glrnn_hpc.data.yade import convert_all_to_hdf5, get_pressures

# Names in the raw files: what a simulation is made with, what it is given at each step, what it answers.
CONTACT_KEYS = ["E", "v", "kr", "eta", "mu"]
INPUT_KEYS = ["e_x", "e_y", "e_z"]
OUTPUT_KEYS = ["e", "p", "q", "f0", "a_c", "a_n", "a_t"]


def main() -> None:
    """Edit these lines."""
    data_dir = "tests/data/raw"
    target_file = "runs/triaxial.hdf5"
    pressures = get_pressures(data_dir)  # or some of them: ["0.2e6", "0.5e6"]
    experiment_types = ["drained", "undrained"]
    sequence_length = None  # steps; longer simulations are cut, shorter ones left out; None: the commonest length
    stored_in_subfolders = True  # data_dir/<pressure>/<experiment type>/*.npy; False: each file tells its own

    report = convert_all_to_hdf5(
        pressures,
        experiment_types,
        data_dir,
        target_file,
        sequence_length,
        stored_in_subfolders,
        contact_keys=CONTACT_KEYS,
        input_keys=INPUT_KEYS,
        output_keys=OUTPUT_KEYS,
    )
    for problem in report.problems:
        print(f"left out: {problem}")
    for line in report.left_out_lines():
        print(line)
    for name, group in report.groups.items():
        print(f"{name}: {group.good} of {group.files} simulations")
    print(f"{report.sequence_length} steps each -> {report.output}")


if __name__ == "__main__":
    main()
