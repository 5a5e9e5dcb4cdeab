# Two commands are enough on a fresh machine: `make serve` and `make test`. Both may be run again at any time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STATE ?= var
PORT ?= 8000

.PHONY: install serve test lint check bench clean
.DEFAULT_GOAL := help

help:
	@echo "make serve   set everything up and serve the demo bank at 127.0.0.1:$(PORT)"
	@echo "make test    set everything up and run all checks and tests"
	@echo "make check   only the fast tests (no engine)"
	@echo "make lint    ruff, mypy, import contracts"
	@echo "make figures draw the README's figures from the shipped records"
	@echo "make bench   benchmarks, side by side with PEFT, plain training and plain vLLM"

install: $(VENV)/.installed

$(VENV)/.installed: requirements-cpu.lock pyproject.toml
	@echo "== installing into $(VENV) (some minutes the first time)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "the locked CPU install needs Python 3.11, seen: $$($(PYTHON) --version); try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --no-deps -r requirements-cpu.lock
	$(BIN)/pip install --disable-pip-version-check --no-deps --no-build-isolation --quiet -e .
	@touch $@

serve: install
	$(BIN)/mergeprobe serve --demo --state $(STATE) --port $(PORT)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The tests check dashboards against a real Prometheus, and the registry against a real PostgreSQL.
.PHONY: system-packages
system-packages:
	@command -v prometheus >/dev/null && ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { \
		echo "== installing Debian packages: prometheus, postgresql"; \
		sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
		$$sudo apt-get update -q && DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -q -y --no-install-recommends prometheus postgresql; }

check: install
	$(BIN)/pytest -m "not e2e"

test: install system-packages lint
	$(BIN)/pytest

bench: install
	$(BIN)/python -m tests.bench.merging
	$(BIN)/python -m tests.bench.all_pairs
	$(BIN)/python -m tests.bench.calibration
	$(BIN)/python -m tests.bench.callback
	$(BIN)/python -m tests.bench.planning
	$(BIN)/python -m tests.bench.cpu_lora
	$(BIN)/python -m tests.bench.against_vllm

# The README's figures, from the shipped records alone. Evaluation fits hundreds of models: 20 minutes.
FIGURES := probe/bank/data/figures
.PHONY: figures
figures: install
	$(BIN)/mergeprobe bank report --out $(STATE)/figures/report
	$(BIN)/mergeprobe evaluate --out $(STATE)/figures/evaluation
	$(BIN)/mergeprobe prove --out $(STATE)/figures/proof
	cd $(STATE)/figures && cp report/conflict-domains-ta.png evaluation/regimes-auroc.png proof/retention-cost.png $(abspath $(FIGURES))

clean:
	rm -rf $(VENV) build dist *.egg-info
