# make run    the main job on the shipped data        make test   all checks and tests
# make check  those of every day, in minutes          make bench  the benchmarks
# make clean  remove what the others built
# PYTHON=python3.12 chooses the interpreter that .venv is made of.
# JOBS=1 runs the tests one after the other.
PYTHON ?= python3
JOBS ?= 2

VENV := .venv
MPIO := .venv-mpio
OPENWANDB := .venv-openwandb
SWEEPS := .venv-sweeps
PACKAGES := postgresql openmpi-bin libopenmpi-dev libhdf5-openmpi-dev slurmctld slurmd slurm-client chromium
OUT := runs/main
TRAINING := surrogate tracking calibration/test_calibrate.py calibration/test_surrogate.py models/test_own_network.py \
  test_docs.py test_grainlearning_scripts.py test_imports.py test_train_predict.py test_wheel.py
BIN := $(CURDIR)/$(VENV)/bin
SOURCES := $(shell find glrnn_hpc jobs slurm sweeps -type f ! -name '*.pyc')
# The exact versions have wheels for these two versions of Python; the others use the ranges of pyproject.toml.
CONSTRAINTS = $(shell $(VENV)/bin/python -c 'import sys; (3, 11) <= sys.version_info < (3, 13) and print("--constraint .ci/constraints.txt")')
INSTALL = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS)

export PATH := $(BIN):$(PATH)

.PHONY: run lint check test system-packages bench clean

run: $(VENV)/.installed
	scripts/main_job.sh $(OUT)

lint: $(VENV)/.installed-dev
	ruff check .
	ruff format --check .
	mypy glrnn_hpc
	lint-imports

# The unit tests that need no service and train little: those of $(TRAINING) take minutes of TensorFlow.
check: lint $(SWEEPS)/.installed
	python -m pytest tests/unit $(TRAINING:%=--ignore=tests/unit/%) --numprocesses=$(JOBS)

# A test that ends its process would be given to another one, again and again: without restarts it is named.
test: lint system-packages
	$(MAKE) --no-print-directory $(MPIO)/.installed $(OPENWANDB)/.installed $(SWEEPS)/.installed
	coverage erase
	coverage run -m pytest --durations=20 --numprocesses=$(JOBS) --no-loadscope-reorder --max-worker-restart=0
	coverage combine --quiet
	coverage report

# The server for the tests of --storage; OpenMPI and its HDF5 for those of parallel reading; Slurm for a cluster of two
# nodes on this machine, which only root can start;
# a browser to look at reports with.
system-packages:
	@echo "System packages needed: make, $(PACKAGES), and python3-venv where Python comes without it;" \
	  "the rest is in $(VENV), $(MPIO), $(OPENWANDB) and $(SWEEPS)."
	@missing=$$(for package in $(PACKAGES); do \
	  dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q '^install ok installed$$' || echo $$package; done); \
	[ -z "$$missing" ] || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing the system packages:" $$missing; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	  else \
	    echo "System packages are missing. Run: sudo apt-get install" $$missing; exit 1; \
	  fi; \
	}

bench: $(VENV)/.installed-dev
	python -m pytest tests/benchmarks -s --timeout 0

clean:
	rm -rf $(VENV) $(MPIO) $(OPENWANDB) $(SWEEPS) build dist *.egg-info .coverage .coverage.* htmlcov .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "$(PYTHON) is older than Python 3.10; choose another one: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  package=$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing the system package $$package."; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$package; \
	  else \
	    echo "$(PYTHON) cannot make virtual environments. Run: sudo apt-get install $$package"; exit 1; \
	  fi; \
	}
	$(PYTHON) -m venv $(VENV)
	touch $@

# One environment serves both; the installation made last holds, so each takes the other's stamp away.
# build/ goes first: setuptools would ship modules from it that no longer exist.
$(VENV)/.installed: $(VENV)/.created pyproject.toml .ci/constraints.txt $(SOURCES)
	rm -rf build
	$(INSTALL) '.[embedded-mpi,baseline]'
	rm -f $(VENV)/.installed-dev
	touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml .ci/constraints.txt
	$(INSTALL) -e '.[dev,embedded-mpi,calibration,postgresql]'
	rm -f $(VENV)/.installed
	touch $@

$(MPIO)/.installed: $(VENV)/.created pyproject.toml .ci/constraints.txt .ci/mpio.sh
	.ci/mpio.sh $(VENV)/bin/python $(CONSTRAINTS)
	touch $@

# A W&B server for the tests, apart from all else: its licence (CC BY-NC 4.0) is not for what is used at work.
$(OPENWANDB)/.installed: $(VENV)/.created .ci/openwandb.txt
	rm -rf $(OPENWANDB)
	$(VENV)/bin/python -m venv $(OPENWANDB)
	$(OPENWANDB)/bin/python -m pip install --quiet --disable-pip-version-check --requirement .ci/openwandb.txt
	touch $@

# W&B's engine of sweeps, with which the tests compare Hyperband; it asks for an older NumPy than the package needs.
$(SWEEPS)/.installed: $(VENV)/.created .ci/sweeps.txt
	rm -rf $(SWEEPS)
	$(VENV)/bin/python -m venv $(SWEEPS)
	$(SWEEPS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement .ci/sweeps.txt
	touch $@
