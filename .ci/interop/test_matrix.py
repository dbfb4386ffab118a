"""Each client as source for us and as downloader from us, with each kind of payload over IPv4 and IPv6; and all clients in
one swarm. They have addresses of their own, and find each other through our tracker."""

import shutil
from concurrent.futures import ThreadPoolExecutor

from clients import Aria2, Libtorrent, Swarm, Tracker, Transmission
from harness import MIB, Case, create, fill, new_scratch, seeded, small_files
from network import Network

SECONDS = 60
TRACKER_PORT = 6969
CLIENTS = [Swarm, Libtorrent, Aria2, Transmission]
# They download pad files like any other, and have to have them as a source.
TAKES_PADS_FOR_FILES = [Aria2, Transmission]
# Transmission 3.00 cannot read them, and aria2 1.36 gets their info-hash wrong.
KNOWS_HYBRIDS = [Swarm, Libtorrent]


def single(length):
    """One file, whose last piece is short."""

    def make(folder, piece, tracker):
        content = fill(folder / "single.bin", length, seeded(length))
        return content, create(content, folder / "it.meta", "-l", f"{piece >> 10}KiB", "-a", tracker)

    return make


def many(folder, piece, tracker):
    """Files that share pieces and files of many pieces, some empty."""
    rng = seeded(piece)
    content = small_files(folder / "many", 200, rng)
    for i in range(12):
        fill(content / f"larger {i}", rng.randrange(2 * MIB), rng)
    return content, create(content, folder / "it.meta", "-l", f"{piece >> 10}KiB", "-a", tracker)


def padded(flags):
    """Files that begin at pieces, with pad files between them, as libtorrent makes it."""

    def make(folder, piece, tracker):
        lt, rng = Libtorrent.needed(), seeded(piece)
        content = folder / "padded"
        for i in range(12):
            fill(content / f"{i:02}" / "file", 1 + rng.randrange(2 * MIB), rng)
        torrent = lt.create_torrent(lt.list_files(str(content)), piece, flags(lt))
        torrent.add_tracker(tracker)
        lt.set_piece_hashes(torrent, str(folder))
        (folder / "it.meta").write_bytes(lt.bencode(torrent.generate()))
        return content, folder / "it.meta"

    return make


hybrid = padded(lambda lt: lt.create_torrent.canonical_files)
padded_v1 = padded(lambda lt: lt.create_torrent.canonical_files | lt.create_torrent.v1_only)

# What there is to transfer: a name, the payload, the length of a piece, the version of IP.
SHAPES = [
    ("single file, 16 KiB, IPv4", single(9 * MIB + 5), 16 << 10, 4),
    ("single file, 16 MiB, IPv6", single(40 * MIB + 1), 16 << 20, 6),
    ("many files, 64 KiB, IPv6", many, 64 << 10, 6),
    ("many files, 4 MiB, IPv4", many, 4 << 20, 4),
    ("pad files, 256 KiB, IPv4", padded_v1, 256 << 10, 4),
    ("pad files, 1 MiB, IPv6", padded_v1, 1 << 20, 6),
    ("hybrid with pad files, 1 MiB, IPv4", hybrid, 1 << 20, 4),
]


class Payload:
    """What is transferred in one torrent, made once for all tests."""

    def __init__(self, shape, folder, trackers):
        self.name, make, piece, self.version = shape
        # As clients have it that know no pad files.
        self.folder, self.with_pads = folder / "as it is", folder / "with pad files"
        self.folder.mkdir(parents=True)
        self.content, self.meta = make(self.folder, piece, trackers[self.version])
        self.is_padded, self.is_hybrid = make in (hybrid, padded_v1), make is hybrid
        if self.is_padded:
            shutil.copytree(self.folder, self.with_pads)
            files = Libtorrent.needed().load_torrent_file(str(self.meta)).ti.files()
            for i in range(files.num_files()):
                if files.file_flags(i) & files.flag_pad_file:
                    path = self.with_pads / files.file_path(i)
                    path.parent.mkdir(exist_ok=True)
                    path.write_bytes(bytes(files.file_size(i)))

    def folder_for(self, source):
        return self.with_pads if self.is_padded and source in TAKES_PADS_FOR_FILES else self.folder


class Matrix(Case):
    waits = 100
    scratch_bytes = 1024 * MIB
    # A failure tells the last words of each client.
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.network = Network(6)
        cls.addClassCleanup(cls.network.remove)
        material = new_scratch(512 * MIB)
        cls.addClassCleanup(shutil.rmtree, material, ignore_errors=True)
        cls.trackers = [cls.network.host(6, version) for version in (4, 6)]
        urls = {host.version: f"http://{host.endpoint(TRACKER_PORT)}/announce" for host in cls.trackers}
        cls.payloads = [Payload(shape, material / str(i), urls) for i, shape in enumerate(SHAPES)]

    def setUp(self):
        super().setUp()
        # New ones each time, which know nobody: Transmission takes peers of one address for the same, whatever the port.
        for host in self.trackers:
            self.start(Tracker(host=host, port=TRACKER_PORT))

    def transfer(self, payload, source, *downloaders):
        """From the source to all of the others, each on a host of its own. What went wrong, or None."""
        try:
            host = lambda number: self.network.host(number, payload.version)
            self.start(source.source(payload.meta, payload.folder_for(source), host=host(1)))
            copies = []
            for number, client in enumerate(downloaders, 2):
                folder = self.scratch / f"{payload.folder.parent.name} {source.name} {client.name}"
                running = self.start(client.downloader(payload.meta, folder, host=host(number)))
                copies.append((client, running, folder / payload.content.name))
            for _, running, _ in copies:
                running.wait_complete(SECONDS)
            for client, running, copy in copies:
                running.stop()
                if client in TAKES_PADS_FOR_FILES:
                    shutil.rmtree(copy / ".pad", ignore_errors=True)
                self.assert_same(payload.content, copy)
        except AssertionError as error:
            return f"{payload.name}: {error}"

    def transfer_each(self, source, downloader):
        knows_hybrids = source in KNOWS_HYBRIDS and downloader in KNOWS_HYBRIDS
        payloads = [payload for payload in self.payloads if knows_hybrids or not payload.is_hybrid]
        self.transfer_all([(payload, source, downloader) for payload in payloads])

    def transfer_all(self, transfers):
        """All of these at once."""
        with ThreadPoolExecutor(len(transfers)) as pool:
            failures = pool.map(lambda transfer: self.transfer(*transfer), transfers)
            self.assertEqual("\n".join(filter(None, failures)), "")

    def test_libtorrent_to_swarm(self):
        self.transfer_each(Libtorrent, Swarm)

    def test_swarm_to_libtorrent(self):
        self.transfer_each(Swarm, Libtorrent)

    def test_aria2_to_swarm(self):
        self.transfer_each(Aria2, Swarm)

    def test_swarm_to_aria2(self):
        self.transfer_each(Swarm, Aria2)

    def test_transmission_to_swarm(self):
        self.transfer_each(Transmission, Swarm)

    def test_swarm_to_transmission(self):
        self.transfer_each(Swarm, Transmission)

    def test_all_in_one_swarm_from_each(self):
        """Four swarms at once, each with another source, and every client among the downloaders."""
        self.transfer_all([(self.payloads[i], source, *CLIENTS) for i, source in zip((0, 3, 4, 5), CLIENTS)])
