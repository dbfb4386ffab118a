"""Crowds that take places and slots and make nothing of them, each beside an honest download; and a list of peers most of whom are
silent. docs/reliability.md has the seconds that it should take on an idle machine: here ten times as much is given, and what is
counted decides."""

import http.server
import socket
import sys
import threading
import time
from pathlib import Path

from clients import Swarm
from harness import LOOPBACK, MIB, Case, Host, Process, create, fill, seeded, swarm, until
from network import Network

# Without its limits the engine needed 14 s and more for each of these.
SECONDS = 10


class Crowds(Case):
    scratch_bytes = 160 * MIB

    def setUp(self):
        super().setUp()
        self.content = fill(self.scratch / "it", 64 * MIB, seeded(1))
        self.meta = create(self.content, self.scratch / "it.meta")
        self.info_hash = swarm("show", self.meta, "--json").events[0]["info_hash_v1"]
        self.place()

    def place(self):
        self.seed_at, self.crowd_at, self.honest_at = LOOPBACK, Host("127.0.0.66"), Host("127.0.0.9")

    def crowd(self, count, kind):
        """What an honest downloader needs beside it, and the crowd."""
        seed = self.start(Swarm.source(self.meta, self.scratch, "--no-dht", host=self.seed_at))
        script = Path(__file__).with_name("crowd.py")
        command = (sys.executable, script, seed.address, self.crowd_at.ip, str(count), kind, self.info_hash)
        crowd = self.start(Process(self.crowd_at.command(*command)))
        crowd.wait_event("there")
        begin = time.monotonic()
        honest = Swarm.downloader(self.meta, self.scratch / "copy", [seed.address], "--no-dht", host=self.honest_at)
        self.start(honest).wait_complete(SECONDS)
        seconds = time.monotonic() - begin
        self.assert_same(self.content, self.scratch / "copy" / "it")
        self.assertTrue(seed.is_running())
        print(f"          {count} {kind}: {seconds:.2f} s", flush=True)
        return crowd

    def test_half_handshakes(self):
        self.crowd(1_000, "half")

    def test_half_handshakes_that_come_again(self):
        crowd = self.crowd(1_000, "again")
        until(lambda: crowd.events[-1].get("closed", 0) > 1_000, SECONDS, "closed and come again")

    def test_silent_ones(self):
        crowd = self.crowd(1_000, "silent")
        self.assertGreaterEqual(crowd.wait_event("count", open=99)["closed"], 901)

    def test_idle_ones(self):
        self.assertEqual(self.crowd(40, "idle").events[-1]["closed"], 0)

    def test_unread_ones(self):
        self.crowd(90, "unread")


class CrowdsFromElsewhere(Crowds):
    def place(self):
        network = Network(3)
        self.addCleanup(network.remove)
        self.seed_at, self.crowd_at, self.honest_at = (network.host(n, 4) for n in (1, 2, 3))


class Silent(Case):
    """Addresses at which somebody listens and never answers."""

    def listener(self, ip):
        listener = socket.create_server((ip, 0))
        self.addCleanup(listener.close)
        return listener.getsockname()

    def tracker(self, peers):
        compact = b"".join(socket.inet_aton(ip) + port.to_bytes(2, "big") for ip, port in peers)
        reply = b"d8:intervali1800e5:peers%d:%se" % (len(compact), compact)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f"http://127.0.0.1:{server.server_port}/announce"

    def test_one_that_answers_among_two_hundred_that_do_not(self):
        content = fill(self.scratch / "it", MIB, seeded(1))
        meta = create(content, self.scratch / "it.meta")
        seed = self.start(Swarm.source(meta, self.scratch, "--no-dht"))
        ip, port = seed.address.rsplit(":", 1)
        silent = [self.listener(f"127.1.0.{n}") for n in range(1, 201)]
        url = self.tracker([*silent, (ip, int(port))])
        begin = time.monotonic()
        got = self.start(Swarm.downloader(meta, self.scratch / "copy", (), "--no-dht", "--tracker", url))
        got.wait_complete(SECONDS)
        print(f"          one among 200: {time.monotonic() - begin:.2f} s", flush=True)
        self.assert_same(content, self.scratch / "copy" / "it")
