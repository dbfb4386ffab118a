#!/usr/bin/env python3
"""What seeding costs: a seed that trusts its saved state sends everything to one `get` over loopback, with the programs of two states
of the code in turns. Data is in memory. Prints medians, ranges, and the medians of the ratios of the pairs.

usage: benches/seeding.py BEFORE AFTER [--format v1|v2|hybrid] [--piece 1MiB] [--size-mib 1024] [--pairs 5]
BEFORE and AFTER are folders with `swarm`.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

LOCAL = ["--listen", "127.0.0.1:0", "--no-dht", "--json"]


def cpu_of(pid):
    """Seconds that the threads of a process have run."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


class Bench:
    def __init__(self, root, states):
        self.root, self.states = root, states

    def environment(self, name):
        return {**os.environ, "HOME": str(self.root), "XDG_STATE_HOME": str(self.root / f"state-{name}")}

    def seed(self, name):
        command = [self.states[name] / "swarm", "seed", self.root / "f.meta", self.root / "data", *LOCAL]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=self.environment(name), text=True
        )
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "listening":
                address = event["addresses"][0]
            if event["event"] == "checked":
                return process, address
        raise SystemExit("the seed has ended")

    @staticmethod
    def stop(process):
        process.terminate()
        process.stdout.read()
        process.wait()

    def run(self, name):
        """Wall seconds of a transfer, CPU seconds of the seed and of both."""
        seed, address = self.seed(name)
        out = self.root / "out"
        command = [self.states[name] / "swarm", "get", self.root / "f.meta", "-o", out, "--peer", address, "--no-state", *LOCAL]
        before, times, start = cpu_of(seed.pid), os.times(), time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=self.environment(name))
        wall, after = time.monotonic() - start, os.times()
        sent = cpu_of(seed.pid) - before
        got = after.children_user + after.children_system - times.children_user - times.children_system
        self.stop(seed)
        shutil.rmtree(out)
        return wall, sent, sent + got


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--format", default="v1")
    parser.add_argument("--piece", default="1MiB")
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--pairs", type=int, default=5)
    args = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="seeding-", dir="/dev/shm"))
    bench = Bench(root, {"before": args.before.resolve(), "after": args.after.resolve()})
    try:
        (root / "data").mkdir()
        with open(root / "data/f", "wb") as data:
            for _ in range(args.size_mib):
                data.write(os.urandom(1 << 20))
        create = [bench.states["after"] / "swarm", "create", root / "data/f", "-o", root / "f.meta"]
        create += ["-l", args.piece, "--format", args.format]
        subprocess.run(create, check=True, stdout=subprocess.DEVNULL, env=bench.environment("create"))
        for name in bench.states:
            bench.stop(bench.seed(name)[0])
        runs = {"before": [], "after": []}
        for pair in range(args.pairs):
            for name in list(runs)[:: -1 if pair % 2 else 1]:
                runs[name].append(bench.run(name))
    finally:
        shutil.rmtree(root)
    for nth, what in enumerate(["wall, s", "CPU of the seed, s", "CPU of both, s"]):
        before, after = ([run[nth] for run in runs[name]] for name in ("before", "after"))
        shown = [f"{statistics.median(r):.3f} ({min(r):.3f} to {max(r):.3f})" for r in (before, after)]
        ratio = statistics.median(b / a for a, b in zip(before, after))
        print(f"{args.format}, {args.piece}: {what}: before {shown[0]}, after {shown[1]}, ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
