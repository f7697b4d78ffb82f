"""Search for the best network of a sweep file and export it: python jobs/sweep.py.

On a cluster, run it on the login node: it submits the jobs and waits for them. If it is stopped, the jobs go on;
`glrnn status` shows how far they are, `glrnn resume` submits what is missing.
"""

from glrnn_hpc import load_profile, load_sweep, logs, run_sweep

SWEEP = "sweeps/example_sweep.yaml"
OUT = "runs/sweep"  # must not exist, or be empty

CLUSTER = "local"  # this machine, one rank per CPU; or "slurm": jobs, as the next three lines say

PROFILE = "slurm/profiles/generic-cpu.yaml"  # what the site needs
N_WORKERS = 3  # jobs
RANKS_PER_WORKER = 16  # MPI ranks of each; every rank trains one trial at a time


def main() -> None:
    """Run the trials, then verify the best one and export it to OUT/best."""
    logs.to_stderr()
    spec = load_sweep(SWEEP)
    if CLUSTER == "slurm":
        run_sweep(
            spec,
            OUT,
            cluster="slurm",
            profile=load_profile(PROFILE),
            n_workers=N_WORKERS,
            ranks_per_worker=RANKS_PER_WORKER,
            collect=True,
        )
    else:
        run_sweep(spec, OUT, cluster=CLUSTER, collect=True)
    print(f"the best network: {OUT}/best")


if __name__ == "__main__":
    main()
