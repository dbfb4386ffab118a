"""`swarm daemon` as a Transmission daemon, for programs that know one: Debian's transmission-remote, PyPI's transmission-rpc, and the
calls of Sonarr, Radarr and Flood in their order. Each call is judged by what it has changed."""

import base64
import http.client
import json
import os
import re
import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

from harness import BIN, MIB, SOON, Case, Process, create, fill, missing, program, seeded, until

STOPPED, DOWNLOADING, SEEDING = 0, 4, 6
TRACKER = "http://127.0.0.1:9/announce"


class Daemon(Process):
    """Downloads go to `downloads` of its folder; `more` may be used too."""

    def __init__(self, folder, *args):
        self.folder, self.downloads, self.more = folder, folder / "downloads", folder / "more"
        self.more.mkdir(parents=True, exist_ok=True)
        local = ["--listen", "127.0.0.1:0", "--no-dht", "--http", "127.0.0.1:0", "--json"]
        # Files are fetched from a server beside it.
        dirs = ["--dir", self.downloads, "--allow-dir", self.more, "--allow-private-urls"]
        super().__init__([BIN / "swarm", "daemon", *local, *dirs, *args], env={"HOME": str(folder / "home")}, cwd=folder)
        self.http = self.wait_event("serving")["http"][0]
        self.host, self.port = self.http.rsplit(":", 1)
        self.token = (folder / "home/.local/state/swarm/daemon/token").read_text().strip()
        self.session_id = ""

    @property
    def address(self):
        return self.wait_event("listening")["addresses"][0]

    def post(self, body, path="/transmission/rpc", method="POST", **headers):
        """Status, headers and body of an answer."""
        connection = http.client.HTTPConnection(self.host, int(self.port), timeout=SOON)
        login = base64.b64encode(f"any:{self.token}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "X-Transmission-Session-Id": self.session_id, **headers}
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        result = answer.status, answer.headers, answer.read().decode()
        connection.close()
        return result

    def ask(self, request):
        """An answer in JSON; the session id is got as all clients do."""
        status, headers, body = self.post(json.dumps(request))
        if status == 409:
            self.session_id = headers["X-Transmission-Session-Id"]
            status, headers, body = self.post(json.dumps(request))
        if status != 200:
            raise AssertionError(f"{request}: {status} {body}")
        return json.loads(body)

    def call(self, name, **params):
        """The result of a call in JSON-RPC."""
        answer = self.ask({"jsonrpc": "2.0", "method": name, "params": params, "id": 1})
        if "error" in answer:
            raise AssertionError(f"{name} {params}: {answer}")
        return answer["result"]

    def older(self, method, **arguments):
        """The arguments of an answer in the older dialect."""
        answer = self.ask({"method": method, "arguments": {name.replace("_", "-"): value for name, value in arguments.items()}})
        if answer["result"] != "success":
            raise AssertionError(f"{method} {arguments}: {answer}")
        return answer["arguments"]

    def get(self, id, *fields):
        """Fields of a torrent: a list, or the value of a single one."""
        found = self.call("torrent_get", ids=[id], fields=list(fields))["torrents"]
        values = [found[0][field] for field in fields] if found else None
        return values[0] if values and len(fields) == 1 else values

    def count(self):
        return len(self.call("torrent_get", fields=["id"])["torrents"])

    def session(self, *fields):
        return [self.call("session_get", fields=list(fields))[field] for field in fields]


class Content:
    """A folder of three files, and its metainfo file."""

    def __init__(self, scratch, name, seed, trackers=(TRACKER,)):
        self.path = scratch / "content" / name
        for nth, length in enumerate([300_000, 70_000, 5_000]):
            fill(self.path / f"file{nth}.bin", length, seeded(seed * 10 + nth))
        arguments = [part for url in trackers for part in ("-a", url)]
        self.meta = create(self.path, scratch / f"{name}.torrent", "-l", "16KiB", *arguments)
        self.base64 = base64.b64encode(self.meta.read_bytes()).decode()

    def put(self, folder):
        """Its data, as if it had been downloaded."""
        subprocess.run(["cp", "-r", self.path, folder], check=True)


class Rpc(Case):
    scratch_bytes = 64 * MIB
    waits = 8

    def setUp(self):
        super().setUp()
        self.daemon = self.start(Daemon(self.scratch / "daemon"))
        self.contents = 0

    def content(self, **options):
        self.contents += 1
        return Content(self.scratch, f"torrent{self.contents}", self.contents, **options)

    def added(self, content=None, **params):
        """The number of a torrent that is added, paused unless told otherwise."""
        content = content or self.content()
        return self.daemon.call("torrent_add", metainfo=content.base64, **{"paused": True, **params})["torrent_added"]["id"]

    def served(self):
        """The URL of a server of the scratch folder."""
        folder = str(self.scratch)

        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *args):
                super().__init__(*args, directory=folder)

            def do_GET(self):
                if self.path == "/short":
                    self.send_response(302)
                    self.send_header("Location", "/torrent1.torrent")
                    self.send_header("Content-Length", "0")
                    return self.end_headers()
                return super().do_GET()

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f"http://127.0.0.1:{server.server_port}"

    def status(self, id):
        return self.daemon.get(id, "status")

    def until_status(self, id, status):
        until(lambda: self.status(id) == status, SOON, f"status {status}, not {self.daemon.get(id, 'status', 'error_string')}")

    def refuses(self, call, *words):
        with self.assertRaises(Exception) as caught:
            call()
        for word in words:
            self.assertIn(word, str(caught.exception))


