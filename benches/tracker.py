#!/usr/bin/env python3
"""Announces per second: `swarm-tracker` beside aquatic_http, under the same load.

wrk announces 64,512 peers in 1,000 swarms over 64 keep-alive connections from one thread of its own, and asks for 50 peers each
time; on two cores, tracker and load share them. Before the clock starts every tracker has been warmed up by the same load,
so that all answer with about 50 peers. The trackers take turns. A run counts only if no answer failed, and the bytes of an answer
are printed, so that nobody wins by saying less.

With --store two trackers that share a Redis take the turns of aquatic: half of the connections go to each of them.

usage: benches/tracker.py [--rounds N] [--seconds N] [--aquatic PATH] [--store] [--record FILE]
aquatic_http comes with `cargo install aquatic_http`, wrk and redis-server with Debian's packages of those names.
"""

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".ci/interop"))

from harness import BIN, SOON, Process, free_port, until  # noqa: E402

CONNECTIONS = 64
# Of the announces of one tracker that keeps its swarms itself, what two that share a Redis should manage.
SHARED_AIM = 0.5
# So many random announces leave one peer in eight out.
WARM_UP = 130_000
LOAD = ROOT / "benches/announce.lua"
AQUATIC_CONFIG = """
socket_workers = {socket_workers}
swarm_workers = 1
[network]
address = "127.0.0.1:{port}"
keep_alive = true
[protocol]
max_peers = 50
"""


def is_up(url):
    with contextlib.suppress(OSError):
        urllib.request.urlopen(url, timeout=5).read()
        return True
    return False


def swarm_tracker(_args, _folder):
    port = free_port()
    return [Process([BIN / "swarm-tracker", "--listen", f"127.0.0.1:{port}"])], [port]


def shared(_args, folder):
    """Two trackers and the store that they share, which is the last process."""
    store, ports = free_port(), [free_port(), free_port()]
    redis = Process(["redis-server", "--bind", "127.0.0.1", "--port", store, "--save", "", "--dir", folder])
    redis.wait_line("Ready to accept connections", SOON)
    url = f"redis://127.0.0.1:{store}/0"
    trackers = [Process([BIN / "swarm-tracker", "--listen", f"127.0.0.1:{port}", "--store", url]) for port in ports]
    return [*trackers, redis], ports


def aquatic(socket_workers):
    def start(args, folder):
        port = free_port()
        config = folder / f"aquatic{socket_workers}.toml"
        config.write_text(AQUATIC_CONFIG.format(port=port, socket_workers=socket_workers))
        return [Process([args.aquatic, "-c", config])], [port]

    return start


CONTESTANTS = {
    "swarm-tracker": swarm_tracker,
    "aquatic_http, 1 socket worker": aquatic(1),
    "aquatic_http, 2 socket workers": aquatic(2),
}


def load(ports, seconds):
    """Announces per second, and bytes per answer."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS // len(ports)}", f"-d{seconds}s", "-s", LOAD]
    loads = [subprocess.Popen([*command, f"http://127.0.0.1:{port}"], stdout=subprocess.PIPE, text=True) for port in ports]
    total = {}
    for process in loads:
        text = process.communicate()[0]
        result = json.loads(re.search(r"^\{.*\}$", text, re.MULTILINE).group())
        if result["failed"]:
            raise SystemExit(f"{result['failed']} announces failed:\n{text}")
        worst = max(total.get("p99_ms", 0), result["p99_ms"])
        total = {key: total.get(key, 0) + value for key, value in result.items()} | {"p99_ms": worst}
    return total


def cpu_s(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(args, folder, start):
    processes, ports = start(args, folder)
    with contextlib.ExitStack() as stack:
        for process in reversed(processes):
            stack.enter_context(process)
        hash_ = "%00" * 20
        for port in ports:
            probe = f"http://127.0.0.1:{port}/announce?info_hash={hash_}&peer_id={'x' * 20}&port=1&left=0&uploaded=0&downloaded=0&compact=1"
            until(lambda: is_up(probe), SOON, "the tracker answers")
        announced = 0
        while announced < WARM_UP:
            announced += load(ports, 4)["answers"]
        before = [cpu_s(process.pid) for process in processes]
        result = load(ports, args.seconds)
        each = [cpu_s(process.pid) - was for process, was in zip(processes, before)]
        result["cpu_s"], result["cpu_s_each"] = sum(each), each
        for port in ports if len(processes) > 1 else []:
            stats = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{port}/stats", timeout=5).read())
            if stats["shared_store"]["from_memory"]:
                raise SystemExit(f"answers came from memory: {stats}")
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--aquatic", default=shutil.which("aquatic_http"))
    parser.add_argument("--store", action="store_true", help="two trackers and one Redis beside one tracker")
    parser.add_argument("--record", type=Path, help="write the results here, as JSON")
    args = parser.parse_args()
    contestants = {n: s for n, s in CONTESTANTS.items() if args.aquatic or not n.startswith("aquatic")}
    if args.store:
        contestants = {"swarm-tracker": swarm_tracker, "two swarm-trackers, one Redis": shared}
    runs = {name: [] for name in contestants}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, args.rounds + 1):
            for name, start in contestants.items():
                result = run(args, Path(folder), start)
                runs[name].append(result)
                print(f"round {number}: {name:<32} {result['per_s']:9.0f} announces/s", flush=True)
    print(f"\n| tracker | announces/s, median (spread) | µs of CPU an announce | bytes an answer |\n|---|---|---|---|")
    for name, results in runs.items():
        per_s = [r["per_s"] for r in results]
        cpu = statistics.median(1e6 * r["cpu_s"] / r["answers"] for r in results)
        size = statistics.median(r["bytes"] / r["answers"] for r in results)
        spread = f"{min(per_s):.0f} to {max(per_s):.0f}"
        print(f"| {name} | {statistics.median(per_s):.0f} ({spread}) | {cpu:.1f} | {size:.0f} |")
    if args.store:
        per_s = [[result["per_s"] for result in results] for results in runs.values()]
        ratios = [two / one for one, two in zip(*per_s)]
        print(f"\nwith a store: {statistics.median(ratios):.2f} of the announces ({min(ratios):.2f} to {max(ratios):.2f}); our aim is {SHARED_AIM}")
    if args.record:
        about = {"command": " ".join(["benches/tracker.py", *sys.argv[1:]]), "date": str(date.today()), "kernel": platform.release(), "cores": os.cpu_count()}
        args.record.write_text(json.dumps({**about, "connections": CONNECTIONS, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
