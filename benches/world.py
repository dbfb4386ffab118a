#!/usr/bin/env python3
"""The simulator's model against the world: one source and twenty downloaders, each a host of its own with a shaped line.

- A host is a network namespace, joined to all others by a bridge in another one; `tbf` shapes its line to the same rate both ways,
  on either end of its veth. It needs root.
- What a line carries in payload is measured beforehand in the same run: a TCP connection between two of the hosts that
  sends both ways at once. The bound for the swarm follows from that: the file's size over that rate.
- Contestants take turns, with the same file, the same lines, the same congestion control on every host, whatever this machine's own
  is, and nothing kept between runs. The
  source has checked its data, and the tracker knows it, before the clock starts. Then all downloaders start at the same moment;
  each one's time ends when it says that it is complete, and it goes on serving. Every copy is compared afterwards.
- The simulator runs the same swarm, at the same rate, with blocks and queues of the same size and as long a delay, and its prediction
  stands beside.
- With `--delay` each line is a `delay-line`, a process that carries frames (netem is not in every kernel). It takes its share of the processors.
- How busy the processors were is told too: where they are short, it is not the lines that are measured.
"""

import argparse
import json
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "benches"), str(ROOT / ".ci/interop")]

import contestants  # noqa: E402
from harness import BIN, MIB, create, difference_of, fill, seeded, until  # noqa: E402
from transfer import Peer, busy_cpu_s, machine, size  # noqa: E402

# Shaping: what may pass at once, and how long the queue is in time. A switch's port holds about as much.
BURST, QUEUE = "64kb", "50ms"
# What a device of a wire with a delay holds, in frames, beside that queue.
TAP_QUEUE = 10_000
PROBES, PROBE_S, PROBE_SETTLE_S = 3, 4, 1
RUN_S_MAX = 180
TRACKER_PORT, PEER_PORT, PROBE_PORT = 6969, 6881, 5001
SIMULATED_SEEDS = range(1, 6)


class Swarm(contestants.Swarm):
    is_peer = True
    common = ["--json", "--no-state", "--no-dht", "--no-lsd"]

    def common_of(self, ip):
        return [*self.common, "--listen", f"{ip}:{PEER_PORT}"]

    def source_at(self, ip, torrent):
        return [BIN / "swarm", "seed", torrent.meta, torrent.folder, *self.common_of(ip)]

    def downloader_at(self, ip, torrent, folder):
        return [BIN / "swarm", "get", torrent.meta, "-o", folder, *self.common_of(ip), "--seed=forever"]


class Libtorrent(contestants.Libtorrent):
    is_peer = True

    def source_at(self, ip, torrent):
        return self.downloader_at(ip, torrent, torrent.folder)

    def downloader_at(self, ip, torrent, folder):
        command = [self.python, ROOT / "benches/libtorrent_peer.py", torrent.meta, folder, "--stay"]
        return [*command, "--listen", f"{ip}:{PEER_PORT}"]


class WebSeed(Swarm):
    """The source is a web server and no peer."""

    name = "web-seed"
    is_peer = False
    PORT = 8080

    def source_at(self, ip, torrent):
        scratch = torrent.meta.parent
        config = scratch / "nginx.conf"
        temp = " ".join(f"{kind}_temp_path {scratch}/temp;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        config.write_text(
            f"daemon off; master_process off; pid {scratch}/nginx.pid; error_log {scratch}/nginx.log; events {{}}"
            f"http {{ access_log off; sendfile on; {temp} server {{ listen {ip}:{self.PORT}; root {torrent.folder}; }} }}"
        )
        self.url = f"http://{ip}:{self.PORT}/"
        return ["nginx", "-c", config]

    def downloader_at(self, ip, torrent, folder):
        return [*super().downloader_at(ip, torrent, folder), "--web-seed", self.url]


