"""Peers that tell each other of peers (BEP 11), ours and libtorrent's: a slow seed that tells nobody, somebody who knows it, and
somebody who knows only that one, and must come to be connected to the seed."""

from clients import Libtorrent, Swarm
from harness import LOOPBACK, LOOPBACK6, Case, create, fill, seeded

SECONDS = 90


class PeerExchange(Case):
    host = LOOPBACK

    def setUp(self):
        super().setUp()
        # More than the seed sends in the time of the test: nobody is done, and leaves.
        self.meta = create(fill(self.scratch / "it", 3_000_000, seeded(1)), self.scratch / "it.meta")
        args = "--no-dht", "--no-pex", "--max-up", "20kB/s"
        self.seed = self.start(Swarm.source(self.meta, self.scratch, *args, host=self.host))

    def we_get(self, name, peer):
        return self.start(Swarm.downloader(self.meta, self.scratch / name, [peer.address], "--no-dht", host=self.host))

    def they_get(self, name, peer):
        return self.start(Libtorrent.downloader(self.meta, self.scratch / name, [peer.address], host=self.host))

    def test_libtorrent_tells_swarm(self):
        between = self.they_get("between", self.seed)
        between.wait_event("peers", SECONDS, count=1)
        self.we_get("copy", between).wait_event("progress", SECONDS, peers=2)

    def test_swarm_tells_libtorrent(self):
        between = self.we_get("between", self.seed)
        between.wait_event("progress", SECONDS, peers=1)
        self.they_get("copy", between).wait_event("peers", SECONDS, count=2)


class PeerExchangeIpv6(PeerExchange):
    host = LOOPBACK6
