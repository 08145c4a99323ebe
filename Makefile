# nodeprobe: every task is one target. `make` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euc
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help run build bpf test check fuzz bench soak size install uninstall clean vendor docs syscalls image test-parts test-arch deb tarball test-vm

# auto: Rust's ready-made musl target, or a std compiled here when that cannot be had.  build: always compile std.
STD ?= auto
export STD
# 1: take crates from vendor/crates (see `make vendor`) and stay offline.
VENDORED ?=
export VENDORED
# Another architecture to build for: make build ARCH=aarch64|armv7, which makes dist/ARCH/nodeprobe.
ARCH ?=
export ARCH
# Flags for the agent (run), for the bench (bench), for libFuzzer (fuzz) or for the test programs (test).
ARGS ?=
# A BPF program to compile, and where to: make bpf SRC=x.bpf.c [OUT=x.bpf.o] [BTF=types of another kernel].
SRC ?=
export BTF
# One integration test file: make test T=name. One fuzz target: make fuzz T=name.
T ?=
# Parts of make test-parts.
P ?= page faults systemd deb
# Kernels for make test-vm.
K ?= 6.1
# Bounds of each fuzz target, whichever comes first: seconds and executions.
TIME ?= 600
RUNS ?= 1000000
PREFIX ?= /usr/local
DESTDIR ?=
MAX_SIZE := 3145728

