# What is done often. `just --list` shows it.

# Format, lint and document, as CI does
check:
    .ci/run format lint docs

# Every test that needs nothing but cargo
test:
    cargo test --workspace

# A fuzz target by coverage, as in `just fuzz hash_exchange -max_total_time=300`; without a name: which there are. Needs g++
fuzz NAME="" *ARGS="-max_total_time=60":
    engine/fuzz/run.sh "{{NAME}}" {{ARGS}}

# The simulated swarms
sim:
    cargo test -p swarmbt-sim

# One simulated swarm against the bound, as in `just simulate --peers 1000 --pieces 512`
simulate *ARGS:
    cargo run --release -p swarmbt-sim --bin simulate -- {{ARGS}}

# The completion curve of the README, from one seed
curves:
    cargo run --release -p swarmbt-sim --bin simulate -- --peers 300 --pieces 512 --report target/report
    cp target/report/flash-crowd.svg docs/curves.svg

# A simulated network of DHT nodes, as in `just simulate-dht --nodes 10000 --scenario churn`, or `--report DIR --nodes 100000`
simulate-dht *ARGS:
    cargo run --release -p swarmbt-sim --bin simulate-dht -- {{ARGS}}

# A whole swarm on this machine, as in `just lab --fault kill-peer`
lab *ARGS:
    cargo run --release -- lab {{ARGS}}

# Every simulation that docs/performance.md quotes, half an hour of two cores
bench-simulation *ARGS:
    cargo build --release -p swarmbt-sim --bin simulate
    SWARM_BIN="${CARGO_TARGET_DIR:-target}/release" benches/simulation.py {{ARGS}}

# Against libtorrent, qBittorrent, Transmission, rTorrent, aria2, rqbit and libutp, as in `just interop test_create`
interop *TESTS:
    .ci/run interop {{TESTS}}

# Micro benchmarks
bench *ARGS:
    cargo bench --workspace {{ARGS}}

# Whole transfers beside libtorrent and aria2, as in `just bench-transfer --rounds 3 --scenario 8x512MiB --only swarm,aria2`
bench-transfer *ARGS:
    cargo build --release --workspace --bins
    SWARM_BIN="${CARGO_TARGET_DIR:-target}/release" benches/transfer.py {{ARGS}}

# What encryption costs, beside the cipher alone and libtorrent, as in `just bench-encryption --rounds 3`
bench-encryption *ARGS:
    cargo build --release --workspace --bins
    SWARM_BIN="${CARGO_TARGET_DIR:-target}/release" benches/encryption.py {{ARGS}}

# How quickly data is hashed, beside mktorrent, as in `just bench-hash --rounds 3`
bench-hash *ARGS:
    cargo build --release --workspace --bins
    SWARM_BIN="${CARGO_TARGET_DIR:-target}/release" benches/hash.py {{ARGS}}

# What four million pieces cost in memory and time, beside an eighth of them; needs root for the copies' file system
bench-size *ARGS:
    cargo build --release -p swarmbt
    SWARM_BIN="${CARGO_TARGET_DIR:-target}/release" benches/size.py {{ARGS}}

# What a peer that sends corrupt blocks costs, in version 1, version 2 and a hybrid, as in `just bench-poison --rounds 3`
bench-poison *ARGS:
    cargo build --release -p swarmbt
    SWARM_BIN="${CARGO_TARGET_DIR:-target}/release" benches/poison.py {{ARGS}}

# A download whose source stops near the end, as in `just bench-tail 5`
bench-tail ROUNDS="5":
    cargo build --release --workspace --bins
    benches/tail.py {{ROUNDS}}

# How long a player waits that streams, as in `just bench-streaming --sources 8`
bench-streaming *ARGS:
    cargo build --release --workspace --bins
    SWARM_BIN="${CARGO_TARGET_DIR:-target}/release" benches/streaming.py {{ARGS}}

# Ten thousand torrents in one daemon, beside qBittorrent and Transmission, which must be installed, as in `just bench-many --torrents 1000`
bench-many *ARGS:
    cargo build --release -p swarmbt
    SWARM_BIN="${CARGO_TARGET_DIR:-target}/release" benches/many.py {{ARGS}}

# From an info-hash alone to the metadata, on a private DHT of 50 nodes
bench-cold-start *ARGS:
    cargo build --release --workspace --bins
    SWARM_BIN="${CARGO_TARGET_DIR:-target}/release" benches/cold_start.py {{ARGS}}

# What a download costs more when only its link is known
bench-magnet *ARGS:
    cargo build --release --workspace --bins
    SWARM_BIN="${CARGO_TARGET_DIR:-target}/release" benches/magnet.py {{ARGS}}

# A swarm of hosts with shaped lines, beside libtorrent and the simulator's prediction; needs root
bench-world *ARGS:
    cargo build --release --workspace --bins
    SWARM_BIN="${CARGO_TARGET_DIR:-target}/release" benches/world.py {{ARGS}}

# uTP beside TCP and libtorrent's uTP, over a shaped line and over a plain veth; needs root
bench-utp *ARGS:
    cargo build --release --workspace --bins
    SWARM_BIN="${CARGO_TARGET_DIR:-target}/release" benches/utp.py {{ARGS}}

# From a web server, beside curl and aria2; needs nginx, and root for the shaped line
bench-webseed *ARGS:
    cargo build --release -p swarmbt
    SWARM_BIN="${CARGO_TARGET_DIR:-target}/release" benches/webseed.py {{ARGS}}

# Announces per second beside aquatic_http, which must be installed, as must wrk; with `--store` two trackers on one Redis beside one without
bench-tracker *ARGS:
    cargo build --release --workspace --bins
    benches/tracker.py {{ARGS}}

# What seeding costs a seed that trusts its state, beside an earlier state, whose programs are in BEFORE
bench-seeding BEFORE *ARGS:
    cargo build --release -p swarmbt
    benches/seeding.py {{BEFORE}} "${CARGO_TARGET_DIR:-target}/release" {{ARGS}}

# Whether this state is slower than an earlier one, whose programs are in BEFORE
bench-pairs BEFORE *ARGS:
    cargo build --release --workspace --bins
    benches/pairs.py {{BEFORE}} "${CARGO_TARGET_DIR:-target}/release" {{ARGS}}

# A Debian package with the command, the daemon's and the tracker's units, in target/debian; needs cargo-deb and help2man
deb:
    cargo build --release -p swarmbt -p swarmbt-tracker
    cli/packaging/build-assets "${CARGO_TARGET_DIR:-target}/release" "${CARGO_TARGET_DIR:-target}/release/assets"
    cargo deb -p swarmbt --no-build

# Static programs, small; needs musl-tools and the target x86_64-unknown-linux-musl. They are in target/x86_64-unknown-linux-musl/dist
static:
    cargo build --profile dist -p swarmbt -p swarmbt-tracker --target x86_64-unknown-linux-musl

# Images of the daemon and the tracker with nothing but their static programs, as in `just container "docker build"`
container BUILD="buildah build --format docker": static
    cli/packaging/container-context "${CARGO_TARGET_DIR:-target}/x86_64-unknown-linux-musl/dist" target/container
    {{BUILD}} --target daemon --tag swarm-daemon --file cli/packaging/Containerfile target/container
    {{BUILD}} --target tracker --tag swarm-tracker --file cli/packaging/Containerfile target/container

# Whether the engine's API has changed since REV in a way that its version does not tell; takes cargo-semver-checks
semver REV:
    cargo semver-checks --package swarmbt-core --package swarmbt-engine --package swarmbt-tracker --baseline-rev {{REV}}

# Everything that is checked before a change lands
ci:
    .ci/run