class Hosts:
    """Hosts 0, 1, 2 and so on, each behind a line of this rate, and with this congestion control."""

    def __init__(self, count, mbit, congestion_control, delay_ms=0):
        from network import Network, ip

        self.network = Network(count)
        self.switch = self.network.namespaces[0]
        self.tracker = "10.0.0.254"
        self.wires = []
        for number in range(1, count + 1) if delay_ms else ():
            self.wires.append(self._delay(number, delay_ms / 4))
        ip("-n", self.switch, "link", "set", "lo", "up")
        ip("-n", self.switch, "address", "add", f"{self.tracker}/24", "dev", "bridge")
        for number in range(1, count + 1):
            for namespace, device in ((self.network.namespaces[number], "uplink"), (self.switch, f"port{number}")):
                shape = ["root", "tbf", "rate", f"{mbit}mbit", "burst", BURST, "latency", QUEUE]
                subprocess.run(["tc", "-n", namespace, "qdisc", "add", "dev", device, *shape], check=True)
            route = ["10.0.0.0/24", "dev", "uplink", "proto", "kernel", "scope", "link"]
            ip("-n", self.network.namespaces[number], "route", "replace", *route, "congctl", congestion_control)

    def _delay(self, number, ms):
        """Puts a wire that takes its time in the place of a host's veth. From one host to another a packet passes two of them."""
        from network import ip

        host, port = self.network.namespaces[number], f"port{number}"
        ip("-n", host, "link", "delete", "uplink")
        wire = Peer([BIN / "delay-line", ms, f"{host}:uplink", f"{self.switch}:{port}"]).go()
        wire.wait_for("ready")
        ip("-n", self.switch, "link", "set", port, "txqueuelen", TAP_QUEUE, "master", "bridge", "up")
        ip("-n", host, "address", "add", f"{self.ip(number - 1)}/24", "dev", "uplink")
        ip("-n", host, "link", "set", "uplink", "txqueuelen", TAP_QUEUE, "up")
        return wire

    def ip(self, number):
        return f"10.0.0.{number + 1}"

    def on(self, number, command):
        return ["ip", "netns", "exec", self.network.namespaces[number + 1], *command]

    def on_switch(self, command):
        return ["ip", "netns", "exec", self.switch, *command]

    def remove(self):
        for wire in self.wires:
            wire.stop()
        self.network.remove()

    def goodput_mbit(self):
        """What a line carries in payload while it is busy both ways: the middle one of several measurements."""
        return statistics.median(self.probe_mbit() for _ in range(PROBES))

    def probe_mbit(self):
        """One measurement: what one end receives, the mean of both."""
        probe = [sys.executable, "-B", __file__, "--probe"]
        listening = Peer(self.on(1, [*probe, f"{self.ip(1)}:{PROBE_PORT}", "listen"])).go()
        listening.wait_for("listening")
        connecting = Peer(self.on(2, [*probe, f"{self.ip(1)}:{PROBE_PORT}", "connect"])).go()
        ends = [end.wait_for("bit/s")[1] for end in (listening, connecting)]
        for end in (listening, connecting):
            end.wait()
        return round(statistics.mean(float(line.split()[0]) for line in ends) / 1e6, 2)


def probe(address, role):
    """One end of the connection that measures what a line carries."""
    ip, port = address.rsplit(":", 1)
    if role == "listen":
        with socket.create_server((ip, int(port))) as server:
            print("listening", flush=True)
            connection = server.accept()[0]
    else:
        connection = socket.create_connection((ip, int(port)))
    ends_at = time.monotonic() + PROBE_SETTLE_S + PROBE_S

    def send():
        while time.monotonic() < ends_at:
            connection.sendall(bytes(64 * 1024))
        connection.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    begun, received = time.monotonic() + PROBE_SETTLE_S, 0
    while (now := time.monotonic()) < ends_at and (data := connection.recv(1 << 20)):
        received += len(data) if now >= begun else 0
    print(f"{received * 8 / (time.monotonic() - begun):.0f} bit/s", flush=True)
    while connection.recv(1 << 20):
        pass
    sender.join()


class Torrent:
    def __init__(self, scratch, length, piece_length, announce):
        self.folder, self.meta = scratch / "source", scratch / "payload.torrent"
        self.file = fill(self.folder / "payload.bin", length, seeded(length))
        create(self.file, self.meta, "-l", f"{piece_length // MIB}MiB", "-a", announce)


def run(contestant, hosts, torrent, count, scratch):
    """One swarm, from the start of the downloaders to the last copy. How long each took, in seconds."""
    peers, copies = [], scratch / "copies"

    def start(command):
        peers.append(Peer(command, contestant.waits))
        return peers[-1]

    try:
        tracker = Peer(hosts.on_switch([BIN / "swarm-tracker", "--listen", f"{hosts.tracker}:{TRACKER_PORT}"])).go()
        peers.append(tracker)
        tracker.wait_for("listening on ")
        source = start(hosts.on(0, contestant.source_at(hosts.ip(0), torrent))).go()
        if contestant.is_peer:
            until(lambda: seeds_known(hosts), RUN_S_MAX, f"source is ready: {source}")
        else:
            until(lambda: answers(hosts, contestant.url), RUN_S_MAX, f"source is ready: {source}")
        downloaders = []
        for number in range(1, count + 1):
            folder = copies / str(number)
            folder.mkdir(parents=True)
            downloaders.append(start(hosts.on(number, contestant.downloader_at(hosts.ip(number), torrent, folder))))
        began, busy = time.monotonic(), busy_cpu_s()
        for downloader in downloaders:
            downloader.go()
        said = [downloader.wait_for(contestant.mark, RUN_S_MAX) for downloader in downloaders]
        ends = [at - began for at, _ in said]
        took, busy = time.monotonic() - began, busy_cpu_s() - busy
        own = sum(peer.cpu_s() for peer in downloaders) + source.cpu_s()
        for peer in reversed(peers):
            peer.stop()
        for number in range(1, count + 1):
            if difference := difference_of(torrent.file, copies / str(number) / torrent.file.name):
                raise AssertionError(f"{contestant.name}: {difference}")
    finally:
        for peer in reversed(peers):
            peer.stop()
        shutil.rmtree(copies, ignore_errors=True)
    return {
        "last_s": round(max(ends), 3),
        "median_s": round(statistics.median(ends), 3),
        "first_s": round(min(ends), 3),
        "cpu_cores": round(busy / took, 2),
        "cpu_s_of_peers": round(own, 2),
    } | ({} if contestant.is_peer else {"copies_from_origin": copies_from_web_seeds(said, torrent)})


