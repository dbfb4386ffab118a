use super::*;
use crate::id::{InfoHash, PeerId};
use crate::tracker::PeerFormat;

const LATE: u64 = 100_000;

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(1 + seconds)
}

fn announce(port: u16) -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash([1; 20]),
        peer_id: PeerId([2; 20]),
        port,
        uploaded: 0,
        downloaded: 0,
        left: 1,
        event: None,
        numwant: None,
        format: PeerFormat::Compact,
        key: Some(3),
        tracker_id: None,
    }
}

/// A client and what its tracker gets.
struct Run {
    client: Client,
    now_s: u64,
}

/// A datagram in short: when it was sent, and the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Connect(u64, TransactionId),
    Announce(u64, TransactionId, ConnectionId),
}

impl Run {
    fn new() -> Run {
        Run { client: Client::new(Family::V4, Rng::new(7)), now_s: 0 }
    }

    fn ask(&mut self, port: u16, deadline_s: u64) -> TransactionId {
        self.client.handle_announce(at(self.now_s), announce(port), Vec::new(), at(deadline_s))
    }

    fn sent(&mut self) -> Vec<Sent> {
        let parsed = std::iter::from_fn(|| self.client.poll_datagram())
            .map(|datagram| Request::parse(&datagram).expect("the client sends requests"));
        let now_s = self.now_s;
        parsed
            .map(|request| match request {
                Request::Connect { transaction } => Sent::Connect(now_s, transaction),
                Request::Announce { connection, transaction, .. } => {
                    Sent::Announce(now_s, transaction, connection)
                }
                Request::Scrape { .. } => panic!("nobody asked for a scrape"),
            })
            .collect()
    }

    /// Lets time pass, and says what was sent meanwhile.
    fn until(&mut self, end_s: u64) -> Vec<Sent> {
        let mut sent = self.sent();
        while let Some(next) = self.client.poll_timeout().filter(|&next| next <= at(end_s)) {
            self.now_s = next.since(at(0)).as_secs();
            self.client.handle_timeout(next);
            sent.extend(self.sent());
        }
        self.now_s = end_s;
        sent
    }

    fn answer(&mut self, response: &Response) {
        let mut datagram = Vec::new();
        response.encode(Family::V4, &mut datagram);
        self.client.handle_datagram(at(self.now_s), &datagram);
    }

    /// Answers the connect that has just been sent.
    fn connect(&mut self, id: u64) {
        let [Sent::Connect(_, transaction)] = self.sent()[..] else { panic!("one connect") };
        self.answer(&Response::Connect { transaction, connection: ConnectionId(id) });
    }

    fn accept(&mut self, transaction: TransactionId) {
        let response = AnnounceResponse {
            interval: Duration::from_secs(1800),
            min_interval: None,
            tracker_id: None,
            complete: None,
            incomplete: None,
            downloaded: None,
            external_ip: None,
            warning: None,
            peers: Vec::new(),
            oddities: Default::default(),
        };
        self.answer(&Response::Announce { transaction, response });
    }

    fn refuse(&mut self, transaction: TransactionId) {
        self.answer(&Response::Error { transaction, message: "no".to_owned() });
    }

    fn outcome(&mut self) -> Option<(TransactionId, Result<(), String>)> {
        let (id, outcome) = self.client.poll_outcome()?;
        Some((id, outcome.map(drop).map_err(|failure| failure.to_string())))
    }
}

/// The times of connects and of announces.
fn times(sent: &[Sent]) -> (Vec<u64>, Vec<u64>) {
    let connects = sent.iter().filter_map(|sent| match sent {
        Sent::Connect(at, _) => Some(*at),
        Sent::Announce(..) => None,
    });
    let announces = sent.iter().filter_map(|sent| match sent {
        Sent::Announce(at, ..) => Some(*at),
        Sent::Connect(..) => None,
    });
    (connects.collect(), announces.collect())
}

#[test]
fn a_connect_without_answer_is_sent_again_as_bep_15_shows() {
    let mut run = Run::new();
    run.ask(1, LATE);
    let sent = run.until(20_000);
    let doubled = [0, 15, 45, 105, 225, 465, 945, 1905, 3825, 7665, 11_505, 15_345, 19_185];
    assert_eq!(times(&sent), (doubled.to_vec(), vec![]));
}

