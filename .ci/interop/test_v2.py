"""BitTorrent v2 (BEP 52), alone and in hybrids: with libtorrent on either side, from files and from links, and with peers between that know
one version only."""

import shutil

from clients import Libtorrent, Swarm, Tracker
from harness import MIB, Case, create, fill, seeded, swarm
from more_clients import QBittorrent

SECONDS = 60
PIECE = 64 << 10
FORMATS = ["v2", "hybrid"]
CLIENTS = [Swarm, Libtorrent]


def tree(folder, seed, large=6):
    """Files of all lengths about the edges of blocks and pieces, the same one twice, and in an order that versions 1 and 2 differ in."""
    rng = seeded(seed)
    lengths = [0, 1, 16_383, 16_384, 16_385, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 4 * PIECE, 5 * PIECE + 7]
    for i, length in enumerate(lengths):
        fill(folder / "edges" / f"{i}", length, rng)
    for i in range(large):
        fill(folder / f"larger {i}", rng.randrange(3 * MIB), rng)
    fill(folder / "a-b", 100_000, rng)
    fill(folder / "a" / "x", 100_000, seeded(seed + 1))
    fill(folder / "z" / "same as a x", 100_000, seeded(seed + 1))
    return folder


def info_hashes(meta):
    shown = swarm("show", "--json", meta).events[0]
    return shown["info_hash_v1"], shown["info_hash_v2"]


class Created(Case):
    """What we make is what libtorrent makes of the same files."""

    def test_random_trees_have_libtorrents_info_hashes(self):
        lt, compared = Libtorrent.needed(), 0
        for seed in range(12):
            rng = seeded(seed)
            root = self.scratch / str(seed) / "tree"
            names = ["a", "a-b", "B", "z.txt", "é", "x y", "00"]

            def make(folder, depth):
                for name in rng.sample(names, rng.randint(2, 4)):
                    if depth < 3 and rng.random() < 0.35:
                        make(folder / name, depth + 1)
                    else:
                        lengths = [0, 1, 16_384, 16_385, 65_536, 65_537, rng.randint(0, 400_000), 262_144]
                        fill(folder / name, rng.choice(lengths), rng)

            make(root, 0)
            piece = rng.choice([16, 32, 64, 128]) << 10
            for name, flags in (("v2", lt.create_torrent.v2_only), ("hybrid", 0)):
                torrent = lt.create_torrent(lt.list_files(str(root)), piece, flags)
                lt.set_piece_hashes(torrent, str(root.parent))
                try:
                    hashes = lt.load_torrent_buffer(lt.bencode(torrent.generate())).ti.info_hashes()
                except RuntimeError:
                    # It cannot read all that it makes itself.
                    continue
                meta = create(root, root.parent / f"{name}.meta", "--format", name, "-l", f"{piece >> 10}KiB")
                theirs = str(hashes.v1) if hashes.has_v1() else None, str(hashes.v2)
                self.assertEqual(info_hashes(meta), theirs, f"tree {seed}, {name}")
                lt.load_torrent_file(str(meta))
                compared += 1
        self.assertGreater(compared, 12)


class Transfers(Case):
    waits = 20
    scratch_bytes = 256 * MIB

    def setUp(self):
        super().setUp()
        self.tracker = self.start(Tracker())
        self.content = tree(self.scratch / "source" / "content", 5)

    def made(self, form):
        out = self.scratch / f"{form}.meta"
        return create(self.content, out, "-f", "--format", form, "-l", "64KiB", "-a", self.tracker.url)

    def exchange(self, source, downloader, form, what=None):
        meta = self.made(form)
        copy = self.scratch / f"{form} from {source.name} to {downloader.name}"
        with source.source(meta, self.content.parent) as seed:
            with downloader.downloader(what(meta) if what else meta, copy, [seed.address]) as get:
                get.wait_complete(SECONDS)
        self.assert_same(self.content, copy / self.content.name)

    def each(self, what=None):
        for form in FORMATS:
            for source, downloader in ((Swarm, Swarm), (Libtorrent, Swarm), (Swarm, Libtorrent)):
                with self.subTest(form=form, source=source.name, downloader=downloader.name):
                    self.exchange(source, downloader, form, what)

    def test_from_files(self):
        self.each()

    def test_from_links(self):
        self.each(lambda meta: swarm("magnet", meta).output[0])

    def test_a_hybrid_from_a_link_that_names_one_of_its_info_hashes(self):
        meta = self.made("hybrid")
        v1, v2 = info_hashes(meta)
        for topic in (f"urn:btih:{v1}", f"urn:btmh:1220{v2}"):
            for source, downloader in ((Swarm, Swarm), (Libtorrent, Swarm), (Swarm, Libtorrent)):
                with self.subTest(topic=topic[:8], source=source.name, downloader=downloader.name):
                    self.exchange(source, downloader, "hybrid", lambda _: f"magnet:?xt={topic}")

    def test_peers_of_one_version_each_with_us_between(self):
        # libtorrent knows a torrent from a link by what that names. There is no tracker and no PEX: each knows nobody but us, and nobody but us
        # knows the source.
        meta = create(self.content, self.scratch / "untold.meta", "-f", "--format", "hybrid", "-l", "64KiB")
        source = self.start(Libtorrent.source(meta, self.content.parent, "--no-pex"))
        copies = [self.scratch / f"copy {n}" for n in range(3)]
        us = self.start(Swarm.downloader(meta, copies[0], [source.address], "--seed"))
        v1, v2 = info_hashes(meta)
        running = [us]
        for topic, copy in zip((f"urn:btih:{v1}", f"urn:btmh:1220{v2}"), copies[1:]):
            running.append(self.start(Libtorrent.downloader(f"magnet:?xt={topic}", copy, [us.address], "--no-pex")))
        for get in running:
            get.wait_complete(SECONDS)
        for copy in copies:
            self.assert_same(self.content, copy / self.content.name)
        us.stop()
        length = sum(path.stat().st_size for path in self.content.rglob("*") if path.is_file())
        self.assertGreaterEqual(us.wait_event("stopped")["bytes_up"], 2 * length, "each had everything from us")

    def test_qbittorrent(self):
        for form in FORMATS:
            meta = self.made(form)
            link = swarm("magnet", meta).output[0]
            with self.subTest(form=form, source="qbittorrent"):
                with QBittorrent.source(meta, self.content.parent, "tcp", "off") as seed:
                    for n, what in enumerate((meta, link)):
                        copy = self.scratch / f"{form} from qbittorrent {n}"
                        with Swarm.downloader(what, copy, [seed.address]) as get:
                            get.wait_complete(SECONDS)
                        self.assert_same(self.content, copy / self.content.name)
            for n, what in enumerate((meta, link)):
                copy = self.scratch / f"{form} to qbittorrent {n}"
                copy.mkdir()
                with self.subTest(form=form, downloader="qbittorrent", link=what is link):
                    # Each with a source of its own: one that has met it as another peer may be left alone by it for a while.
                    with Swarm.source(meta, self.content.parent), QBittorrent.downloader(what, copy, [], "tcp", "off") as get:
                        # libtorrent ends a hybrid from a link with torrent_inconsistent_hashes when the hashes of a file come while a piece
                        # of that file has been verified and not been written yet (`torrent::add_hashes`).
                        if form == "hybrid" and what is link:
                            if get.wait_complete_or_resume(SECONDS):
                                print(f"  note    {self.id()}: qBittorrent had to be resumed once, as its libtorrent has it", flush=True)
                        else:
                            get.wait_complete(SECONDS)
                    self.assert_same(self.content, copy / self.content.name)


