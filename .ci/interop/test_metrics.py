"""What is watched: `/metrics` of the daemon and the tracker as promtool reads them, the Grafana board, and what `/health` says when something is wrong."""

import json
import re
import sqlite3
import subprocess
import threading
import urllib.error
import urllib.request

from clients import Tracker
from harness import BIN, MIB, ROOT, SOON, Process, create, fill, free_port, program, seeded, until
from test_daemon import DaemonCase

BOARD = ROOT / "docs/grafana.json"
OPEN_METRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def get(url, **headers):
    """Status, media type and body."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=SOON) as answer:
            return answer.status, answer.headers["content-type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["content-type"], error.read().decode()


def named(scrape):
    """The metrics that a scrape has, by what it says of them."""
    return set(re.findall(r"^# TYPE (\S+)", scrape, re.MULTILINE))


def expressions(board):
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]


def filled_in(expression):
    """As Grafana would ask it."""
    for variable, value in {"$__rate_interval": "5m", "$instance": ".*", "$tracker": ".*"}.items():
        expression = expression.replace(variable, value)
    return expression


class MetricsCase(DaemonCase):
    def daemon(self, *args, state=None):
        self.state = state or self.scratch / "state"
        fixed = ["daemon", "--json", "--state-dir", self.state, "--listen", "127.0.0.1:0", "--no-dht", "--no-lsd"]
        daemon = self.start(Process([BIN / "swarm", *fixed, "--http", "127.0.0.1:0", *args]))
        self.http = "http://" + daemon.wait_event("serving")["http"][0]
        self.socket = self.state / "daemon/socket"
        self.token = (self.state / "daemon/token").read_text().strip()
        return daemon

    def scrape(self, **headers):
        status, kind, body = get(f"{self.http}/metrics", Authorization=f"Bearer {self.token}", **headers)
        self.assertEqual(status, 200, body)
        return kind, body

    def value(self, name):
        return float(re.search(rf"^{re.escape(name)} (\S+)$", self.scrape()[1], re.MULTILINE)[1])

    def health(self):
        status, _, body = get(f"{self.http}/health")
        return status, body


class Metrics(MetricsCase):
    def tracker(self, *args):
        tracker = self.start(Tracker(*args))
        return get(tracker.url.replace("/announce", "/metrics"))

    def test_promtool_has_nothing_to_say_of_either_scrape(self):
        promtool = program("promtool")
        content = fill(self.scratch / "data/film.mkv", MIB, seeded(1))
        meta = create(content, self.scratch / "film.meta")
        self.daemon("--dir", self.scratch / "data")
        self.ctl("add", meta, "--seed")
        until(lambda: self.value('swarm_torrents{state="seeding"}') == 1, SOON, "it seeds")
        kind, daemon = self.scrape()
        self.assertIn("text/plain; version=0.0.4", kind)
        _, kind, tracker = self.tracker()
        self.assertIn("text/plain; version=0.0.4", kind)
        for scrape in (daemon, tracker):
            done = subprocess.run([promtool, "check", "metrics"], input=scrape, capture_output=True, text=True, timeout=SOON)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""), scrape)

    def test_the_newer_format_says_the_same(self):
        self.daemon("--dir", self.scratch)
        kind, newer = self.scrape(Accept=OPEN_METRICS)
        self.assertIn("application/openmetrics-text", kind)
        self.assertTrue(newer.endswith("# EOF\n"), newer)
        # In it the families of counters are named without their ends.
        names = {name.removesuffix("_total") for name in named(self.scrape()[1])}
        self.assertEqual(named(newer), names)

    def test_each_metric_of_the_board_is_there(self):
        self.daemon("--dir", self.scratch)
        # One that shares a store, which need not be there, tells of that too.
        tracker = self.tracker("--store", f"redis://127.0.0.1:{free_port()}")
        there = named(self.scrape()[1]) | named(tracker[2])
        board = json.loads(BOARD.read_text())
        asked = expressions(board)
        asked += [variable.get("definition", "") for variable in board["templating"]["list"]]
        names = {name for text in asked for name in re.findall(r"\b(?:swarm|process)_\w+", text)}
        self.assertGreater(len(names), 20)
        self.assertEqual(names - there, set(), "the board asks for what is not there")

    def test_the_board_asks_what_prometheus_understands(self):
        rules = [{"record": "it", "expr": filled_in(text), "labels": {"nth": str(nth)}} for nth, text in enumerate(expressions(json.loads(BOARD.read_text())))]
        # JSON is YAML.
        file = self.scratch / "rules.yml"
        file.write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))
        done = subprocess.run([program("promtool"), "check", "rules", file], capture_output=True, text=True, timeout=SOON)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class Health(MetricsCase):
    waits = 10

    def test_a_full_disk_for_data_is_no_illness_but_is_seen(self):
        content = fill(self.scratch / "film.mkv", 12 * MIB, seeded(1))
        meta = create(content, self.scratch / "film.meta", "-l", "64KiB")
        small = self.small_disk(16)
        other = fill(small / "other.bin", 8 * MIB, seeded(2))
        self.daemon("--dir", small)
        self.ctl("add", meta)
        until(lambda: self.value("swarm_torrents_stalled") == 1, SOON, "it waits for space")
        self.assertEqual(self.health(), (200, "ok\n"))
        other.unlink()
        until(lambda: self.value("swarm_torrents_stalled") == 0, SOON, "it goes on")

    def test_a_full_disk_for_the_database_is_told_of_and_is_over_by_itself(self):
        meta = create(fill(self.scratch / "film.mkv", MIB, seeded(1)), self.scratch / "film.meta", "-l", "16KiB")
        small = self.small_disk(2)
        (small / "state").mkdir()
        self.daemon("--dir", self.scratch / "downloads", state=small / "state")
        self.assertEqual(self.health(), (200, "ok\n"))
        filler = small / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        refused = self.ask("add", meta, "--paused", "--category", "x" * 200)
        self.assertNotEqual(refused.returncode, 0)
        status, body = self.health()
        self.assertEqual(status, 503, body)
        self.assertIn("the database takes nothing: its disk is full", body)
        self.assertNotIn(str(small), body, "anybody may ask")
        self.assertGreaterEqual(self.value("swarm_store_commits_failed_total"), 1)
        filler.unlink()
        until(lambda: self.health() == (200, "ok\n"), SOON, "it is well again though nobody changes anything")

    def test_a_database_that_hangs_is_told_of(self):
        meta = create(fill(self.scratch / "film.mkv", MIB, seeded(1)), self.scratch / "film.meta")
        self.daemon("--dir", self.scratch / "downloads")
        other = sqlite3.connect(self.state / "daemon/daemon.db", isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        # It waits for the other to end, for five seconds.
        adding = threading.Thread(target=self.ask, args=("add", meta, "--paused"))
        adding.start()
        self.addCleanup(adding.join)
        status, body = until(lambda: (told := self.health())[0] == 503 and told, SOON, "it is told of")
        self.assertRegex(body, "has not answered|takes nothing")
        other.execute("ROLLBACK")
        until(lambda: self.health() == (200, "ok\n"), SOON, "it is well again")
