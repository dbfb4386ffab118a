"""Pad files (BEP 47): neither fetched nor counted, from libtorrent and to it."""

import shutil

from clients import Libtorrent, Swarm
from harness import MIB, Case, fill, seeded, swarm

FILES, LENGTH, PIECE, BLOCK = 30, 1000, MIB, 16384
# What BitComet called its padding, before there was an attribute.
OLD_NAME = "_____padding_file_%d_if you see this file, please update to BitComet 0.85 or above____"


class Padding(Case):
    def padded(self, has_attribute):
        """A tree of small files, and a metainfo file that begins each of them at a piece."""
        lt, rng = Libtorrent.needed(), seeded(30)
        content = self.scratch / "content" / "padded"
        for i in range(FILES):
            fill(content / f"{i:02}", LENGTH, rng)
        torrent = lt.create_torrent(
            lt.list_files(str(content)), PIECE, lt.create_torrent.canonical_files | lt.create_torrent.v1_only
        )
        lt.set_piece_hashes(torrent, str(content.parent))
        made = torrent.generate()
        if not has_attribute:
            for i, file in enumerate(made[b"info"][b"files"]):
                if b"p" in file.pop(b"attr", b""):
                    file[b"path"] = [(OLD_NAME % i).encode()]
        meta = self.scratch / "padded.meta"
        meta.write_bytes(lt.bencode(made))
        return content, meta

    def exchange(self, has_attribute):
        content, meta = self.padded(has_attribute)
        shown = swarm("show", meta, "--json").events[0]
        self.assertEqual((shown["total_size"], len(shown["files"])), (FILES * LENGTH, FILES))
        self.assertIn(f"xl={FILES * LENGTH}&", shown["magnet"] + "&")
        source = self.start(Libtorrent.source(meta, content.parent))
        ours = self.start(Swarm.downloader(meta, self.scratch / "ours", [source.address]))
        complete = ours.wait_complete(60)
        ours.stop()
        source.stop()
        self.assertEqual(complete["bytes_down"], FILES * BLOCK)
        self.assert_same(content, self.scratch / "ours" / "padded")
        verified = swarm("verify", meta, self.scratch / "ours", "--json").events[0]
        self.assertEqual((verified["bytes_ok"], verified["pieces_ok"]), (FILES * LENGTH, shown["pieces"]))

        source = self.start(Swarm.source(meta, self.scratch / "ours"))
        theirs = self.start(Libtorrent.downloader(meta, self.scratch / "theirs", [source.address]))
        print(f"    libtorrent received {theirs.wait_complete(60)['bytes_down']} bytes, we {complete['bytes_down']}")
        theirs.stop()
        source.stop()
        shutil.rmtree(self.scratch / "theirs" / "padded" / ".pad", ignore_errors=True)
        self.assert_same(content, self.scratch / "theirs" / "padded")

    def test_padding_with_the_attribute_is_not_fetched(self):
        self.exchange(has_attribute=True)

    def test_padding_known_by_its_name_is_not_fetched(self):
        self.exchange(has_attribute=False)
