"""Trackers that share their swarms in Redis, as Debian builds it: what one hears all tell, whoever of them dies, whatever the store does."""

import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path
from urllib.request import urlopen

import libtorrent as lt
from harness import BIN, ROOT, SOON, Case, Process, free_port, program, until

HASH = b"a" * 20
# What docs/tracker.md says that the store has to allow.
ACL = re.search(r"^user tracker on >PASSWORD (.+)$", (ROOT / "docs/tracker.md").read_text(), re.M)[1]


class Redis:
    """A server with a port of its own; what it keeps is gone when it ends."""

    def __init__(self, test, *args, tls=False):
        self.port, self.tls = free_port(), tls
        listen = ["--port", 0, "--tls-port", self.port] if tls else ["--port", self.port]
        self.args = [program("redis-server"), "--bind", "127.0.0.1", *listen, "--save", "", "--dir", test.scratch, *args]
        self.test = test
        self.start()

    def start(self):
        self.process = self.test.start(Process(self.args))
        self.process.wait_line("Ready to accept connections", SOON)

    def url(self, user="", db=0):
        return f"redis{'s' if self.tls else ''}://{user}127.0.0.1:{self.port}/{db}"

    def __call__(self, *args, wrong=None):
        """What it answers to a command, on a connection of its own."""
        command = [program("redis-cli"), "-p", str(self.port), *map(str, args)]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=SOON).stdout.strip()


class Tracker(Process):
    """A tracker with a shared store, over HTTP and UDP."""

    def __init__(self, *args, env=None):
        listen = ["--listen", "127.0.0.1:0", "--listen-udp", "127.0.0.1:0"]
        super().__init__([BIN / "swarm-tracker", *listen, *args], env=env)
        self.http = self.wait_line("listening on http://").split()[-1]
        self.udp_port = int(self.wait_line("listening on udp://").split(":")[-1].split("/")[0])

    def get(self, target):
        with urlopen(self.http.replace("/announce", target), timeout=SOON) as reply:
            return reply.read()

    def stats(self):
        return json.loads(self.get("/stats"))

    def announce(self, port, info_hash=HASH, left=1, event="", numwant=50, peer=None):
        """The answer, with `peers` as ports."""
        hash_ = "".join(f"%{byte:02x}" for byte in info_hash)
        peer = peer or f"-XX0001-{port:012}"
        query = f"info_hash={hash_}&peer_id={peer}&port={port}&left={left}&uploaded=0&downloaded=0&compact=1&numwant={numwant}"
        answer = lt.bdecode(self.get(f"/announce?{query}" + (f"&event={event}" if event else "")))
        answer[b"peers"] = ports(answer.get(b"peers", b""))
        return answer

    def told(self, *args, **kwargs):
        return self.announce(*args, **kwargs)[b"peers"]

    def scrape(self, info_hash=HASH):
        answer = lt.bdecode(self.get("/scrape?info_hash=" + "".join(f"%{byte:02x}" for byte in info_hash)))
        found = answer[b"files"][info_hash]
        return found[b"complete"], found[b"incomplete"], found[b"downloaded"]

    def udp(self):
        return UdpClient(self.udp_port)

    def warnings(self, text):
        return [line for line in list(self.output) if text in line]


def ports(compact):
    return {struct.unpack(">H", compact[at + 4 : at + 6])[0] for at in range(0, len(compact), 6)}


class UdpClient:
    def __init__(self, port):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(SOON)
        self.socket.connect(("127.0.0.1", port))
        self.id = self.ask(struct.pack(">QII", 0x41727101980, 0, 7))[8:16]

    def ask(self, datagram):
        self.socket.send(datagram)
        return self.socket.recv(2048)

    def send_announce(self, port, info_hash=HASH, left=1, event=0):
        request = self.id + struct.pack(">II", 1, 8) + info_hash + b"-XX0001-%012d" % port
        request += struct.pack(">QQQIIIiH", 0, left, 0, event, 0, 0, -1, port)
        self.socket.send(request)

    def announce(self, *args, **kwargs):
        """Leechers, seeds, and the ports of peers."""
        self.send_announce(*args, **kwargs)
        answer = self.socket.recv(2048)
        _, _, _, leechers, seeds = struct.unpack(">IIIII", answer[:20])
        return leechers, seeds, ports(answer[20:])

    def scrape(self, info_hash=HASH):
        answer = self.ask(self.id + struct.pack(">II", 2, 9) + info_hash)
        return struct.unpack(">III", answer[8:20])