# rustup installs here and leaves PATH to the shell's start files, which CI may not read.
export PATH := $(PATH):$(HOME)/.cargo/bin
CARGO := vendor/cargo.sh
TARGET := $(or $(shell [ -z "$(ARCH)" ] || { . vendor/build-std/table.sh $(ARCH) && echo $$rust; }),x86_64-unknown-linux-musl)
DIST := dist$(addprefix /,$(filter-out x86_64,$(ARCH)))/nodeprobe
BINARY := $(or $(CARGO_TARGET_DIR),target)$(addprefix /,$(filter-out x86_64,$(ARCH)))/$(TARGET)/release/nodeprobe
# Where tests write what they leave out, and why: support::skip.
SKIPPED := $(or $(CARGO_TARGET_DIR),target)/tmp/skipped
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo -E)
BPF_C := $(wildcard bpf/*.c bpf/*.h bpf/include/*.h bpf/programs/*.c)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

run: build ## build, then start the agent as root in the foreground (ARGS="--flags")
	@echo "metrics:  http://127.0.0.1:9435/metrics   (unless --listen says otherwise)"
	@echo "what works on this machine:  $(SUDO) dist/nodeprobe doctor"
	@exec $(SUDO) dist/nodeprobe $(ARGS)

build: ## build the static release binary, dist/nodeprobe (STD=build compiles std here; ARCH=aarch64|armv7: dist/ARCH/nodeprobe)
	@vendor/setup.sh build
	@$(CARGO) build --release --locked --bin nodeprobe
ifeq ($(ARCH),armv7)
	@vendor/build-std/neon.sh $(BINARY)
	@install -D -m 755 -s --strip-program=arm-linux-gnueabihf-strip $(BINARY) $(DIST)
else
	@install -D -m 755 $(BINARY) $(DIST)
endif

bpf: ## compile a BPF program of your own (SRC=x.bpf.c, OUT=x.bpf.o) with our headers and this kernel's types
	@[ -n "$(SRC)" ] || { echo "make bpf SRC=path/to/x.bpf.c [OUT=x.bpf.o]" >&2; exit 2; }
	@vendor/setup.sh bpf
	@vendor/bpf.sh "$(SRC)" $(OUT)

test: ## everything CI checks: style, unit, golden and kernel tests (T=name: one test file)
	@vendor/setup.sh test
	@$(MAKE) build
	@$(if $(T),,$(MAKE) check)
	@rm -f $(SKIPPED)
	@NODEPROBE_BINARY=dist/nodeprobe $(CARGO) test --locked $(if $(T),--test $(T)) $(if $(ARGS),-- $(ARGS))
	@[ ! -e $(SKIPPED) ] || { echo; echo "what cannot be tested on this machine:"; sort -u $(SKIPPED); }

test-vm: build ## the agent on a matrix of kernels (K=all, or names of tests/vm/kernels.txt), in emulated machines
	@vendor/setup.sh test-vm
	@K='$(K)' NODEPROBE_BINARY=dist/nodeprobe $(CARGO) test --locked --test kernel --test oom --test life --test matrix -- --ignored --nocapture the_matrix

test-parts: ## what is too long or too large for `make test`, by parts (P=page faults systemd deb: some of them)
	@P='$(P)' vendor/setup.sh parts
	@$(MAKE) build
	@$(if $(filter page faults,$(P)),$(CARGO) test --locked $(foreach part,$(filter page faults,$(P)),--test $(part)) -- --ignored --nocapture --test-threads=1)
	@$(if $(filter systemd,$(P)),$(SUDO) tests/vm/run.sh /var/tmp/nodeprobe-vm unit.sh)
	@$(if $(filter deb,$(P)),$(SUDO) tests/deb/root.sh)

# Those that need no kernel of their own, and no program of another architecture started by another program: see tests/arch.sh.
test-arch: ## unit tests and those of files alone for another architecture, run by qemu (ARCH=aarch64|armv7)
	@[ -n "$(filter-out x86_64,$(ARCH))" ] || { echo "make test-arch ARCH=aarch64|armv7" >&2; exit 2; }
	@$(MAKE) build
	@tests/arch.sh $(ARCH) $(ARGS)

check: ## formatting and lints only
	@vendor/setup.sh check
	@cargo fmt --check
	@cd fuzz && cargo fmt --check
	@$(CARGO) clippy --locked --all-targets -- -D warnings
	@$(if $(BPF_C),clang-format --dry-run -Werror $(BPF_C))

fuzz: ## look for input that crashes (T=target, TIME=600 seconds or RUNS=1000000 for each, ARGS go to libFuzzer)
	@vendor/setup.sh fuzz
	@TIME=$(TIME) RUNS=$(RUNS) ARGS='$(ARGS)' fuzz/run.sh $(T)

bench: build ## measure the agent's own cost, as root (ARGS go to the bench)
	@$(CARGO) bench --locked --bench bench -- $(ARGS)

soak: build ## what stays when containers come and go for half an hour (ARGS=--quick: 3 minutes), as root
	@$(CARGO) bench --locked --bench bench -- soak $(ARGS)

size: build ## show the binary's size by section; fails above 3 MiB
	@llvm-size -A dist/nodeprobe | awk 'NR > 2 && $$2 >= 1024'
	@size=$$(stat -c %s dist/nodeprobe); echo "dist/nodeprobe: $$size bytes, limit $(MAX_SIZE)"; [ $$size -le $(MAX_SIZE) ]

image: build ## the container image as archives, dist/nodeprobe-image*.tar; no daemon needed (docker load, podman load)
	@rm -rf dist/image && install -D -m 755 dist/nodeprobe dist/image/amd64/nodeprobe
	@deploy/image.sh dist/nodeprobe amd64 dist/nodeprobe-image.tar
	@for pair in aarch64=arm64 armv7=arm; do [ ! -e dist/$${pair%=*}/nodeprobe ] || { \
		install -D -m 755 dist/$${pair%=*}/nodeprobe dist/image/$${pair#*=}/nodeprobe; \
		deploy/image.sh dist/$${pair%=*}/nodeprobe $${pair#*=} dist/nodeprobe-image-$${pair#*=}.tar; }; done

docs: ## write docs/METRICS.md, docs/FLAGS.md, dashboards and alerts anew from the code
	@vendor/setup.sh build
	@RUNNER=env NODEPROBE_UPDATE=1 $(CARGO) test --locked --test docs
	@RUNNER=env NODEPROBE_UPDATE=1 $(CARGO) test --locked --test dashboards -- files_are_up_to_date
	@RUNNER=env NODEPROBE_UPDATE=1 $(CARGO) test --locked --test peers -- said_to_be_absent

syscalls: ## write the table of system calls anew from this machine's kernel headers
	@vendor/setup.sh syscalls
	@names=$$(vendor/syscalls.sh) && echo "$$names" >src/decoders/syscall_names.rs

# No dependency on build: `make build && sudo make install` must not compile as root.
install: ## install the built binary, a systemd unit and its settings (PREFIX, DESTDIR)
	@[ -x dist/nodeprobe ] || { echo "nothing to install yet: make build" >&2; exit 1; }
	@install -D -m 755 dist/nodeprobe $(DESTDIR)$(PREFIX)/bin/nodeprobe
	@install -d $(DESTDIR)/etc/systemd/system
	@sed 's#/usr/local/bin/#$(PREFIX)/bin/#' deploy/nodeprobe.service >$(DESTDIR)/etc/systemd/system/nodeprobe.service
	@install -m 644 deploy/nodeprobe.socket $(DESTDIR)/etc/systemd/system/nodeprobe.socket
	@[ -e $(DESTDIR)/etc/default/nodeprobe ] || install -D -m 644 deploy/nodeprobe.env $(DESTDIR)/etc/default/nodeprobe
	@echo "next:  systemctl daemon-reload && systemctl enable --now nodeprobe"

deb: build ## pack dist/nodeprobe as a Debian package, dist/nodeprobe_VERSION_ARCH.deb
	@deploy/package.sh deb

tarball: build ## pack it with its unit and documents, dist/nodeprobe-VERSION-ARCH.tar.gz, with dist/SHA256SUMS
	@deploy/package.sh tarball

uninstall: ## remove what install put there; settings stay
	@[ -n "$(DESTDIR)" ] || ! command -v systemctl >/dev/null || systemctl disable --now nodeprobe.socket nodeprobe 2>/dev/null || true
	@rm -f $(DESTDIR)$(PREFIX)/bin/nodeprobe $(DESTDIR)/etc/systemd/system/nodeprobe.service $(DESTDIR)/etc/systemd/system/nodeprobe.socket

vendor: ## copy all crates to vendor/crates, for builds without a network
	@vendor/setup.sh build
	@$(CARGO) vendor --locked vendor/crates >/dev/null
	@echo "vendor/crates is complete; build from it with:  make build VENDORED=1"

clean: ## remove everything that was built
	@rm -rf target dist