class TransmissionRemote(Rpc):
    def remote(self, *args, status=0):
        command = [program("transmission-remote"), self.daemon.http, "-n", f"any:{self.daemon.token}", *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SOON)
        output = done.stdout + done.stderr
        self.assertEqual(done.returncode, status, f"{command}: {output}")
        return output

    def test_torrents_are_added(self):
        content = self.content(), self.content(), self.content()
        url = self.served()
        self.remote("-a", content[0].meta, "-S", "-w", self.daemon.more)
        self.assertEqual(self.daemon.get(1, "name", "status", "download_dir"), ["torrent1", STOPPED, str(self.daemon.more)])
        self.remote("-a", f"{url}/torrent2.torrent")
        self.until_status(2, DOWNLOADING)
        self.assertEqual(self.daemon.get(2, "name", "download_dir"), ["torrent2", str(self.daemon.downloads)])
        magnet = "magnet:?xt=urn:btih:" + "ab" * 20 + "&dn=linked"
        self.remote("-a", magnet)
        self.assertEqual(self.daemon.get(3, "name", "hash_string", "metadata_percent_complete"), ["linked", "ab" * 20, 0])
        # A second time it is there already, which is no error.
        self.remote("-a", content[0].meta)
        self.assertEqual(self.daemon.count(), 3)
        self.remote("-a", content[2].meta, "-w", "/etc", status=1)
        self.assertEqual(self.daemon.count(), 3)

    def test_torrents_are_started_stopped_verified_and_removed(self):
        content = self.content()
        self.daemon.downloads.mkdir(exist_ok=True)
        content.put(self.daemon.downloads)
        id, other = self.added(content), self.added()
        self.remote("-t", id, "-s")
        self.until_status(id, SEEDING)
        self.assertEqual(self.status(other), STOPPED)
        self.remote("-t", id, "--reannounce")
        broken = self.daemon.downloads / "torrent1/file0.bin"
        data = broken.read_bytes()
        broken.write_bytes(bytes(20_000) + data[20_000:])
        self.remote("-t", id, "-v")
        until(lambda: "other content" in self.daemon.get(id, "error_string"), SOON, "the check finds it")
        self.assertEqual(self.daemon.get(id, "status", "error"), [STOPPED, 3])
        broken.write_bytes(data)
        self.remote("-t", id, "-s")
        self.until_status(id, SEEDING)
        self.remote("-t", id, "-S")
        self.until_status(id, STOPPED)
        self.remote("-t", "all", "-s")
        self.until_status(other, DOWNLOADING)
        self.remote("-t", self.daemon.get(other, "hash_string"), "-r")
        self.assertEqual(self.daemon.count(), 1)
        self.assertTrue(broken.exists())
        self.remote("-t", id, "-rad")
        self.assertEqual(self.daemon.count(), 0)
        self.assertFalse(broken.exists())

    def test_files_are_chosen(self):
        id = self.added()
        stats = lambda: [(file["wanted"], file["priority"]) for file in self.daemon.get(id, "file_stats")]
        self.remote("-t", id, "-G", "0,2")
        self.assertEqual(stats(), [(False, 0), (True, 0), (False, 0)])
        self.assertEqual(self.daemon.get(id, "size_when_done", "total_size"), [70_000, 375_000])
        self.remote("-t", id, "-g", "all")
        self.remote("-t", id, "-ph", "1", "-pl", "2")
        self.assertEqual(stats(), [(True, 0), (True, 1), (True, -1)])
        self.remote("-t", id, "-pn", "all")
        self.assertEqual(stats(), [(True, 0)] * 3)
        self.remote("-t", id, "-g", "7", status=1)

    def test_limits_and_goals_of_a_torrent(self):
        id = self.added()
        self.remote("-t", id, "-d", "30", "-u", "20")
        self.assertEqual(self.daemon.get(id, "download_limit", "download_limited"), [30, True])
        self.assertEqual(self.daemon.get(id, "upload_limit", "upload_limited"), [20, True])
        self.remote("-t", id, "-D", "-U")
        self.assertEqual(self.daemon.get(id, "download_limited", "upload_limited", "upload_limit"), [False, False, 20])
        for args, expected in [(["-sr", "1.5"], [1, 1.5]), (["-SR"], [2, 1.5]), (["-srd"], [0, 1.5])]:
            self.remote("-t", id, *args)
            self.assertEqual(self.daemon.get(id, "seed_ratio_mode", "seed_ratio_limit"), expected)
        # What there is nothing like is refused, unless it is so anyway.
        self.remote("-t", id, "-Bn", "-hl")
        for args in (["-Bh"], ["-HL"], ["-pr", "7"]):
            self.remote("-t", id, *args, status=1)

    def test_labels(self):
        id = self.added()
        self.remote("-t", id, "-L", "b,a")
        self.assertEqual(sorted(self.daemon.get(id, "labels")), ["a", "b"])

    def test_trackers_are_added_and_removed(self):
        id = self.added()
        self.remote("-t", id, "-td", "udp://127.0.0.1:7/")
        self.assertEqual(self.daemon.get(id, "tracker_list"), f"{TRACKER}\n\nudp://127.0.0.1:7/")
        first = self.daemon.get(id, "trackers")[0]
        self.assertEqual((first["announce"], first["scrape"]), (TRACKER, "http://127.0.0.1:9/scrape"))
        self.remote("-t", id, "-tr", first["id"])
        self.assertEqual(self.daemon.get(id, "tracker_list"), "udp://127.0.0.1:7/")

    def test_data_is_moved_and_found(self):
        content = self.content()
        self.daemon.downloads.mkdir(exist_ok=True)
        content.put(self.daemon.downloads)
        id = self.added(content, paused=False)
        self.until_status(id, SEEDING)
        self.remote("-t", id, "--move", self.daemon.more / "deep")
        until(lambda: self.daemon.get(id, "download_dir") == str(self.daemon.more / "deep"), SOON, "it is there")
        self.until_status(id, SEEDING)
        self.assert_same(content.path, self.daemon.more / "deep/torrent1")
        self.assertFalse((self.daemon.downloads / "torrent1").exists())
        self.remote("-t", id, "--move", "/etc", status=1)
        content.put(self.daemon.more)
        self.remote("-t", id, "--find", self.daemon.more)
        until(lambda: self.daemon.get(id, "download_dir") == str(self.daemon.more), SOON, "it is there")
        self.until_status(id, SEEDING)

    def test_what_it_shows(self):
        content = self.content()
        self.daemon.downloads.mkdir(exist_ok=True)
        content.put(self.daemon.downloads)
        id = self.added(content, paused=False, labels=["x"])
        self.until_status(id, SEEDING)
        local = ["--listen", "127.0.0.1:0", "--no-dht", "--no-state", "--json", "--max-down", "30kB/s", "--peer", self.daemon.address]
        self.start(Process([BIN / "swarm", "get", content.meta, "-o", self.scratch / "copy", *local]))
        until(lambda: self.daemon.get(id, "peers"), SOON, "a peer comes")
        self.assertRegex(self.remote("-l"), r"\b1\s+100%.*(Seeding|Idle|Up).*torrent1")
        shown = self.remote("-t", id, "-i")
        for words in ("Name: torrent1", "Percent Done: 100%", "Labels: x", "Piece Count: 23", "Public torrent: Yes"):
            self.assertIn(words, shown)
        self.assertIn("torrent1/file2.bin", self.remote("-t", id, "-if"))
        self.assertRegex(self.remote("-t", id, "-ip"), r"127\.0\.0\.1\s.*I.*swarm|127\.0\.0\.1\s.*I")
        self.assertIn("1" * 23, "".join(self.remote("-t", id, "-ic").split()))
        self.assertIn("127.0.0.1:9", self.remote("-t", id, "-it"))
        session = self.remote("-si")
        self.assertIn(f"Download directory: {self.daemon.downloads}", session)
        self.assertIn("RPC version: 18", session)
        self.assertIn("Started 1 times", self.remote("-st"))

    def test_the_session_is_set(self):
        self.remote("-d", "300", "-u", "200")
        self.assertEqual(self.daemon.session("speed_limit_down", "speed_limit_down_enabled"), [300, True])
        self.assertEqual(self.daemon.session("speed_limit_up", "speed_limit_up_enabled"), [200, True])
        self.remote("-D", "-U")
        self.assertEqual(self.daemon.session("speed_limit_down_enabled", "speed_limit_up_enabled", "speed_limit_up"), [False, False, 200])
        self.remote("-gsr", "2.5")
        self.assertEqual(self.daemon.session("seed_ratio_limit", "seed_ratio_limited"), [2.5, True])
        self.remote("-GSR")
        self.assertEqual(self.daemon.session("seed_ratio_limited"), [False])
        self.remote("-asd", "30", "-asu", "20", "-as")
        self.assertEqual(self.daemon.session("alt_speed_down", "alt_speed_up", "alt_speed_enabled"), [30, 20, True])
        self.remote("-AS", "-asc", "--alt-speed-time-begin", "0130", "--alt-speed-time-end", "0200", "--alt-speed-days", "6,7")
        self.assertEqual(self.daemon.session("alt_speed_time_begin", "alt_speed_time_end", "alt_speed_time_enabled"), [90, 120, True])
        self.assertEqual(self.daemon.session("alt_speed_time_day"), [65])
        self.remote("-ASC")
        self.assertEqual(self.daemon.session("alt_speed_time_enabled"), [False])

    def test_what_the_configuration_alone_says_is_refused(self):
        script = self.scratch / "run"
        before = self.daemon.call("session_get")
        refused = [
            ["--torrent-done-script", script], ["-p", "1"], ["-P"], ["-w", "/etc"], ["-c", "/etc"], ["-er"], ["-X"], ["-o"], ["-y"],
            ["-e", "7"], ["--trash-torrent"], ["--start-paused"], ["-pr", "3"], ["--blocklist-update"], ["-pt"],
        ]
        for args in refused:
            self.remote(*args, status=1)
        # What is so anyway may be said.
        self.remote("-w", self.daemon.downloads)
        self.remote("--no-torrent-done-script", "-x", "-O", "-Y", "-C", "--no-trash-torrent", "--no-start-paused", "-et")
        self.assertEqual(self.daemon.call("session_get"), before)

    def test_it_ends_the_daemon(self):
        self.remote("--exit")
        self.assertEqual(self.daemon.wait_event("stopped")["reason"], "closed")
        self.daemon.expect(0)

    def test_a_wrong_password_does_not_get_in(self):
        self.daemon.token += "x"
        self.assertIn("the token is missing or wrong", self.remote("-l", status=1))


