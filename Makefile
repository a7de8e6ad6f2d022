# What people do with a checkout. Every target makes the virtual environment first when it is missing or out of date.

PYTHON ?= python3
SHELL := bash
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CODE := rvbuild rules dodo.py tests benchmarks
# Files of tests run side by side, in as many processes as there are cores, in the order of tests/conftest.py.
SIDE_BY_SIDE := -n auto --maxprocesses 4 --max-worker-restart 0 --dist loadfile --no-loadscope-reorder
DEMO := projects/yellowstone_crowns.toml

.DEFAULT_GOAL := help
.PHONY: help demo data test test-fast test-lowest test-locked check docs bench lock release-files clean-env

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test,dev,docs]'
	@touch $@

data: $(READY) ## fetch the imagery of the example projects into data/
	$(BIN)/python -m rvbuild.data fetch

demo: data ## train, predict, evaluate and bundle tree crowns; then show that a second run does nothing
	$(BIN)/rvbuild build $(DEMO)
	@echo
	@cat cache/yellowstone_crowns/eval/eval.md
	@echo
	@echo "Once more, with nothing changed:"
	time $(BIN)/rvbuild build $(DEMO)

# The hundreds of processes that tests start need not compile each module again.
test test-fast test-lowest test-locked: export PYTHONDONTWRITEBYTECODE :=

test: $(READY) ## run all tests
	$(BIN)/python -m pytest -rs $(SIDE_BY_SIDE)

test-fast: $(READY) ## run the quick tests, in less than two minutes
	$(BIN)/python -m pytest -m 'not slow' $(SIDE_BY_SIDE)

test-lowest: ## run all tests with the lowest versions that pyproject.toml admits, in an environment of their own
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --constraint constraints/lowest.txt --editable '.[test,dev]'
	.venv-lowest/bin/python -m pytest $(SIDE_BY_SIDE)

test-locked: ## run all tests with the versions in constraints/locked.txt, in an environment of their own
	test -x .venv-locked/bin/python || $(PYTHON) -m venv .venv-locked
	.venv-locked/bin/python -m pip install --quiet --require-hashes --requirement constraints/locked.txt
	.venv-locked/bin/python -m pip install --quiet --editable '.[test,dev]'
	.venv-locked/bin/python -m pytest $(SIDE_BY_SIDE)

check: $(READY) ## check format, style and types
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy

docs: $(READY) ## build the documentation site into site/; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -q docs site
	@echo "the front page: site/index.html"

bench: $(READY) ## measure speed and memory against the bars
	$(BIN)/python -m benchmarks

lock: ## write constraints/locked.txt: every package that an install brings, with hashes (needs uv)
	uv pip compile pyproject.toml --extra s3 --extra timm --extra view --extra watch --universal --python-version 3.11 --generate-hashes \
	    --no-header --no-annotate --quiet --output-file constraints/locked.txt

release-files: $(READY) ## build wheel and source archive, and the list of what an install brings, into dist/
	@grep -q '^\[project.urls\]' pyproject.toml || { echo "pyproject.toml: [project.urls] is missing; see docs/releasing.md" >&2; exit 1; }
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(PYTHON) -m venv dist/environment
	dist/environment/bin/python -m pip install --quiet --require-hashes --requirement constraints/locked.txt
	$(BIN)/python -m pip install --quiet cyclonedx-bom pip-audit
	$(BIN)/cyclonedx-py environment dist/environment --pyproject pyproject.toml --output-reproducible --output-file dist/sbom.json
	$(BIN)/pip-audit --path dist/environment/lib/python3.*/site-packages
	rm -rf dist/environment

clean-env: ## remove the virtual environment
	rm -rf $(VENV)
