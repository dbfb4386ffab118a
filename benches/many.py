#!/usr/bin/env python3
"""Ten thousand torrents in one `swarm daemon`, beside qBittorrent and Transmission.

The torrents, the same for all:

- One sparse file each, 1,000 pieces, all zeros: what is compared is what a torrent costs, not hashing, and so pieces are of 1 KiB. Every
  second one names a tracker on this machine, which counts announces and tells nobody of anybody.
- Each program starts from its own saved state, in which all of them are complete. Ours is made as a user does: the metainfo files are added
  as seeds over the API, and checked. The others' is written in their formats, since they would take hours.

What is measured, each of a process that was started for it:

- ready: from the start of the process until its API lists all torrents as seeding; RssAnon then, and after a minute of rest.
- rest: once the tracker has heard of every torrent that names it, and 75 s after the start at least, the time of a processor that a minute takes; open descriptors.
- lists: from a request on a connection that is there already to the last byte of the answer, medians and the longest; a full list, and what
  changed since the last one when a torrent got a tag.
- a download: 256 MiB of random bytes from one seed, into that daemon and into one that has nothing else, by turns; from adding it to complete.
- announces: with an interval of two minutes, how many the tracker gets in each second over two intervals, and its most connections at a time.
"""

import argparse
import asyncio
import contextlib
import hashlib
import http.client
import json
import math
import os
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

# This one says where the others are.
from transfer import TICKS_PER_S, keep, machine

from harness import BIN, LOOPBACK, MIB, Process, create, fill, free_port, program, seeded, until

KIB = 1 << 10
PIECE = KIB
PIECES = 1_000
LONGEST_S = 1_800
DOWNLOAD = 256 * MIB
REST_S = 60
SETTLED_S = 75
SPREAD_S = 120
ASKED = 15


def bencode(value):
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"%d:" % len(value) + value
    if isinstance(value, list):
        return b"l" + b"".join(map(bencode, value)) + b"e"
    return b"d" + b"".join(bencode(key) + bencode(value[key]) for key in sorted(value)) + b"e"


