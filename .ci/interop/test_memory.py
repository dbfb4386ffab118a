"""How much memory a large torrent costs at both ends."""

import os

from clients import Swarm
from harness import GIB, MIB, Case, Memory, create, free_bytes, seeded

LEAST = 4 * GIB


class AnonymousMemory(Case):
    waits = 140
    on_disk = True
    # Zeros cost the source nothing; the copy is reserved in full.
    scratch_bytes = LEAST

    def transfer(self, wanted, piece, limit):
        room = int(free_bytes(self.scratch) * 0.9) // GIB * GIB
        length = min(wanted, room)
        if length < wanted:
            print(f"  note    {self.id()}: only {length // GIB} GiB of {wanted // GIB}, for want of disk space", flush=True)
        rng = seeded(1)
        content = self.scratch / "it.bin"
        regions = [rng.randrange(length - MIB) for _ in range(64)]
        with open(content, "wb") as file:
            file.truncate(length)
            for at in regions:
                file.seek(at)
                file.write(rng.randbytes(MIB))
        meta = create(content, self.scratch / "it.meta", "-l", piece)
        seed = self.start(Swarm.source(meta, self.scratch))
        copy = self.scratch / "copy"
        get = self.start(Swarm.downloader(meta, copy, [seed.address]))
        watched = {"seed": Memory(seed.pid), "get": Memory(get.pid)}
        get.wait_complete(1200)
        for name, memory in watched.items():
            peak = memory.stop()
            self.assertGreater(memory.samples, 10)
            self.assertLess(peak, limit, f"{name}: {peak / MIB:.1f} MiB")
            print(f"  note    {self.id()}: {name} had {peak / MIB:.1f} MiB at most", flush=True)
        get.expect(0)
        self.assertEqual(os.path.getsize(copy / "it.bin"), length)
        with open(content, "rb") as ours, open(copy / "it.bin", "rb") as theirs:
            for at in regions:
                ours.seek(at)
                theirs.seek(at)
                self.assertEqual(ours.read(MIB), theirs.read(MIB))

    def test_20_gib_in_pieces_of_16_mib_take_less_than_100_mib(self):
        self.transfer(20 * GIB, "16MiB", 100 * MIB)

    def test_8_gib_in_pieces_of_1_mib_take_less_than_64_mib(self):
        self.transfer(8 * GIB, "1MiB", 64 * MIB)