#[test]
fn an_announce_without_answer_is_sent_again_as_bep_15_shows() {
    let mut run = Run::new();
    let id = run.ask(1, LATE);
    run.now_s = 1;
    run.connect(5);
    run.now_s = 2;
    let sent = run.until(300);
    // Sent as soon as it could be, at 1 s, which the test sees at 2 s.
    assert_eq!(times(&sent), (vec![106, 226], vec![2, 16, 46]), "then the connection id is a minute old");
    assert!(sent.contains(&Sent::Announce(16, id, ConnectionId(5))), "under the same transaction id");
    run.accept(id);
    assert_eq!(run.outcome(), Some((id, Ok(()))), "a late answer is one too");
}

#[test]
fn a_connection_serves_every_announce_for_a_minute() {
    let mut run = Run::new();
    let (first, second) = (run.ask(1, LATE), run.ask(2, LATE));
    run.connect(5);
    let id = ConnectionId(5);
    let sent = run.sent();
    assert_eq!(sent.len(), 2);
    assert!([first, second].into_iter().all(|ask| sent.contains(&Sent::Announce(0, ask, id))));
    run.accept(second);
    run.accept(first);
    assert_eq!([run.outcome(), run.outcome()], [Some((second, Ok(()))), Some((first, Ok(())))]);
    assert_eq!(run.until(59), []);
    let third = run.ask(3, LATE);
    assert_eq!(run.sent(), [Sent::Announce(59, third, id)]);
    run.accept(third);
    assert_eq!(run.until(60), []);
    assert_eq!(run.client.poll_timeout(), None, "the socket may be closed");
    run.ask(4, LATE);
    run.connect(6);
}

#[test]
fn nothing_goes_on_beyond_the_deadline() {
    let mut run = Run::new();
    let id = run.ask(1, 35);
    assert_eq!(times(&run.until(35)), (vec![0, 15], vec![]));
    assert_eq!(run.outcome(), Some((id, Err("no answer in time".to_owned()))));
    assert_eq!((run.until(LATE), run.client.poll_timeout()), (vec![], None));

    let id = run.ask(1, LATE + 35);
    run.connect(5);
    assert_eq!(times(&run.until(LATE + 35)), (vec![], vec![LATE, LATE + 15]));
    assert_eq!(run.outcome(), Some((id, Err("no answer in time".to_owned()))));
}

#[test]
fn a_tracker_that_was_restarted_is_connected_to_again() {
    for tells in [true, false] {
        let mut run = Run::new();
        let id = run.ask(1, LATE);
        run.connect(5);
        run.accept(id);
        run.until(10);
        let id = run.ask(2, LATE);
        assert_eq!(run.sent(), [Sent::Announce(10, id, ConnectionId(5))]);
        if tells {
            run.refuse(id);
        } else {
            run.now_s = 25;
            run.client.handle_timeout(at(25));
        }
        run.connect(6);
        assert_eq!(run.sent(), [Sent::Announce(run.now_s, id, ConnectionId(6))]);
        run.outcome();
        run.refuse(id);
        assert_eq!(run.outcome(), Some((id, Err("the tracker refused: no".to_owned()))), "that was its word");
    }
}

#[test]
fn a_refused_connect_fails_all_that_wait_for_it() {
    let mut run = Run::new();
    run.ask(1, LATE);
    run.ask(2, LATE);
    let [Sent::Connect(_, transaction)] = run.sent()[..] else { panic!("one connect") };
    run.refuse(transaction);
    let refused = || Err("the tracker refused: no".to_owned());
    let outcomes = [run.outcome(), run.outcome()].map(|outcome| outcome.expect("one for each").1);
    assert_eq!(outcomes, [refused(), refused()]);
    assert_eq!(run.client.poll_timeout(), None);
}

#[test]
fn what_was_not_asked_for_is_ignored() {
    let mut run = Run::new();
    let id = run.ask(1, LATE);
    let [Sent::Connect(_, connect)] = run.sent()[..] else { panic!("one connect") };
    for transaction in (0..1000).map(TransactionId).filter(|&other| other != id && other != connect) {
        run.answer(&Response::Connect { transaction, connection: ConnectionId(1) });
        run.accept(transaction);
        run.refuse(transaction);
    }
    for len in 0..30 {
        run.client.handle_datagram(at(0), &vec![0; len]);
    }
    run.answer(&Response::Connect { transaction: id, connection: ConnectionId(1) });
    run.answer(&Response::Scrape { transaction: id, stats: vec![] });
    assert_eq!((run.sent(), run.outcome()), (vec![], None));
}

#[test]
fn an_unreachable_tracker_fails_everything_at_once() {
    let mut run = Run::new();
    let id = run.ask(1, LATE);
    run.client.handle_unreachable("connection refused");
    assert_eq!(run.outcome(), Some((id, Err("connection refused".to_owned()))));
    assert_eq!((run.outcome(), run.client.poll_timeout()), (None, None));
}
