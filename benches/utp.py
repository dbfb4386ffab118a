#!/usr/bin/env python3
"""uTP beside TCP and beside libtorrent's uTP: from one host to another, over a line with a rate, delay and a buffer, and over a plain veth.

- A host is a network namespace of its own, with CUBIC. It needs root.
- The line: a router between them, whose ports `tbf` gives a rate and a buffer; on the hosts themselves it would hold up TCP, which
  leaves no more than a little in the queues of its own host. `delay-line` gives the delay (netem is not in every kernel), nftables'
  `numgen random` the loss, each way.
- Contestants take turns. A source has checked its data before a clock starts. The downloader is told of it and dials.
- `alone`: whole transfers; the clock starts with the downloader and stops when it says that it is complete, and copies are compared.
  The queue is what datagrams of our own, fifty a second from source to downloader, take longer than before the transfer.
- `loss`: what the downloader's end of the line carries from the fifth second on, for TCP too.
- `beside`: the transfer has the line to itself for ten seconds, then comes one TCP connection that sends without end; counted is what
  uTP has of the line from the tenth second after that on, and then from five seconds after the other's end.
- `veth`: whole transfers as in `alone`, nothing shaped, 1,500 bytes of MTU.

How much of the processors was busy is told too: with `veth` it is they that are measured.
"""

import argparse
import ctypes
import json
import os
import shlex
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

# This one says where the others are.
from transfer import Peer, busy_cpu_s, keep, machine, size, size_text

import contestants
from harness import BIN, MIB, create, difference_of, fill, seeded
from network import Network, ip

# What may pass the line at once; and how many frames may wait for the wire that has no rate.
BURST, TAP_QUEUE = "16kb", 10_000
PORT, SINK_PORT, PROBE_PORT = 6881, 5001, 5002
RUN_S_MAX = 100
LOSS_SETTLE_S, LOSS_S = 5, 25
ALONE_S, BESIDE_SETTLE_S, BESIDE_S, AGAIN_SETTLE_S, AGAIN_S = 10, 10, 20, 5, 5
PROBE_EVERY_S, PROBES_BEFORE = 0.02, 25


class Swarm(contestants.Swarm):
    common = ["--json", "--no-state", "--no-dht", "--no-lsd", "--no-pex"]

    def source_at(self, address, torrent):
        return [BIN / "swarm", "seed", torrent.meta, torrent.folder, *self.common, "--listen", address, *self.transport]

    def downloader_at(self, address, torrent, folder, source):
        command = [BIN / "swarm", "get", torrent.meta, "-o", folder, *self.common, "--listen", address, *self.transport]
        return [*command, "--peer", source, "--seed=forever"]


class SwarmUtp(Swarm):
    name, carrier, transport = "swarm", "udp", ["--no-tcp"]


class SwarmTcp(Swarm):
    name, carrier, transport = "swarm, TCP", "tcp", ["--no-utp"]


class Libtorrent(contestants.Libtorrent):
    checked = "complete"

    def source_at(self, address, torrent):
        return self.peer(address, torrent, torrent.folder)

    def downloader_at(self, address, torrent, folder, source):
        return self.peer(address, torrent, folder, "--peer", source)

    def peer(self, address, torrent, folder, *more):
        command = [self.python, contestants.BENCHES / "libtorrent_peer.py", torrent.meta, folder, "--stay", *self.transport]
        return [*command, *more, "--listen", address]


class LibtorrentUtp(Libtorrent):
    name, carrier, transport = "libtorrent", "udp", ["--utp"]


class LibtorrentTcp(Libtorrent):
    name, carrier, transport = "libtorrent, TCP", "tcp", []


def pairs_of():
    """Each contest: a source and a downloader."""
    ours, ours_tcp, theirs, theirs_tcp = SwarmUtp(), SwarmTcp(), LibtorrentUtp(), LibtorrentTcp()
    pairs = [(ours, ours), (ours_tcp, ours_tcp), (theirs, theirs), (theirs_tcp, theirs_tcp), (ours, theirs), (theirs, ours)]
    name = lambda source, downloader: source.name if source is downloader else f"{source.name} to {downloader.name}"
    return {name(*pair): pair for pair in pairs}


