#!/bin/sh
# The main job on the shipped data: parse, inspect, sweep on 2 MPI ranks, collect, predict.
# usage: scripts/main_job.sh [OUT]    OUT: where the results go, runs/main by default; an older OUT is renamed.
set -eu
cd "$(dirname "$0")/.."
out=${1:-runs/main}

if [ -e "$out" ]; then
  number=1
  while [ -e "$out-$number" ]; do number=$((number + 1)); done
  mv "$out" "$out-$number"
  echo "The earlier $out is now $out-$number."
fi
mkdir -p "$out"

# Status 3 means that something was left out, such as the broken file of the sample.
may_leave_out() {
  status=0
  "$@" || status=$?
  [ "$status" = 0 ] || [ "$status" = 3 ] || exit "$status"
}

echo "== 1/5 parse (one file of the sample is broken on purpose: it is named and left out)"
may_leave_out glrnn parse tests/data/raw "$out/sample.hdf5"
echo "== 2/5 inspect"
glrnn inspect "$out/sample.hdf5"
echo "== 3/5 sweep on 2 MPI ranks"
may_leave_out glrnn sweep sweeps/main_job.yaml --out "$out/sweep" --ranks-per-worker 2
echo "== 4/5 collect"
may_leave_out glrnn collect "$out/sweep" --ensemble 3
echo "== 5/5 predict the test split"
glrnn predict "$out/sweep/best" tests/data/triaxial.hdf5 --out "$out/predictions.hdf5" --figure "$out/predictions.png"

case $out in /*) where=$out ;; *) where=$PWD/$out ;; esac
cat <<END

Everything lies in $where:
  sample.hdf5       the file that glrnn parse wrote from the sample in tests/data/raw
  sweep/            the sweep: one folder per trial in trials/, the best three as one model in best/
  predictions.hdf5  predicted and simulated sequences of the test split
  predictions.png   the figure
END
