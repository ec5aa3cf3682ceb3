# make demo | test | lint | eval | perf | release-check; each sets itself up: python3 (3.11 or later) and make are all it needs.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# Workers of the test run, and further arguments: make test WORKERS=0 ARGS="-k ballots -x"
WORKERS ?= 2
ARGS ?=

export LANGSMITH_TRACING := false
export LITELLM_LOCAL_MODEL_COST_MAP := True

.PHONY: demo test lint eval perf lock release-check clean

demo: $(STAMP)
	rm -rf build/demo && mkdir -p build && cp -r examples/pull_request build/demo
	cd build/demo && $(CURDIR)/$(BIN)/madflow review change.diff --root tree --test 'python3 -B -c "import invoices.client"' --out proposal.json
	cd build/demo && $(CURDIR)/$(BIN)/madflow commit proposal.json --root tree
	cd build/demo && diff -ru ../../examples/pull_request/tree tree --exclude .madflow; test $$? = 1   # what the commit changed

test: $(STAMP)
	$(BIN)/python -m pytest -p no:langsmith_plugin -n $(WORKERS) $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Every arm on the debates that ship; all other suites need a folder of recordings: madflow eval run all --recorded DIR
eval: $(STAMP)
	$(BIN)/madflow eval run shipped --out build/eval --fresh $(ARGS)
	$(BIN)/madflow eval report build/eval

perf: $(STAMP)
	$(BIN)/python -m evals.perf $(ARGS)

# What a release must pass beyond the tests: the wheel, in an empty environment, away from the checkout; the benchmark;
# then the sweeps, the short ones first. It takes long.
release-check: lint test
	$(BIN)/python tests/wheel_check.py
	$(BIN)/python evals/perf/bench.py
	MADFLOW_SCHEDULES=10000 $(BIN)/python -m pytest -p no:langsmith_plugin -s tests/faults/test_budget_schedules.py
	$(BIN)/python -m madflow.testing.simulation --seeds 100000
	MADFLOW_SWEEP=full $(BIN)/python -m pytest -p no:langsmith_plugin -s tests/faults/test_kill_and_resume.py
	MADFLOW_SWEEP=full $(BIN)/python -m pytest -p no:langsmith_plugin -s tests/faults/test_takeover.py
	MADFLOW_SWEEP=full $(BIN)/python -m pytest -p no:langsmith_plugin -s tests/faults/test_commit_*.py

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else f"madflow needs Python 3.11 or later, this is {sys.version.split()[0]}; run make PYTHON=python3.12")'
	@echo "Setting up .venv, once; this takes a minute or two ..."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

# Resolve the ranges of pyproject.toml anew and pin what comes out. Run it with the oldest supported Python.
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check ".[dev]" hatchling
	{ echo "# Versions that every test runs with; \`make lock\` writes this file anew."; \
	  build/lock/bin/python -m pip list --format=freeze --exclude madflow --exclude pip --exclude setuptools; } > build/constraints.txt
	mv build/constraints.txt constraints.txt
	rm -rf build/lock

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
