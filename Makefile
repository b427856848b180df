# The two commands are `make demo` and `make test`. Both look after what they need; see scripts/setup.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Where the installers of Rust and Go put them, for shells whose PATH does not have them yet.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/local/go/bin

# One place for all parts, whatever the caller's environment says.
export CARGO_TARGET_DIR := $(CURDIR)/target

HEADER := include/alluxio_membership.h
ETCD_3_6 := .tools/bin/etcd-3.6
TOXIPROXY := .tools/bin/toxiproxy
CARGO ?= cargo
# Without the thousand lines of its downloads, and without colours where no terminal is.
MVN ?= mvn --batch-mode --no-transfer-progress -Dstyle.color=auto --file java/pom.xml -Dnative.directory=$(CURDIR)/target/release

.PHONY: help demo test build static install uninstall tools jar header-check fmt-check clippy test-rust test-faults test-c test-java test-install clean

help: ## Lists the targets.
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

demo: ## Shows real Alluxio code registering workers through the library, in a minute or two.
	@scripts/demo

test: ## Runs every check and every test of every language, and sums up.
	@scripts/test

build: ## Builds the library, the tool (release) and the C header.
	$(CARGO) build --release --locked
	@ln -sf liballuxio_membership.so target/release/liballuxio_membership.so.0

static: ## Builds the static library, and notes what must be linked with it.
	@mkdir -p target/release
	$(CARGO) rustc --release --locked --lib --crate-type staticlib -- --print native-static-libs=$(CURDIR)/target/release/native-static-libs

# PREFIX (/usr/local), DESTDIR, BINDIR, LIBDIR, INCLUDEDIR, DATADIR and MANDIR say where to.
export PREFIX DESTDIR BINDIR LIBDIR INCLUDEDIR DATADIR MANDIR

install: build static ## Installs libraries, headers, tool, manual pages; PREFIX= and DESTDIR= say where.
	@scripts/install install

uninstall: ## Removes what install put there; give it the same PREFIX= and DESTDIR=.
	@scripts/install uninstall

tools: $(if $(AXM_ETCD_3_6),,$(ETCD_3_6)) $(if $(AXM_TOXIPROXY),,$(TOXIPROXY)) ## Builds etcd 3.6 and toxiproxy for the tests.

$(ETCD_3_6): $(wildcard tools/etcd/*)
	cd tools/etcd && go build -trimpath -ldflags='-s -w' -o $(CURDIR)/$@ .
	@touch $@

jar: build ## Builds the jar, with the library of this machine inside.
	$(MVN) --quiet package -DskipTests

$(TOXIPROXY): $(wildcard tools/toxiproxy/*)
	cd tools/toxiproxy && go build -trimpath -ldflags='-s -w' -o $(CURDIR)/$@ github.com/Shopify/toxiproxy/v2/cmd/server
	@touch $@

header-check: ## Fails when the committed C header is not what build.rs makes of src/c_api.
	@mkdir -p target
	@git -c safe.directory='*' show :$(HEADER) >target/header.committed 2>/dev/null || cp $(HEADER) target/header.committed
	@$(MAKE) --no-print-directory build
	@diff -u target/header.committed $(HEADER) || { echo "commit $(HEADER) as the build wrote it"; exit 1; }
	@echo "$(HEADER) is up to date"

fmt-check: ## Checks the formatting of the Rust code.
	$(CARGO) fmt --check && echo "formatting is right"

clippy: ## Runs clippy on everything.
	$(CARGO) clippy --all-targets --locked -- -D warnings

test-rust: tools ## Runs the Rust and the C tests, on real etcd servers.
	$(CARGO) test --locked

test-faults: tools ## Runs every fault test, the slow ones too, and prints one line per fault.
	@scripts/test-faults

test-c: tools ## Runs the C tests alone.
	$(CARGO) test --locked --test c_api

test-java: build tools ## Runs the Java tests, on the real Alluxio classes and real etcd servers.
	$(MVN) verify

test-install: build static ## Installs into a temporary folder, builds the examples against it, and uninstalls.
	@env -u PREFIX -u DESTDIR -u BINDIR -u LIBDIR -u INCLUDEDIR -u DATADIR -u MANDIR scripts/test-install

clean: ## Removes everything that was built.
	rm -rf target java/target .tools
