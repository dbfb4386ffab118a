"""Files that change under a seed, and disks that are full."""

import os
import subprocess

from clients import Swarm
from harness import LOOPBACK, LOOPBACK6, MIB, Case, create, fill, free_bytes, missing, seeded

PIECE = "64KiB"


class Disk(Case):
    waits = 12
    scratch_bytes = 256 * MIB
    host = LOOPBACK

    def test_a_file_cut_short_under_a_seed_is_named_and_the_rest_served(self):
        rng = seeded(1)
        folder = self.scratch / "it"
        cut, whole = (fill(folder / name, 32 * MIB, rng) for name in ("cut.bin", "whole.bin"))
        meta = create(folder, self.scratch / "it.meta", "-l", PIECE)
        seed = self.start(Swarm.source(meta, self.scratch, "--max-up", "8MB/s", host=self.host))
        get = self.start(Swarm.downloader(meta, self.scratch / "1", [seed.address], host=self.host))
        get._wait(lambda: any(e.get("bytes_verified", 0) > 0 for e in list(get.events)), 60, "the first piece")
        os.truncate(cut, MIB + 123)
        seed.wait_event("data_bad", 60, path="it/cut.bin")
        get.stop()
        get = Swarm.downloader(meta, self.scratch / "2", [seed.address], "--files", "whole.bin", host=self.host)
        get.expect(0, 120)
        self.assert_same(whole, self.scratch / "2" / "it" / "whole.bin")
        self.assertTrue(seed.is_running(), str(seed))

    def small_disk(self, size, taken):
        """A disk of `size` MiB, of which somebody else has `taken`."""
        small = self.scratch / "small"
        small.mkdir()
        self.mount(small, "-o", f"size={size}m")
        fill(small / "other.bin", taken * MIB, seeded(3))
        return small

    def test_a_full_disk_pauses_and_goes_on_when_there_is_space(self):
        content = fill(self.scratch / "it.bin", 48 * MIB, seeded(2))
        meta = create(content, self.scratch / "it.meta", "-l", PIECE)
        small = self.small_disk(64, 32)
        seed = self.start(Swarm.source(meta, self.scratch, host=self.host))
        get = self.start(Swarm.downloader(meta, small, [seed.address], host=self.host))
        self.assertTrue(get.wait_event("disk_stalled")["full"])
        self.assertTrue(get.is_running(), str(get))
        # Nothing is taken while it waits.
        self.assertGreater(free_bytes(small), 31 * MIB)
        (small / "other.bin").unlink()
        get.wait_event("disk_resumed")
        get.expect(0, 60)
        self.assert_same(content, small / "it.bin")

    def test_what_a_disk_could_never_hold_is_refused(self):
        content = fill(self.scratch / "it.bin", 48 * MIB, seeded(2))
        meta = create(content, self.scratch / "it.meta", "-l", PIECE)
        small = self.small_disk(48, 0)
        for _ in range(2):
            get = Swarm.downloader(meta, small, host=self.host)
            get.expect(5)
            self.assertEqual(get.find("failed")["kind"], "destination")
            self.assertIn("the volume has", get.find("failed")["message"])
            self.assertGreater(free_bytes(small), 47 * MIB)

    def test_waiting_for_space_ends_when_asked_in_every_run_and_leaves_some_to_others(self):
        content = fill(self.scratch / "it.bin", 48 * MIB, seeded(2))
        meta = create(content, self.scratch / "it.meta", "-l", PIECE)
        # Just enough, but for what is left to others.
        small = self.small_disk(64, 15)
        fill(small / "more.bin", 800 << 10, seeded(5))
        for _ in range(2):
            get = self.start(Swarm.downloader(meta, small, (), "--space-wait", "1s", host=self.host))
            get.wait_event("disk_stalled")
            get.expect(5)
            self.assertIn("no space came free", get.find("failed")["message"])
            self.assertGreater(free_bytes(small), 48 * MIB, "space is kept after giving up")
        # Without a byte left not even the download's own state can be written: that is waited for as well.
        fill(small / "most.bin", free_bytes(small), seeded(4))
        get = self.start(Swarm.downloader(meta, small, (), "--space-wait", "1s", host=self.host))
        get.wait_event("disk_stalled")
        get.expect(5)
        self.assertIn("no space came free", get.find("failed")["message"])

    def mount(self, folder, *options):
        if os.geteuid() != 0:
            missing("a small disk cannot be mounted without root")
        command = ["mount", "-t", "tmpfs", *options, "none", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            missing(f"a small disk cannot be mounted: {done.stderr.strip()}")
        if "remount" not in options[1]:
            self.addCleanup(subprocess.run, ["umount", "--lazy", str(folder)], check=True)


class DiskIpv6(Disk):
    host = LOOPBACK6
