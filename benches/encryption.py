#!/usr/bin/env python3
"""What encryption costs: one source and one downloader with RC4, beside the same in plain, beside libtorrent with RC4 only, and beside
what the `rc4` crate alone takes for the same bytes at both ends. The rules are those of `transfer.py`.

It tells how many times the cipher's own CPU time encryption adds: at most 1.1 is wanted.
"""

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# This one says where the others are.
from transfer import Torrent, Transfer, keep, machine, size, size_text

from contestants import Libtorrent, Swarm
from harness import BIN, GIB, create, fill, free_port, seeded

ALONE = "rc4 crate"


class Plain(Swarm):
    name = "swarm, plain"
    common = [*Swarm.common, "--encryption", "off"]


class Encrypted(Swarm):
    name = "swarm, RC4"
    common = [*Swarm.common, "--encryption", "require"]


class LibtorrentEncrypted(Libtorrent):
    name = "libtorrent, RC4"

    def downloader(self, torrent, folder, stay, _):
        return [*super().downloader(torrent, folder, stay, _), "--rc4"]


CONTESTANTS = [Plain, Encrypted, LibtorrentEncrypted]


def alone(length):
    """The CPU time of the cipher by itself."""
    process = subprocess.Popen([BIN / "rc4-alone", str(length)])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise AssertionError(f"rc4-alone: status {process.returncode}")
    return round(usage.ru_utime + usage.ru_stime, 3)


def cpu_s(run):
    return run["source"]["cpu_s"] + run["downloaders"]["cpu_s"]


def measure(length, contestants, rounds):
    runs = {contestant.name: [] for contestant in contestants}
    cipher = []
    with tempfile.TemporaryDirectory(prefix="swarm-encryption-", dir="/dev/shm") as folder:
        scratch, port = Path(folder), free_port()
        torrent = Torrent(scratch / "payload.torrent", scratch / "source", scratch / "source/payload.bin")
        fill(torrent.file, length, seeded(1))
        create(torrent.file, torrent.meta, "-l", "1MiB", "-a", f"http://127.0.0.1:{port}/announce")
        for number in range(1, rounds + 1):
            cipher.append(alone(length))
            print(f"round {number}: {ALONE:16} CPU {cipher[-1]:.2f} s", flush=True)
            for contestant in contestants:
                run = Transfer(contestant, torrent, 1, port, scratch).run()
                runs[contestant.name].append(run)
                print(f"round {number}: {contestant.name:16} CPU {cpu_s(run):.2f} s, {run['wall_s']:.2f} s", flush=True)
    return runs, cipher


def summary(runs, cipher):
    result = {ALONE: {"cpu_s": statistics.median(cipher)}}
    for name, of in runs.items():
        walls = [run["wall_s"] for run in of]
        result[name] = {
            "cpu_s": round(statistics.median(map(cpu_s, of)), 3),
            "wall_s": {"median": statistics.median(walls), "min": min(walls), "max": max(walls)},
            "others_share": statistics.median(run["others_share"] for run in of),
        }
    # Within each round, so that a busy neighbour troubles all three alike.
    rounds = zip(runs[Plain.name], runs[Encrypted.name], cipher)
    added = [(cpu_s(encrypted) - cpu_s(plain)) / by_itself for plain, encrypted, by_itself in rounds]
    result["added_to_cipher"] = {"median": round(statistics.median(added), 3), "rounds": [round(a, 3) for a in added]}
    return result


def markdown(results):
    host, of = results["machine"], results["summary"]
    lines = [f"# Encryption, {results['date']}", "", f"`{results['command']}`", ""]
    lines += [f"{host['cpu']}, {host['cores']} cores, {host['kernel']}; loopback, tmpfs; load {host['load_before']:.2f} before."]
    lines += [f"{size_text(results['bytes'])}, one source and one downloader, {results['rounds']} interleaved rounds; medians.", ""]
    lines += [f"- {name}: {version}" for name, version in results["versions"].items()]
    lines += ["", "| | CPU s, both ends | wall s (min to max) | others' CPU |", "|---|---|---|---|"]
    lines += [f"| {ALONE} alone | {of[ALONE]['cpu_s']:.2f} | | |"]
    for name in results["runs"]:
        wall = of[name]["wall_s"]
        lines += [f"| {name} | {of[name]['cpu_s']:.2f} | {wall['median']:.2f} ({wall['min']:.2f} to {wall['max']:.2f}) | {of[name]['others_share']:.0%} |"]
    added = of["added_to_cipher"]
    lines += ["", f"RC4 adds {added['median']:.2f} × what the cipher alone takes (rounds: {', '.join(f'{a:.2f}' for a in added['rounds'])})."]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=size, default=GIB)
    parser.add_argument("--name", help="keep the results as benches/results/DATE-CORES-NAME.json and .md")
    args = parser.parse_args()
    contestants = [contestant() for contestant in CONTESTANTS]
    results = {
        "date": time.strftime("%Y-%m-%d"),
        "command": shlex.join(["just", "bench-encryption", *sys.argv[1:]]),
        "machine": machine(),
        "versions": {contestant.name: contestant.version() for contestant in contestants},
        "rounds": args.rounds,
        "bytes": args.size,
    }
    results["runs"], results["cipher_cpu_s"] = measure(args.size, contestants, args.rounds)
    results["summary"] = summary(results["runs"], results["cipher_cpu_s"])
    keep(results, markdown(results), args.name)


if __name__ == "__main__":
    main()
