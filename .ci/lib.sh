# shellcheck shell=bash
# Steps, counts and installation for .ci/run.

passed=0 failed=0 skipped=0
failures=()

# A step that is one check. Its output is shown only when it fails.
step() {
    local name=$1 log status=0 start=$SECONDS
    shift
    log=$(mktemp)
    "$@" >"$log" 2>&1 </dev/null || status=$?
    finish "$name" "$status" $((SECONDS - start))
    if ((status == 0)); then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        sed 's/^/    /' "$log"
    fi
    rm -f "$log"
}

# A step made of many tests: those of `cargo test` or of .ci/interop/run.py, which say how many passed and failed.
counted() {
    local name=$1 log status=0 start=$SECONDS ok bad skips
    shift
    log=$(mktemp)
    "$@" >"$log" 2>&1 </dev/null || status=$?
    ok=$(sum_of "passed" "$log")
    bad=$(sum_of "failed" "$log")
    skips=$(sum_of "skipped" "$log")
    # What failed without a count, a build for instance, is one failure.
    ((status == 0 || bad > 0)) || bad=1
    ((ok > 0 || bad > 0)) || bad=1
    passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skips))
    finish "$name" "$bad" $((SECONDS - start)) "$ok passed, $bad failed"
    if ((bad > 0)); then
        grep -vE '\.\.\. ok$' "$log" | sed 's/^/    /'
    else
        grep -E '^ *(skip|note)' "$log" || true
    fi
    rm -f "$log"
}

# Adds up the numbers before this word in lines of counts.
sum_of() {
    awk -v word="$1" '/^(test result:|interop:)/ {
        for (i = 2; i <= NF; i++) if ($i ~ "^" word "[;,]?$") n += $(i - 1)
    } END { print n + 0 }' "$2"
}

finish() {
    local verdict=ok
    if (($2 != 0)); then
        verdict=FAILED
        failures+=("$1")
    fi
    printf '%-28s %-7s %4d s  %s\n' "$1" "$verdict" "$3" "${4:-}"
}

skip() {
    skipped=$((skipped + 1))
    printf '%-28s %-7s %s\n' "$1" skipped "$2"
}

# What cannot be installed: a failure with CI=true, elsewhere a skip.
missing() {
    if [[ -z ${CI:-} ]]; then
        skip "$1" "$2"
    else
        failed=$((failed + 1))
        finish "$1" 1 0 "$2"
    fi
}

summary() {
    ((${#failures[@]} == 0)) || printf 'failed: %s\n' "${failures[@]}"
    printf '%d s in all, %d skipped\n' "$SECONDS" "$skipped"
    printf '%d passed, %d failed\n' "$passed" "$failed"
    ((failed == 0))
}

# What building and checking needs. Where it cannot be installed, the step that needs it says so.
install_tools() {
    command -v cargo >/dev/null || { echo "cargo is not there: install Rust 1.89 or later first" && exit 1; }
    install_packages gcc libc6-dev python3 python3-venv shellcheck >/dev/null || true
}

# Installs those of these Debian packages that are not there. Fails where that cannot be done.
install_packages() {
    local package missing=()
    for package in "$@"; do
        [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == *" installed" ]] || missing+=("$package")
    done
    ((${#missing[@]} > 0)) || return 0
    if ! command -v apt-get >/dev/null || [[ $(id -u) != 0 ]]; then
        echo "note: not installed here: ${missing[*]}"
        return 1
    fi
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}
