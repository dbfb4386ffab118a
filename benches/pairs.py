#!/usr/bin/env python3
"""Whether a state of the engine is slower than an earlier one: the same runs with the programs of both, in turns.

Machines differ from one minute to the next by more than what a change costs. So each run of one state is followed by one of the other,
which of them goes first changes, and what counts is the median of the ratios of the pairs. What the simulator costs is CPU time, and
its instructions are counted too where valgrind is there: they are the same each time.

usage: benches/pairs.py BEFORE AFTER [--pairs N] [--only NAME,...] [--record FILE]
BEFORE and AFTER are folders with `swarm`, `swarm-tracker` and `simulate`.
"""

import argparse
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent
SIMULATED = "--scenario flash-crowd --peers 300 --pieces 512 --queue-ms 50 --seed 1".split()
# Valgrind takes fifty times as long.
COUNTED = "--scenario flash-crowd --peers 60 --pieces 256 --queue-ms 50 --seed 1 --threads 1".split()


def bench(folder, script, *args):
    command = [sys.executable, HERE / script, *args]
    environment = {**os.environ, "SWARM_BIN": str(folder)}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def transfer(scenario):
    def seconds(folder):
        out = bench(folder, "transfer.py", "--scenario", scenario, "--only", "swarm", "--rounds", "1")
        return float(re.search(r"round 1: swarm +([\d.]+) s", out)[1])

    return seconds


def tracker(folder):
    out = bench(folder, "tracker.py", "--aquatic", "", "--rounds", "1")
    return float(re.search(r"\| swarm-tracker \|[^|]*\| ([\d.]+) \|", out)[1])


def simulator(folder):
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    subprocess.run([folder / "simulate", *SIMULATED], check=True, capture_output=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def instructions(folder):
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", folder / "simulate", *COUNTED]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    return int(re.search(r"Collected : (\d+)", text)[1]) / 1e6


BENCHES = {
    "1x1GiB, s": transfer("1x1GiB"),
    "8x512MiB, s": transfer("8x512MiB"),
    "tracker, µs of CPU an announce": tracker,
    "simulator, s of CPU": simulator,
}


def compare(name, run, states, pairs):
    runs = {"before": [], "after": []}
    for pair in range(pairs):
        for state in list(runs)[:: -1 if pair % 2 else 1]:
            runs[state].append(round(run(states[state]), 3))
    ratios = [after / before for before, after in zip(runs["before"], runs["after"])]
    result = {**runs, "ratio": round(statistics.median(ratios), 3)}
    print(f"{name}: {json.dumps(result)}", flush=True)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only", help="words of the names, with commas between them")
    parser.add_argument("--record", type=Path, help="write the results here, as JSON")
    args = parser.parse_args()
    states = {"before": args.before.resolve(), "after": args.after.resolve()}

    def wanted(name):
        return not args.only or any(word in name for word in args.only.split(","))

    results = {name: compare(name, run, states, args.pairs) for name, run in BENCHES.items() if wanted(name)}
    if shutil.which("valgrind") and wanted("simulator"):
        name = "simulator, million instructions"
        results[name] = compare(name, instructions, states, 1)
    if args.record:
        whole = {"date": str(date.today()), "cores": os.cpu_count(), "command": " ".join(sys.argv), "results": results}
        args.record.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
