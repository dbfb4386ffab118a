"""Flood, the web interface, over the daemon: as a qBittorrent and as a Transmission.

It is driven by the HTTP API that its own page uses, and what it then tells of the torrents is looked at, and what the daemon does.
"""

import base64
import os
import shutil
import subprocess
from pathlib import Path

import requests
from harness import BIN, LOOPBACK, MIB, ROOT, SOON, Case, Process, create, fill, free_port, missing, program, seeded, until

# The last for Node 20, which Debian has.
VERSION = "4.11.0"
INSTALL_SECONDS = 120


def installed():
    """Flood's program, installed once for all runs."""
    node, npm = program("node"), program("npm")
    # Beside the other tools that are kept from run to run.
    tools = Path(os.environ.get("SWARM_TOOLS", ROOT / "target/tools/bin")).resolve().parent / f"flood-{VERSION}"
    start = tools / "node_modules/flood/dist/index.js"
    if not start.exists():
        shutil.rmtree(tools, ignore_errors=True)
        tools.mkdir(parents=True)
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", tools, f"flood@{VERSION}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        except subprocess.TimeoutExpired:
            missing(f"flood {VERSION} cannot be installed within {INSTALL_SECONDS} s")
        if done.returncode != 0 or not start.exists():
            missing(f"flood {VERSION} cannot be installed: {done.stderr.strip()[-200:]}")
    return [node, start]


class Flood(Process):
    """Flood for one user without a password, on loopback."""

    def __init__(self, scratch, *client):
        command, port = installed(), free_port()
        home = scratch / "flood"
        home.mkdir()
        local = ["--rundir", home, "--host", "127.0.0.1", "--port", port, "--auth", "none", "--allowedpath", scratch]
        # What the file has is fetched by Flood itself, and nothing else from anywhere.
        super().__init__([*command, *local, *client], env={"HOME": str(home), "NODE_ENV": "production"})
        self.url, self.session = f"http://127.0.0.1:{port}/api", requests.Session()
        until(self.answers, SOON, "Flood answers")

    def answers(self):
        try:
            # Its cookie says who we are from then on.
            return self.session.get(f"{self.url}/auth/verify", timeout=SOON).status_code == 200
        except requests.ConnectionError:
            assert self.is_running(), self
            return False

    def ask(self, method, path, **body):
        answer = self.session.request(method, f"{self.url}/{path}", json=body or None, timeout=SOON)
        assert answer.status_code in (200, 202, 207), f"{method} {path}: {answer.status_code} {answer.text[:300]}\n{self}"
        return answer.json() if answer.text else None

    def torrents(self):
        return self.ask("GET", "torrents")["torrents"]

    def until(self, hash, is_it, what):
        """Waits until Flood tells that the torrent is so."""
        try:
            return until(lambda: (found := self.torrents().get(hash)) and is_it(found) and found, SOON, what)
        except AssertionError as error:
            raise AssertionError(f"{error}; it tells {self.torrents().get(hash)}") from None