class SharedTest(Case):
    """Two trackers and a store that has nothing to say against them."""

    args = []

    def setUp(self):
        super().setUp()
        self.redis = Redis(self)
        self.a, self.b = (self.start(Tracker("--store", self.redis.url(), *self.args)) for _ in range(2))


class SharedStoreTest(SharedTest):
    def test_what_one_hears_the_other_tells(self):
        self.assertEqual(self.a.told(1001), set())
        answer = self.b.announce(1002, left=0)
        self.assertEqual(answer[b"peers"], {1001})
        self.assertNotIn(b"warning message", answer)
        self.assertEqual((answer[b"complete"], answer[b"incomplete"]), (1, 1))
        self.assertEqual(self.a.told(1003), {1001, 1002})
        # A seed has no use for seeds.
        self.assertEqual(self.a.told(1004, left=0), {1001, 1003})
        self.assertEqual(self.b.scrape(), (2, 2, 0))
        self.a.announce(1001, left=0, event="completed")
        self.a.announce(1001, left=0, event="completed")
        self.assertEqual(self.b.scrape(), (3, 1, 1))
        self.b.announce(1002, event="stopped")
        self.assertEqual(self.a.scrape(), (2, 1, 1))
        self.assertEqual(self.a.told(1003), {1001, 1004})
        self.assertEqual(self.b.told(1003, info_hash=b"b" * 20), set())

    def test_over_udp(self):
        a, b = self.a.udp(), self.b.udp()
        self.assertEqual(a.announce(1001), (1, 0, set()))
        self.assertEqual(b.announce(1002, left=0), (1, 1, {1001}))
        self.assertEqual(self.a.told(1003), {1001, 1002})
        self.assertEqual(a.scrape(), (1, 0, 2))
        b.announce(1002, event=3)
        self.assertEqual(a.announce(1001), (2, 0, {1003}))

    def test_a_large_swarm_is_told_of_in_all_its_parts(self):
        count = 600
        for port in range(2000, 2000 + count):
            (self.a if port % 2 else self.b).announce(port, numwant=0)
        seen = set()
        for _ in range(200):
            for tracker in (self.a, self.b):
                told = tracker.told(2000)
                self.assertEqual(len(told), 50)
                self.assertNotIn(2000, told)
                seen |= told
        self.assertGreater(len(seen), count * 0.95)
        self.assertEqual(self.b.scrape(), (0, count, 0))

    def test_a_tracker_dies_and_nobody_is_forgotten(self):
        for port in range(3000, 3020):
            self.a.announce(port)
        self.a.kill()
        self.assertEqual(self.b.told(3100), set(range(3000, 3020)))
        again = self.start(Tracker("--store", self.redis.url()))
        self.assertEqual(again.told(3101), {*range(3000, 3020), 3100})


class ExpiryTest(SharedTest):
    waits = 10
    args = ["--interval", "2s", "--min-interval", "1s", "--peer-timeout", "4s"]

    def test_the_store_forgets_who_goes_away_and_what_nobody_announces(self):
        self.a.announce(1001)
        self.a.announce(1009, left=0, event="completed")
        self.a.announce(1001, info_hash=b"b" * 20)
        # 1002 goes on announcing, the others are gone.
        until(lambda: self.b.told(1002) == set(), SOON, "who is silent is told of no more")
        self.assertEqual(self.a.scrape(), (0, 1, 1))
        until(lambda: self.a.scrape(b"b" * 20) == (0, 0, 0), SOON, "nobody is left there")
        until(lambda: self.redis("DBSIZE") == "0", SOON, "the store is empty")