class Poison(Case):
    """What is on disk is not what the metainfo says."""

    scratch_bytes = 64 * MIB

    def test_verify_names_the_file(self):
        content = tree(self.scratch / "content", 9, large=2)
        for form in FORMATS:
            meta = create(content, self.scratch / f"{form}.meta", "--format", form, "-l", "64KiB")
            swarm("verify", meta, self.scratch)
            with open(content / "edges" / "9", "r+b") as file:
                file.seek(3 * PIECE + 5)
                byte = file.read(1)
                file.seek(3 * PIECE + 5)
                file.write(bytes([byte[0] ^ 1]))
            self.assertIn("edges/9", str(swarm("verify", meta, self.scratch, status=4)))
            with open(content / "edges" / "9", "r+b") as file:
                file.seek(3 * PIECE + 5)
                file.write(byte)


class BadBlocks(Case):
    """Among who sends is one that sends nothing right. The leaves of the others tell its blocks apart."""

    scratch_bytes = 256 * MIB
    PIECE = 1 << 20

    def setUp(self):
        super().setUp()
        self.content = self.scratch / "source" / "content"
        for i, length in enumerate((20 * MIB + 5, 1)):
            fill(self.content / f"{i}", length, seeded(i))

    def poisoned(self, form, source, downloader):
        """What the downloader says in the end."""
        meta = create(self.content, self.scratch / f"{form}.meta", "-f", "--format", form, "-l", "1MiB")
        copy = self.scratch / f"{form} from {source.name} to {downloader.name}"
        with source.source(meta, self.content.parent) as seed:
            with Swarm.source(meta, self.content.parent, "--inject-poison") as liar:
                with downloader.downloader(meta, copy, [seed.address, liar.address]) as get:
                    done = get.wait_complete(SECONDS)
        self.assert_same(self.content, copy / self.content.name)
        return done

    def test_a_liar_costs_what_it_sends(self):
        for form in FORMATS:
            # libtorrent as the downloader would ban both, whose address is one.
            for source in CLIENTS:
                with self.subTest(form=form, source=source.name):
                    done = self.poisoned(form, source, Swarm)
                    self.assertGreater(done["pieces_failed"], 0)
                    sent = min(peer["bytes_down"] for peer in done["peers"])
                    self.assertLessEqual(done["bytes_corrupt"], sent)


class Repair(Case):
    """Of a damaged copy only bad blocks are fetched, with leaves that libtorrent has as well."""

    scratch_bytes = 128 * MIB
    BLOCK = 16 << 10

    def test_bad_blocks_alone_are_fetched(self):
        content = self.scratch / "source" / "content"
        for i, length in enumerate((10 * MIB + 5, 3 * MIB)):
            fill(content / f"{i}", length, seeded(i))
        for form in FORMATS:
            meta = create(content, self.scratch / f"{form}.meta", "--format", form, "-l", "1MiB")
            for source in CLIENTS:
                with self.subTest(form=form, source=source.name):
                    copy = self.scratch / f"{form} of {source.name}"
                    shutil.copytree(content.parent, copy)
                    with open(copy / "content" / "0", "r+b") as file:
                        for block in (0, 17, 18, 300):
                            file.seek(block * self.BLOCK + 9)
                            file.write(b"not what it was")
                    with source.source(meta, content.parent) as seed:
                        done = swarm("verify", meta, copy, "--repair", "--json", "--peer", seed.address, "--listen", "127.0.0.1:0").events[-1]
                    self.assertEqual(done["event"], "complete")
                    self.assertLessEqual(done["bytes_down"], 4 * self.BLOCK)
                    self.assert_same(content, copy / "content")
