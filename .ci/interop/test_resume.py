"""`get` after `kill -9`: what was announced is neither lost nor downloaded again."""

import subprocess

from clients import Swarm
from harness import LOOPBACK, LOOPBACK6, MIB, Case, create, fill, seeded, small_files, swarm
from watcher import Watcher

PIECE = 256 << 10


class KillNine(Case):
    waits = 8
    scratch_bytes = 512 * MIB
    host = LOOPBACK

    def torture(self, content, rng, kills):
        meta = create(content, self.scratch / "it.meta", "-l", f"{PIECE >> 10}KiB")
        shown = swarm("show", meta, "--json").events[0]
        seed = self.start(Swarm.source(meta, self.scratch, host=self.host))
        copies = self.scratch / "copies"
        # Before and while it looks at what is there.
        for _ in range(3):
            get = self.start(Swarm.downloader(meta, copies, host=self.host))
            try:
                get.process.wait(rng.random() / 8)
            except subprocess.TimeoutExpired:
                pass
            get.kill()
        announced = set()
        for _ in range(kills):
            get = self.start(Swarm.downloader(meta, copies, [seed.address], "--max-down", "40MB/s", host=self.host))
            checked = get.wait_event("checked")
            watcher = Watcher(get.address, shown["info_hash_v1"])
            wanted = len(announced) + rng.randrange(shown["pieces"] // (kills + 1) + 1)
            try:
                # Until that much is there, and then any moment more.
                get._wait(lambda: len(watcher.announced) >= wanted, 60, f"{wanted} pieces")
                get.process.wait(rng.random() / 4)
            except subprocess.TimeoutExpired:
                pass
            get.kill()
            watcher.stop()
            self.assertGreaterEqual(checked["pieces_have"], len(announced), str(get))
            # All that was announced before is announced again, and more.
            self.assertEqual(announced - watcher.announced, set(), str(get))
            announced |= watcher.announced
        self.assertGreater(len(announced), 0)
        self.assertLess(len(announced), shown["pieces"], "it was never killed before the end")

        get = Swarm.downloader(meta, copies, [seed.address], host=self.host)
        get.expect(0, 120)
        have = get.find("checked")["pieces_have"]
        self.assertGreaterEqual(have, len(announced), str(get))
        missing = (shown["pieces"] - have) * PIECE
        self.assertLessEqual(get.find("complete")["bytes_down"], missing, str(get))
        self.assert_same(content, copies / content.name)
        self.assertEqual([path.name for path in copies.iterdir()], [content.name], "stray files")

    def test_a_single_file_goes_on_where_it_was(self):
        self.torture(fill(self.scratch / "file.bin", 160 * MIB + 4321, seeded(1)), seeded(2), 6)

    def test_a_tree_of_small_files_goes_on_where_it_was(self):
        rng = seeded(3)
        tree = small_files(self.scratch / "tree", 2000, rng)
        fill(tree / "large.bin", 60 * MIB, rng)
        self.torture(tree, rng, 4)


class KillNineIpv6(KillNine):
    host = LOOPBACK6
