# What people do with a checkout. Every target makes the virtual environment first when it is missing or out of date.

PYTHON ?= python3
SHELL := bash
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CODE := rvbuild rules dodo.py tests benchmarks
DEMO := projects/yellowstone_crowns.toml

.DEFAULT_GOAL := help
.PHONY: help demo data test check bench clean-env

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test,dev]'
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

test: $(READY) ## run all tests
	$(BIN)/python -m pytest

check: $(READY) ## check format, style and types
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy

bench: $(READY) ## measure speed and memory against the bars
	$(BIN)/python -m benchmarks

clean-env: ## remove the virtual environment
	rm -rf $(VENV)
