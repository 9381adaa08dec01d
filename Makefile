# The project's commands; `make help` prints them.  Everything runs in the virtual environment that tools/prepare makes.

VENV := .venv/bin
CC ?= gcc
WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror
INCLUDES := $(addprefix -I,$(patsubst %/,%,csrc $(sort $(wildcard csrc/*/)) nbd))
CFLAGS_ALL := -std=c11 -D_GNU_SOURCE $(WARNINGS) -fvisibility=hidden $(INCLUDES) -Itests/c -MMD -MP
LIBRARIES := -luring -lcrypto -lpthread
C_SOURCES := $(sort $(wildcard csrc/*.c csrc/*/*.c nbd/*.c))
C_FILES := $(C_SOURCES) $(sort $(wildcard csrc/*.h csrc/*/*.h nbd/*.h tests/c/*.[ch] tests/c/*/*.[ch] tests/fuzz/*.[ch] bench/*/*.c))
C_TESTS := $(notdir $(basename $(sort $(wildcard tests/c/test_*.c tests/c/*/test_*.c))))
FUZZERS := $(notdir $(basename $(sort $(wildcard tests/fuzz/fuzz_*.c))))
PY_FILES := src tests tools bench setup.py csrc/cffi_build.py
ROUNDS ?= 300
SEED ?= 1
RUNS ?= 1000
PAIRS ?= 2

# One directory per kind of build, so that they never mix.
KIND ?= plain
OUT := build/c-$(KIND)
FLAGS_plain := -O2 -g
FLAGS_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
FLAGS_tsan := -O1 -g -fsanitize=thread
RUN_tsan := setarch -R
CFLAGS_KIND := $(CFLAGS_ALL) $(FLAGS_$(KIND))

.DEFAULT_GOAL := help
.PHONY: help build test check format fix lint types imports tidy test-c asan tsan fuzz-replay integration kill-rounds split-brain \
        histories sim mutants test-vm bench bench-resync demo clean run-c run-fuzz format-python format-c lint-python lint-c

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

build: ## compile the C core in place
	@mkdir -p build
	flock build/.lock $(VENV)/python setup.py -q build_ext --inplace

demo: ## the main job, before your eyes
	./demo

test: ## everything that ./test runs
	./test

check: format lint types imports tidy ## format, lint, types, imports, tidy

format: format-python format-c ## is everything formatted?

format-python:
	$(VENV)/ruff format --check --quiet $(PY_FILES)

format-c:
	$(VENV)/clang-format --dry-run -Werror $(C_FILES)

fix: ## format everything, mend what ruff can mend
	$(VENV)/ruff check --fix $(PY_FILES)
	$(VENV)/ruff format $(PY_FILES)
	$(VENV)/clang-format -i $(C_FILES)

lint: lint-python lint-c ## ruff and clang-tidy

lint-python:
	$(VENV)/ruff check --quiet $(PY_FILES)

lint-c:
	@printf '%s\n' $(C_SOURCES) | xargs -P $$(nproc) -n 1 sh -c '$(VENV)/clang-tidy --quiet "$$@" -- \
	    -std=c11 -D_GNU_SOURCE $(INCLUDES)' clang-tidy

types: ## mypy --strict
	$(VENV)/mypy
	MYPYPATH=src:tools:bench $(VENV)/mypy tools/pair.py tools/demo/*.py bench/*.py

imports: ## who may know whom
	$(VENV)/lint-imports --no-cache

tidy: ## house rules
	$(VENV)/pytest -q tests/test_tidy.py tests/test_docs.py

test-c: ## build and run the C test programs
	$(MAKE) --no-print-directory run-c KIND=plain

asan: ## the C test programs and the fuzz corpus under ASAN and UBSAN
	$(MAKE) --no-print-directory run-c run-fuzz KIND=asan

tsan: ## the C test programs under TSAN
	$(MAKE) --no-print-directory run-c KIND=tsan

fuzz-replay: ## run the fuzz targets over their corpora
	$(MAKE) --no-print-directory run-fuzz KIND=plain

integration: build ## two real daemons, foreign clients
	$(VENV)/pytest tests/integration

kill-rounds: build ## ROUNDS=300 random kill -9 rounds under verified writes
	PYDRBD_ROUNDS=$(ROUNDS) $(VENV)/pytest -s tests/integration/test_kill_rounds.py

histories: ## a million random histories of generation identifiers
	PYDRBD_HISTORIES=1000000 $(VENV)/pytest -q tests/property/test_histories.py

split-brain: build ## every combination of the after-split-brain policies on real daemons
	PYDRBD_SPLIT_BRAIN=all $(VENV)/pytest -q tests/integration/test_split_brain.py

test-vm: ## two virtual machines: the kernel's DRBD as the peer, kernel devices; CASE="swap or flush" chooses (root)
	tests/vm/prepare
	nice -n 5 $(VENV)/pytest tests/vm -n $(PAIRS) --dist loadfile --durations=0 --durations-min=1 $(if $(CASE),-k "$(CASE)")

sim: ## the simulated world at length: SEED=1 RUNS=1000 random lives, then more power cuts
	PYDRBD_SEED=$(SEED) PYDRBD_RUNS=$(RUNS) $(VENV)/pytest -q tests/sim/test_random.py
	@for cuts in "replicated castor" "replicated pollux" "replicated both" "disconnected castor" "disconnected pollux" \
	    "disconnected both" "alone castor" "handed_over both" "restarted castor" "restarted both"; do echo "$$cuts, seed $(SEED)"; \
	    PYTHONPATH=src:tests $(VENV)/python tests/sim/run_cuts.py $$cuts --seed $(SEED) --long || exit 1; done

mutants: ## plant mistakes, one at a time, and see the simulator find them
	@PYTHONPATH=src:tests $(VENV)/python tests/sim/mutants.py

bench: build ## measure against the peers; BENCH="--seconds 2" goes to bench/run.py
	bench/prepare
	PYTHONPATH=tools $(VENV)/python bench/run.py $(BENCH)

bench-resync: build ## p99 of writes with and without a resync; BENCH=--publish
	PYTHONPATH=tools $(VENV)/python bench/resync.py $(BENCH)

clean: ## remove what was built
	rm -rf build src/pydrbd/core/_core*.so

# --- C test programs ---

run-c: $(addprefix $(OUT)/,$(C_TESTS))
	@failed=; for program in $^; do echo "$$program"; \
	    timeout 120 $(RUN_$(KIND)) $$program || failed="$$failed $$program"; done; \
	    [ -z "$$failed" ] || { echo "failed:$$failed"; exit 1; }

run-fuzz: $(addprefix $(OUT)/,$(FUZZERS))
	@for program in $^; do name=$${program##*/fuzz_}; echo "$$program"; \
	    timeout 120 $$program tests/fuzz/corpus/$$name/* || exit 1; done

$(OUT)/libcore.a: $(C_SOURCES:%.c=$(OUT)/%.o)
	@rm -f $@
	@ar rcs $@ $^

$(OUT)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_KIND) -c -o $@ $<

.SECONDEXPANSION:
$(addprefix $(OUT)/,$(C_TESTS)): $(OUT)/%: $$(addprefix $(OUT)/,$$(addsuffix .o,$$(basename $$(wildcard tests/c/$$*.c tests/c/*/$$*.c)))) $(OUT)/libcore.a
	$(CC) $(FLAGS_$(KIND)) -o $@ $< $(OUT)/libcore.a $(LIBRARIES)

# tests/fuzz/replay.c is the main() that feeds files to a target where there is no libFuzzer.
$(addprefix $(OUT)/,$(FUZZERS)): $(OUT)/%: $(OUT)/tests/fuzz/%.o $(OUT)/tests/fuzz/replay.o $(OUT)/libcore.a
	$(CC) $(FLAGS_$(KIND)) -o $@ $^ $(LIBRARIES)

-include $(shell find $(OUT) -name '*.d' 2>/dev/null)
