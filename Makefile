# make run    the main job on the shipped data        make test   all checks and tests
# make bench  the benchmarks                          make clean  remove what the others built
# PYTHON=python3.12 chooses the interpreter that .venv is made of.
# JOBS=1 runs the tests one after the other.
PYTHON ?= python3
JOBS ?= 2

VENV := .venv
MPIO := .venv-mpio
OPENWANDB := .venv-openwandb
PACKAGES := postgresql openmpi-bin libopenmpi-dev libhdf5-openmpi-dev slurmctld slurmd slurm-client chromium
OUT := runs/main
BIN := $(CURDIR)/$(VENV)/bin
SOURCES := $(shell find glrnn_hpc jobs slurm sweeps -type f ! -name '*.pyc')
# The exact versions have wheels for these two versions of Python; the others use the ranges of pyproject.toml.
CONSTRAINTS = $(shell $(VENV)/bin/python -c 'import sys; (3, 11) <= sys.version_info < (3, 13) and print("--constraint .ci/constraints.txt")')
INSTALL = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS)

export PATH := $(BIN):$(PATH)

.PHONY: run test system-packages bench clean

run: $(VENV)/.installed
	@set -e; \
	if [ -e $(OUT) ]; then \
	  k=1; while [ -e $(OUT)-$$k ]; do k=$$((k + 1)); done; \
	  mv $(OUT) $(OUT)-$$k; echo "The earlier $(OUT) is now $(OUT)-$$k."; \
	fi; \
	mkdir -p $(OUT); \
	done_or_left_out() { status=0; "$$@" || status=$$?; [ $$status = 0 ] || [ $$status = 3 ] || exit $$status; }; \
	echo "== 1/5 parse (one file of the sample is broken on purpose: it is named and left out)"; \
	done_or_left_out glrnn parse tests/data/raw $(OUT)/sample.hdf5; \
	echo "== 2/5 inspect"; glrnn inspect $(OUT)/sample.hdf5; \
	echo "== 3/5 sweep on 2 MPI ranks"; \
	done_or_left_out glrnn sweep sweeps/main_job.yaml --out $(OUT)/sweep --ranks-per-worker 2; \
	echo "== 4/5 collect"; done_or_left_out glrnn collect $(OUT)/sweep; \
	echo "== 5/5 predict the test split"; \
	glrnn predict $(OUT)/sweep/best tests/data/triaxial.hdf5 \
	  --out $(OUT)/predictions.hdf5 --figure $(OUT)/predictions.png; \
	echo; \
	echo "Everything lies in $(CURDIR)/$(OUT):"; \
	echo "  sample.hdf5       what glrnn parse made of the sample in tests/data/raw"; \
	echo "  sweep/            the sweep: one folder per trial in trials/, the best model in best/"; \
	echo "  predictions.hdf5  predicted and simulated sequences of the test split"; \
	echo "  predictions.png   the figure"

test: $(VENV)/.installed-dev system-packages
	$(MAKE) --no-print-directory $(MPIO)/.installed $(OPENWANDB)/.installed
	ruff check .
	ruff format --check .
	mypy glrnn_hpc
	lint-imports
	coverage erase
	coverage run -m pytest --durations=10 --numprocesses=$(JOBS) --no-loadscope-reorder
	coverage combine --quiet
	coverage report

# The server for the tests of --storage; OpenMPI and its HDF5 for those of parallel reading; Slurm for a cluster of two
# nodes on this machine, which only root can start;
# a browser to look at reports with.
system-packages:
	@echo "System packages needed: make, $(PACKAGES), and python3-venv where Python comes without it;" \
	  "the rest is in $(VENV), $(MPIO) and $(OPENWANDB)."
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
	python -m pytest tests/benchmarks -s

clean:
	rm -rf $(VENV) $(MPIO) $(OPENWANDB) build dist *.egg-info .coverage .coverage.* htmlcov .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

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
	$(INSTALL) '.[embedded-mpi]'
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
