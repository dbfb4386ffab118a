"""A source that gets another address while it runs, as a laptop does that changes networks."""

from clients import Swarm, Tracker
from harness import BIN, MIB, SOON, Case, Process, create, fill, seeded
from network import Network, ip


class AddressTest(Case):
    def test_downloaders_find_a_source_at_its_new_address(self):
        network = Network(2)
        self.addCleanup(network.remove)
        here, there = network.host(1, 4), network.host(2, 4)
        tracker = self.start(Tracker(host=there))
        content = fill(self.scratch / "it.bin", 4 * MIB, seeded(1))
        meta = create(content, self.scratch / "it.meta", "-a", tracker.url)
        # On no address in particular: with one, it would be the user's to change.
        seed = [BIN / "swarm", "seed", meta, self.scratch, "--json", "--no-state", "--listen", "0.0.0.0:0"]
        self.start(Process(here.command(*seed))).wait_event("checked")

        self.download(meta, content, there, "before")
        ip("-n", here.namespace, "address", "delete", f"{here.ip}/24", "dev", "uplink")
        ip("-n", here.namespace, "address", "add", "10.0.0.99/24", "dev", "uplink")
        # The regular announce is half an hour away.
        self.download(meta, content, there, "after")

    def download(self, meta, content, host, name):
        get = self.start(Swarm.downloader(meta, self.scratch / name, host=host))
        get.wait_complete(SOON)
        self.assert_same(content, self.scratch / name / content.name)
        get.expect(0)
