"""The programs that `transfer.py` compares, each with the settings that serve it best in this contest.

A contestant gives commands: `source`, which offers what lies complete in `torrent.folder`, and `downloader`, which fetches it
into another folder, prints a mark when it is complete, and then ends, or with `stay` goes on serving. Peers find each other through the
tracker that the metainfo names; only the floor program knows of none, and is told the source's address.
"""

import shutil
import subprocess
from pathlib import Path

from harness import BIN, ROOT, free_port

BENCHES = Path(__file__).resolve().parent


def output_of(*command):
    return subprocess.run([str(arg) for arg in command], capture_output=True, text=True, check=True).stdout.strip()


class Contestant:
    # A line with this on stdout says that everything is there.
    mark = "complete"
    # A line with this says that a source has checked its data, if its first announce does not say so.
    checked = None
    # Whether a process is started before the clock and begins when it reads a line.
    waits = False
    has_tracker = True
    # Settings of both ends.
    common = []


class Swarm(Contestant):
    name = "swarm"
    mark = '"event":"complete"'
    checked = '"event":"checked"'
    common = ["--json", "--no-state", "--listen", "127.0.0.1:0"]

    def version(self):
        parts = ["engine", "tracker", "cli"]
        change = output_of("git", "-C", ROOT, "log", "-1", "--format=%h", "--", *parts)
        changed = output_of("git", "-C", ROOT, "status", "--porcelain", "--", *parts)
        return f"{output_of(BIN / 'swarm', '--version')}, {change}{' with changes' if changed else ''}"

    def source(self, torrent, _):
        return [BIN / "swarm", "seed", torrent.meta, torrent.folder, *self.common]

    def downloader(self, torrent, folder, stay, _):
        until = f"--seed={'forever' if stay else 'never'}"
        return [BIN / "swarm", "get", torrent.meta, "-o", folder, *self.common, until]


class Libtorrent(Contestant):
    """The Python binding. Importing it is Python's cost and not on the clock."""

    name = "libtorrent"
    waits = True

    def __init__(self):
        # The environment that .ci/run makes too.
        self.python = BIN.parent / "interop-venv/bin/python"
        if not self.python.exists():
            output_of("python3", "-m", "venv", self.python.parents[1])
        requirements = ROOT / ".ci/interop/requirements.txt"
        output_of(self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements)

    def version(self):
        return "libtorrent " + output_of(self.python, "-c", "import libtorrent; print(libtorrent.__version__)")

    def source(self, torrent, _):
        return self.downloader(torrent, torrent.folder, True, None)

    def downloader(self, torrent, folder, stay, _):
        return [self.python, BENCHES / "libtorrent_peer.py", torrent.meta, folder, *["--stay"] * stay]


class Aria2(Contestant):
    name = "aria2"
    common = [
        "--no-conf",
        "--quiet",
        "--enable-dht=false",
        "--enable-dht6=false",
        "--bt-enable-lpd=false",
        "--disable-ipv6=true",
        "--file-allocation=none",
        "--bt-max-peers=0",
        "--disk-cache=64M",
    ]

    def __init__(self):
        if not shutil.which("aria2c"):
            raise FileNotFoundError("aria2c is not installed")

    def version(self):
        return output_of("aria2c", "--version").splitlines()[0].replace(" version", "")

    def source(self, torrent, _):
        return self.command(torrent, torrent.folder, "--check-integrity=true", "--seed-ratio=0.0")

    def downloader(self, torrent, folder, stay, _):
        # It prints nothing as soon as it is complete, but runs a program, whose output goes where its own does.
        hook = folder / "on-complete"
        hook.write_text(f"#!/bin/sh\necho {self.mark}\n")
        hook.chmod(0o755)
        until = "--seed-ratio=0.0" if stay else "--seed-time=0"
        return self.command(torrent, folder, until, f"--on-bt-download-complete={hook}")

    def command(self, torrent, folder, *options):
        return ["aria2c", *self.common, f"--listen-port={free_port()}", f"--dir={folder}", *options, torrent.meta]


class Floor(Contestant):
    """Receives, hashes and writes, nothing else. With many receivers, each is served by the source alone."""

    name = "floor"
    has_tracker = False

    def version(self):
        return "benches/src/bin/floor.rs"

    def source(self, torrent, receivers):
        return [BIN / "floor", "send", torrent.file, receivers]

    def downloader(self, torrent, folder, _, address):
        return [BIN / "floor", "receive", torrent.meta, folder / torrent.file.name, address]


ALL = [Swarm, Libtorrent, Aria2, Floor]
