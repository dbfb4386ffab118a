"""Port mapping: a home network behind a router that runs miniupnpd, and a peer outside that dials in through it."""

import shutil
import subprocess
import sys

from clients import Swarm, SwarmProcess
from harness import SOON, Case, Host, Process, create, fill, program, seeded, until
from homes import TOLD, miniupnpd, route
from network import Network, ip

# In the home network of `Network`; the router is its host 1, the home computer its host 2.
ROUTER, HOME = "10.0.0.1", "10.0.0.2"
# Of the link outside.
OUTER, OUTSIDE = "172.30.0.1", "172.30.0.9"
PORT = 6881


class Behind(Case):
    """A home with a router, and a host outside."""

    def setUp(self):
        super().setUp()
        self.network = Network(3)
        self.addCleanup(self.network.remove)
        self.router, self.home, _ = (self.network.host(number, 4) for number in (1, 2, 3))
        outside = self.network.namespaces[3]
        self.outside = Host(OUTSIDE, outside)
        ip("-n", outside, "link", "set", "uplink", "down")
        ip("link", "add", "wan", "netns", self.router.namespace, "type", "veth", "peer", "name", "wan", "netns", outside)
        for namespace, address in ((self.router.namespace, OUTER), (outside, OUTSIDE)):
            ip("-n", namespace, "address", "add", f"{address}/24", "dev", "wan")
            ip("-n", namespace, "link", "set", "wan", "up")
        ip("-n", self.home.namespace, "route", "add", "default", "via", ROUTER)
        self.content = fill(self.scratch / "it", 1_000_000, seeded(1))
        self.meta = create(self.content, self.scratch / "it.meta")

    def seed(self, *args):
        """A seed at home that listens everywhere."""
        everywhere = Host("0.0.0.0", self.home.namespace)
        command = everywhere.command
        everywhere.command = lambda *parts: command(*("0.0.0.0:%d" % PORT if p == "0.0.0.0:0" else p for p in parts))
        return self.start(SwarmProcess("seed", self.meta, self.scratch, "--no-dht", "--no-lsd", *args, host=everywhere))

    def assert_reached(self, port):
        """Somebody outside gets it through the router."""
        copy = self.scratch / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        args = ("--no-dht", "--no-lsd", "--no-port-mapping")
        get = Swarm.downloader(self.meta, copy, [f"{OUTER}:{port}"], *args, host=self.outside)
        self.start(get).wait_complete(SOON)
        self.assert_same(self.content, copy / "it")


