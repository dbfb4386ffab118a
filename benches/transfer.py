#!/usr/bin/env python3
"""Transfers on loopback and tmpfs, ours beside other clients' and beside the least that a transfer can cost.

The rules, the same for all:

- One source and one or more downloaders, each a process of its own; plain TCP; random bytes in one file; peers find each other
  through `swarm-tracker`. Contestants take turns (A B C A B C), so that a busy neighbour troubles all of them.
- Before the clock starts, the source has checked its data, and the tracker knows it: it is listed as a seed, or it is
  listed and has said that its check is over.
- One downloader: the clock starts when its process does, and stops when it has ended. When it says that it is complete is
  noted too, because some clients then take their time.
- Several: all start at the same moment and go on serving once they are complete; the clock stops when the last one says
  that it is. (The floor program's receivers serve nobody: its source serves each of them.)
- CPU time is what all processes of an end used while the clock ran, user and system; the tracker's is not counted.
- What anything else took of the processors meanwhile is told too, as a share of them: figures taken beside a busy neighbour
  show only how contestants compare.
- RssAnon and peak RSS are read every 50 ms; of several downloaders the highest counts.
- After the clock, every copy is compared with the original, then deleted.
"""

import argparse
import dataclasses
import json
import os
import platform
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "benches"), str(ROOT / ".ci/interop")]

from contestants import ALL  # noqa: E402
from harness import BIN, GIB, MIB, SOON, create, difference_of, fill, free_port, seeded, until  # noqa: E402

GB = 10**9
SAMPLE_S = 0.05
RUN_S_MAX = 300
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass
class Torrent:
    meta: Path
    folder: Path
    file: Path


@dataclasses.dataclass
class End:
    """What one end of a transfer, or one process of it, used."""

    cpu_s: float
    rss_anon_mib: float
    rss_mib: float

    @staticmethod
    def of(peers):
        return End(
            round(sum(peer.cpu_s() for peer in peers), 3),
            round(max(peer.rss_anon for peer in peers) / MIB, 1),
            round(max(peer.rss for peer in peers) / MIB, 1),
        )