class FailoverTest(SharedTest):
    waits = 3

    def from_memory(self, tracker, port):
        answer = tracker.announce(port)
        return answer if b"warning message" in answer else None

    def test_the_store_is_killed_and_comes_back_empty(self):
        self.a.announce(1001)
        self.b.announce(1002)
        # Its download is remembered.
        self.b.announce(1006, left=0, event="completed")
        self.b.announce(1006, left=0, event="stopped")
        self.redis.process.kill()
        answer = until(lambda: self.from_memory(self.a, 1003), SOON, "an answer from memory")
        self.assertIn(b"store does not answer", answer[b"warning message"])
        self.assertIn(1001, answer[b"peers"])
        # It was told of that one before.
        self.assertIn(1001, self.b.told(1002))
        for _ in range(50):
            self.assertLess(self.timed(lambda: self.a.announce(1003)), 1)
            self.b.announce(1004, event="started")
        self.assertEqual(self.a.udp().announce(1005)[0], 3)
        for tracker in (self.a, self.b):
            self.assertEqual(len(tracker.warnings("is gone")), 1, tracker)
            self.assertFalse(tracker.stats()["shared_store"]["up"])
            self.assertGreater(tracker.stats()["shared_store"]["from_memory"], 0)
        self.redis.start()
        for tracker in (self.a, self.b):
            tracker.wait_line("is there again")
        # What each heard meanwhile and before, it has told.
        everybody = {1001, 1002, 1003, 1004, 1005}
        until(lambda: self.b.scrape() == (0, 5, 1), SOON, "the store knows all again")
        self.assertEqual(self.a.told(1001), everybody - {1001})
        answer = self.b.announce(1002)
        self.assertEqual(answer[b"peers"], everybody - {1002})
        self.assertNotIn(b"warning message", answer)

    def timed(self, do):
        began = time.monotonic()
        do()
        return time.monotonic() - began

    def test_the_store_hangs(self):
        self.a.announce(1001)
        pid, datagrams = self.redis.process.pid, self.a.udp()
        os.kill(pid, signal.SIGSTOP)
        self.addCleanup(os.kill, pid, signal.SIGCONT)
        for port in range(3000, 3040):
            datagrams.send_announce(port)
        self.assertLess(self.timed(self.a.udp), 1, "who needs no store does not wait for it")
        # Those that are on their way wait for their time limit, all others for nothing.
        answers, threads = [], []
        for port in range(2000, 2040):
            threads.append(threading.Thread(target=lambda port=port: answers.append(self.a.announce(port))))
            threads[-1].start()
        for thread in threads:
            thread.join(SOON)
        self.assertEqual(len(answers), 40)
        self.assertTrue(all(b"warning message" in answer for answer in answers))
        self.assertLess(self.timed(lambda: self.a.announce(1002)), 1)
        self.assertEqual(len(self.a.warnings("is gone")), 1, self.a)
        os.kill(pid, signal.SIGCONT)
        self.a.wait_line("is there again")
        until(lambda: self.b.scrape() == (0, 82, 0), SOON, "the store knows all again")

    def test_no_store_at_the_start(self):
        self.redis.process.kill()
        tracker = self.start(Tracker("--store", self.redis.url()))
        self.assertEqual(len(tracker.warnings("is gone")), 1, tracker)
        tracker.announce(1001)
        self.assertEqual(tracker.told(1002), {1001})
        self.redis.start()
        tracker.wait_line("is there again")
        until(lambda: self.b.stats()["shared_store"]["up"], SOON, "the other one has it too")
        until(lambda: self.b.told(1003) == {1001, 1002}, SOON, "the other one hears of them")


