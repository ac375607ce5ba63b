# make run | test | lint | bench | picture | train | family: each sets up what it needs first.
PYTHON ?= python3
BIN := .venv/bin
export STREAMLIT_BROWSER_GATHER_USAGE_STATS := false

.PHONY: run test lint bench picture train family

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

# make picture PAGE=claims
PAGE ?= decode
picture: .venv/dev
	$(BIN)/python -m tests.e2e.picture $(PAGE)

# make train TEXT=stories_train.txt.gz VAL=stories_val.txt.gz
train: .venv/run
	$(BIN)/python -m train.run --text $(TEXT) --val $(VAL)

# The same arguments; SEEDS="0 1 2" for more than one training of each member.
SEEDS ?= 0
family: .venv/run
	$(BIN)/python -m train.family --text $(TEXT) --val $(VAL) --seeds $(SEEDS)

.venv/run: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

.venv/dev: .venv/run requirements-dev.txt
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@
