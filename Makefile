# Everything starts from a fresh clone with Python 3.11 or newer and make; all else goes into .venv.

PYTHON ?= $(shell python3.11 --version >/dev/null 2>&1 && echo python3.11 || echo python3)
SCALE  ?= small
CHECK  := _build/check

# the demo trains everything anew, beside the recorded runs and not over them
RECORDS := $(if $(filter demo,$(SCALE)),RECORDS_ROOT=$(CURDIR)/_build/demo/records)

.PHONY: book test setup clean

# train what is not recorded, execute the chapters, build the site
book: setup
	$(RECORDS) .venv/bin/python -m lib book --scale $(SCALE)

# two workers of one thread each use two cores better than one of two; nbval runs the chapters anew
# against their committed outputs, and the site is built from those
test: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	OMP_NUM_THREADS=1 .venv/bin/pytest -rs -n 2 tests
	TQDM_DISABLE=1 .venv/bin/pytest -rs --nbval --nbval-current-env book/*.ipynb
	rm -rf $(CHECK)
	.venv/bin/jupyter-book build . --path-output $(CHECK) -W -n --keep-going --all -q

setup: .venv/installed

# the stamp is written last: an installation that was cut short is done again
.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet -r requirements.txt
	touch $@

# leaves data/ and book/records/, which took a download and hours of training
clean:
	rm -rf .venv _build *.egg-info .pytest_cache .ruff_cache
	find lib tests book -name __pycache__ -exec rm -rf {} +
