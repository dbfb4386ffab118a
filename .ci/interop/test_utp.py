"""uTP with libtorrent, each as source for us and as downloader from us. It is made to take nothing else, and its counters say so."""

import shutil

from clients import Libtorrent, Swarm
from harness import MIB, Case, create, fill, new_scratch, seeded

SECONDS = 120
LENGTH = 40 * MIB + 5
ONLY_UTP = [
    arg
    for name, value in {
        "enable_outgoing_utp": "true",
        "enable_incoming_utp": "true",
        "enable_outgoing_tcp": "false",
        "enable_incoming_tcp": "false",
    }.items()
    for arg in ("--set", f"{name}={value}")
]


class Utp(Case):
    scratch_bytes = 256 * MIB

    @classmethod
    def setUpClass(cls):
        cls.material = new_scratch(64 * MIB)
        cls.addClassCleanup(shutil.rmtree, cls.material, ignore_errors=True)
        cls.content = fill(cls.material / "it.bin", LENGTH, seeded(1))
        cls.meta = create(cls.content, cls.material / "it.meta")

    def transfer(self, source, downloader):
        copies = self.scratch / "copies"
        downloader = self.start(downloader(copies, [self.start(source).address]))
        downloader.wait_complete(SECONDS)
        self.assert_same(self.content, copies / "it.bin")

    def test_libtorrent_to_swarm(self):
        for ours in (["--no-tcp"], []):
            with self.subTest(ours):
                source = Libtorrent.source(self.meta, self.material, *ONLY_UTP)
                self.transfer(source, lambda folder, peers: Swarm.downloader(self.meta, folder, peers, *ours))

    def test_swarm_to_libtorrent(self):
        for ours in (["--no-tcp"], []):
            with self.subTest(ours):
                source = Swarm.source(self.meta, self.material, *ours)
                get = lambda folder, peers: Libtorrent.downloader(self.meta, folder, peers, *ONLY_UTP)
                self.transfer(source, get)

    def test_swarm_to_swarm(self):
        source = Swarm.source(self.meta, self.material, "--no-tcp")
        self.transfer(source, lambda folder, peers: Swarm.downloader(self.meta, folder, peers, "--no-tcp"))
