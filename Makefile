# `make` lists what can be made.

# Where `make install` puts things; DESTDIR goes before it for packages.
PREFIX ?= /usr
DESTDIR ?=
# What `make lab` boots: HOSTS=5, LAB="--docker --etcd 3".
HOSTS ?= 3
LAB ?=
# Scenarios of `make sim`.
SEEDS ?= 1000
# How long `make faults` does faults, and what they are drawn with: SEED=7 draws the same again.
MINUTES ?= 15
SEED ?=
# What `make sim` plays in place of drawn scenarios: sim/scripts/NAME.script.
SCRIPT ?=
# How often `make bench` measures each side.
ROUNDS ?= 5
# Whose programs `make mixed` runs beside today's: of the commit before records in etcd were made to grow.
BEFORE ?= 6ba0864
# How large the cluster of `make scale` is.
MACHINES ?= 1000
UNITS ?= 20000
# How long `make fuzz` looks at each target.
SECONDS ?= 60

# Where rustup puts cargo, for shells that have not read its profile.
export PATH := $(PATH):$(HOME)/.cargo/bin
# Cargo builds as whoever runs make. What needs root, namespaces and mounts, goes through this.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
# Cargo's variable for what runs test binaries, CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER or so.
RUNNER = CARGO_TARGET_$(shell rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')_RUNNER
AS_ROOT = $(if $(SUDO),$(RUNNER)='$(SUDO) --preserve-env')
CAN_BE_ROOT = test -z "$(SUDO)" || command -v sudo >/dev/null || { echo "error: hosts of the lab need root: run make as root, or install sudo" >&2; exit 1; }
CARGO := cargo
SIM = RUSTFLAGS="--cfg tokio_unstable" CARGO_TARGET_DIR=$(TARGET)/sim $(CARGO)
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help deps testdeps build check test demo lab faults bench scale sim mixed fuzz deb tarball install clean

help: ## List what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1 /p' $(MAKEFILE_LIST) | while read name text; do printf '  make %-8s %s\n' "$$name" "$$text"; done

deps: ## Install what is missing for everything below (Debian, Ubuntu; sudo when not root)
	@demo/deps.sh

testdeps:
	@demo/deps.sh test

build: deps ## Build fleetd, fleetctl and fleet-lab as a release
	$(CARGO) build --release --workspace --locked

check: deps ## Formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

# How long each part of `make test` takes, for the table in the end.
TIMES = $(TARGET)/test-times
TIMED = tests/timed.sh $(TIMES)
# Named together, so that both are built with the same features.
CLUSTER = $(CARGO) test --locked --package fleet-tests --package fleet-bench

# The hosts of the lab run what `cargo build` left in target/debug. What measures ratios, or does faults by the dozen, has
# the processors for itself.
test: testdeps ## Every test, those on real hosts too (root or sudo)
	@$(CAN_BE_ROOT)
	@mkdir -p $(TARGET) && rm -f $(TIMES)
	@$(TIMED) 'formatting and lints' $(MAKE) --no-print-directory check
	$(TIMED) build $(CARGO) build --workspace --locked
	$(TIMED) 'cargo test' $(CARGO) test --locked
	$(TIMED) simulation env $(SIM) test --locked --profile sim --package fleet-sim
	$(AS_ROOT) $(TIMED) fleet-lab $(CARGO) test --locked --package fleet-lab --test real_hosts -- --ignored
	$(AS_ROOT) tests/beside.sh $(TIMES) $(CLUSTER)
	$(AS_ROOT) $(TIMED) fleet-bench $(CLUSTER) --lib --bins $(patsubst bench/tests/%.rs,--test %,$(wildcard bench/tests/*.rs))
	@$(TIMED)

mixed: deps ## Boot hosts with today's programs beside hosts with those of BEFORE=COMMIT (root or sudo)
	@$(CAN_BE_ROOT)
	@tests/before.sh $(BEFORE) $(abspath $(TARGET))/mixed
	$(CARGO) build --workspace --locked
	FLEET_BEFORE=$(abspath $(TARGET))/mixed/bin $(AS_ROOT) $(CARGO) test --locked --package fleet-tests --test mixed -- --ignored

# Built without optimisation: that takes half as long, and the hosts feel no difference.
demo: deps ## Boot three hosts, run units on them, kill one (root or sudo)
	$(CARGO) build --workspace --locked
	@BIN=$(TARGET)/debug demo/demo.sh

lab: deps ## Boot a cluster to play with: HOSTS=3 LAB="--docker" (root or sudo)
	@$(CAN_BE_ROOT)
	$(CARGO) build --workspace --locked
	@$(SUDO) $(TARGET)/debug/fleet-lab up --hosts $(HOSTS) $(LAB)
	@echo "fleet-lab is $(TARGET)/debug/fleet-lab"

faults: deps ## Do faults to a cluster for MINUTES=15 and say which promises were broken (root or sudo)
	@$(CAN_BE_ROOT)
	$(CARGO) build --workspace --locked
	@$(SUDO) $(TARGET)/debug/fleet-soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) --keep $(TARGET)/faults

bench: deps ## Measure against systemd and etcd alone, into docs/performance.md: ROUNDS=5 (root or sudo)
	@$(CAN_BE_ROOT)
	$(CARGO) build --release --workspace --locked
	@$(SUDO) $(TARGET)/release/fleet-bench --rounds $(ROUNDS) --write docs/performance.md

# Its etcd and all machines share the processors: the fewer others want them, the more the ratio says.
scale: ## Run MACHINES=1000 simulated machines with UNITS=20000 on a real etcd: docs/performance.md
	$(CARGO) build --release --locked --package fleet-bench --package fleet-lab
	$(TARGET)/release/fleet-lab sim --machines $(MACHINES) --units $(UNITS) --write docs/performance.md

# Tokio draws the order in which it wakes those who wait for one thing. Built so it can be told its seed, and a seed is
# the same scenario each time.
sim: ## Run SEEDS=1000 simulated clusters with faults, or tell what happens in one: SEED=7 or SCRIPT=FILE
	$(if $(SEED)$(SCRIPT),,$(SIM) test --locked --profile sim --package fleet-sim)
	SEED=$(SEED) SCRIPT=$(SCRIPT) $(SIM) run --locked --profile sim --package fleet-sim -- $(SEEDS)

# `cargo install cargo-fuzz`; see fuzz/README.md.
fuzz: ## Look for input that breaks something: SECONDS=60 TARGETS="unit_file records"
	@command -v cargo-fuzz >/dev/null || { echo "error: cargo-fuzz is missing: cargo install cargo-fuzz" >&2; exit 1; }
	cd fuzz && RUSTC_BOOTSTRAP=1 $(CARGO) fuzz build --sanitizer none
	@cd fuzz && for target in $(or $(TARGETS),$$(RUSTC_BOOTSTRAP=1 $(CARGO) fuzz list)); do \
		echo "$$target: $(SECONDS) s" && mkdir -p corpus/$$target && \
		RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --sanitizer none $$target corpus/$$target ../units -- \
			-max_total_time=$(SECONDS) -dict=fleet.dict -max_len=4096 -timeout=10 -verbosity=0 -print_final_stats=1 || exit 1; \
	done

deb: deps ## Build a Debian package into target/debian
	$(CARGO) build --release --package fleetd --package fleetctl --locked
	@packaging/deb.sh $(TARGET)/release $(TARGET)/debian

# Linked with musl, for hosts of any distribution. Ring is all that needs a C compiler, and any will do.
MUSL := $(shell uname -m)-unknown-linux-musl
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)

tarball: deps ## Build a tarball of static binaries into target
	rustup target add $(MUSL)
	CC_$(subst -,_,$(MUSL))=gcc $(CARGO) build --release --package fleetd --package fleetctl --locked --target $(MUSL)
	rm -rf $(TARGET)/tarball
	packaging/layout.sh $(TARGET)/$(MUSL)/release $(TARGET)/tarball /usr/local
	tar -C $(TARGET)/tarball --owner=root:0 --group=root:0 -czf $(TARGET)/fleet-$(VERSION)-$(MUSL).tar.gz usr
	@rm -r $(TARGET)/tarball && echo $(TARGET)/fleet-$(VERSION)-$(MUSL).tar.gz

# Does not build, so that `sudo make install` needs no cargo.
install: ## Install what `make build` built: PREFIX=/usr DESTDIR=
	@test -x $(TARGET)/release/fleetd || { echo "error: nothing to install: run \`make build\` first" >&2; exit 1; }
	packaging/layout.sh $(TARGET)/release $(or $(DESTDIR),/) $(PREFIX)
	test -e $(DESTDIR)/etc/fleet/fleet.conf || install -D -m 644 cloud-init/fleet.conf $(DESTDIR)/etc/fleet/fleet.conf
	test -n "$(DESTDIR)" || systemd-sysusers $(PREFIX)/lib/sysusers.d/fleet.conf
	test -n "$(DESTDIR)" || test ! -d /run/systemd/system || systemctl daemon-reload

clean: ## Remove what was built
	$(CARGO) clean