class Miniupnpd(Behind):
    waits = 90

    def setUp(self):
        super().setUp()
        self.nft = program("nft")
        program("miniupnpd")
        route(self.router, "uplink", 'oifname "wan" masquerade')

    def miniupnpd(self, **options):
        return self.start(miniupnpd(self.router, self.scratch, inside="uplink", outside="wan", **options))

    def clock(self):
        """For how many seconds the router says that it runs."""
        code = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.settimeout(5); s.connect(('%s', 5351)); " % ROUTER
        code += "s.send(bytes(2)); print(int.from_bytes(s.recv(12)[4:8], 'big'))"
        return int(subprocess.run(self.home.command(sys.executable, "-c", code), capture_output=True, check=True).stdout)

    def mapped(self):
        """Ports that the router passes on."""
        listed = subprocess.run(
            self.router.command(self.nft, "list", "chain", "inet", "filter", "MINIUPNPD_PRE"), capture_output=True, text=True
        )
        return listed.stdout.count(f"dport {PORT}")

    def test_pcp(self):
        self.miniupnpd()
        event = self.seed().wait_event("port_mapped", transport="tcp")
        self.assertEqual((event["method"], event["address"], event["external_port"]), ("PCP", TOLD, PORT))
        self.assert_reached(PORT)

    def test_nat_pmp(self):
        # A router that knows it alone: questions of version 2, which is PCP, do not reach it.
        drop = ("udp", "dport", "5351", "@th,64,8", "2", "drop")
        rule = self.router.command(self.nft, "insert", "rule", "inet", "filter", "input", *drop)
        subprocess.run(rule, check=True)
        self.miniupnpd(upnp="no")
        event = self.seed().wait_event("port_mapped", transport="tcp")
        self.assertEqual((event["method"], event["address"], event["external_port"]), ("NAT-PMP", TOLD, PORT))
        self.assert_reached(PORT)

    def test_upnp_only(self):
        self.miniupnpd(pmp="no")
        seed = self.seed()
        event = seed.wait_event("port_mapped", transport="tcp")
        self.assertEqual((event["method"], event["address"], event["external_port"]), ("UPnP", TOLD, PORT))
        self.assert_reached(PORT)
        seed.stop()
        until(lambda: self.mapped() == 0, SOON, "the mapping is taken away")

    def test_the_end_takes_the_mapping_away(self):
        self.miniupnpd()
        seed = self.seed()
        seed.wait_event("port_mapped", transport="tcp")
        until(lambda: self.mapped() == 2, SOON, "the port is mapped over TCP and UDP, and nothing else")
        seed.stop()
        until(lambda: self.mapped() == 0, SOON, "the mapping is taken away")

    def test_a_router_that_starts_again_maps_it_again(self):
        router = self.miniupnpd()
        # A clock that has hardly begun cannot go back.
        until(lambda: self.clock() >= 15, SOON, "the router's clock runs")
        self.seed().wait_event("port_mapped", transport="tcp")
        router.kill()
        subprocess.run(self.router.command(self.nft, "flush", "chain", "inet", "filter", "MINIUPNPD_PRE"), check=True)
        subprocess.run(self.router.command(self.nft, "flush", "chain", "inet", "filter", "MINIUPNPD"), check=True)
        self.assertEqual(self.mapped(), 0)
        self.miniupnpd()
        # It is asked for a sign of life each minute.
        until(lambda: self.mapped() == 2, 90, "the port is mapped again")
        self.assert_reached(PORT)

    def test_a_router_that_refuses_is_named(self):
        # Asked by PCP, it looks through all ports for one that is allowed, for longer than anybody waits.
        self.miniupnpd(pmp="no", rule="deny")
        reason = self.seed().wait_event("port_not_mapped", transport="tcp")["reason"]
        self.assertIn("PCP: nobody listens there; NAT-PMP: nobody listens there; UPnP: refused", reason)

    def test_without_port_mapping_nothing_is_asked(self):
        self.miniupnpd()
        seed = self.seed("--no-port-mapping")
        seed.wait_event("checked")
        seed.stop()
        self.assertEqual(self.mapped(), 0)
        self.assertIsNone(seed.find("port_mapped"))


NONSENSE = """
import os, random, socket, sys
rng, gateway = random.Random(1), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
gateway.bind((sys.argv[1], 5351))
print("ready", flush=True)
while True:
    asked, who = gateway.recvfrom(2000)
    answer = bytearray(asked.ljust(60, b"\\0"))
    answer[1] |= 0x80
    for _ in range(20):
        # Half of it is noise, half of it nearly right: no port, no lifetime, another client's.
        if rng.random() < 0.5:
            gateway.sendto(rng.randbytes(rng.randrange(1400)), who)
        answer[42:44] = b"\\0\\0"
        answer[10:16] = rng.randbytes(6)
        gateway.sendto(bytes(answer[: rng.choice((2, 8, 12, 16, 24, 60))]), who)
"""


class Nonsense(Behind):
    def test_a_router_that_answers_nonsense_is_survived_and_named(self):
        self.start(Process(self.router.command(sys.executable, "-c", NONSENSE, ROUTER))).wait_line("ready")
        seed = self.seed()
        self.assertIn("PCP: ", seed.wait_event("port_not_mapped", transport="tcp")["reason"])
        self.assertTrue(seed.is_running())
