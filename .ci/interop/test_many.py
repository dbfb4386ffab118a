"""A thousand torrents in one `swarm daemon`, with the means of `benches/many.py`: ready from saved state, and what each of them costs then."""

import subprocess
import sys

from harness import BIN, ROOT, SOON, Case, Process, until

sys.path.append(str(ROOT / "benches"))
import many  # noqa: E402

TORRENTS = 1_000
# Whether it is quick is for the bench to say, on a machine that does nothing else.
READY_S = 60
# For each torrent, and for the daemon itself.
MEMORY_KIB = 28
MEMORY_BASE_MIB = 24
DESCRIPTORS_MAX = 160


class Many(Case):
    def test_a_thousand_torrents_come_back_and_take_little(self):
        tracker = many.Tracker(many.free_port())
        torrents = many.Torrents(self.scratch, TORRENTS, many.PIECES, tracker.url)
        ours = many.Ours(self.scratch, torrents)
        ours.prepare()
        tracker.forget()
        daemon = self.start(Process(ours.command()))
        daemon.wait_event("serving")
        own, transmission, qbittorrent = ours.apis()
        until(lambda: own.states() == TORRENTS, READY_S, f"all seed: {daemon}")
        use, most = many.Use(daemon.pid), 0

        def announced():
            nonlocal most
            most = max(most, use.descriptors())
            return len(tracker.heard) == torrents.announcing

        until(announced, SOON, "the tracker has heard of each that names it")
        self.assertLess(most, DESCRIPTORS_MAX)
        self.assertLess(tracker.open_max, 20, "connections to one tracker at a time")
        memory = use.memory()["anon_mib"]
        self.assertLess(memory, MEMORY_BASE_MIB + MEMORY_KIB * TORRENTS / 1024, f"{memory} MiB")
        self.assertEqual((transmission.states(), qbittorrent.states()), (TORRENTS, TORRENTS))
        # A change of one of them is told alone, in each API.
        changed = torrents.all[123]
        for api, first in ((own, "limit=100000"), (qbittorrent, 0)):

            def change():
                api.data(first)
                api.tag(changed[1])
                _, data = api.data(f"since={api.revision}" if api is own else api.rid)
                self.assertIn(changed[1].encode(), data)
                return len(data) < 8_192

            until(change, SOON, "nothing else changes")
        # Its metadata and its data are there for whoever asks.
        copy = self.scratch / "copy"
        address = daemon.wait_event("listening")["addresses"][0]
        link = f"magnet:?xt=urn:btih:{changed[1]}&x.pe={address}"
        subprocess.run(
            [BIN / "swarm", "get", link, "-o", copy, "--no-state", "--listen", "127.0.0.1:0", "--no-dht", "--no-lsd", "--no-port-mapping", "-q"], check=True, timeout=SOON
        )
        self.assert_same(torrents.folder / changed[0], copy / changed[0])
        daemon.stop()

