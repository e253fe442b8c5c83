# Two commands on a fresh machine: `make demo` and `make test`. They need python3 (3.11 or newer) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test slow fuzz cluster chaos lint lock check data results wheel-check track-check image-check bench docs pictures clean

demo: $(VENV)/installed
	$(BIN)/dsgd study equivalence --preset standard

# A file's tests stay together; a process a core, four at most.
test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m "slow and not gpu and not cluster and not chaos"

# Inputs that lie: configurations (DSGD_FUZZ of them, from DSGD_FUZZ_FROM on), files, folders, plug-ins, command lines.
fuzz: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow or not slow" tests/fuzz tests/test_security_rules.py

# Ray clusters on this machine, and over hosts that are network namespaces (needs root); five actors killed at random, in
# a process of their own: Ray keeps a process's first token.
cluster: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m cluster
	$(BIN)/python -m pytest -m chaos tests/test_chaos.py

# Actors are killed at random steps, a line for each run; another DSGD_CHAOS_SEED draws other runs.
chaos: $(VENV)/installed-dev
	DSGD_CHAOS=20 $(BIN)/python -m pytest -q -m chaos tests/test_chaos.py

lint: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint docker/Dockerfile docker/Dockerfile.cuda

check: lint test docs slow wheel-check

# Fashion-MNIST, 30 MB, from Debian's package, without root, into data/.
data: $(VENV)/installed
	$(BIN)/python -m dsgd.data.fetch

# What the studies find, to be committed: the standard presets, then their reports, figures and summaries into
# experiments/results. All are conducted before any is copied: a changed file would mark the next one's commit as dirty.
STUDIES ?= $(patsubst experiments/%.py,%,$(filter-out experiments/_%,$(wildcard experiments/*.py)))

results: $(STUDIES:%=conducted-%)
	set -e; for study in $(STUDIES); do \
		from=runs/study-$$study-standard; to=experiments/results/$$study; \
		rm -rf $$to; mkdir -p $$to; cp $$from/report.md $$from/summary.json $$to; \
		if [ -d $$from/figures ]; then mkdir $$to/figures; cp $$from/figures/*.svg $$to/figures; fi; \
	done

conducted-%: $(VENV)/installed
	$(BIN)/dsgd study $* --preset standard

# What versions requirements/ locks, anew: needs uv and the index.
lock:
	$(PYTHON) requirements/lock.py

# The wheel and the sdist; the wheel, installed alone, runs from a folder whose files have our names.
wheel-check: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m wheel tests/test_wheel.py

# The trackers themselves, and Hugging Face's data sets: the other tests do without.
track-check: $(VENV)/installed-dev
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[track]" datasets
	$(BIN)/python -m pytest -rs tests/test_trackers.py tests/cli/test_tracking.py tests/data/test_own_data.py tests/test_own_document.py

# The CPU image, built without a Docker daemon; as root, with buildah and debootstrap.
image-check:
	docker/image-check

# Time and memory of a step beside what others do, into benchmarks/results; on a quiet machine.
bench: $(VENV)/installed-dev
	$(BIN)/dsgd bench --full --out benchmarks/results

# The site of the documents, into build/docs; a warning is an error.
docs: $(VENV)/installed-dev
	$(BIN)/sphinx-build -W --keep-going -n -q -c docs -d build/doctrees . build/docs

# docs/pictures, to be committed; needs Chromium.
pictures: $(VENV)/installed
	$(BIN)/python docs/screenshots.py

$(VENV)/bin/pip:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dsgd needs python 3.11 or newer; give one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt $(VENV)/bin/pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	@touch $@

# By hashes where requirements/ has a lock for this platform and Python, else by constraints.txt.
$(VENV)/installed-dev: pyproject.toml constraints.txt $(wildcard requirements/*) $(VENV)/bin/pip
	$(BIN)/python requirements/install.py
	@touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) build dist runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