SCENARIOS = {
    "alone": ["swarm", "swarm, TCP", "libtorrent", "libtorrent, TCP", "swarm to libtorrent", "libtorrent to swarm"],
    "loss": ["swarm", "swarm, TCP", "libtorrent", "libtorrent, TCP", "swarm to libtorrent", "libtorrent to swarm"],
    "beside": ["swarm", "libtorrent"],
    "veth": ["swarm", "swarm, TCP", "libtorrent"],
}


class Hosts:
    """Two of them: the source's, then the downloader's."""

    ips = ["10.0.0.1", "10.0.0.2"]

    def __init__(self, line=None, loss=0):
        # The switch of this network is the router.
        network = self.network = Network(0)
        self.namespaces = [network.add(name) for name in ("source", "downloader")]
        self.wire = None
        try:
            self._connect(line)
            for number in range(2):
                self._configure(number, loss)
        except BaseException:
            self.remove()
            raise

    def _connect(self, line):
        (one, other), router = self.namespaces, self.network.namespaces[0]
        if not line:
            return ip("link", "add", "uplink", "netns", one, "type", "veth", "peer", "name", "uplink", "netns", other)
        self.wire = Peer([BIN / "delay-line", line.delay_ms / 2, f"{one}:uplink", f"{router}:port0"]).go()
        self.wire.wait_for("ready")
        ip("-n", one, "link", "set", "uplink", "txqueuelen", TAP_QUEUE)
        ip("link", "add", "uplink", "netns", other, "type", "veth", "peer", "name", "port1", "netns", router)
        for port in ("port0", "port1"):
            ip("-n", router, "link", "set", port, "txqueuelen", TAP_QUEUE, "master", "bridge", "up")
            shape = ["root", "tbf", "rate", f"{line.mbit}mbit", "burst", BURST, "latency", f"{line.buffer_ms}ms"]
            subprocess.run(["tc", "-n", router, "qdisc", "add", "dev", port, *shape], check=True)

    def _configure(self, number, loss):
        namespace = self.namespaces[number]
        ip("-n", namespace, "address", "add", f"{self.ips[number]}/24", "dev", "uplink")
        for device in ("lo", "uplink"):
            ip("-n", namespace, "link", "set", device, "up")
        # A namespace of ours may have another default only if the machine allows that to all.
        route = ["10.0.0.0/24", "dev", "uplink", "proto", "kernel", "scope", "link", "src", self.ips[number]]
        ip("-n", namespace, "route", "replace", *route, "congctl", "cubic")
        loses = f"numgen random mod 100000 < {round(loss * 100_000)} drop" if loss else ""
        rules = f"""table ip line {{
            counter of_udp {{}}
            counter of_tcp {{}}
            chain input {{ type filter hook input priority 0; {loses}
                ip protocol udp counter name of_udp
                ip protocol tcp counter name of_tcp
            }}
        }}"""
        subprocess.run(self.on(number, ["nft", "-f", "-"]), input=rules, text=True, check=True)

    def on(self, number, command):
        return ["ip", "netns", "exec", self.namespaces[number], *command]

    def received(self):
        """How many bytes of datagrams have come to the downloader's host so far, by protocol."""
        listed = contestants.output_of(*self.on(1, ["nft", "-j", "list", "counters"]))
        counters = [one["counter"] for one in json.loads(listed)["nftables"] if "counter" in one]
        return {counter["name"].removeprefix("of_"): counter["bytes"] for counter in counters}

    def socket(self, number, kind):
        """A socket of that host, here."""
        return socket_in(self.namespaces[number], kind)

    def remove(self):
        if self.wire:
            self.wire.stop()
        self.network.remove()


def socket_in(namespace, kind):
    opened = []

    def open_there():
        # This concerns nobody but this thread.
        with open(f"/run/netns/{namespace}") as handle:
            if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), 0):
                raise OSError(ctypes.get_errno(), "setns")
        opened.append(socket.socket(socket.AF_INET, kind))

    thread = threading.Thread(target=open_there)
    thread.start()
    thread.join()
    return opened[0]


