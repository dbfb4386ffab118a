"""What is here already: cloned where the file system has files share their space, copied elsewhere."""

import os
import shutil
import subprocess

from clients import Swarm
from harness import MIB, Case, create, fill, free_bytes, missing, program, seeded

PIECE = 256 << 10
# Small enough for a build folder, large enough for any version of mkfs.xfs.
DISK = 512 * MIB


class Reuse(Case):
    waits = 19
    scratch_bytes = 256 * MIB

    def versions(self, where, *args):
        """Two versions of a folder below `where`, of 96 MiB, that differ in a file of 1 MiB and in a byte of one of 32 MiB; the metainfo file
        of the second, and a seed of it that is elsewhere."""
        rng = seeded(7)
        old, new = where / "old" / "app", self.scratch / "new" / "app"
        fill(old / "same.bin", 63 * MIB + 77, rng)
        fill(old / "few.bin", 32 * MIB, rng)
        shutil.copytree(old, new)
        fill(old / "other.bin", MIB, rng)
        fill(new / "other.bin", MIB, rng)
        with (new / "few.bin").open("r+b") as file:
            file.seek(20 * MIB)
            file.write(b"changed")
        before = create(old, self.scratch / "old.meta", "-l", str(PIECE), *args)
        after = create(new, self.scratch / "new.meta", "--like", before)
        return new, after, self.start(Swarm.source(after, new.parent))

    def get(self, meta, to, seed, old):
        get = self.start(Swarm.downloader(meta, to, [seed.address], "--reuse", old))
        down = get.wait_complete(60)["bytes_down"]
        reused = get.find("reused")
        get.stop()
        # The changed file, the changed piece, and pieces across edges.
        self.assertLess(down, MIB + 5 * PIECE)
        self.assertGreater(reused["bytes"], 95 * MIB - 5 * PIECE)
        print(f"    received {down} bytes, reused {reused['bytes']}, cloned {reused['bytes_cloned']}")
        return reused

    def mounted(self, kind):
        """A disk of its own with this file system."""
        if os.geteuid() != 0:
            missing("a disk cannot be mounted without root")
        mkfs = program(f"mkfs.{kind}")
        image, folder = self.scratch / f"{kind}.img", self.scratch / kind
        with image.open("wb") as file:
            file.truncate(DISK)
        subprocess.run([mkfs, image], check=True, capture_output=True)
        folder.mkdir()
        done = subprocess.run(["mount", "-o", "loop", image, folder], capture_output=True, text=True)
        if done.returncode != 0:
            missing(f"{kind} cannot be mounted: {done.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", folder], check=True)
        return folder

    def clones(self, kind, *args):
        disk = self.mounted(kind)
        new, meta, seed = self.versions(disk, *args)
        subprocess.run(["sync", "-f", disk], check=True)
        before = free_bytes(disk)
        reused = self.get(meta, disk / "out", seed, disk / "old")
        self.assert_same(new, disk / "out" / "app")
        self.assertGreater(reused["bytes_cloned"], 94 * MIB - 5 * PIECE)
        subprocess.run(["sync", "-f", disk], check=True)
        taken = before - free_bytes(disk)
        print(f"    {kind}: 96 MiB took {taken / MIB:.1f} MiB of the disk")
        self.assertLess(taken, 12 * MIB)
        # Where there is no room for a copy there is room for a clone.
        shutil.rmtree(disk / "out")
        subprocess.run(["sync", "-f", disk], check=True)
        fill(disk / "filler", free_bytes(disk) - 48 * MIB, seeded(8))
        self.get(meta, disk / "again", seed, disk / "old")
        self.assert_same(new, disk / "again" / "app")

    def test_xfs_shares_the_space(self):
        self.clones("xfs")

    def test_xfs_shares_the_space_of_version_2(self):
        self.clones("xfs", "--format", "v2")

    def test_btrfs_shares_the_space(self):
        self.clones("btrfs", "--format", "hybrid")

    def test_ext4_gets_a_copy(self):
        disk = self.mounted("ext4")
        new, meta, seed = self.versions(disk)
        self.assertEqual(self.get(meta, disk / "out", seed, disk / "old")["bytes_cloned"], 0)
        self.assert_same(new, disk / "out" / "app")

    def test_another_volume_gets_a_copy(self):
        disk = self.mounted("xfs")
        new, meta, seed = self.versions(disk, "--format", "v2")
        self.assertEqual(self.get(meta, self.scratch / "out", seed, disk / "old")["bytes_cloned"], 0)
        self.assert_same(new, self.scratch / "out" / "app")
