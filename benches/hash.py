#!/usr/bin/env python3
"""How quickly data is hashed: `swarm create` and `swarm verify` of v1 beside `mktorrent`, `verify` of v2, and `seed` until it has checked all,
beside libtorrent's check with two hashing threads, and `create` of a hybrid beside v1 and v2 one after the other, on all cores, of a file that is in the page cache; and one core with
each kernel (`hash-lanes`). Then `verify` of a file that is on a disk and not in the page cache, beside `cat`. Rounds are interleaved, and
what counts is the median of each round's ratio.
"""

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# This one says where the others are.
from transfer import keep, machine, size, size_text

from harness import BIN, GIB, create, fill, seeded

MKTORRENT = "mktorrent -t 2"
LIBTORRENT = "libtorrent check v2"
# Checks a torrent, and prints how long that took without starting Python.
LIBTORRENT_CHECK = """
import sys, time
import libtorrent as lt
settings = {"enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False, "listen_interfaces": "127.0.0.1:0",
            "hashing_threads": 2, "checking_mem_usage": 2048, "alert_mask": lt.alert.category_t.status_notification}
session = lt.session(settings)
params = lt.load_torrent_file(sys.argv[1])
params.save_path = sys.argv[2]
params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
begun = time.monotonic()
torrent = session.add_torrent(params)
while not torrent.status().is_seeding:
    session.wait_for_alert(20)
    session.pop_alerts()
print(time.monotonic() - begun)
"""


def timed(command):
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if command[1] == "seed":
        next(line for line in process.stdout if json.loads(line)["event"] == "checked")
        wall = time.monotonic() - begun
        process.terminate()
    _, status, usage = os.wait4(process.pid, 0)
    if command[1] != "seed":
        wall = time.monotonic() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise AssertionError(f"{shlex.join(map(str, command))}: {process.stderr.read()}")
    if command[0] == sys.executable:
        wall = float(process.stdout.read())
    return {"wall_s": round(wall, 3), "cpu_s": round(usage.ru_utime + usage.ru_stime, 3)}


def measure(length, rounds):
    with tempfile.TemporaryDirectory(prefix="swarm-hash-", dir="/dev/shm") as folder:
        scratch = Path(folder)
        file, meta, theirs, ours = (scratch / name for name in ("payload.bin", "payload.meta", "theirs.meta", "ours.meta"))
        meta_v2 = scratch / "v2.meta"
        fill(file, length, seeded(1))
        create(file, meta, "-l", "1MiB")
        create(file, meta_v2, "-l", "1MiB", "--format", "v2")
        made = lambda form: [BIN / "swarm", "create", file, "-l", "1MiB", "-o", ours, "--format", form]
        seed = lambda meta: [BIN / "swarm", "seed", meta, scratch, "--no-state", "--no-dht", "--json", "--listen", "127.0.0.1:0"]
        commands = {
            MKTORRENT: ["mktorrent", "-t", "2", "-l", "20", "-o", theirs, file],
            "swarm create": made("v1"),
            "swarm create v2": made("v2"),
            "swarm create hybrid": made("hybrid"),
            "swarm verify": [BIN / "swarm", "verify", meta, file],
            "swarm verify v2": [BIN / "swarm", "verify", meta_v2, file],
            "swarm seed, all checked": seed(meta),
            "swarm seed v2, all checked": seed(meta_v2),
            LIBTORRENT: [sys.executable, "-c", LIBTORRENT_CHECK, meta_v2, scratch],
        }
        runs = {name: [] for name in commands}
        for number in range(1, rounds + 1):
            for name, command in commands.items():
                for old in (theirs, ours):
                    old.unlink(missing_ok=True)
                run = timed(command)
                runs[name].append(run)
                print(f"round {number}: {name:26} {run['wall_s']:.2f} s, CPU {run['cpu_s']:.2f} s", flush=True)
    return runs


