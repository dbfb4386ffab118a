#!/usr/bin/env python3
"""One downloader and a web server: ours beside curl (one large file) and aria2 (many small ones), over the same server in the same run.

- nginx serves from tmpfs. Small files are copied to tmpfs, the large one to the build folder's disk, after a `sync`: tmpfs would fill
  with zeros what ours reserves. Contestants take turns, so that a busy neighbour troubles all of them.
- The clock starts when a process does and stops when it has ended. Every copy is compared with the original, then deleted.
- `loopback` has no line between them: there the processors and the disk are measured. Ours has SHA-1 to do besides, on the core that
  curl leaves idle, so neighbours cost it more than curl: `idle` says how much of the processors was idle in the second before each round.
  What ours wrote is durable when it ends, hence `curl, synced` beside it. `line` goes through two network namespaces and a `tbf` on either
  end; it needs root.
- Small files: `aria2c -j16` with a list of URLs, ours with the torrent's metainfo.
"""

import argparse
import filecmp
import json
import os
import random
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "benches"), str(ROOT / ".ci/interop")]

from harness import BIN, MIB, create, fill, free_port, seeded, until  # noqa: E402
from transfer import Peer, machine, size  # noqa: E402

BURST, QUEUE = "256kb", "50ms"
FILE_LEN = (1_000, 20_000)
RUN_S_MAX = 300


