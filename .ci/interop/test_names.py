"""Names on a file system that ignores case and refuses characters: exFAT, under FUSE if the kernel has none."""

import os
import shutil
import subprocess

from clients import Swarm
from harness import MIB, Case, create, difference_of, fill, missing, seeded, swarm

# As they are in the torrent, and as they are on exFAT.
NAMES = {"README": "README", "Readme": "Readme (2)", "what?/a:b": "what_/a_b", "plain/file": "plain/file"}


class Names(Case):
    scratch_bytes = 64 * MIB
    on_disk = True

    def exfat(self):
        """The folder of a new exFAT file system."""
        if os.geteuid() != 0:
            missing("an exFAT disk cannot be mounted without root")
        for program in ("mkfs.exfat", "mount.exfat-fuse", "losetup"):
            if not shutil.which(program):
                missing(f"{program} is not installed")
        image, folder = self.scratch / "exfat.img", self.scratch / "exfat"
        folder.mkdir()
        image.touch()
        os.truncate(image, 32 * MIB)
        self.must("mkfs.exfat", image)
        device = self.must("losetup", "--find", "--show", image).strip()
        self.addCleanup(subprocess.run, ["losetup", "--detach", device])
        self.must("mount.exfat-fuse", device, folder)
        self.addCleanup(subprocess.run, ["umount", "--lazy", folder])
        return folder

    def must(self, *command):
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if done.returncode != 0:
            missing(f"{command[0]}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def test_names_are_tried_first_and_found_again(self):
        disk, rng, content = self.exfat(), seeded(19), self.scratch / "content" / "odd: names"
        for i, name in enumerate(NAMES):
            fill(content / name, 100_000 + i, rng)
        meta = create(content, self.scratch / "odd.meta", "-l", "16KiB")
        seed = self.start(Swarm.source(meta, content.parent))
        for args in ([], ["--overwrite"]):
            get = self.start(Swarm.downloader(meta, disk, [seed.address], *args))
            get.expect(0, 60)
            warned = [event["message"] for event in get.events if event["event"] == "warning"]
            self.assertTrue(any("does not keep the torrent's names" in message for message in warned), warned)
            self.assertEqual(os.listdir(disk), ["odd_ names"])
            for name, renamed in NAMES.items():
                self.assertIsNone(difference_of(content / name, disk / "odd_ names" / renamed))
        verified = swarm("verify", meta, disk, "--json").events[0]
        self.assertEqual({file["state"] for file in verified["files"]}, {"ok"})
        again = self.start(Swarm.source(meta, disk))
        get = self.start(Swarm.downloader(meta, self.scratch / "copy", [again.address]))
        get.expect(0, 60)
        self.assert_same(content, self.scratch / "copy" / "odd: names")
