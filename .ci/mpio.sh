#!/bin/sh
# Make .venv-mpio: the package and its tests with an h5py that is built against OpenMPI's HDF5.
# usage: .ci/mpio.sh PYTHON [constraints for pip]
# The wheel takes minutes to build; it is kept in the user's cache under the versions of all that it was built with.
set -eu
cd "$(dirname "$0")/.."
python=$1
shift
venv=.venv-mpio
hdf5=$(ls -d /usr/lib/*/hdf5/openmpi | head -n 1)

rm -rf "$venv"
"$python" -m venv "$venv"
pip="$venv/bin/python -m pip install --quiet --disable-pip-version-check"
# Never the mpich wheel: with it and this h5py in one process, MPI would be loaded twice and abort.
$pip "$@" -e '.[dev]'
h5py=$("$venv/bin/python" -c 'from importlib.metadata import version; print(version("h5py"))')
mpi4py=$("$venv/bin/python" -c 'from importlib.metadata import version; print(version("mpi4py"))')
tag=$("$venv/bin/python" -c 'import platform, sys; print("cp%d%d-%s" % (*sys.version_info[:2], platform.machine()))')
libraries=$(dpkg-query -W -f '${Package}-${Version} ' libhdf5-openmpi-dev libopenmpi-dev 2>/dev/null | tr ' :/~+' '-----')
cache="${XDG_CACHE_HOME:-$HOME/.cache}/glrnn_hpc/wheels/$tag-h5py-$h5py-mpi4py-$mpi4py-$libraries"

if ! ls "$cache"/h5py-*.whl >/dev/null 2>&1; then
  echo "Building h5py $h5py with MPI (about 3 minutes, once): $cache"
  build=$(mktemp -d)
  trap 'rm -rf "$build"' EXIT
  "$python" -m venv "$build/venv"
  # Without isolation: in its own environment the build would compile an old mpi4py for ten minutes more.
  "$build/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    'numpy>=2' Cython pkgconfig 'setuptools>=77' wheel "mpi4py==$mpi4py"
  CC=mpicc.openmpi HDF5_MPI=ON HDF5_DIR="$hdf5" "$build/venv/bin/python" -m pip wheel --quiet --disable-pip-version-check \
    --no-cache-dir --no-deps --no-binary=h5py --no-build-isolation --wheel-dir "$build/wheels" "h5py==$h5py"
  mkdir -p "$cache"
  # Under its name only when it is whole: two runs may build at the same time.
  cp "$build"/wheels/h5py-*.whl "$cache/.partial-$$"
  mv "$cache/.partial-$$" "$cache/$(basename "$build"/wheels/h5py-*.whl)"
fi
$pip --force-reinstall --no-deps "$cache"/h5py-*.whl
"$venv/bin/python" -c 'import h5py, sys; sys.exit(not h5py.get_config().mpi)'
