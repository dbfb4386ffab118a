#!/usr/bin/env python3
"""What a peer that sends corrupt blocks costs a swarm: version 1, version 2 and a hybrid side by side, the same bytes in each.

Each round is a lab (`swarm lab --fault corrupt-peer`) for each format in turn. Told is how many corrupt bytes all downloaders together had to
get again, and in how many pieces: medians.

usage: benches/poison.py [--rounds N] [--size MiB] [--peers N] [--piece-length SIZE] [--record NAME]
with --record, writes benches/results/DATE-NAME-poison.json
"""

import argparse
import json
import shutil
import statistics
import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".ci/interop"))

from harness import MIB, create, fill, new_scratch, seeded, swarm  # noqa: E402

FORMATS = "v1", "v2", "hybrid"


def round_of(scratch, meta, peers):
    report = scratch / "report.json"
    swarm("lab", meta, "--peers", str(peers), "--fault", "corrupt-peer", "--report", report)
    lab = json.loads(report.read_text())
    assert lab["identical"], lab
    total = {key: sum(peer[key] for peer in lab["peers"]) for key in ("bytes_corrupt", "pieces_failed", "bytes_wasted")}
    return {**total, "seconds": lab["seconds"], "took_place": lab["faults"][0]["took_place"]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--peers", type=int, default=8)
    parser.add_argument("--piece-length", default="1MiB")
    parser.add_argument("--record")
    args = parser.parse_args()
    scratch = new_scratch((args.peers + 3) * args.size * MIB)
    try:
        # Two files, so that a hybrid has padding.
        folder = scratch / "data"
        folder.mkdir()
        fill(folder / "large", (args.size - 1) * MIB, seeded(1))
        fill(folder / "small", MIB - 1000, seeded(2))
        metas = {
            format: create(folder, scratch / f"{format}.meta", "--format", format, "--piece-length", args.piece_length)
            for format in FORMATS
        }
        rounds = {format: [] for format in FORMATS}
        for _ in range(args.rounds):
            for format in FORMATS:
                rounds[format].append(round_of(scratch, metas[format], args.peers))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for format in FORMATS:
        corrupt = [one["bytes_corrupt"] / MIB for one in rounds[format]]
        pieces = statistics.median(one["pieces_failed"] for one in rounds[format])
        print(
            f"{format:6}  {statistics.median(corrupt):6.2f} MiB corrupt ({min(corrupt):.2f} to {max(corrupt):.2f}),"
            f" in {pieces:g} pieces"
        )
    if args.record:
        path = ROOT / "benches/results" / f"{date.today()}-{args.record}-poison.json"
        setting = {key: getattr(args, key) for key in ("size", "peers", "piece_length")}
        path.write_text(json.dumps({**setting, "rounds": rounds}, indent=1) + "\n")


if __name__ == "__main__":
    main()