class Nginx:
    """A server of this folder, and the URL that leads to it."""

    def __init__(self, folder, scratch, ip="127.0.0.1", on=lambda command: command):
        port = free_port()
        temp = "\n".join(f"{kind}_temp_path {scratch}/temp;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        config = scratch / "nginx.conf"
        config.write_text(
            f"""daemon off; master_process off; pid {scratch}/nginx.pid; error_log {scratch}/nginx.log;
            events {{ worker_connections 1024; }}
            http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; {temp}
            server {{ listen {ip}:{port}; root {folder}; }} }}"""
        )
        self.url = f"http://{ip}:{port}"
        self.process = Peer(on(["nginx", "-c", config])).go()
        probe = on(["curl", "-s", "-o", "/dev/null", self.url + "/"])
        until(lambda: subprocess.run(probe).returncode == 0, 20, "nginx serves")

    def stop(self):
        self.process.stop()


class Line:
    """Two hosts with a shaped line between them; the first has the server."""

    def __init__(self, mbit):
        from network import Network, ip

        self.network = Network(2)
        switch = self.network.namespaces[0]
        for number in (1, 2):
            for namespace, device in ((self.network.namespaces[number], "uplink"), (switch, f"port{number}")):
                shape = ["root", "tbf", "rate", f"{mbit}mbit", "burst", BURST, "latency", QUEUE]
                subprocess.run(["tc", "-n", namespace, "qdisc", "add", "dev", device, *shape], check=True)
            ip("-n", self.network.namespaces[number], "link", "set", "lo", "up")

    def on(self, number):
        return lambda command: ["ip", "netns", "exec", self.network.namespaces[number], *command]

    def remove(self):
        self.network.remove()


def same(a, b):
    for folder, _, names in os.walk(a):
        for name in names:
            path = Path(folder) / name
            if not filecmp.cmp(path, b / path.relative_to(a), shallow=False):
                raise AssertionError(f"{path.name} differs")


def swarm(meta, url, out):
    options = ["--no-state", "--no-dht", "--no-lsd", "--listen", "0.0.0.0:0"]
    return [BIN / "swarm", "get", meta, "-o", out, "--web-seed", f"{url}/", *options]


def timed(command, out, original):
    """How long it took, and its CPU time, in seconds."""
    out.mkdir()
    os.sync()
    began = time.monotonic()
    peer = Peer(command).go()
    took, cpu = peer.wait(RUN_S_MAX) - began, peer.cpu_s()
    same(original, out / original.name) if original.is_dir() else same(original.parent, out)
    shutil.rmtree(out)
    return {"s": round(took, 3), "cpu_s": round(cpu, 2)}


def idle_share():
    """How much of the processors' time nobody uses, over a second."""

    def times():
        user, nice, system, idle, iowait, *rest = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
        return idle + iowait, user + nice + system + idle + iowait + sum(rest[:3])

    idle, total = times()
    time.sleep(1)
    idle_after, total_after = times()
    return round((idle_after - idle) / (total_after - total), 3)


def rounds(count, contestants, out, original, what):
    results = []
    for number in range(1, count + 1):
        idle = idle_share()
        results.append({"idle": idle} | {name: timed(command, out, original) for name, command in contestants.items()})
        print(f"{what}, round {number}: {results[-1]}", flush=True)
    middle = {name: statistics.median(one[name]["s"] for one in results) for name in contestants}
    other = next(name for name in middle if name != "swarm")
    ratio = round(middle[other] / middle["swarm"], 3)
    print(f"{what}: medians {middle}; swarm has {ratio} of {other}'s speed", flush=True)
    return {"rounds": results, "medians_s": middle, f"speed_of_{other}": ratio}


def large(args, scratch, ip="127.0.0.1", server_on=lambda command: command, client_on=lambda command: command, what="loopback", length=None):
    folder, out = scratch / f"www-{what}", Path(tempfile.mkdtemp(prefix="swarm-webseed-", dir=BIN.parent)) / "out"
    length = length or args.size
    file = fill(folder / "big.bin", length, seeded(length))
    meta = scratch / f"{what}.torrent"
    create(file, meta)
    server = Nginx(folder, scratch, ip, server_on)
    try:
        curl = ["curl", "-s", "-o", out / file.name, f"{server.url}/{file.name}"]
        synced = ["sh", "-c", '"$@" && sync -d "$0"', curl[3], *curl]
        contestants = {"curl": client_on(curl), "curl, synced": client_on(synced), "swarm": client_on(swarm(meta, server.url, out))}
        return {"bytes": length} | rounds(args.rounds, contestants, out, file, f"one file, {what}")
    finally:
        server.stop()
        shutil.rmtree(folder)
        shutil.rmtree(out.parent, ignore_errors=True)


def small(args, scratch):
    www, out = scratch / "www-small", scratch / "out"
    root, rng = www / "small", random.Random(1)
    names = [f"d{nth // 500:02}/f{nth:05}.bin" for nth in range(args.files)]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(rng.randbytes(rng.randrange(*FILE_LEN)))
    meta, listed = scratch / "small.torrent", scratch / "list"
    create(root, meta)
    server = Nginx(www, scratch)
    try:
        listed.write_text("".join(f"{server.url}/small/{name}\n  out=small/{name}\n" for name in names))
        aria2 = ["aria2c", "-q", "-j16", "--file-allocation=none", "--no-conf", "-d", out, "-i", listed]
        contestants = {"aria2": aria2, "swarm": swarm(meta, server.url, out)}
        return {"files": args.files} | rounds(args.rounds, contestants, out, root, f"{args.files} files")
    finally:
        server.stop()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=size, default=1024 * MIB, help="of the large file")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--rate", type=int, default=1_000, metavar="MBIT", help="of the line, in Mbit/s")
    parser.add_argument("--name", help="keep the results as benches/results/DATE-CORES-NAME.json")
    return parser.parse_args()


def main():
    args = arguments()
    scratch = Path(tempfile.mkdtemp(prefix="swarm-webseed-", dir="/dev/shm"))
    results = {}
    try:
        results["small"] = small(args, scratch)
        results["loopback"] = large(args, scratch)
        if os.geteuid() == 0:
            line = Line(args.rate)
            try:
                place = ["10.0.0.1", line.on(1), line.on(2)]
                results["line"] = {"mbit": args.rate} | large(args, scratch, *place, what="line", length=args.size // 2)
            finally:
                line.remove()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if args.name:
        version = subprocess.run([BIN / "swarm", "--version"], capture_output=True, text=True, check=True).stdout.strip()
        results = {
            "date": time.strftime("%Y-%m-%d"),
            "command": shlex.join(["just", "bench-webseed", *sys.argv[1:]]),
            "machine": machine(),
            "versions": {"swarm": version},
        } | results
        path = ROOT / f"benches/results/{results['date']}-{results['machine']['cores']}core-{args.name}.json"
        path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
