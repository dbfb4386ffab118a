"""Local discovery (BEP 14), ours and libtorrent's: two hosts on one network, and nothing else that brings them together."""

from clients import LibtorrentProcess, Swarm
from harness import SOON, Case, Host, create, fill, seeded
from network import Network, ip

LSD = "--set", "enable_lsd=true"


class LocalDiscovery(Case):
    version = 4

    def setUp(self):
        super().setUp()
        self.network = Network(2)
        self.addCleanup(self.network.remove)
        self.here, self.there = (self.network.host(number, self.version) for number in (1, 2))
        self.content = fill(self.scratch / "it", 3_000_000, seeded(1))
        self.meta = create(self.content, self.scratch / "it.meta")
        self.copy = self.scratch / "copy"

    def assert_got(self, downloader):
        self.start(downloader).wait_complete(SOON)
        self.assert_same(self.content, self.copy / "it")

    def we_seed(self):
        self.start(Swarm.source(self.meta, self.scratch, "--no-dht", host=self.here))

    def we_get(self):
        self.assert_got(Swarm.downloader(self.meta, self.copy, (), "--no-dht", host=self.there))

    def test_swarm_to_swarm(self):
        self.we_seed()
        self.we_get()

    def test_swarm_to_libtorrent(self):
        self.we_seed()
        self.assert_got(LibtorrentProcess(self.meta, self.copy, LSD, self.there))

    def test_libtorrent_to_swarm(self):
        self.start(LibtorrentProcess(self.meta, self.scratch, LSD, self.here)).wait_complete(SOON)
        self.we_get()

    def test_everywhere_means_every_network(self):
        """A session that listens everywhere is heard on each network, not only on the one that the system prefers."""
        link, address = ("-n", self.here.namespace), "10.9.0.1/24" if self.version == 4 else "fd09::1/64"
        ip(*link, "link", "add", "preferred", "type", "bridge")
        ip(*link, "address", "add", address, "dev", "preferred", *(["nodad"] if self.version == 6 else []))
        ip(*link, "link", "set", "preferred", "up")
        if self.version == 4:
            ip(*link, "route", "add", "224.0.0.0/4", "dev", "preferred")
        everywhere = Host("0.0.0.0" if self.version == 4 else "::", self.here.namespace)
        self.start(Swarm.source(self.meta, self.scratch, "--no-dht", host=everywhere))
        self.we_get()


class LocalDiscoveryIpv6(LocalDiscovery):
    version = 6
