PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEV := $(VENV)/.ready-dev
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt

# Runs compute with one thread. So do tests: what they hold beside runs is small, and threads that wait for each other
# make it ten times as dear.
test test-slow: export OMP_NUM_THREADS := 1

# Tests start dozens of processes, which take half as long where Python may keep its bytecode.
test test-slow: export PYTHONDONTWRITEBYTECODE :=

.PHONY: run test test-slow traces check bench docs notebooks clean

run: $(READY)
	$(BIN)/byzbench run --algo decbyzpg --attack alie --topology ring --compare

test: $(DEV) check
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-slow: $(DEV)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

traces: $(DEV)
	$(BIN)/python -m tests.golden

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build
	$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --target build/typecheck .
	cd build/typecheck && ../../$(BIN)/mypy -p byzbench --config-file ../../pyproject.toml
	rm -rf build

docs: $(DEV)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

notebooks: $(DEV)
	$(BIN)/python docs/_site/notebooks.py

bench: $(DEV)
	$(BIN)/python benchmarks/throughput.py

# Two stamps: $(READY) for the package with its core dependencies, which is all that `make run` needs, and $(DEV) for the
# development extras on top of it. Each is remade when the requirements change, and written last, so that an interrupted
# installation is started again.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("byzbench needs Python 3.11 or newer; set PYTHON=..." if sys.version_info < (3, 11) else 0)'
	@echo "Installing byzbench and its core dependencies (PyTorch, Numba, SciPy, PettingZoo, wandb, ...) into $(VENV)."
	@echo "The first time this takes two to five minutes (1.6 GB); later calls of make skip it."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) setuptools
	@$(PIP) --no-build-isolation --editable .
	@touch $@

$(DEV): $(READY)
	@echo "Installing the development extras (pytest, mypy, Ray, EnvPool, MuJoCo, Playwright, ...) into $(VENV)."
	@echo "The first time this takes a few more minutes; later calls of make skip it."
	@$(PIP) --no-build-isolation --editable ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV) build site *.egg-info
