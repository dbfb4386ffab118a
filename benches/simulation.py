#!/usr/bin/env python3
"""Runs every simulation that docs/performance.md quotes, one after the other, and writes what came of them to one JSON file.

Usage: benches/simulation.py [--name NAME] [--only PART]... [--folder DIR]

Each record has the command that shows it again. SWARM_BIN names the folder of `simulate`."""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

SEEDS = (1, 2, 3)
PIECES = "--pieces 512"
SLOW = "--peers 100 --pieces 512 --blocks-per-piece 64 --up 10"
KRAKEN = "--peers 2600 --pieces 715 --piece-kib 4096 --up 2400 --delay 1"


def seeds(command):
    return [f"{command} --seed {seed}" for seed in SEEDS]


PARTS = {
    "crowds": [
        *(command for n in (100, 300) for command in seeds(f"--scenario flash-crowd --peers {n} {PIECES}")),
        f"--scenario flash-crowd --peers 1000 {PIECES}",
        *(f"--scenario coding --peers {n} {PIECES}" for n in (100, 300, 1000)),
    ],
    "queues": [
        f"--scenario {scenario} --peers 100 {PIECES} --queue-ms {ms}"
        for scenario in ("flash-crowd", "symmetric")
        for ms in (0, 20, 50, 100)
    ],
    "links": [
        command
        for scenario in ("symmetric", "three-classes", "fast-source")
        for command in seeds(f"--scenario {scenario} --peers 300 {PIECES}")
    ],
    "freeze": seeds(f"--scenario freeze-at-99 --peers 300 {PIECES}"),
    "faults": [
        f"--scenario {scenario} --peers 100 {PIECES}"
        for scenario in ("source-leaves", "churn", "crash", "annoyers")
    ]
    + [f"--scenario flash-crowd --peers 100 --jitter-ms 10 --loss-permille 1 {PIECES}"],
    "poisoners": [
        command
        for share in (1, 10, 30)
        for command in seeds(f"--scenario poisoners-{share} --peers 100 {PIECES}")
    ],
    "riders": [
        command for scenario in ("flash-crowd", "free-riders") for command in seeds(f"--scenario {scenario} {SLOW}")
    ],
    "degree": [f"--scenario flash-crowd --peers 300 --degree {n} {PIECES}" for n in (20, 30, 60, 80)],
    "delay": [f"--scenario flash-crowd --peers 300 --delay {ms} {PIECES}" for ms in (1, 5, 10, 40)],
    "thousand": [f"--scenario {scenario} --peers 1000 {PIECES}" for scenario in ("symmetric", "freeze-at-99")],
    "kraken": [f"--scenario kraken {KRAKEN}"],
    "large": ["--scenario flash-crowd --peers 10000 --pieces 1024 --blocks-per-piece 4"],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="simulation")
    parser.add_argument("--only", action="append", choices=PARTS)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path(__file__).parent / "results")
    args = parser.parse_args()
    binary = pathlib.Path(os.environ.get("SWARM_BIN", "target/release")) / "simulate"
    records = []
    for part in args.only or PARTS:
        for command in PARTS[part]:
            run = subprocess.run([binary, *command.split(), "--json"], stdout=subprocess.PIPE, text=True)
            if run.returncode != 0:
                sys.exit(f"simulation: failed with {run.returncode}: simulate {command}")
            for line in run.stdout.splitlines():
                record = json.loads(line)
                records.append({"part": part, **record})
                print(
                    f"{part:10} {record['ratio']:.4f} ({record['ratio_median']:.4f}) {record['wall_seconds']:6.1f} s"
                    f"  {record['command']}",
                    flush=True,
                )
    cores = os.cpu_count()
    file = args.folder / f"{time.strftime('%Y-%m-%d')}-{cores}core-{args.name}.json"
    file.write_text(json.dumps({"machine": platform.machine(), "cores": cores, "runs": records}, indent=1) + "\n")
    print(file)


if __name__ == "__main__":
    main()
