"""opentracker, as Debian builds it: everybody finds everybody through it, and it serves only what it was told to."""

import shutil
from urllib.request import urlopen

from clients import Swarm
from harness import MIB, SOON, Case, Process, create, fill, free_port, missing, seeded, swarm, until


# A torrent that nobody has.
PROBE = "ff" * 20


class OpenTracker(Process):
    """opentracker on this port, for the torrents with these info-hashes."""

    def __init__(self, port, folder, info_hashes):
        if not (program := shutil.which("opentracker")):
            missing("opentracker is not installed")
        folder.mkdir()
        # It looks for the list after it has locked itself into the folder, as nobody in particular.
        folder.chmod(0o755)
        (folder / "list").write_text("".join(f"{info_hash}\n" for info_hash in [PROBE, *info_hashes]))
        super().__init__(
            [program, "-i", "127.0.0.1", "-p", port, "-P", port, "-d", folder, "-w", "list"], cwd=folder
        )
        until(lambda: serves(port), SOON, "opentracker serves what it is to serve")


def serves(port):
    """Whether it listens and has read its list, which it does in its own time."""
    info_hash = "".join(f"%{PROBE[i : i + 2]}" for i in range(0, 40, 2))
    query = f"info_hash={info_hash}&peer_id={'-' * 20}&port=9&uploaded=0&downloaded=0&left=0&event=stopped"
    try:
        with urlopen(f"http://127.0.0.1:{port}/announce?{query}", timeout=SOON) as reply:
            return b"failure" not in reply.read()
    except OSError:
        return False


class OpenTrackerTest(Case):
    scheme = "http"

    def setUp(self):
        super().setUp()
        port = free_port()
        self.url = f"{self.scheme}://127.0.0.1:{port}/announce"
        self.content = fill(self.scratch / "it.bin", 8 * MIB, seeded(1))
        self.meta = create(self.content, self.scratch / "it.meta", "-a", self.url)
        self.port = port

    def serve(self, *info_hashes):
        self.start(OpenTracker(self.port, self.scratch / "tracker", info_hashes))

    def info_hash(self):
        return swarm("show", self.meta, "--json").events[0]["info_hash_v1"]

    def test_downloaders_find_the_source_and_each_other(self):
        self.serve(self.info_hash())
        source = self.start(Swarm.source(self.meta, self.scratch))
        folders = [self.scratch / f"copy {i}" for i in range(2)]
        running = [self.start(Swarm.downloader(self.meta, folder)) for folder in folders]
        for get, folder in zip(running, folders):
            get.wait_complete(SOON)
            get.expect(0)
            self.assert_same(self.content, folder / self.content.name)
            self.assertIsNone(get.find("warning"), str(get))
        self.assertIsNone(source.find("warning"), str(source))

    def test_what_it_does_not_serve_is_said_in_its_words(self):
        self.serve("00" * 20)
        source = self.start(Swarm.source(self.meta, self.scratch))
        get = self.start(Swarm.downloader(self.meta, self.scratch / "copy", [source.address]))
        get.wait_complete(SOON)
        said = get.wait_event("warning")["message"]
        self.assertIn("not authorized", said)
        self.assertIn(self.url, said)


class OpenTrackerOverUdpTest(OpenTrackerTest):
    scheme = "udp"
    # Over UDP it has no words for that.
    test_what_it_does_not_serve_is_said_in_its_words = None