class Peer:
    """A process whose use of the machine is counted from `go()`."""

    def __init__(self, command, waits=False):
        self.command = [str(part) for part in command]
        self.process = None
        self.lines, self.ended = [], threading.Event()
        self.ended_at = self.status = self.usage = None
        self.cpu_before = self.rss_anon = self.rss = 0
        self.waits = waits
        if waits:
            self._start()
            self.wait_for("ready")

    def _start(self):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            self.command, stdin=pipe if self.waits else subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT
        )
        for work in (self._read, self._reap):
            threading.Thread(target=work, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append((time.monotonic(), line.decode(errors="replace").strip()))

    def _reap(self):
        _, status, self.usage = os.wait4(self.process.pid, 0)
        self.ended_at = time.monotonic()
        self.status = self.process.returncode = os.waitstatus_to_exitcode(status)
        self.ended.set()

    def go(self):
        if self.waits:
            self.cpu_before = self._cpu_so_far()
            self.process.stdin.write(b"go\n")
            self.process.stdin.flush()
        else:
            self._start()
        return self

    def _cpu_so_far(self):
        if self.usage is None:
            try:
                stat = Path(f"/proc/{self.process.pid}/stat").read_text()
                user, system = stat.rpartition(")")[2].split()[11:13]
                return (int(user) + int(system)) / TICKS_PER_S
            except OSError:
                self.ended.wait(SOON)
        return self.usage.ru_utime + self.usage.ru_stime

    def cpu_s(self):
        return self._cpu_so_far() - self.cpu_before

    def sample(self):
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return
        for line in status.splitlines():
            if line.startswith("RssAnon:"):
                self.rss_anon = max(self.rss_anon, int(line.split()[1]) * 1024)
            elif line.startswith("VmHWM:"):
                self.rss = max(self.rss, int(line.split()[1]) * 1024)

    def wait_for(self, mark, seconds=SOON):
        """When it printed `mark`, and the line."""
        until(lambda: self.has_said(mark) or self.ended.is_set(), seconds, f"{mark!r} from {self}")
        return self.has_said(mark) or self.fail(f"ended before {mark!r}")

    def has_said(self, mark):
        return next((line for line in list(self.lines) if mark in line[1]), None)

    def wait(self, seconds=SOON):
        """When it ended, which it must have done well."""
        if not self.ended.wait(seconds) or self.status != 0:
            self.fail("did not end well")
        return self.ended_at

    def fail(self, what):
        raise AssertionError(f"{self} {what} (status {self.status})")

    def __str__(self):
        return " ".join(self.command) + "".join(f"\n    {line}" for _, line in self.lines[-10:])

    def stop(self):
        if self.process and not self.ended.is_set():
            self.process.send_signal(signal.SIGTERM)
            if not self.ended.wait(20):
                self.process.kill()
                self.ended.wait(SOON)


class Transfer:
    """One run of one contestant, and everything that it starts."""

    def __init__(self, contestant, torrent, count, port, scratch):
        self.contestant, self.torrent, self.count, self.port, self.scratch = contestant, torrent, count, port, scratch
        self.peers = []

    def start(self, command, waits=False):
        peer = Peer(command, waits)
        self.peers.append(peer)
        return peer

    def run(self):
        copies = self.scratch / "copies"
        try:
            return self._run([copies / str(i) for i in range(self.count)])
        finally:
            for peer in reversed(self.peers):
                peer.stop()
            shutil.rmtree(copies, ignore_errors=True)

    def _run(self, folders):
        contestant, stay = self.contestant, self.count > 1
        source, address = self._source()
        downloaders = []
        for folder in folders:
            folder.mkdir(parents=True)
            command = contestant.downloader(self.torrent, folder, stay, address)
            downloaders.append(self.start(command, contestant.waits))
        source.cpu_before = source._cpu_so_far()
        start, busy_before = time.monotonic(), busy_cpu_s()
        for downloader in downloaders:
            downloader.go()
        stopped = threading.Event()
        sampler = threading.Thread(target=sample, args=([source, *downloaders], stopped))
        sampler.start()
        try:
            complete = [downloader.wait_for(contestant.mark, RUN_S_MAX)[0] for downloader in downloaders]
            ends = complete if stay else [downloader.wait() for downloader in downloaders]
            used = {"source": End.of([source]), "downloaders": End.of(downloaders)}
            others = busy_cpu_s() - busy_before - sum(end.cpu_s for end in used.values())
            cpu_s = (time.monotonic() - start) * os.cpu_count()
        finally:
            stopped.set()
            sampler.join()
        for peer in reversed(self.peers):
            peer.stop()
        for folder in folders:
            if difference := difference_of(self.torrent.file, folder / self.torrent.file.name):
                raise AssertionError(f"{contestant.name}: {difference}")
        return {
            "wall_s": round(max(ends) - start, 3),
            "complete_s": round(max(complete) - start, 3),
            "others_share": round(max(others, 0) / cpu_s, 3),
            **{end: dataclasses.asdict(used[end]) for end in used},
        }

    def _source(self):
        """A source that is ready, and its address if downloaders must be told."""
        if not self.contestant.has_tracker:
            source = self.start(self.contestant.source(self.torrent, self.count)).go()
            return source, source.wait_for("listening on ")[1].split()[-1]
        tracker = self.start([BIN / "swarm-tracker", "--listen", f"127.0.0.1:{self.port}"]).go()
        tracker.wait_for("listening on ")
        source = self.start(self.contestant.source(self.torrent, self.count), self.contestant.waits).go()
        until(lambda: self._is_ready(source), RUN_S_MAX, f"source is ready: {source}")
        return source, None

    def _is_ready(self, source):
        if source.ended.is_set():
            source.fail("ended before the transfer")
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats", timeout=SOON) as reply:
            known = json.load(reply)
        checked = self.contestant.checked
        return known["peers"] and source.has_said(checked) if checked else known["seeds"]


def busy_cpu_s():
    """What all processors together have worked since the system started, for this machine or for its neighbours."""
    user, nice, system, _, _, irq, softirq, stolen = Path("/proc/stat").read_text().split()[1:9]
    return sum(map(int, (user, nice, system, irq, softirq, stolen))) / TICKS_PER_S


def sample(peers, stopped):
    while not stopped.wait(SAMPLE_S):
        for peer in peers:
            peer.sample()


def size(text):
    for unit, factor in (("GiB", GIB), ("MiB", MIB)):
        if text.endswith(unit):
            return int(text.removesuffix(unit)) * factor
    raise argparse.ArgumentTypeError(f"{text!r} is no size as in 512MiB or 1GiB")


def scenario(text):
    count, _, length = text.partition("x")
    return int(count), size(length)


def size_text(length):
    return f"{length // GIB} GiB" if length % GIB == 0 else f"{length // MIB} MiB"


def measure(count, length, piece_length, contestants, rounds):
    """All rounds of one scenario."""
    runs = {contestant.name: [] for contestant in contestants}
    with tempfile.TemporaryDirectory(prefix="swarm-transfer-", dir="/dev/shm") as folder:
        scratch, port = Path(folder), free_port()
        torrent = Torrent(scratch / "payload.torrent", scratch / "source", scratch / "source/payload.bin")
        fill(torrent.file, length, seeded(count))
        url = f"http://127.0.0.1:{port}/announce"
        create(torrent.file, torrent.meta, "-l", f"{piece_length // MIB}MiB", "-a", url)
        for number in range(1, rounds + 1):
            for contestant in contestants:
                run = Transfer(contestant, torrent, count, port, scratch).run()
                runs[contestant.name].append(run)
                ends = f"CPU {run['source']['cpu_s']:.2f} + {run['downloaders']['cpu_s']:.2f} s"
                print(f"1 to {count}, round {number}: {contestant.name:10} {run['wall_s']:7.2f} s, {run['complete_s']:.2f} s to complete, {ends}", flush=True)
    delivered = length * count / GB
    return {
        "downloaders": count,
        "bytes": length,
        "piece_length": piece_length,
        "runs": runs,
        "summary": {name: summary(of, delivered) for name, of in runs.items()},
    }


def summary(runs, delivered_gb):
    result = {}
    for key in ("wall_s", "complete_s"):
        times = [run[key] for run in runs]
        result[key] = {"median": statistics.median(times), "min": min(times), "max": max(times)}
    result["others_share"] = statistics.median(run["others_share"] for run in runs)
    for end in ("source", "downloaders"):
        middle = {key: statistics.median(run[end][key] for run in runs) for key in runs[0][end]}
        result[end] = {**middle, "cpu_s_per_gb": round(middle["cpu_s"] / delivered_gb, 3)}
    both = [run["source"]["cpu_s"] + run["downloaders"]["cpu_s"] for run in runs]
    result["cpu_s_per_gb"] = round(statistics.median(both) / delivered_gb, 3)
    return result


def machine():
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, 1),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "congestion_control": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "load_before": os.getloadavg()[0],
    }