def copies_from_web_seeds(said, torrent):
    sums = (sum(seed["bytes_down"] for seed in json.loads(line)["web_seeds"]) for _, line in said)
    return round(sum(sums) / torrent.file.stat().st_size, 4)


def answers(hosts, url):
    return subprocess.run(hosts.on_switch(["curl", "-s", "-o", "/dev/null", url])).returncode == 0


def seeds_known(hosts):
    fetch = "import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1]).read())"
    url = f"http://{hosts.tracker}:{TRACKER_PORT}/stats"
    return json.loads(contestants.output_of(*hosts.on_switch([sys.executable, "-c", fetch, url])))["seeds"]


def predict(count, pieces, piece_length, mbit, delay_ms):
    """Last and median peer over the bound, as the simulator has it: medians over several seeds."""
    runs = []
    for seed in SIMULATED_SEEDS:
        command = f"--scenario symmetric --peers {count} --pieces {pieces} --piece-kib {piece_length // 1024} --blocks-per-piece {piece_length // 16384} --up {mbit} --delay {round(delay_ms / 2)} --queue-ms {QUEUE.removesuffix('ms')} --seed {seed} --json"
        runs.append(json.loads(contestants.output_of(BIN / "simulate", *command.split())))
    middle = lambda key: round(statistics.median(run[key] for run in runs), 4)
    return {"last_ratio": middle("ratio"), "median_ratio": middle("ratio_median"), "seeds": list(SIMULATED_SEEDS)}


ALL = [Swarm, Libtorrent, WebSeed]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--peers", type=int, default=20)
    parser.add_argument("--size", type=size, default=512 * MIB)
    parser.add_argument("--piece-length", type=size, default=MIB, metavar="SIZE")
    parser.add_argument("--rate", type=int, default=100, metavar="MBIT", help="of each line, in Mbit/s")
    parser.add_argument("--delay", type=float, default=0, metavar="MS", help="of a round trip between two hosts [default: none]")
    parser.add_argument("--congestion-control", default="cubic", metavar="NAME", help="of every host [default: cubic, Linux's own default]")
    names = [contestant.name for contestant in ALL]
    parser.add_argument("--only", metavar="NAME", action="append", choices=names, help="repeatable [default: swarm, libtorrent]")
    parser.add_argument("--name", help="keep the results as benches/results/DATE-CORES-NAME.json")
    parser.add_argument("--probe", nargs=2, metavar=("ADDRESS", "ROLE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.only = args.only or [Swarm.name, Libtorrent.name]
    return args


def main():
    args = arguments()
    if args.probe:
        return probe(*args.probe)
    # What runs is ended, and namespaces are removed, also then.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    chosen = [contestant() for contestant in ALL if contestant.name in args.only]
    pieces = -(-args.size // args.piece_length)
    rounds = []
    hosts = Hosts(args.peers + 1, args.rate, args.congestion_control, args.delay)
    scratch = Path(tempfile.mkdtemp(prefix="swarm-world-", dir="/dev/shm"))
    try:
        torrent = Torrent(scratch, args.size, args.piece_length, f"http://{hosts.tracker}:{TRACKER_PORT}/announce")
        for number in range(1, args.rounds + 1):
            goodput = hosts.goodput_mbit()
            t_min = args.size * 8 / goodput / 1e6
            results = {"goodput_mbit": goodput, "t_min_s": round(t_min, 3)}
            for contestant in chosen:
                took = run(contestant, hosts, torrent, args.peers, scratch)
                took |= {"last_ratio": round(took["last_s"] / t_min, 4), "median_ratio": round(took["median_s"] / t_min, 4)}
                results[contestant.name] = took
                print(f"round {number}: {goodput} Mbit/s, bound {t_min:.2f} s; {contestant.name}: {took}", flush=True)
            rounds.append(results)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        hosts.remove()
    prediction = predict(args.peers, pieces, args.piece_length, round(rounds[0]["goodput_mbit"]), args.delay)
    print(f"simulated: {prediction}")
    middle = {c.name: statistics.median(one[c.name]["last_ratio"] for one in rounds) for c in chosen}
    print("last peer over the bound, medians: " + ", ".join(f"{name} {ratio:.4f}" for name, ratio in middle.items()))
    if args.name:
        results = {
            "date": time.strftime("%Y-%m-%d"),
            "command": shlex.join(["just", "bench-world", *sys.argv[1:]]),
            "machine": machine(),
            "versions": {contestant.name: contestant.version() for contestant in chosen},
            "lines": {"rate_mbit": args.rate, "delay_ms": args.delay, "burst": BURST, "queue": QUEUE, "congestion_control": args.congestion_control},
            "peers": args.peers,
            "bytes": args.size,
            "piece_length": args.piece_length,
            "rounds": rounds,
            "last_ratio_medians": middle,
            "simulated": prediction,
        }
        path = ROOT / f"benches/results/{results['date']}-{results['machine']['cores']}core-{args.name}.json"
        path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
