"""At home: a source and a downloader behind a router each, and a tracker outside. What has them meet is a port that one router passes on, nothing
but holepunching by a third peer, or a proxy."""

import struct
import subprocess

import libtorrent as lt
from clients import Swarm, SwarmProcess, Tracker
from harness import BIN, SOON, Case, Host, Process, create, fill, program, seeded, until
from homes import CHANGES_PORTS, KEEPS_PORTS, Homes

QUIET = ("--no-dht", "--no-lsd", "-v")


class Home(Case):
    waits = 9

    def setUp(self):
        super().setUp()
        self.content = fill(self.scratch / "it", 3_000_000, seeded(1))
        self.meta = create(self.content, self.scratch / "it.meta")

    def internet(self, outside, *nats):
        self.homes = Homes(outside, *nats)
        self.addCleanup(self.homes.remove)
        self.source, self.downloader = (Host("0.0.0.0", home.namespace) for home in self.homes.homes)
        self.tracker = self.start(Tracker(host=self.homes.outside[0], port=6969))

    def seed(self, *args):
        command = ("seed", self.meta, self.scratch, "--tracker", self.tracker.url, *QUIET, *args)
        return self.start(SwarmProcess(*command, host=self.source))

    def get(self, *args):
        args = ("--tracker", self.tracker.url, *QUIET, *args)
        return self.start(Swarm.downloader(self.meta, self.scratch / "copy", [], *args, host=self.downloader))

    def known_port(self, peer):
        """The port that a router passes on, once the tracker tells of it: who asks before is told of one that nobody reaches, and asks again half
        an hour later."""
        port = peer.wait_event("port_mapped", transport="tcp")["external_port"]
        info_hash = peer.wait_event("metadata")["info_hash"]
        until(lambda: port in self.known(info_hash), SOON, f"the tracker knows the port: {peer}")
        return port

    def known(self, info_hash):
        """The ports that the tracker tells of."""
        hash_ = "".join(f"%{info_hash[at:at + 2]}" for at in range(0, 40, 2))
        query = f"info_hash={hash_}&peer_id={'p' * 20}&port=1&left=1&uploaded=0&downloaded=0&compact=1"
        asked = self.homes.outside[0].command(program("curl"), "--silent", f"{self.tracker.url}?{query}")
        answer = subprocess.run(asked, check=True, capture_output=True, timeout=SOON).stdout
        peers = lt.bdecode(answer)[b"peers"]
        return {port for _, port in struct.iter_unpack(">IH", peers)}

    def assert_got(self, getter, source, over):
        getter.wait_complete(SOON)
        self.assert_same(self.content, self.scratch / "copy/it")
        self.assertIn(over, getter.wait_line(f"connected addr={source}"))

    def test_the_sources_router_passes_its_port_on(self):
        self.internet(1, KEEPS_PORTS, KEEPS_PORTS)
        self.start(self.homes.miniupnpd(0, self.scratch))
        port = self.known_port(self.seed())
        getter = self.get("--no-utp", "--no-port-mapping")
        self.assert_got(getter, f"{self.homes.routers[0].ip}:{port}", "TCP")

    def test_the_downloaders_router_passes_its_port_on(self):
        self.internet(1, KEEPS_PORTS, KEEPS_PORTS)
        self.start(self.homes.miniupnpd(1, self.scratch))
        getter = self.get("--no-utp")
        self.known_port(getter)
        self.seed("--no-utp", "--no-port-mapping")
        self.assert_got(getter, self.homes.routers[0].ip, "TCP")

    def test_a_third_peer_has_them_meet(self):
        for nat in (KEEPS_PORTS, CHANGES_PORTS):
            with self.subTest(nat):
                self.internet(1, nat, nat)
                # It has nothing, and fetches nothing to speak of.
                args = ("--tracker", self.tracker.url, "--max-down", "1B/s", "--no-port-mapping", *QUIET)
                third = Swarm.downloader(self.meta, self.scratch / "third", [], *args, host=self.homes.outside[0])
                self.start(third).wait_event("listening")
                seed, getter = self.seed("--no-port-mapping"), self.get("--no-port-mapping")
                self.assert_got(getter, self.homes.routers[0].ip, "uTP")
                for process in (seed, getter, third, self.tracker):
                    process.stop()
                self.homes.remove()
                (self.scratch / "copy/it").unlink()

    def test_nothing_is_let_out_but_to_a_proxy(self):
        self.internet(2, KEEPS_PORTS, KEEPS_PORTS)
        self.start(self.homes.miniupnpd(0, self.scratch))
        proxy = self.homes.outside[1]
        self.homes.let_out_only_to(1, proxy.ip)
        self.start(Process(proxy.command(program("microsocks"), "-i", proxy.ip, "-p", "1080")))
        listens = lambda: Process(proxy.command("ss", "-Hltn")).expect(0).output
        until(listens, SOON, "the proxy listens")
        port = self.seed().wait_event("port_mapped", transport="tcp")["external_port"]
        command = (BIN / "swarm", "get", self.meta, "-o", self.scratch / "copy", "--json", "--no-state", "-v")
        command += ("--tracker", self.tracker.url)
        getter = Process(self.downloader.command(*command), env={"ALL_PROXY": f"socks5://{proxy.ip}:1080"})
        self.start(getter).wait_event("complete", SOON)
        self.assert_same(self.content, self.scratch / "copy/it")
        source = f"{self.homes.routers[0].ip}:{port}"
        self.assertIn("TCP through the proxy", getter.wait_line(f"connected addr={source}"))
        self.assertEqual(self.homes.kept_in(1), 0)
