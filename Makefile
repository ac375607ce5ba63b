# make run | test | lint | bench | train: each sets up what it needs first.
PYTHON ?= python3
BIN := .venv/bin
export STREAMLIT_BROWSER_GATHER_USAGE_STATS := false

.PHONY: run test lint bench train

run: .venv/run
	$(BIN)/streamlit run app.py

test: .venv/dev
	$(BIN)/python -m pytest

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

bench: .venv/dev
	$(BIN)/python -m mla_viz.bench
	$(BIN)/python -m tests.e2e.bench

# make train TEXT=stories_train.txt.gz VAL=stories_val.txt.gz
train: .venv/run
	$(BIN)/python -m train.run --text $(TEXT) --val $(VAL)

.venv/run: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

.venv/dev: .venv/run requirements-dev.txt
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@
