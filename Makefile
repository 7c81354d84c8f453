# Everything sets itself up: the first run makes .venv and installs into it, later runs find it there.
#   make demo PYTHON=/usr/bin/python3.11     uses that Python for .venv

VENV := .venv
BIN := $(VENV)/bin
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
WORKERS ?= 2
LEAK_MB ?= 0
API ?= asr-queue
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo demo-scale test lint audio service examples bench-arrival bench-load bench-report bench-results \
	bench-machine bench-long clean

help:  ## show this list
	@echo "make demo               start the embedded ASR service, run the whole stress test on it, show the report"
	@echo "make demo LEAK_MB=60    the same on a service that leaks 60 MB per task: see the leak being found"
	@echo "make demo API=openai    the same through the service's OpenAI-compatible API"
	@echo "make demo-scale         the ramp from two Locust processes, with a monitor, in one report (needs Python 3.11)"
	@echo "make service            only the service, until Ctrl-C   (WORKERS=2, ARGS='--port 8000 --leak-mb 60')"
	@echo "make audio              the standard clips of speech, 147 s and 735 s, into tests/audio"
	@echo "make test               the project's own tests   (ARGS='-k name')"
	@echo "make lint               ruff and mypy"
	@echo "make examples           record the demo twice and write tests/examples and the README's excerpt (6 minutes)"
	@echo "make bench-arrival      how close together tasks arrive that are released together, against plain threads"
	@echo "make bench-load         the same sent by Locust, and what the machine that records spends on a task"
	@echo "make bench-report       seconds and memory of the reader on a million samples"
	@echo "make bench-results      what one result costs on disk, after 100 and after 10,000 of them"
	@echo "make bench-long         the tool's own memory and files in what stands for a night (5 minutes)"
	@echo "make bench-machine      what a look at the whole machine costs beside 1,000 processes"
	@echo "make clean              remove .venv"

demo: $(VENV)/.installed
	@$(BIN)/python tests/support/demo.py --workers $(WORKERS) --leak-mb $(LEAK_MB) --api $(API) $(ARGS)

demo-scale: $(VENV)/.installed-locust
	@$(BIN)/python tests/support/demo_scale.py --workers $(WORKERS) $(ARGS)

service: $(VENV)/.installed
	@$(BIN)/python tests/asr_service --workers $(WORKERS) $(ARGS)

audio: $(VENV)/.installed
	@PYTHONPATH=tests $(BIN)/python -m asr_service.audio $(ARGS)

test: $(VENV)/.installed-dev
	@# Most tests wait most of their time. The files go out in their order, in which those that take longest stand first.
	@# What Python compiles is kept, since hundreds of commands are started. Status 5 is "no test was chosen" (ARGS).
	$(PYTEST) -n 6 --dist loadfile --no-loadscope-reorder -m "not alone" $(ARGS) || test $$? -eq 5
	$(PYTEST) -m alone $(ARGS) || test $$? -eq 5

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check tests
	$(BIN)/mypy tests

examples: $(VENV)/.installed
	@$(BIN)/python tests/support/make_examples.py

bench-report: $(VENV)/.installed
	@PYTHONPATH=tests $(BIN)/python tests/bench/report_size.py $(ARGS)

bench-results: $(VENV)/.installed
	@PYTHONPATH=tests $(BIN)/python tests/bench/result_cost.py $(ARGS)

bench-machine: $(VENV)/.installed
	@$(BIN)/python tests/bench/machine_cost.py $(ARGS)

bench-arrival: $(VENV)/.installed
	@$(BIN)/python tests/bench/arrival_spread.py $(ARGS)

bench-load: $(VENV)/.installed-locust
	@PYTHONPATH=tests $(BIN)/python tests/bench/load_cost.py $(ARGS)

bench-long: $(VENV)/.installed
	@$(BIN)/python tests/bench/long_run.py $(ARGS)

clean:
	rm -rf $(VENV)

# The stamps below are newer than the requirements they stand for, so that an install runs once per change.

$(VENV)/.created:
	@for python in $(or $(PYTHON),python3 python3.12 python3.11 python3.10); do \
		if "$$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then \
			echo "making $(VENV) with $$("$$python" --version)"; \
			"$$python" -m venv --clear $(VENV) && touch $@; \
			exit; \
		fi; \
	done; \
	echo "No Python 3.10, 3.11 or 3.12 with the venv module was found (tried: $(or $(PYTHON),python3 python3.12 python3.11 python3.10))." >&2; \
	echo "Install one (Debian, Ubuntu: apt install python3 python3-venv) or name it: make PYTHON=/path/to/python3.11 ..." >&2; \
	exit 1

$(VENV)/.installed: requirements.txt tests/asr_service/requirements.txt $(VENV)/.created
	@echo "installing what the test and the embedded service need (once; about 250 MB)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements.txt -r tests/asr_service/requirements.txt
	@touch $@

$(VENV)/.installed-locust: tests/requirements-locust.txt $(VENV)/.installed
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Locust needs Python 3.11 or later, and $(VENV) is of $$($(BIN)/python --version): run make clean," \
			"then make demo-scale PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "installing Locust (once)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -r tests/requirements-locust.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt tests/requirements-locust.txt $(VENV)/.installed
	@echo "installing what the project's own tests need (once)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements-dev.txt
	@touch $@