class Drives(Case):
    scratch_bytes = 64 * MIB
    waits = 9

    def setUp(self):
        super().setUp()
        self.dir, self.more = self.scratch / "downloads", self.scratch / "more"
        for folder in (self.dir, self.more):
            folder.mkdir()
        state, http = self.scratch / "state", f"127.0.0.1:{free_port()}"
        folders = ["--state-dir", state, "--dir", self.dir, "--allow-dir", self.more]
        net = ["--listen", LOOPBACK.endpoint(0), "--no-dht", "--http", http]
        self.daemon = self.start(Process([BIN / "swarm", "daemon", "--json", *folders, *net]))
        self.daemon.wait_event("serving")
        self.http, self.token = f"http://{http}", (state / "daemon/token").read_text().strip()

    def here(self):
        headers = {"Authorization": f"Bearer {self.token}"}
        return requests.get(f"{self.http}/api/v1/torrents", headers=headers, timeout=SOON).json()["torrents"]

    def content(self, name, nth):
        """Data where the daemon's folder has it, and its metainfo in base64."""
        fill(self.dir / name / "episode.mkv", 300_000, seeded(nth))
        fill(self.dir / name / "notes.txt", 1_000, seeded(nth + 10))
        meta = create(self.dir / name, self.scratch / f"{name}.torrent", "-l", "16KiB")
        return base64.b64encode(meta.read_bytes()).decode()

    def add(self, flood, name, nth, **more):
        known = set(flood.torrents())
        flood.ask("POST", "torrents/add-files", files=[self.content(name, nth)], destination=str(self.dir), tags=["one"], **more)
        found = until(lambda: set(flood.torrents()) - known, SOON, f"Flood lists {name}")
        self.assertEqual(len(found), 1)
        return found.pop()

    def drive(self, flood):
        hash = self.add(flood, "show", 1, start=False)
        added = flood.until(hash, lambda torrent: "stopped" in torrent["status"], "it is stopped")
        self.assertEqual((added["name"], added["sizeBytes"], added["tags"]), ("show", 301_000, ["one"]))
        self.assertEqual(Path(added["directory"]), self.dir)
        flood.ask("POST", "torrents/start", hashes=[hash])
        flood.until(hash, lambda torrent: torrent["percentComplete"] == 100 and "seeding" in torrent["status"], "it seeds")
        flood.ask("POST", "torrents/stop", hashes=[hash])
        flood.until(hash, lambda torrent: "stopped" in torrent["status"], "it is stopped again")
        flood.ask("PATCH", "torrents/tags", hashes=[hash], tags=["two", "three"])
        flood.until(hash, lambda torrent: sorted(torrent["tags"]) == ["three", "two"], "it has other tags")
        flood.ask("POST", "torrents/check-hash", hashes=[hash])
        contents = flood.ask("GET", f"torrents/{hash}/contents")
        self.assertEqual({file["filename"]: file["sizeBytes"] for file in contents}, {"episode.mkv": 300_000, "notes.txt": 1_000})
        notes = next(file["index"] for file in contents if file["filename"] == "notes.txt")
        flood.ask("PATCH", f"torrents/{hash}/contents", indices=[notes], priority=0)
        until(lambda: {file["priority"] for file in flood.ask("GET", f"torrents/{hash}/contents")} == {0, 1}, SOON, "a file is not wanted")
        flood.ask("PATCH", f"torrents/{hash}/contents", indices=[notes], priority=1)
        self.assertEqual(flood.ask("GET", f"torrents/{hash}/details")["peers"], [])
        flood.ask("POST", "torrents/move", hashes=[hash], destination=str(self.more), moveFiles=True, isBasePath=False, isCheckHash=False)
        flood.until(hash, lambda torrent: Path(torrent["directory"]) == self.more, "it has moved")
        until(lambda: (self.more / "show/episode.mkv").exists() and not (self.dir / "show/episode.mkv").exists(), SOON, "its files have moved")
        # What may not be used is not moved to, whoever asks.
        answer = flood.session.post(f"{flood.url}/torrents/move", json={"hashes": [hash], "destination": str(self.scratch / "flood"), "moveFiles": True}, timeout=SOON)
        self.assertEqual(answer.status_code, 500, answer.text)
        # Data that is to be deleted has to be known.
        flood.ask("POST", "torrents/start", hashes=[hash])
        flood.until(hash, lambda torrent: "seeding" in torrent["status"], "it seeds there")
        other = self.add(flood, "film", 2, start=True)
        flood.ask("POST", "torrents/delete", hashes=[other], deleteData=False)
        until(lambda: set(flood.torrents()) == {hash}, SOON, "one is gone")
        self.assertTrue((self.dir / "film/episode.mkv").exists())
        flood.ask("POST", "torrents/delete", hashes=[hash], deleteData=True)
        until(lambda: not flood.torrents(), SOON, "both are gone")
        until(lambda: not (self.more / "show/episode.mkv").exists(), SOON, "and the data of one")
        self.assertEqual(self.here(), [])

    def test_as_a_qbittorrent(self):
        self.drive(self.start(Flood(self.scratch, "--qburl", self.http, "--qbuser", "swarm", "--qbpass", self.token)))

    def test_as_a_transmission(self):
        self.drive(self.start(Flood(self.scratch, "--trurl", f"{self.http}/transmission/rpc", "--truser", "swarm", "--trpass", self.token)))