class AccessTest(Case):
    def refused(self, *args, env=None, status=1):
        process = Process([BIN / "swarm-tracker", "--listen", "127.0.0.1:0", *args], env=env)
        process.expect(status)
        self.assertEqual(len(process.output), 1, process)
        self.assertNotIn("s3cret", process.output[0])
        return process.output[0]

    def test_users_passwords_and_what_they_may(self):
        redis = Redis(self)
        self.assertIn("DB index is out of range", self.refused("--store", redis.url(db=99)))
        redis("ACL", "SETUSER", "tracker", "on", ">s3cret", *ACL.split())
        redis("ACL", "SETUSER", "reader", "on", ">s3cret", "~swarm:*", "+@read", "+time", "+dbsize")
        redis("ACL", "SETUSER", "default", "off")
        url = redis.url("tracker:s3cret@")
        tracker = self.start(Tracker("--store", url))
        tracker.announce(1001, left=0, event="completed")
        self.assertEqual(tracker.scrape(), (1, 0, 1))
        shown = Path(f"/proc/{tracker.pid}/cmdline").read_text()
        self.assertIn("@127.0.0.1", shown)
        self.assertNotIn("s3cret", shown)

        file = self.scratch / "store"
        file.write_text(url + "\n")
        self.assertEqual(self.start(Tracker("--store-file", file)).told(1002), {1001})
        self.assertEqual(self.start(Tracker(env={"SWARM_TRACKER_STORE": url})).told(1003), {1001, 1002})

        self.assertIn("wrong user or password", self.refused("--store", redis.url("tracker:wr0ng@")))
        self.assertIn("NOAUTH", self.refused("--store", redis.url()))
        said = self.refused("--store", redis.url("reader:s3cret@"))
        self.assertIn("NOPERM", said)
        self.assertIn("docs/tracker.md", said)
        self.assertIn("rediss://", self.refused("--store", "http://tracker:s3cret@127.0.0.1", status=2))
        for log in tracker.output:
            self.assertNotIn("s3cret", log)

    def test_what_it_may_no_more_is_answered_from_memory(self):
        redis = Redis(self)
        redis("ACL", "SETUSER", "tracker", "on", ">s3cret", *ACL.split())
        tracker = self.start(Tracker("--store", redis.url("tracker:s3cret@")))
        tracker.announce(1001)
        redis("ACL", "SETUSER", "tracker", "-zadd")
        for port in range(1002, 1012):
            answer = tracker.announce(port)
            self.assertIn(b"warning message", answer)
        self.assertEqual(answer[b"peers"], set(range(1001, 1011)))
        self.assertEqual(len(tracker.warnings("NOPERM")), 1, tracker)
        redis("ACL", "SETUSER", "tracker", "+zadd")
        self.assertNotIn(b"warning message", tracker.announce(1001))

    def test_over_tls(self):
        at = lambda name: str(self.scratch / name)
        openssl = lambda *args: subprocess.run([program("openssl"), *args], check=True, capture_output=True)
        new = ["-newkey", "rsa:2048", "-nodes"]
        for authority in ("another", "ca"):
            openssl("req", "-x509", *new, "-keyout", at("ca.key"), "-out", at(f"{authority}.pem"), "-subj", "/CN=Test authority")
        openssl("req", *new, "-keyout", at("redis.key"), "-out", at("redis.csr"), "-subj", "/CN=store")
        (self.scratch / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
        signed = ["-CA", at("ca.pem"), "-CAkey", at("ca.key"), "-CAcreateserial", "-extfile", at("ext"), "-days", "2"]
        openssl("x509", "-req", "-in", at("redis.csr"), "-out", at("redis.pem"), *signed)
        files = ["--tls-cert-file", at("redis.pem"), "--tls-key-file", at("redis.key"), "--tls-ca-cert-file", at("ca.pem")]
        redis = Redis(self, *files, "--tls-auth-clients", "no", tls=True)
        a, b = (self.start(Tracker("--store", redis.url(), "--store-ca", at("ca.pem"))) for _ in range(2))
        a.announce(1001)
        self.assertEqual(b.told(1002), {1001})
        self.assertIn("certificate", self.refused("--store", redis.url(), "--store-ca", at("another.pem")))
        self.assertIn("certificate", self.refused("--store", redis.url()))


class BoundsTest(Case):
    waits = 12

    def test_a_store_that_comes_back_full_is_told_again(self):
        redis = Redis(self)
        a, b = (self.start(Tracker("--store", redis.url())) for _ in range(2))
        a.announce(1001)
        redis.process.kill()
        a.wait_line("is gone")
        redis.args += ["--maxmemory", "1"]
        redis.start()
        a.wait_line("is full")
        redis("CONFIG", "SET", "maxmemory", "0")
        until(lambda: b.scrape() == (0, 1, 0), SOON, "the store knows it again, without another announce")

    def test_the_store_is_full(self):
        redis = Redis(self)
        tracker = self.start(Tracker("--store", redis.url()))
        tracker.announce(1001)
        redis("CONFIG", "SET", "maxmemory", "1")
        for port in range(1002, 1012):
            answer = tracker.announce(port)
            self.assertIn(b"warning message", answer)
            self.assertIn(1001, answer[b"peers"])
        self.assertEqual(len(tracker.warnings("OOM")), 1, tracker)
        self.assertIn("maxmemory", tracker.warnings("OOM")[0])
        self.assertEqual(tracker.stats()["shared_store"]["refused"], 10)
        redis("CONFIG", "SET", "maxmemory", "0")
        self.assertNotIn(b"warning message", tracker.announce(1001))

    def test_made_up_torrents_and_peers_are_bounded(self):
        redis = Redis(self)
        trackers = [self.start(Tracker("--store", redis.url(), "--max-swarms", "200", "--max-peers", "800")) for _ in range(2)]
        made_up = [UdpClient(tracker.udp_port) for tracker in trackers]
        keys = []
        for number in range(2000):
            made_up[number % 2].announce(1 + number, info_hash=struct.pack(">I", number) * 5)
            if number % 100 == 0:
                keys.append(int(redis("DBSIZE")))
        # Each tracker keeps within its own limits, and takes out of the store what it drops.
        self.assertLessEqual(max(keys), 450, keys)
        self.assertGreater(max(keys), 150, keys)
        # In one torrent too.
        for number in range(2400):
            made_up[number % 2].announce(1 + number, info_hash=b"c" * 20)
        self.assertLessEqual(int(redis("ZCARD", "swarm:{.cccccccccccccccccccc}4")), 1700)
        # Whoever comes from elsewhere finds room.
        tracker = trackers[0]
        tracker.announce(1001, info_hash=b"d" * 20)
        self.assertLessEqual(tracker.stats()["peers"], 800)