def evict(file):
    """Has the system forget what it has in memory of a file, and of no other."""
    with open(file, "rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


CAT = "cat"


def measure_cold(length, rounds):
    """From a disk: that of the build folder."""
    build = Path(os.environ.get("CARGO_TARGET_DIR", Path(__file__).resolve().parents[1] / "target"))
    with tempfile.TemporaryDirectory(prefix="swarm-hash-", dir=build) as folder:
        scratch = Path(folder)
        file, meta, meta_v2 = (scratch / name for name in ("payload.bin", "payload.meta", "v2.meta"))
        fill(file, length, seeded(1))
        create(file, meta, "-l", "1MiB")
        create(file, meta_v2, "-l", "1MiB", "--format", "v2")
        made = lambda form: [BIN / "swarm", "create", file, "-l", "1MiB", "-o", scratch / "made.meta", "-f", "--format", form]
        commands = {
            CAT: ["sh", "-c", 'exec cat "$0" > /dev/null', file],
            "swarm verify": [BIN / "swarm", "verify", meta, file],
            "swarm verify v2": [BIN / "swarm", "verify", meta_v2, file],
            "swarm create": made("v1"),
        }
        runs = {name: [] for name in commands}
        for number in range(1, rounds + 1):
            for name, command in commands.items():
                evict(file)
                run = timed(command)
                runs[name].append(run)
                print(f"cold, round {number}: {name:26} {run['wall_s']:.2f} s, CPU {run['cpu_s']:.2f} s", flush=True)
    return runs


def summary_cold(runs):
    of = lambda name: [run["wall_s"] for run in runs[name]]
    speeds = {name: round(statistics.median(cat / wall for cat, wall in zip(of(CAT), of(name))), 3) for name in runs}
    return {name: {"wall_s": statistics.median(of(name)), "speed_of_cat": speed} for name, speed in speeds.items()}


def summary(runs):
    walls = {name: [run["wall_s"] for run in of] for name, of in runs.items()}
    return {
        name: {
            "wall_s": {"median": statistics.median(of), "min": min(of), "max": max(of)},
            "cpu_s": statistics.median(run["cpu_s"] for run in runs[name]),
            "times_mktorrent": round(statistics.median(theirs / wall for theirs, wall in zip(walls[MKTORRENT], of)), 2),
            "times_libtorrent": round(statistics.median(theirs / wall for theirs, wall in zip(walls[LIBTORRENT], of)), 2),
        }
        for name, of in walls.items()
    }


def hybrid_to_both(runs):
    """The time for a hybrid, that for v1 and v2 one after the other being 1."""
    v1, v2, both = ([run["wall_s"] for run in runs[f"swarm create{form}"]] for form in ("", " v2", " hybrid"))
    return round(statistics.median(hybrid / (one + two) for one, two, hybrid in zip(v1, v2, both)), 3)


def markdown(results):
    host = results["machine"]
    lines = [f"# Hashing, {results['date']}", "", f"`{results['command']}`", ""]
    lines += [f"{host['cpu']}, {host['cores']} cores, {host['kernel']}; tmpfs; load {host['load_before']:.2f} before."]
    lines += [f"{size_text(results['bytes'])} in pieces of 1 MiB, {results['rounds']} interleaved rounds; medians.", ""]
    lines += [f"- {name}: {version}" for name, version in results["versions"].items()]
    lines += ["", "| | wall s (min to max) | CPU s | speed, mktorrent's being 1 | libtorrent's being 1 |", "|---|---|---|---|---|"]
    for name, of in results["summary"].items():
        wall = of["wall_s"]
        lines += [f"| {name} | {wall['median']:.2f} ({wall['min']:.2f} to {wall['max']:.2f}) | {of['cpu_s']:.2f} | {of['times_mktorrent']:.2f} | {of['times_libtorrent']:.2f} |"]
    lines += ["", f"A hybrid takes {results['hybrid_to_both']} × the time of v1 and v2 one after the other."]
    lines += ["", f"From a disk, {size_text(results['cold']['bytes'])} that are not in the page cache ({results['cold']['rounds']} rounds), `cat`'s speed being 1:", ""]
    lines += [f"- {name}: {of['speed_of_cat']:.2f} ({of['wall_s']:.2f} s)" for name, of in results["cold"]["summary"].items()]
    lines += ["", "One core, messages in memory (`hash-lanes`):", ""]
    lines += [f"- {line}" for line in results["lanes"]]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=size, default=4 * GIB)
    parser.add_argument("--cold", type=size, default=2 * GIB, help="length of the file that is read from a disk")
    parser.add_argument("--only-cold", action="store_true", help="measure that alone, and keep nothing")
    parser.add_argument("--name", help="keep the results as benches/results/DATE-CORES-NAME.json and .md")
    args = parser.parse_args()
    if args.only_cold:
        print(json.dumps(summary_cold(measure_cold(args.cold, args.rounds)), indent=1))
        return
    if not shutil.which("mktorrent"):
        sys.exit("mktorrent is not installed")
    import libtorrent

    version = lambda *command: subprocess.run(command, capture_output=True, text=True).stdout.splitlines()[0]
    results = {
        "date": time.strftime("%Y-%m-%d"),
        "command": shlex.join(["just", "bench-hash", *sys.argv[1:]]),
        "machine": machine(),
        "versions": {"mktorrent": version("mktorrent", "-h"), "libtorrent": libtorrent.__version__, "swarm": version(BIN / "swarm", "--version")},
        "rounds": args.rounds,
        "bytes": args.size,
        "lanes": subprocess.run([BIN / "hash-lanes"], check=True, capture_output=True, text=True).stdout.splitlines(),
    }
    results["runs"] = measure(args.size, args.rounds)
    results["summary"] = summary(results["runs"])
    cold = measure_cold(args.cold, args.rounds)
    results["cold"] = {"bytes": args.cold, "rounds": args.rounds, "runs": cold, "summary": summary_cold(cold)}
    results["hybrid_to_both"] = hybrid_to_both(results["runs"])
    keep(results, markdown(results), args.name)


if __name__ == "__main__":
    main()
