"""`swarm daemon`: what qBittorrent and Transmission have kept is taken over, made by the real programs and not changed by that; disks that are full."""

import hashlib
import json
import os
import subprocess
import time

from clients import Swarm, TransmissionProcess
from harness import BIN, LOOPBACK, MIB, SOON, Case, Process, create, fill, free_bytes, missing, seeded, until
from more_clients import QBittorrentProcess

SIZE = 3 * MIB


def contents(folder):
    """A digest of every file below it, by its path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class DaemonCase(Case):
    def daemon(self, *args):
        state = self.scratch / "state"
        fixed = ["daemon", "--json", "--state-dir", state, "--listen", "127.0.0.1:0", "--no-dht", "--no-lsd", "--no-http"]
        daemon = self.start(Process([BIN / "swarm", *fixed, *args]))
        daemon.wait_event("serving")
        self.socket = state / "daemon/socket"
        return daemon

    def ask(self, *args):
        """What `swarm ctl` ends with and says."""
        command = [BIN / "swarm", "ctl", "--socket", self.socket, "--json", *args]
        return subprocess.run([str(arg) for arg in command], capture_output=True, text=True, timeout=SOON)

    def ctl(self, *args):
        done = self.ask(*args)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout) if done.stdout.strip() else None

    def small_disk(self, size):
        if os.geteuid() != 0:
            missing("a small disk cannot be mounted without root")
        small = self.scratch / "small"
        small.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}m", "none", small], capture_output=True, text=True)
        if done.returncode != 0:
            missing(f"a small disk cannot be mounted: {done.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "--lazy", small], check=True)
        return small


class Import(DaemonCase):
    def torrent(self):
        data = self.scratch / "data"
        fill(data / "tree/a.bin", SIZE, seeded(1))
        fill(data / "tree/b/c.bin", 12_345, seeded(2))
        return data, create(data / "tree", self.scratch / "tree.torrent")

    def check(self, option, theirs, data, expected):
        before, data_before = contents(theirs), contents(data)
        daemon = self.daemon("--dir", self.scratch / "downloads", "--allow-dir", data, option, theirs)
        imported = daemon.wait_event("imported")
        self.assertEqual((imported["added"], imported["skipped"]), (1, 0), str(daemon))
        is_seeding = lambda: next((one for one in self.ctl("list") if one["state"] == "seeding"), None)
        torrent = until(is_seeding, SOON, f"it seeds: {daemon}")
        self.assertEqual(torrent["dir"], str(data))
        self.assertEqual(torrent["bytes_down"], 0)
        self.assertLess(abs(torrent["added_at"] - time.time()), 600)
        self.assertIsNotNone(torrent["completed_at"])
        for field, value in expected.items():
            self.assertEqual(torrent[field], value, field)
        daemon.stop()
        self.assertEqual(contents(theirs), before, "it is only read")
        self.assertEqual(contents(data), data_before, "data stays as it is")

    def test_qbittorrent(self):
        data, meta = self.torrent()
        theirs = QBittorrentProcess(meta, data, "tcp", "prefer")
        self.addCleanup(theirs.stop)
        theirs.wait_complete(SOON)
        of = theirs.torrent()["hash"]
        theirs.ask("/api/v2/torrents/createCategory", category="iso", savePath=str(data))
        theirs.ask("/api/v2/torrents/setCategory", hashes=of, category="iso")
        theirs.ask("/api/v2/torrents/addTags", hashes=of, tags="one,two")
        theirs.ask("/api/v2/torrents/setUploadLimit", hashes=of, limit="123000")
        theirs.ask("/api/v2/torrents/setShareLimits", hashes=of, ratioLimit="1.5", seedingTimeLimit="-1")
        until(lambda: theirs.torrent()["category"] == "iso" and "two" in theirs.torrent()["tags"], SOON, "it has taken that")
        # What is renamed keeps its name.
        theirs.ask("/api/v2/torrents/renameFile", hash=of, oldPath="tree/b/c.bin", newPath="tree/b/d.bin")
        until(lambda: (data / "tree/b/d.bin").exists(), SOON, "a file has another name")
        theirs.ask("/api/v2/torrents/renameFolder", hash=of, oldPath="tree", newPath="wood")
        until(lambda: (data / "wood/b/d.bin").exists() and (data / "wood/a.bin").exists(), SOON, "so has the folder")
        Process.stop(theirs)
        home = next(path for path in theirs.home.rglob("BT_backup")).parent
        expected = {"category": "iso", "tags": ["one", "two"], "upload_limit": 123_000, "ratio_limit": 1.5, "paused": False}
        self.check("--import-qbittorrent", home, data, expected)

    def test_transmission(self):
        data, meta = self.torrent()
        theirs = TransmissionProcess(meta, data, LOOPBACK)
        self.addCleanup(theirs.stop)
        theirs.wait_complete(SOON)
        theirs.ask("--torrent", "all", "--labels", "one")
        theirs.ask("--torrent", "all", "--uplimit", "123")
        theirs.ask("--torrent", "all", "--seedratio", "1.5")
        # What is renamed keeps its name.
        try:
            import transmission_rpc
        except ImportError:
            missing("transmission-rpc is not installed")
        client = transmission_rpc.Client(host="127.0.0.1", port=theirs.rpc_port)
        client.rename_torrent_path(1, "tree/b/c.bin", "d.bin")
        client.rename_torrent_path(1, "tree", "wood")
        until(lambda: (data / "wood/b/d.bin").exists(), SOON, "they have other names")
        Process.stop(theirs)
        expected = {"tags": ["one"], "upload_limit": 123_000, "ratio_limit": 1.5, "paused": False}
        self.check("--import-transmission", theirs.home, data, expected)


class Space(DaemonCase):
    def test_what_does_not_fit_now_waits_and_what_never_can_is_refused(self):
        fits, never = (fill(self.scratch / f"{size}.bin", size * MIB, seeded(size)) for size in (12, 24))
        metas = [create(content, content.with_suffix(".meta"), "-l", "64KiB") for content in (fits, never)]
        small = self.small_disk(16)
        other = fill(small / "other.bin", 8 * MIB, seeded(3))
        seed = self.start(Swarm.source(metas[0], self.scratch, host=LOOPBACK))
        self.daemon("--dir", small)
        refused = self.ask("add", metas[1])
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("cannot hold", refused.stderr)
        # Of a link that is known when its metadata is here.
        other_seed = self.start(Swarm.source(metas[1], self.scratch, host=LOOPBACK))
        link = subprocess.run([BIN / "swarm", "magnet", metas[1]], capture_output=True, text=True, check=True).stdout.strip()
        self.ctl("add", link, "--peer", other_seed.address)
        failed = until(lambda: (one := self.ctl("list")[0])["state"] == "failed" and one, SOON, "it fails")
        self.assertIn("cannot hold", failed["error"])
        self.assertEqual(os.listdir(small), ["other.bin"])
        self.ctl("remove", str(failed["id"]))
        self.ctl("add", metas[0], "--peer", seed.address)
        torrent = lambda: self.ctl("list")[0]
        waiting = until(lambda: torrent()["waiting"], SOON, "it waits for space")
        self.assertIn("space", waiting)
        self.assertGreater(free_bytes(small), 7 * MIB)
        other.unlink()
        until(lambda: torrent()["state"] == "seeding", SOON, "it goes on when there is room")
        self.assert_same(fits, small / fits.name)