class Probe:
    """Datagrams that tell how long the way to the downloader is."""

    def __init__(self, hosts):
        self.sender, self.receiver = hosts.socket(0, socket.SOCK_DGRAM), hosts.socket(1, socket.SOCK_DGRAM)
        self.receiver.bind((hosts.ips[1], PROBE_PORT))
        self.receiver.settimeout(PROBE_EVERY_S)
        self.to, self.took, self.is_over = (hosts.ips[1], PROBE_PORT), [], False
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self._send, self._receive)]
        for thread in self.threads:
            thread.start()
        while len(self.took) < PROBES_BEFORE:
            time.sleep(PROBE_EVERY_S)
        self.base_ms = min(self.took)
        self.took = []

    def _send(self):
        while not self.is_over:
            self.sender.sendto(struct.pack("d", time.monotonic()), self.to)
            time.sleep(PROBE_EVERY_S)

    def _receive(self):
        while not self.is_over:
            try:
                sent_at = struct.unpack("d", self.receiver.recv(64))[0]
                self.took.append((time.monotonic() - sent_at) * 1000)
            except TimeoutError:
                pass

    def queue_ms(self):
        """The median of the queue since this began."""
        self.is_over = True
        for thread in self.threads:
            thread.join()
        self.sender.close()
        self.receiver.close()
        return round(statistics.median(self.took) - self.base_ms, 1)


class Flood:
    """One TCP connection to the downloader's host that sends without end."""

    def __init__(self, hosts):
        listening, self.sender = hosts.socket(1, socket.SOCK_STREAM), hosts.socket(0, socket.SOCK_STREAM)
        listening.bind((hosts.ips[1], SINK_PORT))
        listening.listen()
        self.sender.connect((hosts.ips[1], SINK_PORT))
        self.receiver = listening.accept()[0]
        listening.close()
        for work in (self._send, self._receive):
            threading.Thread(target=work, daemon=True).start()

    def _send(self):
        try:
            while True:
                self.sender.sendall(bytes(64 * 1024))
        except OSError:
            pass

    def _receive(self):
        while self.receiver.recv(1 << 20):
            pass

    def stop(self):
        self.sender.shutdown(socket.SHUT_RDWR)


class Torrent:
    def __init__(self, scratch, length):
        self.folder, self.meta = scratch / str(length), scratch / f"{length}.torrent"
        self.file = fill(self.folder / "payload.bin", length, seeded(length))
        create(self.file, self.meta, "-l", "1MiB")


class Contest:
    """A source and a downloader, each on its host."""

    def __init__(self, hosts, pair, torrent, scratch):
        self.hosts, (self.source, self.downloader), self.torrent = hosts, pair, torrent
        self.folder, self.peers = scratch / "copy", []

    def __enter__(self):
        self.folder.mkdir()
        at = [f"{address}:{PORT}" for address in self.hosts.ips]
        source = self._start(0, self.source, self.source.source_at(at[0], self.torrent)).go()
        source.wait_for(self.source.checked, RUN_S_MAX)
        self.receiving = self._start(1, self.downloader, self.downloader.downloader_at(at[1], self.torrent, self.folder, at[0]))
        source.cpu_before = source._cpu_so_far()
        return self

    def _start(self, number, contestant, command):
        self.peers.append(Peer(self.hosts.on(number, command), contestant.waits))
        return self.peers[-1]

    def go(self):
        self.began, self.busy = time.monotonic(), busy_cpu_s()
        self.receiving.go()

    def wait_complete(self):
        return self.receiving.wait_for(self.downloader.mark, RUN_S_MAX)[0] - self.began

    def cpu(self):
        """How many processors were busy, and the seconds that both ends took."""
        cores = (busy_cpu_s() - self.busy) / (time.monotonic() - self.began)
        return {"cpu_cores": round(cores, 2), "cpu_s_of_peers": round(sum(peer.cpu_s() for peer in self.peers), 2)}

    def compare(self):
        if difference := difference_of(self.torrent.file, self.folder / self.torrent.file.name):
            raise AssertionError(f"{self.source.name} to {self.downloader.name}: {difference}")

    def __exit__(self, *_):
        for peer in reversed(self.peers):
            peer.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def mbit(length, seconds):
    return round(length * 8 / seconds / 1e6, 2)


def whole_transfer(contest, hosts):
    probe, before, length = Probe(hosts), hosts.received(), contest.torrent.file.stat().st_size
    contest.go()
    took = contest.wait_complete()
    result = {"s": round(took, 3), "mbit": mbit(length, took), "queue_ms": probe.queue_ms()} | contest.cpu()
    came = {name: count - before[name] for name, count in hosts.received().items()}
    if came[contest.source.carrier] < length:
        raise AssertionError(f"{contest.source.name} to {contest.downloader.name}: not over {contest.source.carrier}: {came}")
    contest.compare()
    return result


def over_lossy_line(contest, hosts):
    contest.go()
    time.sleep(LOSS_SETTLE_S)
    return during(hosts, LOSS_S)[1] | contest.cpu()


