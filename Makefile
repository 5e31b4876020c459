# Phalanx: install, run, test. `make help` lists what there is.
# Nothing outside this folder is changed, but for the wheel cache (see install/horovod.sh).

VENV := .venv
PYTHON ?= python3
# pypi or system; without a word it stays what it was at the last install
MPI ?= $(shell cat $(VENV)/.mpi 2>/dev/null || echo pypi)
RANKS ?= 2
INPUT ?= inputs/digits.toml
BENCHMARKS ?= data_parallel pipeline reading startup checkpoints predict compress distill sparse quantum quantum_layer

BIN := $(VENV)/bin
PACKAGES := $(VENV)/.packages-$(MPI)
HOROVOD := $(VENV)/.horovod

.DEFAULT_GOAL := help
# $(VENV)/.horovod exists after a failed build too; `make horovod` tries again.
.PHONY: help install horovod demo test lint format bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  MPI=system         install against the MPI on this machine instead of the one from PyPI'
	@echo '  PYTHON=python3.12  install from this Python (3.11 or newer)'
	@echo '  RANKS=4            how many ranks the demo starts'
	@echo "  pip's own settings apply: an index with CPU builds of torch in PIP_EXTRA_INDEX_URL saves gigabytes"

install: $(HOROVOD) ## everything into .venv: pinned packages, MPI, Horovod
	@echo "Phalanx is installed: $(BIN)/phalanx (MPI: $(MPI); Horovod: $$(cat $(HOROVOD)))"

# Stamps inside .venv, so that a second install has nothing to do and a removed .venv starts over.
$(PACKAGES): pyproject.toml install/constraints.txt install/packages.sh
	@PYTHON="$(PYTHON)" install/packages.sh $(VENV) $(MPI)
	@rm -f $(VENV)/.packages-* && touch $@

$(HOROVOD): $(PACKAGES) install/horovod.sh
	@install/horovod.sh $(VENV)

horovod: $(PACKAGES) ## try to build Horovod again
	@install/horovod.sh $(VENV)

demo: install ## install, then run inputs/digits.toml on 2 ranks
	$(BIN)/mpirun -np $(RANKS) $$(install/mpirun-flags.sh $(BIN)/mpirun $(RANKS)) $(BIN)/phalanx run $(INPUT)
	@echo
	@echo "The results are in $$(sed -n 's/^folder *= *"\([^"]*\)".*/\1/p' $(INPUT))"

test: install ## every test; the last line counts them
	@tests/run.sh $(VENV)

lint: install ## ruff, import contracts, mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/mypy

format: install ## let ruff rewrite the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: install ## every benchmark, one after another
	$(BIN)/python -m pip install --quiet -c install/constraints.txt qulacs qsimcirq
	@set -e; for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python -m benchmarks.$$name; done
	$(BIN)/python -m benchmarks.pipeline --memory

clean: ## remove .venv and what the tools left; results/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find app tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
