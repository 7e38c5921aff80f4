# Every target sets itself up: the virtual environment is made once and reused until pyproject.toml or constraints.txt change.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3 || echo python3.11)
BIN := .venv/bin
STAMP := .venv/.stamp

.PHONY: setup demo test test-slow sanitize fuzz check format bench clean
.DELETE_ON_ERROR:

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "fewpairs needs Python 3.11 or newer: '$(PYTHON)' was not found; name yours with PYTHON=NAME" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-cache-dir --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/fewpairs demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow and not data and not gpu'

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m 'slow or data or gpu'

sanitize: $(STAMP)
	$(BIN)/python tests/sanitize/run.py

fuzz: $(STAMP)
	$(BIN)/python tests/fuzz/run.py

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)
	$(BIN)/fewpairs bench

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
