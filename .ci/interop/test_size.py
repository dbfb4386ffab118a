"""Very many pieces: memory by the length of the metainfo, limits that are told beforehand. The whole size is `benches/size.py`'s."""

import random

from clients import Swarm
from harness import BIN, GIB, MIB, Case, Memory, Process, create, swarm

PIECE = 16 << 10
FEW, MANY = GIB // 2, 4 * GIB
# What differs from run to run, however many pieces there are.
SLACK = 8 * MIB
# Blocks that wait to be hashed and written, of whatever torrent: how many there are depends on the disk.
BUFFERS = 32 * MIB


class VeryManyPieces(Case):
    on_disk = True
    # The source is sparse, and the copy is reserved in full.
    scratch_bytes = MANY + MANY // 8

    def source(self, length):
        """A sparse file with something in a few places."""
        folder = self.scratch / f"{length // MIB}"
        folder.mkdir()
        rng = random.Random(1)
        with open(folder / "it.bin", "wb") as file:
            file.truncate(length)
            for _ in range(16):
                file.seek(rng.randrange(length - MIB))
                file.write(rng.randbytes(MIB))
        return folder

    def peak(self, *args, status=0):
        """The most memory that a command had until its end."""
        process = Process([BIN / "swarm", *args])
        memory = Memory(process.pid)
        process.expect(status, 600)
        return memory.stop()

    def peaks(self, form, length):
        """The most memory of each command, and how long the metainfo is."""
        folder, peaks = self.source(length), {}
        meta, file, copy = folder / "it.meta", folder / "it.bin", folder / "copy"
        peaks["create"] = self.peak("create", file, "-o", meta, "-l", "16KiB", "--format", form, "-q")
        peaks["show"] = self.peak("show", meta, "--json")
        peaks["verify"] = self.peak("verify", meta, folder, "--no-state", "--json")
        seed = self.start(Swarm.source(meta, folder))
        get = self.start(Swarm.downloader(meta, copy, [seed.address]))
        watched = {"seed": Memory(seed.pid), "get": Memory(get.pid)}
        half = length // PIECE // 2
        while (get.events[-1] if get.events else {}).get("pieces_have", 0) < half:
            self.assertTrue(get.is_running(), get)
        get.kill()
        again = self.start(Swarm.downloader(meta, copy, [seed.address]))
        watched["get again"] = Memory(again.pid)
        # Only what was written since the last mark is checked again.
        self.assertGreater(again.wait_event("checked", 600)["pieces_have"], half // 2)
        again.wait_complete(600)
        again.expect(0)
        peaks |= {name: memory.stop() for name, memory in watched.items()}
        self.assert_same(file, copy / "it.bin")
        return peaks, meta.stat().st_size

    def memory(self, form):
        (few, few_len), (many, many_len) = self.peaks(form, FEW), self.peaks(form, MANY)
        for name, peak in many.items():
            buffers = BUFFERS if name.startswith("get") else 0
            more, limit = peak - few[name], 3 * (many_len - few_len) + SLACK + buffers
            print(f"  note    {self.id()}: {name} {peak / MIB:.1f} MiB, {more / MIB:.1f} more than for an eighth of the pieces", flush=True)
            self.assertLess(more, limit, f"{name}: {peak / MIB:.1f} MiB, {few[name] / MIB:.1f} for an eighth of the pieces")

    def test_version_1_takes_little_more_memory_than_its_metainfo(self):
        self.memory("v1")

    def test_version_2_takes_little_more_memory_than_its_metainfo(self):
        self.memory("v2")


class Limits(Case):
    on_disk = True

    def sparse(self, length):
        file = self.scratch / "it.bin"
        with open(file, "wb") as it:
            it.truncate(length)
        return file

    def told(self, length, form, text):
        """A warning that comes before anything is hashed."""
        file = self.sparse(length)
        process = self.start(Process([BIN / "swarm", "create", file, "-o", self.scratch / "it.meta", "-l", "16KiB", "--format", form]))
        self.assertIn(text, process.wait_line("libtorrent"))

    def test_create_warns_of_more_pieces_than_others_take(self):
        self.told(33 * GIB, "v1", "2162688 pieces are more than clients with libtorrent take (2097152)")
        self.told(33 * GIB, "v2", "2162688 pieces are more than clients with libtorrent take (2097152)")

    def test_create_warns_of_metadata_that_others_do_not_take_from_peers(self):
        self.told(25 * GIB, "v1", "with 1638400 pieces the metadata is longer than clients with libtorrent take for a magnet link (30 MiB)")

    def test_create_refuses_what_nobody_could_read_before_it_is_hashed(self):
        for length, form in ((300 * GIB, "v1"), (160 * GIB, "v2"), (90 * GIB, "hybrid")):
            file = self.sparse(length)
            refused = swarm("create", file, "-o", self.scratch / "it.meta", "-l", "16KiB", "--format", form, status=2)
            self.assertIn("longer than a metainfo file may be (256 MiB); choose longer pieces with -l", refused.output[-1])
