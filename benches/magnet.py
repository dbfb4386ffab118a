#!/usr/bin/env python3
"""What a download costs more when only the magnet link is known: the exchange of the metadata, and nothing else.

One seed and one download over loopback, in turns: with the metainfo file, with the link, and the exchange alone (`swarm show --fetch`).
Told is the median of each, and of each round's ratio of the link's time to the sum of the other two.

usage: benches/magnet.py [--rounds N] [--size MiB] [--record NAME]    with --record, writes benches/results/DATE-NAME-magnet.json
"""

import argparse
import json
import shutil
import statistics
import sys
import time
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".ci/interop"))

from clients import Swarm  # noqa: E402
from harness import LOOPBACK, create, fill, new_scratch, seeded, swarm  # noqa: E402


def timed(run):
    begun = time.monotonic()
    run()
    return round(time.monotonic() - begun, 3)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--record")
    args = parser.parse_args()
    scratch = new_scratch(2 * args.size << 20)
    alone = "--no-dht", "--no-lsd", "--no-state", "--listen", LOOPBACK.endpoint(0)
    try:
        fill(scratch / "file", args.size << 20, seeded(1))
        meta = create(scratch / "file", scratch / "file.meta")
        [link] = swarm("magnet", meta).output
        seed = Swarm.source(meta, scratch)
        peer = "--peer", seed.address

        def get(source):
            shutil.rmtree(scratch / "copy", ignore_errors=True)
            return timed(lambda: swarm("get", source, "-o", scratch / "copy", *alone, *peer))

        seconds = {"metainfo": [], "link": [], "exchange": []}
        for _ in range(args.rounds):
            seconds["metainfo"].append(get(meta))
            seconds["link"].append(get(link))
            seconds["exchange"].append(timed(lambda: swarm("show", "--fetch", link, *alone, *peer)))
        seed.stop()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    ratios = [b / (a + c) for a, b, c in zip(*seconds.values())]
    result = {**seconds, "ratio": round(statistics.median(ratios), 3)}
    for name, times in seconds.items():
        print(f"{name}: median {statistics.median(times):.3f} s, {min(times):.3f} to {max(times):.3f}")
    print(f"link / (metainfo + exchange): {result['ratio']}")
    if args.record:
        path = ROOT / "benches/results" / f"{date.today()}-{args.record}-magnet.json"
        path.write_text(json.dumps({"size_mib": args.size, **result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
