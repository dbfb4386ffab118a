"""Our tracker over UDP: each client as a source for us and as a downloader from us, who find each other there only."""

from clients import Aria2Process, Libtorrent, Swarm, Transmission
from harness import BIN, MIB, SOON, Case, Process, create, fill, seeded
from network import Network


class UdpTracker(Process):
    def __init__(self, host):
        super().__init__(host.command(BIN / "swarm-tracker", "--listen-udp", host.endpoint(0)))
        self.url = self.wait_line("listening on ").split()[-1]


class Aria2:
    """It asks UDP trackers over its DHT's socket, which there is for IPv4 only. Nobody else's DHT is within reach."""

    @staticmethod
    def start(meta, folder, *args, host):
        dht = ["--enable-dht=true", f"--dht-file-path={folder}.dht", f"--dht-listen-port={host.free_port()}"]
        return Aria2Process(meta, folder, *dht, *args, host=host)

    @staticmethod
    def source(meta, folder, host):
        process = Aria2.start(meta, folder, "--check-integrity=true", "--seed-ratio=0.0", host=host)
        process.wait_line(" SEED(", SOON)
        return process

    @staticmethod
    def downloader(meta, folder, host):
        return Aria2.start(meta, folder, "--seed-time=0", host=host)


class UdpTrackerTest(Case):
    waits = 40
    scratch_bytes = 128 * MIB

    def setUp(self):
        super().setUp()
        self.network = Network(3)
        self.addCleanup(self.network.remove)

    def exchange(self, client, version):
        here, there, at = (self.network.host(number, version) for number in (1, 2, 3))
        for source, downloader in ((client, Swarm), (Swarm, client)):
            # A new one each time: Transmission takes peers of one address for the same, whatever the port.
            with UdpTracker(at) as tracker:
                folder = self.scratch / f"from {source.__name__}"
                content = fill(folder / "it.bin", 4 * MIB, seeded(version))
                meta = create(content, folder / "it.meta", "-a", tracker.url)
                copy = folder / "copy"
                with source.source(meta, folder, host=here), downloader.downloader(meta, copy, host=there) as get:
                    get.wait_complete(SOON)
                self.assert_same(content, copy / content.name)

    def test_libtorrent_over_ipv4(self):
        self.exchange(Libtorrent, 4)

    def test_libtorrent_over_ipv6(self):
        self.exchange(Libtorrent, 6)

    def test_aria2_over_ipv4(self):
        self.exchange(Aria2, 4)

    # Over IPv6, Transmission 3.00 asks no UDP tracker.
    def test_transmission_over_ipv4(self):
        self.exchange(Transmission, 4)
