"""A large file and a tree of many small ones, from each client to each other."""

import shutil
import urllib.parse
import urllib.request

from clients import Aria2, Libtorrent, Swarm, Tracker
from harness import GIB, LOOPBACK, LOOPBACK6, MIB, SOON, Case, create, fill, new_scratch, seeded, small_files, swarm, until


class Transfer:
    """What is transferred is made once for all tests of a class; each test compares its copies and removes them."""

    scratch_bytes = 3 * GIB
    seconds = 240
    host = LOOPBACK

    @classmethod
    def setUpClass(cls):
        cls.material = new_scratch(2 * GIB)
        cls.addClassCleanup(shutil.rmtree, cls.material, ignore_errors=True)
        cls.tracker = Tracker(host=cls.host)
        cls.addClassCleanup(cls.tracker.stop)
        cls.content = cls.make(cls.material)
        cls.meta = create(cls.content, cls.material / "it.meta", "-a", cls.tracker.url)

    def transfer(self, source, downloader, copies=1, by_tracker=False):
        seed = self.start(source.source(self.meta, self.material, host=self.host))
        peers = [] if by_tracker else [seed.address]
        folders = [self.scratch / f"copy {i}" for i in range(copies)]
        start = lambda folder: self.start(downloader.downloader(self.meta, folder, peers, host=self.host))
        running = [start(folder) for folder in folders]
        for copy in running:
            copy.wait_complete(self.seconds)
        for copy, folder in zip(running, folders):
            copy.stop()
            self.assert_same(self.content, folder / self.content.name)
        return running

    def test_swarm_to_two_through_the_tracker(self):
        for get in self.transfer(Swarm, Swarm, copies=2, by_tracker=True):
            self.assertEqual(get.process.returncode, 0, str(get))

    def test_libtorrent_to_swarm(self):
        self.transfer(Libtorrent, Swarm)

    def test_swarm_to_libtorrent(self):
        self.transfer(Swarm, Libtorrent)

    def test_aria2_to_swarm(self):
        self.transfer(Aria2, Swarm)

    def test_swarm_to_aria2(self):
        self.transfer(Swarm, Aria2, by_tracker=True)


class LargeFile(Transfer, Case):
    """1 GiB."""

    @staticmethod
    def make(folder):
        return fill(folder / "large.bin", GIB, seeded(1))


class ManyFiles(Transfer, Case):
    """20,000 files of up to 4 KiB."""

    @staticmethod
    def make(folder):
        return small_files(folder / "many files", 20_000, seeded(2))


class LargeFileIpv6(LargeFile):
    """128 MiB over IPv6."""

    host = LOOPBACK6

    @staticmethod
    def make(folder):
        return fill(folder / "large.bin", 128 * MIB, seeded(3))


class ManyFilesIpv6(ManyFiles):
    """2,000 files of up to 4 KiB over IPv6."""

    host = LOOPBACK6

    @staticmethod
    def make(folder):
        return small_files(folder / "many files", 2_000, seeded(4))


class Announce(Case):
    host = LOOPBACK

    def test_a_seed_is_counted_as_one(self):
        tracker = self.start(Tracker(host=self.host))
        content = fill(self.scratch / "it.bin", MIB, seeded(5))
        meta = create(content, self.scratch / "it.meta", "-a", tracker.url)
        info_hash = bytes.fromhex(swarm("show", meta, "--json").events[0]["info_hash_v1"])
        scrape = f"{tracker.url.replace('announce', 'scrape')}?info_hash={urllib.parse.quote(info_hash)}"
        self.start(Swarm.source(meta, self.scratch, host=self.host))
        counted = lambda: b"8:completei1e10:downloadedi0e10:incompletei0e" in urllib.request.urlopen(scrape).read()
        until(counted, SOON, "the tracker counts one seed")


class AnnounceIpv6(Announce):
    host = LOOPBACK6
