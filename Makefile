# make demo         builds everything and serves a page for calls on this machine
# make demo-matrix  a Synapse, this server and Element Call on this machine, with two users and an encrypted room
# make deb          a Debian package of it, with a systemd unit (installs cargo-deb)
# make test         everything that CI checks
# make poor-links   calls of real browsers on poor links, beside LiveKit's server where Go is installed: a table and plots
# make bench        CPU per packet beside a bare forwarder and coturn
# make bench-peers  the same, with LiveKit's server in the same run (installs it from the Go module proxy)

TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
NPM_CI := npm ci --no-audit --no-fund
LIVEKIT := github.com/livekit/livekit-server/cmd/server@v1.11.0
PEBBLE := github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.3
GO := $(shell command -v go)
GOBIN := $(or $(if $(GO),$(shell go env GOBIN)),$(HOME)/go/bin)

MATRIX := demo/matrix

PAGE := signaling/web/dist/index.html
PAGE_SOURCES := $(wildcard signaling/web/*.json signaling/web/*.mjs signaling/web/src/* signaling/web/src/admin/* signaling/web/static/*)

.PHONY: demo demo-matrix build deb test check unit interop poor-links bench bench-peers benches rust node peers matrix-peers

demo: build
	$(TARGET)/release/hausruf demo

demo-matrix: build matrix-peers
	@HAUSRUF_BIN=$(TARGET)/release/hausruf node $(MATRIX)/demo.mjs

build: rust $(PAGE)
	cargo build --release --locked

deb: build
	@cargo deb --version >/dev/null 2>&1 || cargo install --locked cargo-deb
	cargo deb --no-build --strip --locked

$(PAGE): $(PAGE_SOURCES) | node
	cd signaling/web && $(NPM_CI) && npm run build

test: check unit interop

check: rust $(PAGE)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

unit: rust $(PAGE)
	cargo test --workspace --locked
	cd signaling/web && npm test

# Real browsers and Debian's TURN client, in network namespaces: needs root.
# An ACME server too, if Go is there to build it.
interop: build peers matrix-peers node $(if $(GO),$(GOBIN)/pebble)
	cargo build --release --locked -p netsim -p benches
	cd tests/interop && $(NPM_CI)
	cd tests/interop && $(SUDO) env "PATH=$(PATH)" HAUSRUF_BIN=$(TARGET)/release/hausruf PEBBLE_BIN=$(GOBIN)/pebble \
	    NETSIM_BIN=$(TARGET)/release/netsim BENCHES_BIN=$(TARGET)/release/benches npm test

# In turns with LiveKit's server if Go is there to build it. Needs root, half an hour, and a machine that has nothing else to do.
poor-links: benches peers node $(if $(GO),$(GOBIN)/server)
	cargo build --release --locked -p netsim
	cd tests/interop && $(NPM_CI)
	cd tests/interop && $(SUDO) env "PATH=$(PATH)" HAUSRUF_BIN=$(TARGET)/release/hausruf LIVEKIT_BIN=$(GOBIN)/server \
	    NETSIM_BIN=$(TARGET)/release/netsim BENCHES_BIN=$(TARGET)/release/benches node poor-links.mjs

# In a network namespace of its own: needs root.
bench: benches peers
	$(SUDO) $(TARGET)/release/benches all --server $(TARGET)/release/hausruf --coturn "$$(command -v turnserver)"

bench-peers: benches peers $(GOBIN)/server
	$(SUDO) $(TARGET)/release/benches all --server $(TARGET)/release/hausruf --livekit $(GOBIN)/server \
	    --coturn "$$(command -v turnserver)"

benches: build
	cargo build --release --locked -p benches

$(GOBIN)/server:
	@command -v go >/dev/null || { echo "Go is missing: https://go.dev/dl/"; exit 1; }
	GOBIN=$(GOBIN) go install $(LIVEKIT)

$(GOBIN)/pebble:
	GOBIN=$(GOBIN) go install $(PEBBLE) || echo "*** pebble cannot be built: the tests of ACME will be skipped"

rust:
	@command -v cargo >/dev/null || { echo "the Rust toolchain is missing: https://rustup.rs/"; exit 1; }
	@cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
	@cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
	@command -v cc >/dev/null || $(SUDO) sh -c "apt-get update -qq && apt-get install -y -qq build-essential"

node:
	@command -v npm >/dev/null || { echo "Node.js is missing (20 or later): https://nodejs.org/"; exit 1; }

matrix-peers: $(MATRIX)/.venv/installed $(MATRIX)/node_modules/.package-lock.json

$(MATRIX)/.venv/installed: $(MATRIX)/requirements.txt
	@python3 -c "import ensurepip" 2>/dev/null && command -v openssl >/dev/null || \
	    $(SUDO) sh -c "apt-get update -qq && apt-get install -y -qq --no-install-recommends python3 python3-venv openssl"
	@python3 -c "import sys; sys.exit(sys.version_info < (3, 11))" || { echo "Python 3.11 or later is missing"; exit 1; }
	python3 -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

$(MATRIX)/node_modules/.package-lock.json: $(MATRIX)/package-lock.json | node
	cd $(MATRIX) && $(NPM_CI)

# Each tool with the Debian package that has it. RUNLEVEL=1 keeps the packages from starting services.
peers:
	@missing=; \
	for tool in chromium:chromium ffmpeg:ffmpeg turnutils_uclient:coturn ip:iproute2 curl:curl tshark:tshark prosody:prosody ejabberdctl:ejabberd; do \
	    PATH="$$PATH:/usr/sbin" command -v "$${tool%%:*}" >/dev/null || missing="$$missing $${tool##*:}"; \
	done; \
	[ -z "$$missing" ] || $(SUDO) env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive sh -c "apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing"
