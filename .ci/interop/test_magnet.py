"""Clients that know an info-hash only, and get the metadata from our seed (BEP 9)."""

from clients import Aria2, Libtorrent, Swarm, Tracker
from harness import LOOPBACK, LOOPBACK6, Case, create, seeded, small_files, swarm

SECONDS = 60


class Magnet(Case):
    host = LOOPBACK

    def from_a_magnet_link(self, client):
        tracker = self.start(Tracker(host=self.host))
        # So many names that the metadata has several pieces.
        content = small_files(self.scratch / "many files", 2_000, seeded(1))
        meta = create(content, self.scratch / "it.meta", "-a", tracker.url)
        self.assertGreater(meta.stat().st_size, 3 * 16 * 1024)
        link = swarm("magnet", meta).output[0]
        seed = self.start(Swarm.source(meta, self.scratch, host=self.host))
        copy = self.start(client.downloader(link, self.scratch / "copy", [seed.address], host=self.host))
        copy.wait_complete(SECONDS)
        copy.stop()
        self.assert_same(content, self.scratch / "copy" / content.name)

    def test_libtorrent_gets_the_metadata(self):
        self.from_a_magnet_link(Libtorrent)

    def test_aria2_gets_the_metadata(self):
        self.from_a_magnet_link(Aria2)


class MagnetIpv6(Magnet):
    host = LOOPBACK6
