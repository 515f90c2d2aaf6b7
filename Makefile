# `make run` and `make test` set up all they need in .venv; a second run starts in seconds.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# On two cores, as many tests wait for processes of their own.
TEST_PROCESSES ?= 3
export OMP_NUM_THREADS ?= 1

PARTS := $(VENV)/parts
PYTEST = $(BIN)/python -m pytest -m "not slow" --durations 15 --durations-min 5
# $(call timed,NAME,COMMAND): run it, and note how long it took.
timed = began=$$(date +%s); $(2) || exit; echo "  $(1): $$(( $$(date +%s) - began )) s" >> $(PARTS)

.PHONY: help run test test-all lint ruff types contracts bench clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

run: $(VENV)/.train ## train the demo model (first time), serve on :8080, watch on :9108
	@echo "holdfast: starting service and watcher; Ctrl-C stops both, state stays in ./state"
	@exec $(BIN)/holdfast up

test: $(VENV)/.dev ## lint, types, contracts and all tests but the slow ones
	@echo "holdfast: linting, then testing (about 18 minutes on 2 cores)"
	@rm -f $(PARTS)
	@$(call timed,lint,$(MAKE) --no-print-directory lint)
	@$(call timed,tests,$(PYTEST) --ignore tests/e2e -n $(TEST_PROCESSES) --dist loadscope --no-loadscope-reorder)
	@$(call timed,end to end,$(PYTEST) tests/e2e -n 2 --dist worksteal)
	@echo "holdfast: all passed. How long it took:" && cat $(PARTS)

test-all: $(VENV)/.dev ## every test, the slow ones too, with new random examples
	$(BIN)/python -m pytest --hypothesis-profile thorough

lint: $(VENV)/.dev ## ruff, mypy --strict, import contracts
	@$(MAKE) --no-print-directory -j 2 --output-sync ruff types contracts

ruff:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	$(BIN)/mypy

contracts:
	$(BIN)/lint-imports

test-container: $(VENV)/.dev ## build both images, ask one for an answer, the other for a retraining (root, buildah)
	@missing=; for each in buildah debootstrap crun; do command -v $$each >/dev/null || missing="$$missing $$each"; done; \
	  test -z "$$missing" || { echo "holdfast: missing (Debian packages):$$missing"; exit 1; }
	$(BIN)/python -m pytest tests/containers -s

constraints: $(VENV)/.dev ## pin the newest packages that pyproject.toml allows
	$(BIN)/python -m deploy.constraints

bench: $(VENV)/.dev ## benchmarks; results and commands stand in docs/benchmarks.md
	$(BIN)/python -m benchmarks.urn_update
	$(BIN)/python -m benchmarks.serving

clean: ## remove the virtual environment and caches (the state stays)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache *.egg-info build

$(VENV)/.base:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "Python 3.11 or newer is needed, this is %d.%d; say make PYTHON=python3.11 ..." % v[:2])'
	@echo "holdfast: making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.train: $(VENV)/.base pyproject.toml constraints.txt
	@echo "holdfast: installing the service and what trains (PyTorch: a few minutes the first time)"
	@$(BIN)/pip install --quiet -c constraints.txt torch
	@$(BIN)/pip install --quiet -c constraints.txt -e '.[train]'
	@touch $@

$(VENV)/.dev: $(VENV)/.train pyproject.toml
	@echo "holdfast: installing what tests and checks the code"
	@$(BIN)/pip install --quiet -c constraints.txt -e '.[train,dev]'
	@touch $@
