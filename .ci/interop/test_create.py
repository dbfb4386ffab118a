"""`swarm create` and libtorrent make the same torrent of the same tree."""

import os
import shutil
import unittest

from clients import Libtorrent
from harness import Case, MIB, create, fill, seeded, swarm

NAMES = [
    "plain", "two words", "ünïcödé", "日本語", "emoji 🐝", ".hidden", "-dash", "a-b", "a", "a.b", "A", "'quote'",
    '"double"', "tab\there", "new\nline", "back\\slash", "semi;colon", "star*", "per%20cent", "#hash", "~tilde", "x" * 120,
    "trailing.", "CON", "e\u0301", "null.txt",
]  # fmt: skip


def random_tree(folder, rng):
    """Files and links with odd names in folders of any depth; at least one byte in all."""
    folders = [folder]
    for _ in range(rng.randrange(6)):
        below = rng.choice(folders) / rng.choice(NAMES)
        if below not in folders:
            below.mkdir()
            folders.append(below)
    files = []
    for i in range(rng.randrange(1, 24)):
        path = rng.choice(folders) / (rng.choice(NAMES) + rng.choice(["", "", f" {i}"]))
        if path.exists():
            continue
        length = 0 if files and rng.random() < 0.2 else 1 + int(rng.random() ** 3 * 200_000)
        files.append(fill(path, length, rng))
        path.chmod(rng.choice([0o644, 0o755, 0o744]))
    for i in range(rng.randrange(3)):
        link = rng.choice(folders) / f"link {i}"
        link.symlink_to(os.path.relpath(rng.choice(files), link.parent))


class Create(Case):
    def info_hash(self, metainfo):
        return swarm("show", metainfo, "--json").events[0]["info_hash_v1"]

    def by_libtorrent(self, path, piece_length):
        """The info dictionary and its hash."""
        lt = Libtorrent.needed()
        files = lt.list_files(str(path), lambda _: True, lt.create_torrent.symlinks)
        files.sort(key=lambda file: file.filename.encode(errors="surrogateescape"))
        torrent = lt.create_torrent(files, piece_length, lt.create_torrent.v1_only | lt.create_torrent.symlinks)
        lt.set_piece_hashes(torrent, str(path.parent))
        made = torrent.generate()
        return made[b"info"], str(lt.torrent_info(made).info_hashes().v1)

    def compare(self, path, piece_length):
        lt = Libtorrent.needed()
        ours = create(path, self.scratch / "ours.meta", "-f", "-l", f"{piece_length >> 10}KiB")
        info = lt.bdecode(ours.read_bytes())[b"info"]
        expected, info_hash = self.by_libtorrent(path, piece_length)
        self.assertEqual(info[b"pieces"], expected[b"pieces"])
        self.assertEqual(info, expected)
        self.assertEqual(self.info_hash(ours), info_hash)

    def test_random_trees_give_the_same_info_dictionary(self):
        Libtorrent.needed()
        for number in range(40):
            with self.subTest(seed=number):
                rng = seeded(number)
                tree = self.scratch / rng.choice(NAMES)
                tree.mkdir()
                random_tree(tree, rng)
                self.compare(tree, 16384 << rng.randrange(4))
                shutil.rmtree(tree)

    def test_a_single_file_gives_the_same_info_dictionary(self):
        Libtorrent.needed()
        rng = seeded(1)
        for length in (1, 16384, 16385, 3 * MIB + 17):
            with self.subTest(length=length):
                path = fill(self.scratch / f"file {length}.bin", length, rng)
                self.compare(path, 32768)

    def test_the_same_tree_gives_the_same_bytes_each_time(self):
        (self.scratch / "tree").mkdir()
        random_tree(self.scratch / "tree", seeded(5))
        first = create(self.scratch / "tree", self.scratch / "1.meta").read_bytes()
        second = create(self.scratch / "tree", self.scratch / "2.meta").read_bytes()
        self.assertEqual(first, second)


if __name__ == "__main__":
    unittest.main()
