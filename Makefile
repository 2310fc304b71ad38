# Everything here works on a machine with nothing but CPython 3.11 or 3.12 and make.
# Another interpreter: make PYTHON=/path/to/python3.12 test

PYTHON ?= $(shell for p in python3 python3.11 python3.12; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo "$$p" && break; done)
VENV := .venv
BIN := $(VENV)/bin
# Extras that are installed; CI takes all of which there are tests: make EXTRAS=test,atari,ray,robotics test
EXTRAS ?= test
STAMP := $(VENV)/.installed-$(EXTRAS)
# Files of tests side by side, each on one thread: small networks lose more to threads than they gain.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

.PHONY: demo docs test test-slow test-learning test-faults test-mujoco test-ray install

install: $(STAMP)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: no CPython 3.11 or 3.12 found; install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 2; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	touch $(STAMP)

# Learns to run from pixels within minutes on two CPU cores.
demo: $(STAMP)
	$(BIN)/sacae demo

# The documentation as a site, build/site/index.html. The variable silences an advertisement.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(PYTEST) -m "not slow and not learning and not faults"

test-slow: $(STAMP)
	$(PYTEST) -m slow

test-faults: $(STAMP)
	$(PYTEST) --dist load -m faults

# Most are cases of one test, which --dist loadfile would keep on one core.
test-learning: $(STAMP)
	$(PYTEST) --dist load -m learning

# Experiments on a Ray cluster of this machine: make EXTRAS=test,ray test-ray
test-ray: $(STAMP)
	$(BIN)/python -m pytest -m slow tests/experiments/test_ray.py

# The environments, on the second pair of dm_control and mujoco.
test-mujoco: $(STAMP) constraints-mujoco-3.17.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/second \
		-r constraints-mujoco-3.17.txt
	PYTHONPATH=$(abspath $(VENV)/second) $(PYTEST) -m "not slow and not learning and not faults" tests/envs tests/training/test_gym_runs.py
