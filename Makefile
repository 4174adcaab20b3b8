PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Runs compute with one thread. So do tests: what they hold beside runs is small, and threads that wait for each other
# make it ten times as dear.
test test-slow: export OMP_NUM_THREADS := 1

.PHONY: run test test-slow traces check bench clean

run: $(READY)
	$(BIN)/byzbench run --algo decbyzpg --attack alie --topology ring

test: $(READY) check
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

traces: $(READY)
	$(BIN)/python -m tests.golden

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build
	$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --target build/typecheck .
	cd build/typecheck && ../../$(BIN)/mypy -p byzbench --config-file ../../pyproject.toml
	rm -rf build

bench: $(READY)
	$(BIN)/python benchmarks/throughput.py

# The environment is made anew when what it holds has changed. The stamp is written last, so a set-up that was cut off
# in the middle is not taken for a finished one.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("byzbench needs Python 3.11 or newer; set PYTHON=..." if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt setuptools
	$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --no-build-isolation --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
