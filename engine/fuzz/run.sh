#!/usr/bin/env bash
# Runs a fuzz target under libFuzzer: `run.sh NAME [OPTION OF LIBFUZZER...]`. What it has tried is kept in target/fuzz/NAME; an input that
# fails belongs into testdata/fuzz/NAME, where `cargo test` tries it each time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
target=${CARGO_TARGET_DIR:-$PWD/target}
# Only crates of the workspace are compiled so, and cargo keeps them beside the others.
export RUSTC_WORKSPACE_WRAPPER=$PWD/engine/fuzz/rustc.sh
cargo build --package swarmbt-fuzz --features libfuzzer --bin fuzz
name=${1:-}
export SWARM_FUZZ=$name
[[ -n $name ]] || exec "$target/debug/fuzz"
shift
mkdir -p "$target/fuzz/$name" "testdata/fuzz/$name"
exec "$target/debug/fuzz" -max_len=4096 -timeout=10 -artifact_prefix="$target/fuzz/$name-" "$@" \
    "$target/fuzz/$name" "testdata/fuzz/$name"
