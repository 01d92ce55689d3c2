# Everything starts from a fresh clone with Python 3.11 or newer and make; all else goes into .venv.

PYTHON ?= $(shell python3.11 --version >/dev/null 2>&1 && echo python3.11 || echo python3)
SCALE  ?=
# what differs from the recorded settings, as in SET="weight_decay=0.002 momentum=0.5"
SET    ?=
# the pages that nbval runs: not the two that train, of which it compares nothing; tests run these shorter.
# Chapters of questions that are no pages yet wait for their runs
PAGES  := $(filter-out book/live.ipynb book/own-network.ipynb,$(wildcard $(shell sed -nE 's/.*(root|file): (.*)/\2.ipynb/p' _toc.yml)))

# the demo trains everything anew, beside the recorded runs and not over them; the path is relative to
# this folder, whose own may have blanks and quotes in it. Own settings have a folder of their own as it is
RECORDS := $(if $(filter demo,$(SCALE)),$(if $(SET),,RECORDS_ROOT=_build/demo/records))

# containers often set it; each program that is started would compile every module anew
unexport PYTHONDONTWRITEBYTECODE

.PHONY: book pdf check quick test all-tests lint audit setup clean

# execute the chapters, build the site; at another scale or settings, train first what is not recorded
book: setup
	$(RECORDS) .venv/bin/python -m lib book $(if $(SCALE),--scale $(SCALE)) $(foreach change,$(SET),--set $(change))

# the chapters as they are, in one file; needs Chromium
pdf: setup
	.venv/bin/python -m lib pdf

# two workers of one thread each use two cores better than one of two
PYTEST := OMP_NUM_THREADS=1 TQDM_DISABLE=1 .venv/bin/python -m pytest -rs -n 2 --dist loadfile --no-loadscope-reorder

# for daily work: a minute and a half
check:
	$(MAKE) -j 2 lint quick

quick: setup
	$(PYTEST) -m "not slow" tests

test:
	$(MAKE) -j 2 lint all-tests

# among the tests, nbval runs the chapters anew against their committed outputs; some open pages of the site,
# which the first of these builds
all-tests: setup
	$(PYTEST) --nbval --nbval-current-env tests $(PAGES)

lint: setup
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .
	.venv/bin/python -m pyrefly check
	.venv/bin/lint-imports

# known vulnerabilities of what is installed; a package that could not be looked up is no pass
audit: setup
	$(PYTHON) -m venv _build/audit
	_build/audit/bin/pip install --quiet pip-audit==2.10.1
	.venv/bin/pip freeze --exclude-editable | sed 's/+.*//' > _build/audit/installed.txt
	@_build/audit/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off \
		-r _build/audit/installed.txt > _build/audit/log 2>&1 && echo "audit: no known vulnerability" || \
		{ tail -n 20 _build/audit/log; echo "audit: not passed; the lines above say what was found, or that the data could not be reached"; exit 1; }

setup: .venv/installed

# the stamp is written last: an installation that was cut short is done again
.venv/installed: requirements.txt .binder/postBuild
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet -r requirements.txt
	.venv/bin/python .binder/postBuild
	touch $@

# leaves data/ and book/records/, which took a download and hours of training
clean:
	rm -rf .venv _build build *.egg-info .pytest_cache .ruff_cache
	find lib tests book -name __pycache__ -exec rm -rf {} +
