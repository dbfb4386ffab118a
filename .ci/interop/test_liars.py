"""Peers that lie or hold back, beside one honest seed. What they cost is counted at the seed: bytes that it sends twice."""

from clients import Swarm
from harness import LOOPBACK, LOOPBACK6, MIB, Case, create, fill, seeded, swarm
from peer import PIECE, Source, lying, words

PIECE_LENGTH = 256 << 10
LENGTH = 64 * MIB


def withholding(content):
    """Answers with the content, but never with the last block of a piece."""

    def answer(peer, piece, begin, length):
        at = piece * PIECE_LENGTH + begin
        if begin + length < PIECE_LENGTH:
            peer.send(PIECE, words(piece, begin) + content[at : at + length])

    return answer


class Liars(Case):
    waits = 40
    host = LOOPBACK

    def setUp(self):
        super().setUp()
        path = fill(self.scratch / "it.bin", LENGTH, seeded(7))
        self.meta = create(path, self.scratch / "it.meta", "-l", f"{PIECE_LENGTH >> 10}KiB")
        self.info_hash = bytes.fromhex(swarm("show", self.meta, "--json").events[0]["info_hash_v1"])
        self.path, self.content = path, path.read_bytes()

    def get_beside(self, answers, *seed_args):
        """A download from an honest seed and these others: its events, and what the seed sent."""
        others = [self.start(Source(self.info_hash, answer, self.host)) for answer in answers]
        seed = self.start(Swarm.source(self.meta, self.scratch, *seed_args, host=self.host))
        sources = [other.address for other in others] + [seed.address]
        target = self.start(Swarm.downloader(self.meta, self.scratch / "copy", sources, host=self.host))
        target.expect(0)
        self.assert_same(self.path, self.scratch / "copy" / self.path.name)
        seed.stop()
        sent = max(event.get("bytes_up", 0) for event in seed.events)
        return {other.address for other in others}, target, sent

    def poisoned(self, share, count):
        answers = [lying(self.content, PIECE_LENGTH, share, number) for number in range(count)]
        liars, target, sent = self.get_beside(answers, "--max-up", "4MB/s")
        banned = [event["address"] for event in target.events if event["event"] == "peer_banned"]
        self.assertEqual(len(banned), len(set(banned)), "one event for each liar")
        self.assertLessEqual(set(banned), liars)
        self.assertLess(sent, 1.05 * LENGTH, f"{sent / LENGTH:.3f}")

    def test_four_that_always_lie(self):
        self.poisoned(1, 4)

    def test_six_that_lie_now_and_then(self):
        self.poisoned(0.2, 6)

    def test_sixty_that_hold_a_block_of_each_piece_back(self):
        _, target, sent = self.get_beside([withholding(self.content)] * 60)
        complete = target.find("complete")
        self.assertLess(complete["bytes_down"], 2.2 * LENGTH, complete)
        # Beside sixty threads of a script on two cores; it took 22 s and more when blocks came back after time-outs only.
        self.assertLess(complete["seconds"], 15, "it does not wait for those who hold back")


class LiarsIpv6(Liars):
    host = LOOPBACK6
