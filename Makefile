# make run | test | lint | bench | picture | checksums | train | family: each sets up what it needs first.
PYTHON ?= python3
BIN := .venv/bin
export STREAMLIT_BROWSER_GATHER_USAGE_STATS := false

PLAYER := mla_viz/player
NPM := $(shell which npm 2>/dev/null)

.PHONY: run test lint lint-player bench picture checksums train family

run: .venv/run
	$(BIN)/streamlit run app.py

test: .venv/dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: .venv/dev lint-player
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

# Types and style of the JavaScript; only this needs npm, the app and its tests do not.
ifneq ($(NPM),)
lint-player: $(PLAYER)/node_modules/.complete
	npm run --silent --prefix $(PLAYER) lint
else ifeq ($(CI),true)
lint-player:
	@echo "npm is missing: the player's JavaScript cannot be checked (apt-get install npm)"; exit 1
else
lint-player:
	@echo "npm is missing: types and style of the player's JavaScript are left out"
endif

$(PLAYER)/node_modules/.complete: $(PLAYER)/package.json $(PLAYER)/package-lock.json
	npm ci --silent --no-audit --no-fund --prefix $(PLAYER)
	touch $@

bench: .venv/dev
	$(BIN)/python -m mla_viz.bench
	$(BIN)/python -m tests.e2e.bench
	$(BIN)/python -m tests.e2e.crowd

# make picture PAGE=claims
PAGE ?= decode
picture: .venv/dev
	$(BIN)/python -m tests.e2e.picture $(PAGE)

# After a change under mla_viz/data.
checksums: .venv/run
	$(BIN)/python -m train.checksums

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