class TransmissionRpc(Rpc):
    """PyPI's transmission-rpc: each of its calls, and what its own tests look at."""

    def setUp(self):
        super().setUp()
        try:
            import transmission_rpc
        except ImportError:
            missing("transmission-rpc is not installed")
        self.library = transmission_rpc
        login = {"username": "any", "password": self.daemon.token}
        self.client = transmission_rpc.Client(host=self.daemon.host, port=int(self.daemon.port), **login)
        self.addCleanup(self.client._http_session.close)

    def test_torrents_are_added_in_each_way(self):
        content = self.content()
        url = self.served()

        def once(torrent, **options):
            added = self.client.add_torrent(torrent, **options)
            torrents = self.client.get_torrents()
            self.assertEqual([(torrent.id, torrent.hash_string) for torrent in torrents], [(added.id, added.hash_string)])
            self.client.remove_torrent(added.id)
            self.assertEqual(self.client.get_torrents(), [])
            return torrents[0]

        self.assertEqual(once("magnet:?xt=urn:btih:" + "ab" * 20).hash_string, "ab" * 20)
        with open(content.meta, "rb") as file:
            self.assertEqual(once(file).name, "torrent1")
        self.assertEqual(once(content.meta.read_bytes()).name, "torrent1")
        self.assertEqual(once(content.meta).name, "torrent1")
        self.assertEqual(once(f"{url}/torrent1.torrent").name, "torrent1")
        self.assertEqual(once(f"{url}/short").name, "torrent1", "over a redirect, and not called *.torrent")
        options = {"paused": True, "download_dir": str(self.daemon.more), "labels": ["b", "a"], "files_unwanted": [0], "priority_high": [1]}
        torrent = once(content.meta, cookies="a=b", peer_limit=5, **options)
        self.assertEqual((str(torrent.status), torrent.download_dir, sorted(torrent.labels)), ("stopped", str(self.daemon.more), ["a", "b"]))
        self.assertEqual([(file.selected, file.priority) for file in torrent.get_files()], [(False, 0), (True, 1), (True, 0)])
        self.refuses(lambda: self.client.add_torrent(f"{url}/nowhere"), "404")
        self.refuses(lambda: self.client.add_torrent(b"nonsense"), "metainfo")
        self.refuses(lambda: self.client.add_torrent(content.meta, download_dir="/etc"), "/etc")

    def test_every_field_is_there_and_of_its_type(self):
        self.added(labels=["x"])
        self.daemon.call("torrent_add", filename="magnet:?xt=urn:btih:" + "ab" * 20)
        for torrent in self.client.get_torrents():
            self.assertIsInstance(torrent.id, int)
            for name in dir(type(torrent)):
                # Beside those that are gone since, or ask for what was never there.
                if not name.startswith("_") and isinstance(getattr(type(torrent), name), property) and name not in ("available", "webseeds"):
                    with self.subTest(name):
                        getattr(torrent, name)
        by_hash = self.client.get_torrent(self.client.get_torrent(1).hash_string)
        self.assertEqual((by_hash.id, by_hash.piece_count, by_hash.file_count, by_hash.total_size), (1, 23, 3, 375_000))
        self.assertEqual([file.name for file in by_hash.get_files()], [f"torrent1/file{nth}.bin" for nth in range(3)])
        self.refuses(lambda: self.client.get_torrent(9), "not found")

    def test_torrents_are_started_and_stopped(self):
        ids = [self.added(), self.added()]
        statuses = lambda: [str(torrent.status) for torrent in self.client.get_torrents()]
        self.assertEqual(statuses(), ["stopped", "stopped"])
        self.client.start_all()
        self.assertEqual([self.status(id) in (1, 2, DOWNLOADING) for id in ids], [True, True])
        self.client.stop_torrent(ids)
        self.assertEqual(statuses(), ["stopped", "stopped"])
        self.client.start_torrent(ids[0])
        self.client.start_torrent(ids[1], bypass_queue=True)
        self.client.verify_torrent(ids)
        self.client.reannounce_torrent(ids)
        for id in ids:
            self.until_status(id, DOWNLOADING)
        recent, removed = self.client.get_recently_active_torrents()
        self.assertEqual((sorted(torrent.id for torrent in recent), removed), (ids, []))
        self.client.remove_torrent(ids[0], delete_data=True)
        recent, removed = self.client.get_recently_active_torrents()
        self.assertEqual(([torrent.id for torrent in recent], removed), ([ids[1]], [ids[0]]))

    def test_a_torrent_is_changed(self):
        id = self.added()
        self.client.change_torrent(id, download_limit=5, download_limited=True, upload_limit=6, upload_limited=True, labels=["l"])
        self.client.change_torrent(id, seed_ratio_limit=3, seed_ratio_mode=1, seed_idle_limit=4, seed_idle_mode=1, group="g")
        self.client.change_torrent(id, files_unwanted=[0], priority_low=[1], priority_high=[2], sequential_download=True)
        torrent = self.client.get_torrent(id)
        self.assertEqual((torrent.download_limit, torrent.download_limited, torrent.upload_limit, torrent.upload_limited), (5, True, 6, True))
        self.assertEqual((torrent.seed_ratio_limit, int(torrent.seed_ratio_mode), torrent.seed_idle_limit, torrent.seed_idle_mode), (3, 1, 4, 1))
        self.assertEqual((torrent.labels, torrent.group), (["l"], "g"))
        self.assertEqual([(file.selected, file.priority) for file in torrent.get_files()], [(False, 0), (True, -1), (True, 1)])
        self.assertTrue(self.daemon.get(id, "sequential_download"))
        self.refuses(lambda: self.client.change_torrent(id, bandwidth_priority=1), "priority")

    def test_trackers_are_changed(self):
        id = self.added()
        self.client.change_torrent(id, tracker_list=[["http://127.0.0.1:7/announce", "udp://127.0.0.1:7/"], [TRACKER]])
        self.assertEqual(self.client.get_torrent(id).tracker_list, ["http://127.0.0.1:7/announce", "udp://127.0.0.1:7/", TRACKER])
        self.assertEqual([tracker.tier for tracker in self.client.get_torrent(id).trackers], [0, 0, 1])

    def test_the_queue_is_ordered(self):
        ids = [self.added() for _ in range(4)]
        order = lambda: [torrent.id for torrent in sorted(self.client.get_torrents(), key=lambda torrent: torrent.queue_position)]
        for move, expected in [
            (lambda: None, [1, 2, 3, 4]),
            (lambda: self.client.queue_top(ids[2]), [3, 1, 2, 4]),
            (lambda: self.client.queue_bottom(ids[0]), [3, 2, 4, 1]),
            (lambda: self.client.queue_up(ids[3]), [3, 4, 2, 1]),
            (lambda: self.client.queue_down(ids[2]), [4, 3, 2, 1]),
            (lambda: self.client.change_torrent(ids[0], queue_position=1), [4, 1, 3, 2]),
        ]:
            move()
            self.assertEqual(order(), expected)

    def test_data_is_moved_and_renamed(self):
        content = self.content()
        self.daemon.downloads.mkdir(exist_ok=True)
        content.put(self.daemon.downloads)
        id = self.added(content, paused=False)
        self.until_status(id, SEEDING)
        self.client.move_torrent_data(id, str(self.daemon.more))
        until(lambda: self.client.get_torrent(id).download_dir == str(self.daemon.more), SOON, "it is there")
        self.until_status(id, SEEDING)
        self.assertEqual(self.client.rename_torrent_path(id, "torrent1/file1.bin", "other.bin"), ("torrent1/file1.bin", "other.bin"))
        self.assertEqual([file.name for file in self.client.get_torrent(id).get_files()][1], "torrent1/other.bin")
        self.client.rename_torrent_path(id, "torrent1", "renamed")
        self.assertEqual(self.client.get_torrent(id).name, "renamed")
        self.assertTrue((self.daemon.more / "renamed/other.bin").exists())
        self.refuses(lambda: self.client.rename_torrent_path(id, "renamed", "../x"), "argument")

    def test_the_session(self):
        session = self.client.get_session()
        self.assertEqual((session.rpc_version, session.rpc_version_semver), (18, "6.0.0"))
        self.assertRegex(session.version, r"^\d+\.\d+\.\d+ \(swarm ")
        self.assertEqual(session.download_dir, str(self.daemon.downloads))
        self.client.set_session(speed_limit_up=7, speed_limit_up_enabled=True, download_queue_size=2, download_queue_enabled=True)
        self.client.set_session(alt_speed_up=5, alt_speed_enabled=True, seed_ratio_limit=2, seed_ratio_limited=True)
        session = self.client.get_session()
        self.assertEqual((session.speed_limit_up, session.download_queue_size, session.download_queue_enabled), (7, 2, True))
        self.assertEqual((session.alt_speed_up, session.alt_speed_enabled, session.seed_ratio_limit), (5, True, 2))
        self.refuses(lambda: self.client.set_session(script_torrent_done_filename="/bin/sh"), "on-complete")
        self.refuses(lambda: self.client.set_session(download_dir="/etc"), "dir")
        free = os.statvfs(self.scratch)
        self.assertLessEqual(self.client.free_space(str(self.daemon.more)), free.f_blocks * free.f_frsize)
        self.refuses(lambda: self.client.free_space("/etc"), "/etc")
        stats = self.client.session_stats()
        self.assertEqual((stats.torrent_count, stats.active_torrent_count, stats.current_stats.session_count), (0, 0, 1))
        self.refuses(self.client.port_test, "not known")
        self.refuses(self.client.blocklist_update, "ip-filter")

    def test_groups_share_a_limit(self):
        self.client.set_group("slow", speed_limit_up=5, speed_limit_up_enabled=True)
        self.client.set_group("free", speed_limit_up=5)
        groups = self.client.get_groups()
        self.assertEqual(sorted(groups), ["free", "slow"])
        self.assertEqual((groups["slow"].speed_limit_up, groups["slow"].speed_limit_up_enabled), (5, True))
        self.assertEqual(self.client.get_group("slow").name, "slow")
        self.assertFalse(groups["free"].speed_limit_up_enabled)
        self.client.set_group("slow", speed_limit_up_enabled=False, speed_limit_down=9, speed_limit_down_enabled=True)
        slow = self.client.get_group("slow")
        self.assertEqual((slow.speed_limit_up_enabled, slow.speed_limit_down, slow.speed_limit_down_enabled), (False, 9, True))

    def test_it_needs_the_token(self):
        error = self.library.error.TransmissionAuthError
        for login in ({}, {"username": "any", "password": "wrong"}):
            with self.assertRaises(error):
                self.library.Client(host=self.daemon.host, port=int(self.daemon.port), **login)


