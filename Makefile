# Needs make and Python 3.11 or newer, nothing else: the rest is installed into .venv from
# requirements.lock, every file compared with its hash. `make help` lists what there is.
.POSIX:

PYTHON = python3
WORKERS = 4 # most tests that take long wait for a process or for time
ROUNDS = 400
SEED = 1
BIN = .venv/bin
PIP = PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 $(BIN)/python -m pip install --quiet
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-emit-index-url --no-emit-find-links
COMPILE = $(LOCK) pyproject.toml
COMPILE_BUILD = $(LOCK) --group build

.PHONY: help demo test check check-lock servers long mutants soak bench lock upgrade clean

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' Makefile

demo: .venv/ready ## A whole sweep on this machine
	@$(BIN)/archiver demo

test: .venv/ready ## Every test that needs no further server
	@$(BIN)/python -m pytest --ignore=tests/servers --ignore=tests/long -n $(WORKERS) --dist worksteal

servers: .venv/ready ## The tests against versitygw and pgbouncer, where they are installed
	@$(BIN)/python -m pytest tests/servers

long: .venv/ready ## The fault tests that take minutes, some against versitygw
	@$(BIN)/python -m pytest tests/long -n $(WORKERS) --dist worksteal

soak: .venv/ready ## Kill workers at random moments, for half an hour: ROUNDS=400 SEED=1
	@ROUNDS=$(ROUNDS) SEED=$(SEED) $(BIN)/python -m tests.harness.soak

mutants: .venv/ready ## Break the code on purpose, some sixty times: each is caught, and by which test
	@$(BIN)/python -m tests.mutants

bench: .venv/ready ## Objects/s beside a boto3 pool and by width, where versitygw is installed; a copy beside hashlib
	@$(BIN)/python -m bench.main_job
	@$(BIN)/python -m bench.width
	@$(BIN)/python -m bench.transfer

check: .venv/ready check-lock ## Style, types, imports, lock files
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy archiver tests bench
	@$(BIN)/lint-imports --no-cache

# The locks that are there are kept where they still satisfy pyproject.toml: a release of
# somebody else's package does not make this red, a changed pyproject.toml does.
check-lock: .venv/ready
	@rm -rf .cache/lock && mkdir -p .cache/lock
	@cp requirements.lock requirements-runtime.lock requirements-build.lock .cache/lock/
	@$(COMPILE) --extra dev --output-file .cache/lock/requirements.lock >/dev/null
	@$(COMPILE) --output-file .cache/lock/requirements-runtime.lock >/dev/null
	@$(COMPILE_BUILD) --output-file .cache/lock/requirements-build.lock >/dev/null
	@for lock in requirements.lock requirements-runtime.lock requirements-build.lock; do \
		diff -u $$lock .cache/lock/$$lock || \
		{ echo "$$lock does not fit pyproject.toml: run 'make lock'." >&2; exit 1; }; \
	done

lock: .venv/ready ## Fit the lock files to pyproject.toml, changing as little as possible
	@$(COMPILE) --extra dev --output-file requirements.lock >/dev/null
	@cp requirements.lock requirements-runtime.lock # the same versions in all of them
	@cp requirements.lock requirements-build.lock
	@$(COMPILE) --output-file requirements-runtime.lock >/dev/null
	@$(COMPILE_BUILD) --output-file requirements-build.lock >/dev/null

upgrade: .venv/ready ## Lock the newest version of everything
	@$(COMPILE) --extra dev --upgrade --output-file requirements.lock >/dev/null
	@$(MAKE) lock

clean: ## Remove what the other targets made
	rm -rf .venv .cache .hypothesis build dist

.venv/ready: requirements.lock
	@command -v $(PYTHON) >/dev/null || \
		{ echo "$(PYTHON) is missing: install Python 3.11 or newer." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "archiver needs Python 3.11 or newer, and $(PYTHON) is `$(PYTHON) -V`:" \
		"try 'make PYTHON=python3.12'." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) has no venv module: 'apt install python3-venv' brings it." >&2; \
		exit 1; }
	@echo "Installing into .venv, about a minute."
	@$(PYTHON) -m venv --clear .venv
	@$(PIP) --require-hashes --requirement requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch .venv/ready