def beside_cubic(contest, hosts):
    contest.go()
    time.sleep(ALONE_S)
    flood = Flood(hosts)
    time.sleep(BESIDE_SETTLE_S)
    received, _ = during(hosts, BESIDE_S)
    flood.stop()
    time.sleep(AGAIN_SETTLE_S)
    again, _ = during(hosts, AGAIN_S)
    if contest.receiving.has_said(contest.downloader.mark):
        raise AssertionError("the transfer was over too early for this; --beside-size")
    of = lambda what, name: mbit(what[name], what["s"])
    result = {"utp_mbit": of(received, "udp"), "cubic_mbit": of(received, "tcp"), "again_mbit": of(again, "udp")}
    return result | contest.cpu()


def during(hosts, seconds):
    """What comes to the downloader's host in so many seconds."""
    before, began = hosts.received(), time.monotonic()
    time.sleep(seconds)
    after, took = hosts.received(), time.monotonic() - began
    came = {name: after[name] - before[name] for name in ("udp", "tcp")}
    return came | {"s": took}, {"mbit": mbit(came["udp"] + came["tcp"], took)}


RUNS = {"alone": whole_transfer, "loss": over_lossy_line, "beside": beside_cubic, "veth": whole_transfer}


def length_in(scenario, args):
    return {"veth": args.veth_size, "beside": args.beside_size}.get(scenario, args.size)


def measure(scenario, args, scratch):
    """All rounds of one scenario."""
    pairs, results = pairs_of(), {name: [] for name in SCENARIOS[scenario]}
    torrent = Torrent(scratch, length_in(scenario, args))
    line = None if scenario == "veth" else args
    hosts = Hosts(line, args.loss if scenario == "loss" else 0)
    try:
        for number in range(1, (args.veth_rounds if scenario == "veth" else args.rounds) + 1):
            for name in results:
                if args.only and name not in args.only:
                    continue
                with Contest(hosts, pairs[name], torrent, scratch) as contest:
                    results[name].append(RUNS[scenario](contest, hosts))
                print(f"{scenario}, round {number}: {name:20} {results[name][-1]}", flush=True)
    finally:
        hosts.remove()
        shutil.rmtree(torrent.folder)
    return {name: runs for name, runs in results.items() if runs}


def middle(runs, key):
    return statistics.median(run[key] for run in runs)


def verdicts(scenario, results, args):
    """What is wanted: what it is about, the figure, and whether that is enough."""
    of = {name: middle(runs, "mbit") for name, runs in results.items() if "mbit" in runs[0]}

    def ratio(what, one, other, least):
        if one in of and other in of:
            yield what, round(of[one] / of[other], 3), f"at least {least}", of[one] >= least * of[other]

    if scenario == "alone":
        yield from ratio("ours to our TCP", "swarm", "swarm, TCP", 0.90)
        if "swarm" in results:
            queue = middle(results["swarm"], "queue_ms")
            yield "queue added by ours, median, ms", queue, "at most 110", queue <= 110
        yield from ratio("ours to libtorrent, to libtorrent's own", "swarm to libtorrent", "libtorrent", 0.9)
        yield from ratio("libtorrent to ours, to libtorrent's own", "libtorrent to swarm", "libtorrent", 0.9)
    if scenario == "loss":
        yield from ratio("ours to CUBIC (our TCP)", "swarm", "swarm, TCP", 0.8)
        yield from ratio("ours to libtorrent's uTP", "swarm", "libtorrent", 1)
    if scenario == "beside":
        for name, runs in results.items():
            share = round(middle(runs, "utp_mbit") / args.mbit, 3)
            yield f"share of the line of {name}", share, "at most 0.1", share <= 0.1
    if scenario == "veth":
        yield from ratio("ours to a fifth of our TCP", "swarm", "swarm, TCP", 0.2)
        if "swarm" in of and "libtorrent" in results:
            best = max(run["mbit"] for run in results["libtorrent"])
            yield "ours to libtorrent's best", round(of["swarm"] / best, 3), "at least 2", of["swarm"] >= 2 * best


def summary(results):
    keys = {name: [key for key in runs[0] if key != "s"] for name, runs in results.items()}
    spread = lambda runs, key: {"median": middle(runs, key), "min": min(r[key] for r in runs), "max": max(r[key] for r in runs)}
    return {name: {key: spread(runs, key) for key in keys[name]} for name, runs in results.items()}