class Dialogues(Rpc):
    """What other clients say, in the order in which they say it."""

    def test_sonarr_and_radarr(self):
        # Their test of the connection: the session id by GET, then the version, then a list.
        status, headers, page = self.daemon.post(None, method="GET", X_Transmission_Session_Id="")
        self.assertEqual((status, headers["X-Transmission-Rpc-Version"]), (409, "6.0.0"))
        self.daemon.session_id = headers["X-Transmission-Session-Id"]
        self.assertIn(f"<code>X-Transmission-Session-Id: {self.daemon.session_id}</code>", page)
        config = self.daemon.older("session-get")
        version = re.search(r"(?<!\(|\d|\.)(?:\d|\.)+", config["version"]).group()
        self.assertGreaterEqual(tuple(map(int, version.split("."))), (2, 40))
        fields = ["id", "hashString", "name", "downloadDir", "totalSize", "leftUntilDone", "isFinished", "eta", "status", "secondsDownloading",
                  "secondsSeeding", "errorString", "uploadedEver", "downloadedEver", "seedRatioLimit", "seedRatioMode", "seedIdleLimit",
                  "seedIdleMode", "fileCount", "file-count", "labels"]
        self.assertEqual(self.daemon.older("torrent-get", fields=fields), {"torrents": []})

        # A grab: the category is a folder below the default one, then come goals, and the top of the queue.
        content = self.content()
        folder = config["download-dir"].rstrip("/") + "/tv"
        added = self.daemon.older("torrent-add", metainfo=content.base64, download_dir=folder, labels=["tv"])["torrent-added"]
        hash = added["hashString"]
        goals = {"seedRatioLimit": 1.5, "seedRatioMode": 1, "seedIdleLimit": 60, "seedIdleMode": 1}
        self.daemon.older("torrent-set", ids=[hash], **goals)
        self.daemon.older("queue-move-top", ids=[hash])
        magnet = self.daemon.older("torrent-add", filename="magnet:?xt=urn:btih:" + "cd" * 20, download_dir=folder)["torrent-added"]
        self.daemon.older("torrent-set", ids=[magnet["hashString"]], **goals)
        torrent, link = self.daemon.older("torrent-get", fields=fields)["torrents"]
        self.assertEqual({name: torrent[name] for name in goals}, goals)
        self.assertEqual((torrent["downloadDir"], torrent["totalSize"], torrent["file-count"], torrent["labels"]), (folder, 375_000, 3, ["tv"]))
        self.assertEqual(link["totalSize"], 0, "which they take for a link without metadata")
        # The same again is told, and is no error.
        again = self.daemon.older("torrent-add", metainfo=content.base64, download_dir=folder)
        self.assertEqual(again["torrent-duplicate"]["hashString"], hash)

        # An import, and what was there goes. They know it in capitals, and write it small.
        self.daemon.older("torrent-remove", ids=[hash.upper().lower()], delete_local_data=True)
        self.daemon.older("torrent-remove", ids=[magnet["hashString"]], delete_local_data=True)
        self.assertEqual(self.daemon.older("torrent-get", fields=fields), {"torrents": []})

    def test_flood(self):
        status, headers, _ = self.daemon.post(None, method="GET", X_Transmission_Session_Id="")
        self.assertEqual(status, 409)
        self.daemon.session_id = headers["X-Transmission-Session-Id"]
        fields = ["hashString", "downloadDir", "name", "comment", "haveValid", "addedDate", "dateCreated", "doneDate", "rateDownload", "rateUpload",
                  "downloadedEver", "uploadedEver", "eta", "isPrivate", "error", "errorString", "peersGettingFromUs", "peersSendingToUs",
                  "status", "totalSize", "sizeWhenDone", "trackers", "labels", "activityDate"]
        self.assertEqual(self.daemon.older("torrent-get", fields=fields, format="objects"), {"torrents": []})
        stats = self.daemon.older("session-stats")
        self.assertEqual((stats["downloadSpeed"], stats["current-stats"]["downloadedBytes"]), (0, 0))
        settings = self.daemon.older("session-get", fields=["dht-enabled", "peer-port", "download-dir", "speed-limit-down", "speed-limit-down-enabled",
                                     "peer-limit-global", "peer-limit-per-torrent", "seed-queue-enabled", "seed-queue-size", "config-dir"])
        self.assertEqual(len(settings), 10)
        self.assertEqual(settings["dht-enabled"], False)

        content = self.content()
        hash = self.daemon.older("torrent-add", metainfo=content.base64, download_dir=settings["download-dir"], paused=True)["torrent-added"]["hashString"]
        self.daemon.older("torrent-set", ids=[hash], labels=["flood"])
        [torrent] = self.daemon.older("torrent-get", fields=fields, format="objects")["torrents"]
        self.assertEqual(set(torrent), set(fields))
        self.assertEqual([tracker["announce"] for tracker in torrent["trackers"]], [TRACKER])
        # Its files: not wanted keeps a priority, too.
        self.daemon.older("torrent-set", ids=hash, files_unwanted=[1], priority_normal=[1])
        self.daemon.older("torrent-set", ids=hash, files_wanted=[2], priority_high=[2])
        [contents] = self.daemon.older("torrent-get", ids=hash, fields=["files", "fileStats"], format="objects")["torrents"]
        self.assertEqual([(stat["wanted"], stat["priority"]) for stat in contents["fileStats"]], [(True, 0), (False, 0), (True, 1)])
        self.assertEqual(contents["files"][0]["name"], "torrent1/file0.bin")
        for fields in (["peers"], ["trackerStats"]):
            self.assertEqual(len(self.daemon.older("torrent-get", ids=hash, fields=fields, format="objects")["torrents"]), 1)
        # Its settings come with fractions.
        self.daemon.older("session-set", speed_limit_up_enabled=True, speed_limit_up=20_000 / 1024)
        self.assertEqual(self.daemon.session("speed_limit_up"), [19])
        self.daemon.older("torrent-start", ids=[hash])
        self.until_status(hash, DOWNLOADING)
        self.daemon.older("torrent-stop", ids=[hash])
        self.daemon.older("torrent-verify", ids=[hash])
        self.daemon.older("torrent-reannounce", ids=[hash])
        self.daemon.older("torrent-remove", ids=[hash], delete_local_data=False)
        self.assertEqual(self.daemon.count(), 0)

    def test_cross_seed(self):
        """It starts nothing before it has seen what a check has found."""
        content = self.content()
        self.daemon.downloads.mkdir(exist_ok=True)
        content.put(self.daemon.downloads)
        id = self.added(content)
        self.assertEqual(self.daemon.get(id, "left_until_done", "status"), [375_000, STOPPED])
        self.daemon.older("torrent-verify", ids=[id])
        self.until_status(id, STOPPED)
        self.assertEqual(self.daemon.get(id, "left_until_done"), 0)
        self.daemon.older("torrent-start", ids=[id])
        self.until_status(id, SEEDING)

    def test_json_rpc(self):
        id = self.added()
        self.assertEqual(self.daemon.call("torrent_get", fields=["id", "name"], format="table")["torrents"], [["id", "name"], [id, "torrent1"]])
        batch = [
            {"jsonrpc": "2.0", "method": "torrent_start", "params": {"ids": [id]}},
            {"jsonrpc": "2.0", "method": "session_get", "params": {"fields": ["rpc_version"]}, "id": "a"},
            {"jsonrpc": "2.0", "method": "nonsense", "id": 2},
            7,
        ]
        answers = self.daemon.ask(batch)
        self.assertEqual(answers[0], {"jsonrpc": "2.0", "result": {"rpc_version": 18}, "id": "a"})
        self.assertEqual([answer["error"]["code"] for answer in answers[1:]], [-32601, -32600])
        self.assertNotEqual(self.status(id), STOPPED, "it was told, though nobody wanted an answer")
        status, _, body = self.daemon.post(json.dumps(batch[0]))
        self.assertEqual((status, body), (204, ""))
        status, _, body = self.daemon.post("{")
        self.assertEqual((status, json.loads(body)["error"]["code"]), (200, -32700))

    def test_who_must_not_get_in_does_not(self):
        request = json.dumps({"method": "torrent-add", "arguments": {"filename": "magnet:?xt=urn:btih:" + "ab" * 20}})
        self.daemon.call("session_get")
        for status, headers in [
            (401, {"Authorization": ""}),
            (401, {"Authorization": "Basic " + base64.b64encode(b"any:").decode()}),
            (409, {"X_Transmission_Session_Id": ""}),
            (409, {"X_Transmission_Session_Id": "x" * 48}),
            (403, {"Origin": "http://evil.example"}),
            (403, {"Sec_Fetch_Site": "cross-site"}),
            (421, {"Host": "evil.example"}),
        ]:
            found = self.daemon.post(request, **headers)
            self.assertEqual(found[0], status, headers)
        self.assertTrue(self.daemon.post(request, Authorization="")[1]["WWW-Authenticate"].startswith("Basic "))
        self.assertEqual(self.daemon.count(), 0)
        # Too long for anything but a metainfo file.
        long = json.dumps({"method": "torrent-get", "arguments": {"ids": list(range(400_000))}})
        self.assertEqual(self.daemon.post(long)[0], 413)
        self.assertEqual(self.daemon.post(None, method="GET")[0], 405)

    def test_a_large_metainfo_file_comes_whole_and_paths_stay_within(self):
        # Many pieces: 2 MiB of hashes.
        big = self.scratch / "big"
        big.touch()
        os.truncate(big, 104_858 * 16_384)
        meta = create(big, self.scratch / "big.torrent", "-l", "16KiB")
        self.assertGreater(meta.stat().st_size, 2 * MIB)
        data = base64.b64encode(meta.read_bytes()).decode()
        self.assertEqual(self.daemon.call("torrent_add", metainfo=data, paused=True)["torrent_added"]["name"], "big")
        secret = self.content().meta
        self.refuses(lambda: self.daemon.call("torrent_add", filename=str(secret)), "folder")
        inside = self.daemon.more / "x.torrent"
        inside.symlink_to(secret)
        self.refuses(lambda: self.daemon.call("torrent_add", filename=str(inside)), "folder")
        inside.unlink()
        inside.write_bytes(secret.read_bytes())
        self.assertEqual(self.daemon.call("torrent_add", filename=str(inside), paused=True)["torrent_added"]["name"], "torrent1")
        fifo = self.daemon.more / "fifo"
        os.mkfifo(fifo)
        self.refuses(lambda: self.daemon.call("torrent_add", filename=str(fifo)), "file")
        self.refuses(lambda: self.daemon.call("torrent_set_location", ids=[1], location="/etc", move=True), "folder")
        self.refuses(lambda: self.daemon.call("free_space", path="/etc"), "folder")

