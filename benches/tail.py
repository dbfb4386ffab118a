#!/usr/bin/env python3
"""The tail of a download: eight sources, one of which is stopped with SIGSTOP when 99 % are there.

Prints, for each round, how long the download took from that moment on. usage: benches/tail.py [ROUNDS]
"""

import shutil
import signal
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".ci/interop"))

from clients import Swarm  # noqa: E402
from harness import MIB, create, difference_of, fill, new_scratch, seeded, until  # noqa: E402

SOURCES = 8
LENGTH = 256 * MIB
# Slow enough for the last percent to take a while (0.3 s), so that the signal comes in it. `get` reports once a second;
# in between, the rate says how far it is.
RATE_BYTES_S = 8_000_000 // SOURCES


def round_of(scratch, meta, number):
    sources = [Swarm.source(meta, scratch, "--max-up", f"{RATE_BYTES_S}B/s") for _ in range(SOURCES)]
    folder = scratch / f"copy {number}"
    try:
        begun = time.monotonic()
        with Swarm.downloader(meta, folder, [source.address for source in sources]) as get:

            def received():
                """Bytes, by the last report and the rate that it gives."""
                last = next((e for e in reversed(get.events) if e["event"] == "progress"), None)
                return last["bytes_down"] + last["rate_down"] * (time.monotonic() - begun - last["t"]) if last else 0

            until(lambda: received() >= 0.99 * LENGTH, 120, "99 %")
            sources[0].process.send_signal(signal.SIGSTOP)
            stopped, missing = time.monotonic(), LENGTH - received()
            get.expect(0, 60)
            took = time.monotonic() - stopped
    finally:
        for source in sources:
            source.process.send_signal(signal.SIGCONT)
            source.stop()
    wrong = difference_of(scratch / "data.bin", folder / "data.bin")
    shutil.rmtree(folder)
    if wrong:
        raise SystemExit(f"the copy differs: {wrong}")
    print(f"round {number}: {missing / MIB:.1f} MiB were missing, done {took:.2f} s after the stop", flush=True)
    return took


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    scratch = new_scratch(3 * LENGTH)
    try:
        data = fill(scratch / "data.bin", LENGTH, seeded(1))
        meta = create(data, scratch / "data.meta", "--piece-length", "1MiB")
        times = [round_of(scratch, meta, number) for number in range(1, rounds + 1)]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"median {statistics.median(times):.2f} s, longest {max(times):.2f} s")


if __name__ == "__main__":
    main()
