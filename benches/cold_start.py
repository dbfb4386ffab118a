#!/usr/bin/env python3
"""The cold start of a download that knows nothing but an info-hash: from the start of `swarm get` until the metadata is here.

There is a private DHT of 50 nodes on loopback, each a process, and a seed that has announced itself there. Each round is a new
`swarm get` without any state, which joins the DHT by another node. Of these rounds, time to the `metadata` event is told.

usage: benches/cold_start.py [--rounds N] [--nodes N] [--name NAME]    with --name, writes benches/results/DATE-NAME-cold-start.json
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import time
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".ci/interop"))

from clients import Swarm  # noqa: E402
from harness import BIN, LOOPBACK, SOON, Process, create, new_scratch, seeded, small_files, swarm, until  # noqa: E402


def node(*args):
    process = Process([BIN / "swarm", "dht", "--json", "--listen", LOOPBACK.endpoint(0), *args])
    return process, process.wait_event("listening")["addresses"][0]


def is_announced(info_hash, address):
    ask = "--listen", LOOPBACK.endpoint(0), "--bootstrap", address
    return swarm("dht", "get-peers", info_hash, *ask).output


def measure(scratch, info_hash, address, number):
    """Seconds until the metadata was here, by our clock and by that of `swarm get`."""
    begun = time.monotonic()
    get = Swarm.downloader(info_hash, scratch / f"copy {number}", (), "--dht-bootstrap", address)
    try:
        event = get.wait_event("metadata", SOON)
        return time.monotonic() - begun, event["t"]
    finally:
        get.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--name")
    args = parser.parse_args()
    scratch, running = new_scratch(64 << 20), []
    try:
        content = small_files(scratch / "it", 500, seeded(1))
        meta = create(content, scratch / "it.meta")
        info_hash = swarm("show", meta, "--json").events[0]["info_hash_v1"]
        metainfo_bytes = meta.stat().st_size
        first, address = node()
        running, addresses = [first], [address]
        for _ in range(args.nodes - 1):
            process, address = node("--bootstrap", addresses[0])
            running.append(process)
            addresses.append(address)
        running.append(Swarm.source(meta, scratch, "--dht-bootstrap", addresses[-1]))
        until(lambda: is_announced(info_hash, addresses[0]), SOON, "the seed announces itself")
        times = [
            measure(scratch, info_hash, addresses[number % len(addresses)], number) for number in range(1, args.rounds + 1)
        ]
    finally:
        for process in running:
            process.stop()
        shutil.rmtree(scratch, ignore_errors=True)
    seen = sorted(outside for outside, _ in times)
    told = sorted(inside for _, inside in times)
    print(f"process started to metadata: median {statistics.median(seen):.3f} s, {seen[0]:.3f} to {seen[-1]:.3f}")
    print(f"by its own clock:            median {statistics.median(told):.3f} s, {told[0]:.3f} to {told[-1]:.3f}")
    if args.name:
        result = {
            "date": str(date.today()),
            "kernel": platform.release(),
            "cores": os.cpu_count(),
            "nodes": args.nodes,
            "metainfo_bytes": metainfo_bytes,
            "seconds_from_start_of_process": [round(each, 3) for each in seen],
            "seconds_by_its_own_clock": told,
        }
        path = ROOT / f"benches/results/{date.today()}-{args.name}-cold-start.json"
        path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
