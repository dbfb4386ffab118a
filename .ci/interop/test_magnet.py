"""Magnet links: whoever downloads knows an info-hash and a tracker, and gets the metadata from the other (BEP 9)."""


from clients import Aria2, Libtorrent, Swarm, Tracker, Transmission
from harness import LOOPBACK, LOOPBACK6, SOON, Case, create, seeded, small_files, swarm
from network import Network

METADATA_PIECE = 16 << 10


class WithLink(Case):
    """A torrent of so many names that its metadata has several pieces, and a tracker."""

    def prepare(self, tracker_host):
        self.tracker = self.start(Tracker(host=tracker_host))
        self.content = small_files(self.scratch / "many files", 2_000, seeded(1))
        self.meta = create(self.content, self.scratch / "it.meta", "-f", "-a", self.tracker.url)
        self.assertGreater(self.meta.stat().st_size, 3 * METADATA_PIECE)
        self.link = swarm("magnet", self.meta).output[0]

    def exchange(self, source, downloader, here, there):
        copy = self.scratch / f"from {source.name} to {downloader.name}"
        with source.source(self.meta, self.scratch, host=here), downloader.downloader(self.link, copy, host=there) as get:
            get.wait_complete(SOON)
        self.assert_same(self.content, copy / self.content.name)


class Magnet(WithLink):
    waits = 12
    host = LOOPBACK

    def setUp(self):
        super().setUp()
        self.prepare(self.host)

    def test_swarm_to_swarm(self):
        self.exchange(Swarm, Swarm, self.host, self.host)

    def test_swarm_to_libtorrent(self):
        self.exchange(Swarm, Libtorrent, self.host, self.host)

    def test_libtorrent_to_swarm(self):
        self.exchange(Libtorrent, Swarm, self.host, self.host)

    def test_swarm_to_aria2(self):
        self.exchange(Swarm, Aria2, self.host, self.host)

    def test_aria2_to_swarm(self):
        self.exchange(Aria2, Swarm, self.host, self.host)

    def test_show_with_libtorrent(self):
        seed = self.start(Libtorrent.source(self.meta, self.scratch, host=self.host))
        local = "--no-tracker", "--no-dht", "--no-state", "--listen", self.host.endpoint(0)
        shown = swarm("show", "--fetch", self.link, "--json", "--peer", seed.address, *local).events[0]
        read = swarm("show", self.meta, "--json").events[0]
        for key in ("info_hash_v1", "files", "piece_length"):
            self.assertEqual(shown[key], read[key])


class MagnetIpv6(Magnet):
    host = LOOPBACK6


class Namespaces(WithLink):
    """Transmission takes no peers on loopback."""

    waits = 40
    version = 4

    def setUp(self):
        super().setUp()
        self.network = Network(3)
        self.addCleanup(self.network.remove)
        self.here, self.there, at = (self.network.host(number, self.version) for number in (1, 2, 3))
        self.prepare(at)

    def test_swarm_to_transmission(self):
        self.exchange(Swarm, Transmission, self.here, self.there)

    def test_transmission_to_swarm(self):
        self.exchange(Transmission, Swarm, self.here, self.there)


class NamespacesIpv6(Namespaces):
    version = 6
