"""Programs that take part in a swarm. Each class has `source` and `downloader`, which start it on a host and return
something with `address`, `wait_complete(seconds)` and `stop()`."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from harness import BIN, LOOPBACK, MIB, SOON, Process, missing, new_scratch, program, until

try:
    import libtorrent
except ImportError:
    libtorrent = None


class Tracker(Process):
    """`swarm-tracker`, on a port that the system chooses unless one is given."""

    def __init__(self, *args, host=LOOPBACK, port=0):
        super().__init__(host.command(BIN / "swarm-tracker", "--listen", host.endpoint(port), *args))
        self.url = self.wait_line("listening on ").split()[-1]


class SwarmProcess(Process):
    def __init__(self, *args, host):
        super().__init__(host.command(BIN / "swarm", *args, "--json", "--no-state", "--listen", host.endpoint(0)))

    @property
    def address(self):
        return self.wait_event("listening")["addresses"][0]

    def wait_complete(self, seconds):
        return self.wait_event("complete", seconds)


class Swarm:
    name = "swarm"

    @staticmethod
    def source(meta, folder, *args, host=LOOPBACK):
        process = SwarmProcess("seed", meta, folder, *args, host=host)
        process.wait_event("checked", 600)
        return process

    @staticmethod
    def downloader(meta, folder, peers=(), *args, host=LOOPBACK):
        peers = [arg for peer in peers for arg in ("--peer", peer)]
        return SwarmProcess("get", meta, "-o", folder, *peers, *args, host=host)


class LibtorrentProcess(Process):
    def __init__(self, meta, folder, peers, host):
        Libtorrent.needed()
        script = Path(__file__).with_name("libtorrent_peer.py")
        super().__init__(host.command(sys.executable, script, meta, folder, host.endpoint(0), *peers))
        self.address = host.endpoint(self.wait_event("listening")["port"])

    def wait_complete(self, seconds):
        return self.wait_event("complete", seconds)


class Libtorrent:
    name = "libtorrent"

    @staticmethod
    def needed():
        return libtorrent or missing("libtorrent's Python binding is not installed")

    @staticmethod
    def source(meta, folder, *args, host=LOOPBACK):
        process = LibtorrentProcess(meta, folder, args, host)
        process.wait_complete(300)
        return process

    @staticmethod
    def downloader(meta, folder, peers=(), *args, host=LOOPBACK):
        return LibtorrentProcess(meta, folder, [*args, *peers], host)


class Aria2Process(Process):
    def __init__(self, meta, folder, *args, host):
        port = host.free_port()
        self.address = host.endpoint(port)
        command = [
            program("aria2c"),
            "--no-conf",
            "--enable-dht=false",
            "--enable-dht6=false",
            "--bt-enable-lpd=false",
            f"--disable-ipv6={'false' if host.version == 6 else 'true'}",
            "--file-allocation=none",
            "--summary-interval=0",
            f"--listen-port={port}",
            f"--dir={folder}",
            *args,
            meta,
        ]
        # Else it keeps its lines back until there are 4 KiB of them.
        super().__init__(host.command("stdbuf", "--output=L", *command))

    def wait_complete(self, seconds):
        return self.expect(0, seconds)


class Aria2:
    name = "aria2"

    @staticmethod
    def source(meta, folder, *args, host=LOOPBACK):
        process = Aria2Process(meta, folder, "--check-integrity=true", "--seed-ratio=0.0", *args, host=host)
        process.wait_line(" SEED(", 300)
        return process

    @staticmethod
    def downloader(meta, folder, peers=(), *args, host=LOOPBACK):
        # It has no way to be told of peers: it asks the tracker that the metainfo names.
        return Aria2Process(meta, folder, "--seed-time=0", *args, host=host)


class TransmissionProcess(Process):
    """It refuses peers on loopback, and so needs a host with other addresses."""

    def __init__(self, meta, folder, host, dht_nodes=(), **settings):
        daemon, self.remote = program("transmission-daemon"), program("transmission-remote")
        self.host, port, self.rpc_port = host, host.free_port(), host.free_port()
        self.address = host.endpoint(port)
        self.home = new_scratch(MIB)
        settings = {
            "download-dir": str(folder),
            "peer-port": port,
            "rpc-port": self.rpc_port,
            "rpc-bind-address": "127.0.0.1",
            "dht-enabled": bool(dht_nodes),
            "lpd-enabled": False,
            "pex-enabled": False,
            "utp-enabled": False,
            "port-forwarding-enabled": False,
            **settings,
        }
        (self.home / "settings.json").write_text(json.dumps(settings))
        # As it saves them itself: it asks these at once, and waits a quarter of a minute after each of any others.
        nodes = b"".join(packed(node) for node in dht_nodes)
        (self.home / "dht.dat").write_bytes(b"d2:id20:" + os.urandom(20) + b"5:nodes%d:" % len(nodes) + nodes + b"e")
        super().__init__(host.command(daemon, "--foreground", "--config-dir", self.home))
        until(lambda: self.ask("--add", meta), SOON, "Transmission takes the torrent")

    def ask(self, *args):
        """What it answers; nothing while it does not."""
        command = self.host.command(self.remote, f"127.0.0.1:{self.rpc_port}", *args)
        done = subprocess.run([str(arg) for arg in command], capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else ""

    def wait_complete(self, seconds):
        def is_complete():
            state = self.ask("--torrent", "all", "--info")
            return "Percent Done: 100%" in state and ("State: Idle" in state or "State: Seeding" in state)

        try:
            until(is_complete, seconds, "Transmission has everything")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self}\n{self.ask('--torrent', 'all', '--info')}") from None
        return self

    def stop(self):
        super().stop()
        shutil.rmtree(self.home, ignore_errors=True)


def packed(address):
    ip, port = address.rsplit(":", 1)
    return socket.inet_aton(ip) + int(port).to_bytes(2, "big")


class Transmission:
    name = "transmission"

    @staticmethod
    def source(meta, folder, host, **settings):
        return TransmissionProcess(meta, folder, host, **settings).wait_complete(SOON)

    @staticmethod
    def downloader(meta, folder, peers=(), host=LOOPBACK, **settings):
        # It is told of peers by the tracker.
        return TransmissionProcess(meta, folder, host, **settings)
