"""Local discovery (BEP 14), ours and libtorrent's: two hosts on one network, and nothing else that brings them together."""

from clients import LibtorrentProcess, Swarm
from harness import SOON, Case, create, fill, seeded
from network import Network

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


class LocalDiscoveryIpv6(LocalDiscovery):
    version = 6