class Torrents:
    """Sparse files of zeros, and what describes them."""

    def __init__(self, folder, count, pieces, tracker):
        self.folder, self.count, self.announcing, self.tracker = folder / "data", count, -(-count // 2), tracker
        self.folder.mkdir(exist_ok=True)
        self.length = pieces * PIECE
        hashes = hashlib.sha1(bytes(PIECE)).digest() * pieces
        self.all = []
        for nth in range(count):
            name = f"A recording of some length, part {nth:05}, 1080p.bin"
            path = self.folder / name
            if not path.exists():
                with open(path, "wb") as file:
                    file.truncate(self.length)
            info = bencode({"length": self.length, "name": name, "piece length": PIECE, "pieces": hashes})
            meta = b"d" + (bencode("announce") + bencode(tracker) if nth % 2 == 0 else b"") + b"4:info" + info + b"e"
            self.all.append((name, hashlib.sha1(info).hexdigest(), meta))

    def mtime(self, name):
        return int((self.folder / name).stat().st_mtime)


class Tracker:
    """Answers every announce alike, and notes when it came. It runs on a thread of its own."""

    def __init__(self, port):
        self.interval, self.heard, self.times, self.open, self.open_max, self.connections = 1_800, set(), [], 0, 0, 0
        self.port = port
        self.url = f"http://127.0.0.1:{self.port}/announce"
        self.ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        self.ready.wait()

    def forget(self):
        self.heard, self.times, self.open_max, self.connections = set(), [], self.open, 0

    async def _serve(self):
        server = await asyncio.start_server(self._client, "127.0.0.1", self.port, backlog=4_096)
        self.ready.set()
        await server.serve_forever()

    async def _client(self, reader, writer):
        self.open += 1
        self.connections += 1
        self.open_max = max(self.open_max, self.open)
        try:
            while line := await reader.readline():
                while (head := await reader.readline()) not in (b"\r\n", b""):
                    pass
                query = urllib.parse.parse_qs(line.split()[1].decode().partition("?")[2], encoding="latin-1")
                self.heard.add(query["info_hash"][0])
                self.times.append((time.monotonic(), query.get("event", [""])[0]))
                body = b"d8:completei1e10:incompletei0e8:intervali%de12:min intervali60e5:peers0:e" % self.interval
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
        except OSError:
            pass
        finally:
            self.open -= 1
            writer.close()


class Api:
    """One connection that stays, and how long answers take."""

    def __init__(self, port=None, path=None):
        self.connection = http.client.HTTPConnection("127.0.0.1", port or 80, timeout=LONGEST_S)
        if path:
            self.connection.sock = socket.socket(socket.AF_UNIX)
            self.connection.sock.connect(str(path))
        self.headers, self.took = {}, 0.0

    def ask(self, method, path, body=None, kind=None):
        headers = {**self.headers, **({"Content-Type": kind} if kind else {})}
        begun = time.monotonic()
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        data = answer.read()
        self.took = time.monotonic() - begun
        if cookie := answer.headers.get("Set-Cookie"):
            self.headers["Cookie"] = cookie.split(";")[0]
        if answer.status == 409 and (session := answer.headers.get("X-Transmission-Session-Id")):
            self.headers["X-Transmission-Session-Id"] = session
            return self.ask(method, path, body, kind)
        if answer.status >= 300:
            raise AssertionError(f"{method} {path}: {answer.status}: {data[:300]}")
        return data

    def json(self, *args):
        return json.loads(self.ask(*args))


def timed(ask, change=None):
    """Milliseconds: the median, and the longest, of several answers; and how long the last one was."""
    took, length = [], 0
    for _ in range(ASKED):
        if change:
            change()
        api, data = ask()
        took.append(api.took * 1e3)
        length = len(data)
    return {"ms": round(statistics.median(took), 1), "longest_ms": round(max(took), 1), "kib": round(length / KIB, 1)}


class QBittorrentApi:
    def __init__(self, port):
        self.api, self.rid, self.tags = Api(port), 0, 0

    def states(self):
        found = [one["state"] for one in self.api.json("GET", "/api/v2/torrents/info")]
        return sum(state in ("uploading", "stalledUP", "queuedUP", "forcedUP") for state in found)

    def data(self, rid):
        data = self.api.ask("GET", f"/api/v2/sync/maindata?rid={rid}")
        self.rid = json.loads(data)["rid"]
        return self.api, data

    def tag(self, torrent):
        self.tags += 1
        form = urllib.parse.urlencode({"hashes": torrent, "tags": f"qbittorrent {self.tags}"})
        self.api.ask("POST", "/api/v2/torrents/addTags", form, "application/x-www-form-urlencoded")

    def lists(self, torrent):
        full = timed(lambda: self.data(0))
        return {"qbittorrent full": full, "qbittorrent increment": timed(lambda: self.data(self.rid), lambda: self.tag(torrent))}


TRANSMISSION_FIELDS = (
    "id hashString name status error errorString eta percentDone recheckProgress rateDownload rateUpload uploadRatio totalSize sizeWhenDone "
    "leftUntilDone downloadedEver uploadedEver addedDate doneDate activityDate downloadDir isFinished isStalled peersConnected "
    "peersGettingFromUs peersSendingToUs queuePosition labels metadataPercentComplete"
).split()


class TransmissionApi:
    def __init__(self, port):
        self.api, self.tags = Api(port), 0

    def call(self, method, **arguments):
        return self.api.ask("POST", "/transmission/rpc", json.dumps({"method": method, "arguments": arguments}), "application/json")

    def states(self):
        found = json.loads(self.call("torrent-get", fields=["status"]))["arguments"]["torrents"]
        return sum(one["status"] in (5, 6) for one in found)

    def tag(self, torrent):
        self.tags += 1
        self.call("torrent-set", ids=[torrent], labels=[f"transmission {self.tags}"])

    def data(self, **which):
        data = self.call("torrent-get", fields=TRANSMISSION_FIELDS, **which)
        return self.api, data

    def lists(self, torrent):
        full = timed(lambda: self.data())
        increment = timed(lambda: self.data(ids="recently-active"), lambda: self.tag(torrent))
        return {"transmission full": full, "transmission increment": increment}


class OwnApi:
    def __init__(self, port):
        self.api, self.revision, self.tags = Api(port), 0, 0

    def states(self):
        return sum(one["state"] == "seeding" for one in self.api.json("GET", "/api/v1/torrents?limit=100000")["torrents"])

    def data(self, query):
        data = self.api.ask("GET", f"/api/v1/torrents?{query}")
        self.revision = json.loads(data)["revision"]
        return self.api, data

    def tag(self, torrent):
        self.tags += 1
        self.api.ask("PATCH", f"/api/v1/torrents/{torrent}", json.dumps({"tags": [f"tag {self.tags}"]}), "application/json")

    def lists(self, torrent):
        full = timed(lambda: self.data("limit=100000"))
        increment = timed(lambda: self.data(f"since={self.revision}"), lambda: self.tag(torrent))
        return {"own full": full, "own increment": increment}


class Use:
    """What a process takes of the machine."""

    def __init__(self, pid):
        self.folder = Path(f"/proc/{pid}")

    def memory(self):
        fields = dict(line.split(":", 1) for line in (self.folder / "status").read_text().splitlines())
        return {
            name: round(int(fields[key].split()[0]) * KIB / MIB, 1)
            for name, key in (("anon_mib", "RssAnon"), ("file_mib", "RssFile"), ("shmem_mib", "RssShmem"))
        }

    def cpu_s(self):
        user, system = (self.folder / "stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / TICKS_PER_S

    def descriptors(self):
        return len(list((self.folder / "fd").iterdir()))


class Ours:
    name = "swarm"

    def __init__(self, scratch, torrents):
        self.scratch, self.torrents, self.state, self.http = scratch, torrents, scratch / "swarm", free_port()

    def version(self):
        return subprocess.run([BIN / "swarm", "--version"], capture_output=True, text=True, check=True).stdout.strip()

    def command(self):
        return daemon(self.state, self.http, self.torrents.folder, self.scratch / "downloads")

    def prepare(self):
        """They are added as seeds, and checked."""
        if (self.state / "prepared").exists():
            return {}
        begun = time.monotonic()
        process = Process(self.command())
        try:
            process.wait_event("serving")
            api = Api(self.http)
            query = urllib.parse.urlencode({"seed": "true", "dir": self.torrents.folder})
            for _, _, meta in self.torrents.all:
                api.ask("POST", f"/api/v1/torrents?{query}", meta, "application/x-bittorrent")
            added = time.monotonic() - begun
            until(lambda: OwnApi(self.http).states() == self.torrents.count, LONGEST_S, "all are checked")
        finally:
            process.stop()
        (self.state / "prepared").touch()
        return {"added_s": round(added, 1), "checked_s": round(time.monotonic() - begun, 1)}

    def apis(self):
        return [OwnApi(self.http), TransmissionApi(self.http), QBittorrentApi(self.http)]


def daemon(state, http, *folders):
    first, *others = folders[::-1]
    allowed = [part for folder in others for part in ("--allow-dir", folder)]
    fixed = ["--listen", "127.0.0.1:0", "--no-dht", "--no-lsd", "--no-port-mapping", "--no-auth", "--http", f"127.0.0.1:{http}", "--json"]
    return [BIN / "swarm", "daemon", "--state-dir", state, "--dir", first, *allowed, *fixed]


class QBittorrent:
    name = "qbittorrent"

    def __init__(self, scratch, torrents):
        self.torrents, self.home, self.http = torrents, scratch / "qbittorrent", free_port()

    def version(self):
        return subprocess.run([program("qbittorrent-nox"), "--version"], capture_output=True, text=True, check=True).stdout.strip()

    def command(self):
        return ["env", f"HOME={self.home}", program("qbittorrent-nox"), f"--profile={self.home}", "--skip-dialog=true"]

    def prepare(self):
        config, backup = (self.home / "qBittorrent" / part for part in ("config/qBittorrent.conf", "data/BT_backup"))
        config.parent.mkdir(parents=True)
        backup.mkdir(parents=True)
        config.write_text(
            f"""[LegalNotice]
Accepted=true
[Preferences]
WebUI\\Address=127.0.0.1
WebUI\\LocalHostAuth=false
WebUI\\Port={self.http}
WebUI\\UseUPnP=false
[Network]
PortForwardingEnabled=false
[BitTorrent]
Session\\DHTEnabled=false
Session\\InterfaceAddress=127.0.0.1
Session\\LSDEnabled=false
Session\\PeXEnabled=false
Session\\Port={free_port()}
Session\\QueueingSystemEnabled=false
"""
        )
        folder = str(self.torrents.folder)
        for name, info_hash, meta in self.torrents.all:
            (backup / f"{info_hash}.torrent").write_bytes(meta)
            resume = {
                "file-format": "libtorrent resume file",
                "file-version": 1,
                "info-hash": bytes.fromhex(info_hash),
                "name": name,
                "save_path": folder,
                "qBt-savePath": folder,
                "qBt-contentLayout": "Original",
                "qBt-seedStatus": 1,
                "seed_mode": 1,
                "pieces": b"\x01" * (self.torrents.length // PIECE),
                "auto_managed": 0,
                "paused": 0,
                "added_time": int(time.time()),
                "completed_time": int(time.time()),
                "trackers": [[self.torrents.tracker]] if b"8:announce" in meta[:12] else [],
            }
            (backup / f"{info_hash}.fastresume").write_bytes(bencode(resume))
        return {}

    def apis(self):
        return [QBittorrentApi(self.http)]


class Transmission:
    name = "transmission"

    def __init__(self, scratch, torrents):
        self.torrents, self.home, self.http = torrents, scratch / "transmission", free_port()

    def version(self):
        return subprocess.run([program("transmission-daemon"), "--version"], capture_output=True, text=True).stderr.strip()

    def command(self):
        return [program("transmission-daemon"), "--foreground", "--config-dir", self.home]

    def prepare(self):
        for part in ("torrents", "resume"):
            (self.home / part).mkdir(parents=True)
        settings = {
            "download-dir": str(self.torrents.folder),
            "peer-port": free_port(),
            "rpc-port": self.http,
            "rpc-bind-address": "127.0.0.1",
            "bind-address-ipv4": "127.0.0.1",
            "dht-enabled": False,
            "lpd-enabled": False,
            "pex-enabled": False,
            "utp-enabled": False,
            "port-forwarding-enabled": False,
            "download-queue-enabled": False,
            "seed-queue-enabled": False,
        }
        (self.home / "settings.json").write_text(json.dumps(settings))
        # Version 3 names them by the name and the start of the info-hash, version 4 by all of that.
        is_old = self.version().split()[1] < "4"
        for name, info_hash, meta in self.torrents.all:
            stem = f"{name}.{info_hash[:16]}" if is_old else info_hash
            (self.home / "torrents" / f"{stem}.torrent").write_bytes(meta)
            resume = {
                "destination": str(self.torrents.folder),
                "name": name,
                "paused": 0,
                "added-date": int(time.time()),
                "done-date": int(time.time()),
                "progress": {"blocks": "all", "have": "all", "mtimes": [self.torrents.mtime(name)], "time-checked": [self.torrents.mtime(name) + 1]},
            }
            (self.home / "resume" / f"{stem}.resume").write_bytes(bencode(resume))
        return {}

    def apis(self):
        return [TransmissionApi(self.http)]


def answering(contestant, process):
    """Its first API, once it answers at all."""

    def try_it():
        if not process.is_running():
            raise AssertionError(f"it has ended: {process}")
        try:
            api = contestant.apis()[0]
            api.states()
            return api
        except (OSError, http.client.HTTPException, AssertionError, ValueError):
            return None

    return until(try_it, LONGEST_S, f"{contestant.name} answers")


def ready(contestant, count):
    """A process with all torrents seeding, and how long that took."""
    begun = time.monotonic()
    process = Process(contestant.command())
    api = answering(contestant, process)
    answers = time.monotonic() - begun
    until(lambda: api.states() == count, LONGEST_S, f"{contestant.name} seeds all: {process}")
    took = time.monotonic() - begun
    return process, {"answers_s": round(answers, 2), "ready_s": round(took, 2), "ready_cpu_s": round(Use(process.pid).cpu_s(), 2), **Use(process.pid).memory()}


def measure(contestant, torrents, tracker, rest_s):
    row = {"name": contestant.name, "version": contestant.version(), "torrents": torrents.count}
    row["prepared"] = contestant.prepare()
    say(contestant.name, "prepared", row["prepared"])
    tracker.forget()
    tracker.interval, started = 1_800, time.monotonic()
    process, row["ready"] = ready(contestant, torrents.count)
    try:
        say(contestant.name, "ready", row["ready"])
        use = Use(process.pid)
        begun, descriptors = time.monotonic(), 0

        def announced():
            nonlocal descriptors
            descriptors = max(descriptors, use.descriptors())
            return len(tracker.heard) >= torrents.announcing

        try:
            until(announced, 600, "the tracker has heard of all")
            heard = {"first_announces_s": round(time.monotonic() - begun, 1)}
        except AssertionError:
            heard = {"not_announced": torrents.announcing - len(tracker.heard)}
        row["announced"] = {**heard, "tracker_connections_max": tracker.open_max, "descriptors_max": descriptors}
        say(contestant.name, "announced", row["announced"])
        # What the start and the last announces left behind is done with, and the first minute's totals are written.
        time.sleep(max(5, started + SETTLED_S - time.monotonic()))
        before, begun = use.cpu_s(), time.monotonic()
        time.sleep(rest_s)
        percent = (use.cpu_s() - before) / (time.monotonic() - begun) * 100
        row["rest"] = {"cpu_percent": round(percent, 2), **use.memory(), "descriptors": use.descriptors()}
        row["rest"]["anon_kib_each"] = round(row["rest"]["anon_mib"] * KIB / torrents.count, 1)
        say(contestant.name, "rest", row["rest"])
        row["lists"] = {}
        for api in contestant.apis():
            row["lists"].update(api.lists(torrents.all[len(torrents.all) // 2][1]))
        row["after_lists"] = use.memory()
        say(contestant.name, "lists", row["lists"])
        if contestant.name == "swarm":
            row["download"] = downloads(contestant, torrents)
            say(contestant.name, "download", row["download"])
    finally:
        begun = time.monotonic()
        process.process.terminate()
        process.wait(LONGEST_S)
        row["stopped_s"] = round(time.monotonic() - begun, 2)
    say(contestant.name, "stopped", row["stopped_s"])
    return row


def downloads(contestant, torrents, rounds=7):
    """A download in this daemon and in one that has nothing else, by turns."""
    scratch = contestant.scratch
    payload = fill(scratch / "source/payload.bin", DOWNLOAD, seeded(7))
    meta = create(payload, scratch / "payload.torrent", "-l", "256KiB")
    seed = Process([BIN / "swarm", "seed", meta, payload.parent, "--no-state", "--json", "--listen", "127.0.0.1:0", "--no-dht", "--no-lsd", "--no-port-mapping"])
    port = free_port()
    alone = Process(daemon(scratch / "alone", port, scratch / "alone-downloads"))
    try:
        address = seed.wait_event("listening")["addresses"][0]
        seed.wait_event("checked", LONGEST_S)
        alone.wait_event("serving")
        took = {"alone": [], "among_many": []}
        for _ in range(rounds):
            for name, http_port, folder in (("alone", port, scratch / "alone-downloads"), ("among_many", contestant.http, scratch / "downloads")):
                took[name].append(download(Api(http_port), meta, address))
                same = (folder / payload.name).read_bytes() == payload.read_bytes()
                if not same:
                    raise AssertionError("the copy differs")
                (folder / payload.name).unlink()
    finally:
        alone.stop()
        seed.stop()
    medians = {name: round(statistics.median(each), 3) for name, each in took.items()}
    return {**medians, "ratio": round(medians["among_many"] / medians["alone"], 3), "all_s": took}


def download(api, meta, address):
    query = urllib.parse.urlencode({"peers": address})
    begun = time.monotonic()
    added = api.json("POST", f"/api/v1/torrents?{query}", meta.read_bytes(), "application/x-bittorrent")["id"]
    until(lambda: api.json("GET", f"/api/v1/torrents/{added}")["completed_at"], LONGEST_S, "it is complete")
    took = time.monotonic() - begun
    api.ask("DELETE", f"/api/v1/torrents/{added}")
    return round(took, 3)


def spread(contestant, torrents, tracker):
    """How announces lie within two intervals, from when each torrent was announced once."""
    tracker.forget()
    tracker.interval = SPREAD_S
    process, _ = ready(contestant, torrents.count)
    try:
        begun = time.monotonic()
        until(lambda: len(tracker.heard) >= torrents.announcing, 600, "the tracker has heard of all")
        first = [at for at, _ in tracker.times]
        tracker.times = []
        since = time.monotonic()
        time.sleep(2 * SPREAD_S)
        later = [at - since for at, _ in tracker.times]
    finally:
        process.stop()
    seconds = [0] * (2 * SPREAD_S + 1)
    for at in later:
        seconds[int(at)] += 1
    return {
        "interval_s": SPREAD_S,
        "first_took_s": round(since - begun, 1),
        "first_most_in_a_second": most_in_a_second(first),
        "then_mean_in_a_second": round(len(later) / (2 * SPREAD_S), 1),
        "then_most_in_a_second": max(seconds),
        "seconds": seconds,
        "connections": tracker.connections,
        "connections_max": tracker.open_max,
    }


def most_in_a_second(times):
    buckets = {}
    for at in times:
        buckets[math.floor(at)] = buckets.get(math.floor(at), 0) + 1
    return max(buckets.values(), default=0)


def say(name, what, of):
    print(f"{name:14} {what}: {json.dumps(of)}", flush=True)


# What is wanted, of ten thousand.
WANTED = [
    ("ready, s", lambda row: row["ready"]["ready_s"], 10),
    ("RssAnon when ready, MiB", lambda row: row["ready"]["anon_mib"], 300),
    ("RssAnon at rest, MiB", lambda row: row["rest"]["anon_mib"], 300),
    ("a minute of rest, % of a core", lambda row: row["rest"]["cpu_percent"], 2),
    *(
        (f"{api} {kind}, ms", lambda row, key=f"{api} {kind}": row["lists"][key]["ms"] if key in row["lists"] else None, most)
        for api in ("own", "transmission", "qbittorrent")
        for kind, most in (("full", 300), ("increment", 20))
    ),
    ("a download among them, × one alone", lambda row: row["download"]["ratio"] if "download" in row else None, 1.1),
    ("RssAnon after the lists, MiB", lambda row: row["after_lists"]["anon_mib"], None),
    ("descriptors at rest", lambda row: row["rest"]["descriptors"], None),
    ("descriptors, most during first announces", lambda row: row["announced"]["descriptors_max"], None),
    ("connections to the tracker, most at a time", lambda row: row["announced"]["tracker_connections_max"], None),
    ("first announces took, s", lambda row: row["announced"].get("first_announces_s"), None),
    ("ended after, s", lambda row: row["stopped_s"], None),
]


def is_missed(row, value, most):
    return row["name"] == "swarm" and None not in (value, most) and value > most


def missed(row):
    return [title for title, of, most in WANTED if "failed" not in row and is_missed(row, of(row), most)]


def markdown(results):
    host, rows = results["machine"], results["rows"]
    lines = [f"# Many torrents, {results['date']}", "", f"`{results['command']}`", ""]
    lines += [f"{host['cpu']}, {host['cores']} cores, {host['kernel']}, {host['memory_gib']} GiB; load {host['load_before']:.2f} before. Rules: `benches/many.py`.", ""]
    lines += [f"| {results['pieces']:,} pieces each | wanted | " + " | ".join(f"{row['name']}, {row['torrents']:,}" for row in rows) + " |"]
    lines += ["|---" * (2 + len(rows)) + "|"]
    for title, of, most in WANTED:
        found = [None if "failed" in row else of(row) for row in rows]
        cells = ["–" if value is None else f"{value:,}" + (" **missed**" if is_missed(row, value, most) else "") for row, value in zip(rows, found)]
        lines += [f"| {title} | {'' if most is None else most} | " + " | ".join(cells) + " |"]
    lines += [f"\n{row['name']} failed: {row['failed']}" for row in rows if "failed" in row]
    ours = next((row for row in rows if row["name"] == "swarm"), {})
    if found := ours.get("download"):
        lines += ["", f"A download of {DOWNLOAD // MIB} MiB: {found['among_many']} s among them, {found['alone']} s alone: {found['ratio']} ×."]
    if found := ours.get("spread"):
        lines += [
            "",
            f"Announces at an interval of {found['interval_s']} s: the first of all torrents within {found['first_took_s']} s, {found['first_most_in_a_second']} a second at most; "
            f"then {found['then_mean_in_a_second']} a second on average and {found['then_most_in_a_second']} at most, over {found['connections_max']} connections at most.",
        ]
    lines += [""] + [f"- {row['name']}: {row['version']}" for row in rows]
    return "\n".join(lines) + "\n"


CONTESTANTS = {one.name: one for one in (Ours, QBittorrent, Transmission)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torrents", type=int, default=10_000)
    parser.add_argument("--pieces", type=int, default=PIECES)
    parser.add_argument("--only", default=",".join(CONTESTANTS), help="of " + ", ".join(CONTESTANTS))
    parser.add_argument("--rest", type=int, default=REST_S, help="how many seconds of rest are measured")
    parser.add_argument("--no-spread", action="store_true", help="do not look at how announces are spread")
    parser.add_argument("--scratch", type=Path, help="keep what is prepared in this folder, and take it from there next time")
    parser.add_argument("--name", help="keep the results as benches/results/DATE-CORES-NAME.json and .md")
    args = parser.parse_args()
    results = {"date": time.strftime("%Y-%m-%d"), "command": shlex.join(["just", "bench-many", *sys.argv[1:]]), "machine": machine(), "pieces": args.pieces, "rows": []}
    build = Path(os.environ.get("CARGO_TARGET_DIR", Path(__file__).resolve().parents[1] / "target"))
    with contextlib.ExitStack() as stack:
        made = args.scratch or stack.enter_context(tempfile.TemporaryDirectory(prefix="swarm-many-", dir=build))
        scratch = Path(made).resolve()
        scratch.mkdir(exist_ok=True)
        port = scratch / "tracker-port"
        if not port.exists():
            port.write_text(str(free_port()))
        tracker = Tracker(int(port.read_text()))
        torrents = Torrents(scratch, args.torrents, args.pieces, tracker.url)
        for name in args.only.split(","):
            contestant = CONTESTANTS[name](scratch, torrents)
            try:
                row = measure(contestant, torrents, tracker, args.rest)
                if name == "swarm" and not args.no_spread:
                    row["spread"] = spread(contestant, torrents, tracker)
                    say(name, "spread", {key: value for key, value in row["spread"].items() if key != "seconds"})
            except (AssertionError, OSError, http.client.HTTPException) as error:
                # What was measured of the others stays.
                row = {"name": name, "version": contestant.version(), "torrents": torrents.count, "failed": str(error)[:300]}
                say(name, "failed", row["failed"])
            results["rows"].append(row)
            shutil.rmtree(getattr(contestant, "home", scratch / "none"), ignore_errors=True)
    keep(results, markdown(results), args.name)
    failed = [row["name"] for row in results["rows"] if "failed" in row]
    found = [title for row in results["rows"] for title in missed(row)]
    if failed or found:
        sys.exit(f"failed: {', '.join(failed) or 'none'}; missed: {', '.join(found) or 'nothing'}")


if __name__ == "__main__":
    main()
