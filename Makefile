# make help lists what there is. Every target sets up what it needs; PYTHON=... chooses the interpreter for that.
VENV := .venv
BIN := $(VENV)/bin
CASE ?=
ARGS ?=
# Left behind by another environment of ROS wheels; with it set ours would not find its libraries.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE

.PHONY: help setup setup-train demo test test-fast lint bench documents clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: ## make the environment in .venv (ROS 2 included, unless one is sourced); nothing when it is there
	@tools/setup.sh $(VENV)

setup-train: setup ## add what the network needs (torch: several GB unless pip finds a CPU build)
	@$(BIN)/python tools/run_step.py "torch and what it needs" $(VENV)/setup.log 0 '^$$' -- \
		$(BIN)/python -m pip install --progress-bar off --disable-pip-version-check -r requirements/train.txt

demo: setup ## simulated camera -> ROS 2 -> tracker -> TF, with a live table and a report; CASE=folder, ARGS=...
	@$(BIN)/end2reg demo $(if $(CASE),--case "$(CASE)") $(ARGS)

test: setup ## all tests; ARGS=... goes to pytest
	@$(BIN)/python -m pytest $(ARGS)

test-fast: setup ## the tests of single parts, in less than two minutes; ARGS=... goes to pytest
	@$(BIN)/python -m pytest test/unit test/house -m "not slow" $(ARGS)

lint: setup ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup ## cost of a frame by stage, and error, of several methods, as JSON; ARGS=...
	@$(BIN)/end2reg bench --json $(ARGS)

documents: setup ## write what follows from the code: parameters, reasons, config/*.yaml
	@$(BIN)/python tools/write_documents.py

clean: ## remove the environment and what was built
	rm -rf .venv build install log .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find end2reg_ros benchmarks examples test tools launch -name __pycache__ -type d -prune -exec rm -rf {} +