def markdown(results):
    host, lines = results["machine"], [f"# Transfers, {results['date']}", ""]
    lines += [f"`{results['command']}`", ""]
    lines += [f"{host['cpu']}, {host['cores']} cores, {host['kernel']}, {host['memory_gib']} GiB; loopback ({host['congestion_control']}), tmpfs;"]
    lines += [f"load {host['load_before']:.2f} before. {results['rounds']} interleaved rounds; medians. Rules: `benches/transfer.py`.", ""]
    lines += [f"- {name}: {version}" for name, version in results["versions"].items()]
    for one in results["scenarios"]:
        summaries = one["summary"]
        floor = summaries.get("floor", {}).get("wall_s", {}).get("median")
        lines += ["", f"## 1 to {one['downloaders']}, {size_text(one['bytes'])}, {size_text(one['piece_length'])} pieces", ""]
        lines += ["| source / downloader | wall s (min to max) | complete after s | wall to floor | CPU s per GB, both (source + downloaders) | RssAnon MiB | peak RSS MiB | others' CPU |"]
        lines += ["|---|---|---|---|---|---|---|---|"]
        for name, of in summaries.items():
            wall, ends = of["wall_s"], (of["source"], of["downloaders"])
            cpu = " + ".join(f"{end['cpu_s_per_gb']:.2f}" for end in ends)
            # A process that lived shorter than the time between two samples has shown nothing.
            memory = lambda key: " / ".join(f"{end[key]:.0f}" if end["rss_mib"] else "?" for end in ends)
            cells = [
                name,
                f"{wall['median']:.2f} ({wall['min']:.2f} to {wall['max']:.2f})",
                f"{of['complete_s']['median']:.2f}",
                f"{wall['median'] / floor:.2f}" if floor else "",
                f"{of['cpu_s_per_gb']:.2f} ({cpu})",
                memory("rss_anon_mib"),
                memory("rss_mib"),
                f"{of['others_share']:.0%}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--scenario",
        type=scenario,
        action="append",
        metavar="DOWNLOADERSxSIZE",
        help="repeatable [default: 1x1GiB, 8x512MiB, and 1x1MiB for what starting and ending cost]",
    )
    parser.add_argument("--piece-length", type=size, default=MIB, metavar="SIZE")
    names = [contestant.name for contestant in ALL]
    parser.add_argument("--only", metavar="NAME,...", help="of " + ", ".join(names))
    parser.add_argument("--name", help="keep the results as benches/results/DATE-CORES-NAME.json and .md")
    args = parser.parse_args()
    args.only = args.only.split(",") if args.only else names
    if unknown := set(args.only) - set(names):
        parser.error(f"no contestant is called {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    args.scenario = args.scenario or [(1, GIB), (8, 512 * MIB), (1, MIB)]
    return args


def keep(results, text, name):
    """Prints the results, and keeps them in benches/results if they have a name."""
    print("\n" + text)
    if name:
        stem = f"{results['date']}-{results['machine']['cores']}core-{name}"
        folder = ROOT / "benches/results"
        folder.mkdir(exist_ok=True)
        (folder / f"{stem}.json").write_text(json.dumps(results, indent=1) + "\n")
        (folder / f"{stem}.md").write_text(text)


def main():
    args = arguments()
    contestants = [contestant() for contestant in ALL if contestant.name in args.only]
    results = {
        "date": time.strftime("%Y-%m-%d"),
        "command": shlex.join(["just", "bench-transfer", *sys.argv[1:]]),
        "machine": machine(),
        "versions": {contestant.name: contestant.version() for contestant in contestants},
        "rounds": args.rounds,
        "scenarios": [
            measure(count, length, args.piece_length, contestants, args.rounds) for count, length in args.scenario
        ],
    }
    keep(results, markdown(results), args.name)


if __name__ == "__main__":
    main()
