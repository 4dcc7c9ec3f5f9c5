# make env     the environment in .venv: Python 3.11 to 3.13 with venv is all that is needed
# make demo    sttd at work on real recordings; AUDIO="a.wav b.mp3" for your own
# make test    the tests; ARGS="-k inbox" for some of them
# make sweep   the long fault sweeps, two and a half hours; root makes the file systems they need;
#              ARGS="-k power" for one of them, see docs/reliability.md
# make check   format, lint, strict types, import contracts, documents, tests
# make docs    the documents as pages in site/; a broken link is an error
# make run     a daemon on ./var, on the embedded engine; talk to it as it says
# make man     the manual pages in man/, from --help and etc/sttd.toml
# make schema  the JSON Schema of the configuration, etc/sttd.schema.json
# make peers-env  other pools in .venv-peers, for benchmarks/ to compare with
# make build   wheel and source distribution in dist/
# make deb     Debian package in dist/, on the Debian it is for; make package-test installs it
# make clean   remove what the others made, but not ./var
#
# Another interpreter beside the usual one: make test PYTHON=python3.13 VENV=/tmp/sttd-3.13

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
AUDIO ?=
ARGS ?=
# Tests mostly wait for processes; the files are shared out among this many processes of pytest.
AT_ONCE ?= 3

PIP := $(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check -c constraints.txt

.PHONY: env demo test sweep check format lint types contracts docs run man schema peers-env build deb package-test clean

env: $(VENV)/.complete

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Two stamps, so that nothing is installed twice and a first demo need not wait for the tools.
$(VENV)/.complete: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[dev,pocketsphinx,azure]'
	touch $(VENV)/.runs $@

$(VENV)/.runs: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[pocketsphinx]'
	touch $@

demo: $(VENV)/.runs
	$(BIN)/python scripts/demo.py $(AUDIO)

test: env
	$(BIN)/python -m pytest -n $(AT_ONCE) --dist loadfile $(ARGS)

sweep: env
	$(BIN)/python -m pytest -m sweep -o faulthandler_timeout=0 $(ARGS)

check: format lint types contracts docs test

format: env
	$(BIN)/ruff format --check .

lint: env
	$(BIN)/ruff check .

types: env
	$(BIN)/mypy sttd tests scripts docs/examples/voice-activity/src

contracts: env
	$(BIN)/lint-imports

docs: env
	$(BIN)/mkdocs build --strict --quiet

var/sttd.toml:
	mkdir -p var
	printf '%s\n' > $@ \
		'# Made by make run; change it as you like.' \
		'state_dir = "$(CURDIR)/var"' \
		'' \
		'[control]' \
		'endpoint = "ipc://$(CURDIR)/var/control.sock"' \
		'events = "ipc://$(CURDIR)/var/events.sock"' \
		'group = ""' \
		'' \
		'[engine]' \
		'name = "pocketsphinx"'

run: $(VENV)/.runs var/sttd.toml
	@echo 'Drop recordings into var/inbox, find transcripts in var/outbox; in another terminal:'
	@echo '    STTD_CONFIG=var/sttd.toml $(BIN)/sttctl status'
	$(BIN)/sttd -c var/sttd.toml

man: env
	$(BIN)/python -m scripts.man

schema: env
	$(BIN)/python -m scripts.schema

peers-env: .venv-peers/.complete

.venv-peers/.complete: benchmarks/peers/requirements.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install -qq --disable-pip-version-check -r $<
	touch $@

build: env
	$(BIN)/python -m build

deb:
	packaging/deb.sh

package-test: env
	$(BIN)/python -m pytest -m package $(ARGS)

clean:
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