COLUMNS = {
    "mbit": "Mbit/s (min to max)",
    "utp_mbit": "uTP, Mbit/s",
    "cubic_mbit": "CUBIC, Mbit/s",
    "again_mbit": "uTP after it, Mbit/s",
    "queue_ms": "queue, ms",
    "cpu_s_of_peers": "CPU s, both ends",
    "cpu_cores": "cores busy",
}


def markdown(results):
    host, line = results["machine"], results["line"]
    lines = [f"# uTP, {results['date']}", "", f"`{results['command']}`", ""]
    lines += [f"{host['cpu']}, {host['cores']} cores, {host['kernel']}; CUBIC; tmpfs; load {host['load_before']:.2f} before.", ""]
    lines += [f"- {name}: {version}" for name, version in results["versions"].items()]
    for scenario, of in results["scenarios"].items():
        columns = [key for key in COLUMNS if key in next(iter(of["summary"].values()))]
        rounds = len(next(iter(of["runs"].values())))
        shape = f"{line['mbit']} Mbit/s, round trip {line['delay_ms']:g} ms, buffer {line['buffer_ms']} ms"
        shape += f", {line['loss']:.1%} lost each way" if scenario == "loss" else ""
        lines += ["", f"## {scenario}", "", f"{'A plain veth' if scenario == 'veth' else shape}; {size_text(of['bytes'])}; {rounds} interleaved rounds, medians.", ""]
        lines += [" | ".join(["| ", *(COLUMNS[key] for key in columns), ""]).strip(), "|---" * (len(columns) + 1) + "|"]
        for name, one in of["summary"].items():
            cells = [f"{one[key]['median']:.2f}" for key in columns]
            if columns[0] == "mbit":
                cells[0] = f"{one['mbit']['median']:.1f} ({one['mbit']['min']:.1f} to {one['mbit']['max']:.1f})"
            lines.append(" | ".join([f"| {name}", *cells, ""]).strip())
        if of["verdicts"]:
            lines += ["", "| wanted | | got | |", "|---|---|---|---|"]
            lines += [f"| {what} | {wanted} | {got} | {'met' if is_met else 'missed'} |" for what, got, wanted, is_met in of["verdicts"]]
    return "\n".join(lines) + "\n"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS), help="repeatable [default: all]")
    parser.add_argument("--only", action="append", metavar="NAME", choices=list(pairs_of_names()), help="repeatable")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--veth-rounds", type=int, default=7, metavar="N")
    parser.add_argument("--size", type=size, default=192 * MIB)
    parser.add_argument("--beside-size", type=size, default=384 * MIB, metavar="SIZE")
    parser.add_argument("--veth-size", type=size, default=512 * MIB, metavar="SIZE")
    parser.add_argument("--mbit", type=int, default=100, help="of the line, both ways")
    parser.add_argument("--delay-ms", type=float, default=40, metavar="MS", help="of a round trip")
    parser.add_argument("--buffer-ms", type=int, default=250, metavar="MS")
    parser.add_argument("--loss", type=float, default=0.005, metavar="SHARE", help="each way, in `loss`")
    parser.add_argument("--name", help="keep the results as benches/results/DATE-CORES-NAME.json and .md")
    return parser.parse_args()


def pairs_of_names():
    return dict.fromkeys(name for names in SCENARIOS.values() for name in names)


def main():
    args = arguments()
    # What runs is ended, and namespaces are removed, also then.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results = {
        "date": time.strftime("%Y-%m-%d"),
        "command": shlex.join(["just", "bench-utp", *sys.argv[1:]]),
        "machine": machine(),
        "versions": {c.name: c.version() for c in (contestants.Swarm(), contestants.Libtorrent())},
        "line": {key: getattr(args, key) for key in ("mbit", "delay_ms", "buffer_ms", "loss")} | {"burst": BURST},
        "scenarios": {},
    }
    scratch = Path(tempfile.mkdtemp(prefix="swarm-utp-", dir="/dev/shm"))
    try:
        for scenario in args.scenario or SCENARIOS:
            runs = measure(scenario, args, scratch)
            length = length_in(scenario, args)
            told = list(verdicts(scenario, runs, args))
            results["scenarios"][scenario] = {"bytes": length, "summary": summary(runs), "verdicts": told, "runs": runs}
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    keep(results, markdown(results), args.name)


if __name__ == "__main__":
    main()
