# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip install -q -c constraints.txt
SYSTEM_PACKAGES := libportaudio2
TEST_PACKAGES   := jackd2 sox liblo-tools puredata-core

.PHONY: demo test test-slow test-gpu compiled lint bench system system-test clean

demo: $(VENV)/.installed system
	$(BIN)/stembridge demo --out demo-out

# What only computes shares the cores; what plays to a real clock has them to itself.
test: $(VENV)/.installed-dev system-test
	$(MAKE) -j2 lint compiled
	$(BIN)/python -m pytest -n auto --ignore tests/live --ignore tests/faults
	$(BIN)/python -m pytest tests/live tests/faults

test-slow: $(VENV)/.installed-dev system-test
	$(BIN)/python -m pytest -m "slow and not gpu"

test-gpu: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m gpu

# The audio callback and the hop of the built-in model, once: every process of the tests would compile them.
compiled: $(VENV)/.installed-dev
	$(BIN)/python -c "import streaming.callback; from host.models import open_separator; open_separator('live', 44100).warm_up()"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-peers
	$(BIN)/python -m benchmarks

# torch goes first and through the constraints, else pip may fetch gigabytes of CUDA libraries.
$(VENV)/.torch: constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	@touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml
	$(PIP) -e .
	@touch $@

# Triton comes with torch for CUDA; beside another torch it compiles and interprets the GPU's kernels in tests.
$(VENV)/.installed-dev: $(VENV)/.torch pyproject.toml
	$(PIP) -e .[dev]
	$(BIN)/python -c "import triton" 2>/dev/null || $(PIP) --no-deps triton==3.6.0
	@touch $@ $(VENV)/.installed

# Without what they want for training: their networks are all that is measured.
$(VENV)/.installed-peers: $(VENV)/.installed-dev
	$(PIP) --no-deps HS-TasNet einx frozendict
	@touch $@

# System packages come through apt where it may; elsewhere the device tests skip and say why.
define apt-install
	@missing=""; for p in $(1); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing >/dev/null; \
	else echo "Not installed (needs root and apt):$$missing. On Debian/Ubuntu: sudo apt-get install$$missing"; fi
endef

system:
	$(call apt-install,$(SYSTEM_PACKAGES))

system-test:
	$(call apt-install,$(SYSTEM_PACKAGES) $(TEST_PACKAGES))

clean:
	rm -rf $(VENV) build dist *.egg-info demo-out
