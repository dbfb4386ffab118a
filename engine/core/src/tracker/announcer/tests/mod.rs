mod search;
mod stop;

use proptest::prelude::*;

use super::*;
use crate::rng::Rng;
use crate::tracker::access::{Forbidden, UrlOrigin};
use crate::tracker::announce::INTERVAL_DEFAULT;
use crate::tracker::reply::{ReplyError, RetryIn};

fn config(families: &[Family]) -> AnnouncerConfig {
    AnnouncerConfig {
        info_hash: InfoHash([1; 20]),
        peer_id: PeerId([2; 20]),
        ports: families.iter().map(|&family| (family, port_of(family))).collect(),
        interval_min: INTERVAL_MIN,
        private: false,
    }
}

fn port_of(family: Family) -> u16 {
    if family == Family::V4 { 6881 } else { 6882 }
}

fn new(families: &[Family], by_metainfo: &[Vec<String>], seed: u64) -> Announcer {
    Announcer::new(config(families), TrackerUrls { by_metainfo, by_user: &[] }, Rng::new(seed))
}

fn announcer(tiers: &[&[&str]]) -> Announcer {
    let tiers: Vec<Vec<String>> = tiers
        .iter()
        .map(|tier| tier.iter().map(|name| format!("http://{name}.example/announce")).collect())
        .collect();
    new(&[Family::V4], &tiers, 1)
}

fn response() -> AnnounceResponse {
    AnnounceResponse::parse(b"d8:intervali1800e12:min intervali600ee").unwrap()
}

fn down() -> AnnounceFailure {
    AnnounceFailure::Unreachable("connection refused".into())
}

const NO_V6: AnnounceFailure = AnnounceFailure::NoAddress(Family::V6);

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

/// Host and event of the one announce to be made now.
fn one(announcer: &mut Announcer) -> (AnnounceId, String, Option<Event>) {
    let action = announcer.poll_action().expect("an announce is due");
    assert_eq!(announcer.poll_action(), None, "and only one");
    let host = action.url.host_str().unwrap().trim_end_matches(".example").to_owned();
    (action.id, host, action.request.event)
}

fn succeed(announcer: &mut Announcer, now: Time) -> (String, Option<Event>) {
    let (id, host, event) = one(announcer);
    announcer.handle_response(now, id, Ok(&response()));
    (host, event)
}

fn fail(announcer: &mut Announcer, now: Time) -> String {
    let (id, host, _) = one(announcer);
    announcer.handle_response(now, id, Err(&down()));
    host
}

#[test]
fn torrents_that_start_together_announce_apart_later() {
    let next = |seed, is_spread| {
        let mut announcer = new(&[Family::V4], &[vec!["http://a.example/announce".to_owned()]], seed);
        announcer.set_spread(is_spread);
        announcer.handle_start(at(0));
        succeed(&mut announcer, at(0));
        let first = announcer.poll_timeout().unwrap();
        announcer.handle_timeout(first);
        succeed(&mut announcer, first);
        (first, announcer.poll_timeout().unwrap().since(first))
    };
    assert_eq!(next(1, false), (at(1_800), Duration::from_secs(1_800)));
    let spread: Vec<_> = (0..200).map(|seed| next(seed, true)).collect();
    let early =
        |from: u64, to: u64| spread.iter().filter(|(first, _)| (at(from)..at(to)).contains(first)).count();
    assert_eq!(early(900, 1_801), 200, "no sooner than half the interval");
    for third in [900, 1_200, 1_500] {
        assert!(
            (40..100).contains(&early(third, third + 300)),
            "{} from {third} on",
            early(third, third + 300)
        );
    }
    assert!(spread.iter().all(|(_, then)| *then == Duration::from_secs(1_800)), "only once");
}

#[test]
fn interval_of_the_tracker_is_kept() {
    let mut announcer = announcer(&[&["a"]]);
    assert_eq!(announcer.poll_timeout(), None, "silent before the start");
    announcer.handle_start(at(0));
    assert_eq!(succeed(&mut announcer, at(1)), ("a".into(), Some(Event::Started)));
    assert_eq!(announcer.poll_timeout(), Some(at(1801)));
    announcer.handle_timeout(at(1800));
    assert_eq!(announcer.poll_action(), None);
    announcer.handle_timeout(at(1801));
    assert_eq!(succeed(&mut announcer, at(1802)), ("a".into(), None));
}

#[test]
fn next_announce_waits_for_the_answer() {
    let mut announcer = announcer(&[&["a"]]);
    announcer.handle_start(at(0));
    let (id, ..) = one(&mut announcer);
    announcer.handle_timeout(at(100_000));
    assert_eq!(announcer.poll_action(), None);
    assert_eq!(announcer.poll_timeout(), None);
    announcer.handle_response(at(100_000), id, Ok(&response()));
    assert_eq!(announcer.poll_timeout(), Some(at(101_800)));
}

#[test]
fn tiers_are_tried_in_order_and_the_working_tracker_first_in_its_tier() {
    let mut announcer = announcer(&[&["a", "b"], &["c"]]);
    announcer.handle_start(at(0));
    let first = fail(&mut announcer, at(0));
    let second = fail(&mut announcer, at(0));
    assert_eq!([&first, &second].map(|host| host.as_str() < "c"), [true, true]);
    assert_eq!(succeed(&mut announcer, at(0)).0, "c");

    // On the next announce the first tier comes first again (BEP 12).
    announcer.handle_timeout(at(1800));
    assert_eq!(fail(&mut announcer, at(1800)), first);
    assert_eq!(succeed(&mut announcer, at(1800)).0, second);
    announcer.handle_timeout(at(3600));
    assert_eq!(succeed(&mut announcer, at(3600)).0, second, "it has moved to the front");
    let order: Vec<_> = announcer.trackers().map(|tracker| tracker.url).collect();
    assert!(order[0].contains(&second) && order[1].contains(&first), "{order:?}");
}

#[test]
fn trackers_are_shuffled_within_their_tier() {
    let first = |seed| {
        let tier = ["http://a/announce", "http://b/announce"].map(String::from).to_vec();
        let mut announcer = new(&[Family::V4], &[tier], seed);
        announcer.handle_start(at(0));
        one(&mut announcer).1
    };
    let firsts: Vec<_> = (0..40).map(first).collect();
    assert!(firsts.contains(&"a".into()) && firsts.contains(&"b".into()));
}

#[test]
fn a_tracker_that_is_down_is_left_alone_longer_and_longer() {
    let mut announcer = announcer(&[&["a"]]);
    let mut now = at(0);
    announcer.handle_start(now);
    let mut pauses = Vec::new();
    for _ in 0..20 {
        fail(&mut announcer, now);
        let next = announcer.poll_timeout().expect("it will be tried again");
        pauses.push(next.since(now));
        now = next;
        announcer.handle_timeout(now);
    }
    assert!(pauses[0] >= BACKOFF_MIN / 2 && pauses[0] <= BACKOFF_MIN, "{pauses:?}");
    assert!(pauses[4] > pauses[0] * 4, "{pauses:?}");
    assert!(pauses.iter().all(|&pause| pause <= BACKOFF_MAX), "{pauses:?}");
    assert!(pauses[19] >= BACKOFF_MAX / 2, "{pauses:?}");
    assert_ne!(pauses[18], pauses[19], "jittered");

    let (host, event) = succeed(&mut announcer, now);
    assert_eq!((host.as_str(), event), ("a", Some(Event::Started)), "it has not heard of us before");
    assert_eq!(announcer.poll_timeout(), Some(now + Duration::from_secs(1800)));
}

#[test]
fn wanting_peers_respects_the_minimum_interval() {
    let mut announcer = announcer(&[&["a"]]);
    announcer.handle_start(at(0));
    succeed(&mut announcer, at(0));
    announcer.request_more_peers(at(10));
    assert_eq!(announcer.poll_action(), None);
    assert_eq!(announcer.poll_timeout(), Some(at(600)));
    announcer.handle_timeout(at(600));
    succeed(&mut announcer, at(600));
    assert_eq!(announcer.poll_timeout(), Some(at(2400)), "the wish is spent");
    announcer.request_more_peers(at(1300));
    assert_eq!(one(&mut announcer).2, None, "at once if the minimum has passed");
}

#[test]
fn wanting_peers_does_not_hasten_a_tracker_that_is_down() {
    let mut announcer = announcer(&[&["a"]]);
    announcer.handle_start(at(0));
    fail(&mut announcer, at(0));
    let retry = announcer.poll_timeout();
    announcer.request_more_peers(at(1));
    assert_eq!(announcer.poll_action(), None);
    assert_eq!(announcer.poll_timeout(), retry);
}

#[test]
fn absurd_intervals_are_clamped() {
    for (body, expected) in [
        (b"d8:intervali0ee".as_slice(), INTERVAL_MIN),
        (b"d8:intervali-5ee", INTERVAL_MIN),
        (b"d8:intervali9223372036854775807ee", INTERVAL_MAX),
        (b"de", INTERVAL_DEFAULT),
    ] {
        let mut announcer = announcer(&[&["a"]]);
        announcer.handle_start(at(0));
        let (id, ..) = one(&mut announcer);
        announcer.handle_response(at(0), id, Ok(&AnnounceResponse::parse(body).unwrap()));
        assert_eq!(announcer.poll_timeout(), Some(Time::ZERO + expected), "{}", body.escape_ascii());
    }
}

#[test]
fn even_the_shortest_interval_has_a_longest() {
    let config = AnnouncerConfig { interval_min: INTERVAL_MAX * 2, ..config(&[Family::V4]) };
    let named = TrackerUrls { by_metainfo: &[vec!["http://a.example/announce".into()]], by_user: &[] };
    let mut announcer = Announcer::new(config, named, Rng::new(1));
    announcer.handle_start(at(0));
    succeed(&mut announcer, at(0));
    assert_eq!(announcer.poll_timeout(), Some(Time::ZERO + INTERVAL_MAX));
}

#[test]
fn a_refusal_says_when_to_come_back() {
    let refused = |retry| {
        AnnounceFailure::Reply(ReplyError::Refused {
            reason: "unregistered torrent".into(),
            retry: Some(retry),
        })
    };
    let mut announcer = announcer(&[&["a"], &["b"]]);
    announcer.handle_start(at(0));
    let (id, ..) = one(&mut announcer);
    announcer.handle_response(at(0), id, Err(&refused(RetryIn::Never)));
    let (id, host, _) = one(&mut announcer);
    assert_eq!(host, "b");
    announcer.handle_response(at(0), id, Err(&refused(RetryIn::After(Duration::from_secs(7200)))));
    assert_eq!(announcer.poll_timeout(), Some(at(7200)));
    announcer.handle_timeout(at(7200));
    assert_eq!(fail(&mut announcer, at(7200)), "b", "never means never");
    let first = announcer.trackers().next().unwrap();
    assert_eq!(first.status, TrackerStatus::Failed("the tracker refused: unregistered torrent".to_owned()));
    assert_eq!(first.next_announce, None);
}

#[test]
fn what_cannot_be_announced_to_is_shown_and_skipped() {
    let urls = [
        "wss://w.example/announce",
        "udp://u.example/announce",
        "http://a.example/announce",
        "a tracker",
        "wss://w.example/announce",
    ];
    let tiers: Vec<_> = urls.iter().map(|url| vec![(*url).to_owned()]).collect();
    let mut announcer = new(&[Family::V4], &tiers, 1);
    announcer.handle_start(at(0));
    assert_eq!(succeed(&mut announcer, at(0)).0, "a");
    let states: Vec<_> = announcer.trackers().map(|tracker| (tracker.url, tracker.status)).collect();
    assert_eq!(
        states,
        [
            (urls[0], TrackerStatus::Unsupported("WebTorrent trackers are not supported")),
            (urls[1], TrackerStatus::Unsupported("it names no port, and udp: has none of its own")),
            (urls[2], TrackerStatus::Working),
            (urls[3], TrackerStatus::Unsupported("not a URL")),
        ]
    );
}

#[test]
fn without_usable_trackers_there_is_nothing_to_do() {
    for tiers in [vec![], vec![vec!["wss://u.example:1".to_owned()]]] {
        let mut announcer = new(&[Family::V4, Family::V6], &tiers, 1);
        announcer.handle_start(at(0));
        announcer.handle_completed(at(1));
        announcer.request_more_peers(at(1));
        announcer.handle_address_change(at(2));
        assert_eq!((announcer.poll_action(), announcer.poll_timeout()), (None, None));
        announcer.handle_stop(at(3));
        assert!(announcer.is_stopped());
    }
}

#[test]
fn each_family_finds_its_own_tracker() {
    let tiers =
        [vec!["http://only4.example/announce".into()], vec!["http://both.example/announce".to_owned()]];
    let mut announcer = new(&[Family::V4, Family::V6], &tiers, 1);
    announcer.handle_start(at(0));
    let (first, second) = (announcer.poll_action().unwrap(), announcer.poll_action().unwrap());
    assert_eq!((first.family, second.family), (Family::V4, Family::V6));
    assert_eq!(first.request.key, second.request.key, "so that the tracker counts one client (BEP 7)");
    announcer.handle_response(at(0), first.id, Ok(&response()));
    announcer.handle_response(at(0), second.id, Err(&NO_V6));
    assert_eq!(succeed(&mut announcer, at(0)).0, "both");
    let mut working: Vec<_> = announcer.trackers().filter(|t| t.status == TrackerStatus::Working).collect();
    working.sort_by_key(|tracker| tracker.family);
    assert_eq!(
        [working[0].url, working[1].url],
        ["http://only4.example/announce", "http://both.example/announce"]
    );
}

#[test]
fn another_port_is_announced_at_once_to_the_trackers_of_its_family() {
    let mut announcer = new(&[Family::V4, Family::V6], &[vec!["http://a.example/announce".to_owned()]], 1);
    announcer.handle_start(at(0));
    let told = |announcer: &mut Announcer, now| {
        let mut told = Vec::new();
        while let Some(action) = announcer.poll_action() {
            announcer.handle_response(now, action.id, Ok(&response()));
            told.push((action.family, action.request.port));
        }
        told
    };
    let ours: BTreeMap<Family, u16> = told(&mut announcer, at(0)).into_iter().collect();
    announcer.handle_port(at(10), Family::V4, ours[&Family::V4]);
    assert_eq!(told(&mut announcer, at(10)), [], "it is the same");
    announcer.handle_port(at(11), Family::V4, 40_000);
    assert_eq!(told(&mut announcer, at(11)), [(Family::V4, 40_000)]);
}

#[test]
fn a_new_address_is_announced_at_once() {
    let mut announcer = announcer(&[&["a"]]);
    announcer.handle_start(at(0));
    succeed(&mut announcer, at(0));
    announcer.handle_address_change(at(10));
    assert_eq!(fail(&mut announcer, at(10)), "a");
    announcer.handle_address_change(at(11));
    assert_eq!(succeed(&mut announcer, at(11)), ("a".into(), None));
}

#[test]
fn what_the_transfer_says_is_told() {
    let mut announcer = announcer(&[&["a"]]);
    announcer.handle_start(at(0));
    // After the announce became due, and before it is made.
    announcer.handle_transfer(Transfer { uploaded: 1, downloaded: 2, left: 3, peers_wanted: 7 });
    let request = announcer.poll_action().unwrap().request;
    assert_eq!((request.uploaded, request.downloaded, request.left), (1, 2, 3));
    assert_eq!(request.numwant, Some(7));
}

#[test]
fn the_tracker_id_is_sent_back_to_the_tracker_that_gave_it() {
    let mut announcer = announcer(&[&["a"], &["b"]]);
    announcer.handle_start(at(0));
    let (id, ..) = one(&mut announcer);
    let named = AnnounceResponse { tracker_id: Some(b"abc".to_vec()), ..response() };
    announcer.handle_response(at(0), id, Ok(&named));
    announcer.handle_timeout(at(1800));
    let again = announcer.poll_action().unwrap();
    assert_eq!(again.request.tracker_id.as_deref(), Some(b"abc".as_slice()));
    announcer.handle_response(at(1800), again.id, Err(&down()));
    assert_eq!(announcer.poll_action().unwrap().request.tracker_id, None);
}

#[test]
fn each_family_tells_its_own_port() {
    let tiers = [vec!["http://a.example/announce".to_owned()]];
    let mut announcer = new(&[Family::V4, Family::V6], &tiers, 1);
    announcer.handle_start(at(0));
    let told = std::iter::from_fn(|| announcer.poll_action()).map(|a| (a.family, a.request.port));
    assert_eq!(told.collect::<Vec<_>>(), [(Family::V4, 6881), (Family::V6, 6882)]);
}

#[test]
fn the_users_trackers_come_last_and_are_known_as_his() {
    let by_metainfo = [vec!["http://a.example/x".to_owned()], vec!["http://b.example/x".to_owned()]];
    let by_user = ["http://c.example/x", "http://a.example/x"].map(str::to_owned);
    let named = TrackerUrls { by_metainfo: &by_metainfo, by_user: &by_user };
    let mut announcer = Announcer::new(config(&[Family::V4]), named, Rng::new(1));
    announcer.handle_start(at(0));
    let mut tried = Vec::new();
    while let Some(action) = announcer.poll_action() {
        tried.push((action.url.host_str().unwrap().to_owned(), action.origin));
        announcer.handle_response(at(0), action.id, Err(&down()));
    }
    let (named, typed) = (UrlOrigin::Metainfo, UrlOrigin::Typed);
    assert_eq!(
        tried,
        [("a.example".into(), typed), ("b.example".into(), named), ("c.example".into(), typed)]
    );
}

#[test]
fn trouble_in_one_family_is_told_only_if_the_other_does_not_help() {
    let url = Url::parse("http://a.example/announce").unwrap();
    let refused = AnnounceFailure::Unreachable("connection refused".into());
    let trouble_after = |v4: Result<&AnnounceResponse, &AnnounceFailure>, v6| {
        let mut announcer = new(&[Family::V4, Family::V6], &[vec![url.to_string()]], 1);
        announcer.handle_start(at(0));
        let ids = [announcer.poll_action().unwrap().id, announcer.poll_action().unwrap().id];
        announcer.handle_response(at(0), ids[1], v6);
        assert_eq!(announcer.failure_of(&url), None, "the other one may yet succeed");
        announcer.handle_response(at(0), ids[0], v4);
        announcer.failure_of(&url)
    };
    assert_eq!(trouble_after(Ok(&response()), Err(&NO_V6)), None);
    assert_eq!(trouble_after(Ok(&response()), Err(&refused)), None);
    assert_eq!(trouble_after(Err(&refused), Err(&NO_V6)), Some("connection refused".into()));

    let mut lonely = new(&[Family::V6], &[vec![url.to_string()]], 1);
    lonely.handle_start(at(0));
    let id = lonely.poll_action().unwrap().id;
    lonely.handle_response(at(0), id, Err(&NO_V6));
    assert_eq!(lonely.failure_of(&url), Some("the tracker has no IPv6 address".into()));
    assert!(matches!(lonely.trackers().next().unwrap().status, TrackerStatus::NoAddress(_)));
}

#[test]
fn a_forbidden_address_is_not_tried_again_soon() {
    let mut announcer = announcer(&[&["a"]]);
    announcer.handle_start(at(0));
    let (id, ..) = one(&mut announcer);
    let forbidden = AnnounceFailure::Forbidden(Forbidden::LinkLocal("169.254.169.254".parse().unwrap()));
    announcer.handle_response(at(0), id, Err(&forbidden));
    assert!(announcer.poll_timeout().unwrap() >= Time::ZERO + BACKOFF_MAX / 2);
}

#[derive(Clone, Debug)]
enum Input {
    Wait(u64),
    Answer { which: usize, outcome: u8 },
    Want,
    Completed,
    Stop,
    Start,
    AddressChange,
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        4 => (0u64..4000).prop_map(Input::Wait),
        6 => (any::<usize>(), 0u8..5).prop_map(|(which, outcome)| Input::Answer { which, outcome }),
        2 => Just(Input::Want),
        1 => Just(Input::Completed),
        1 => Just(Input::Stop),
        1 => Just(Input::Start),
        1 => Just(Input::AddressChange),
    ]
}

proptest! {
    /// Whatever trackers do, few announces of each family are in flight, nothing is due
    /// again at the same instant, and a running announcer never falls silent for good.
    #[test]
    fn never_floods_and_never_sleeps_for_ever(seed: u64, inputs in prop::collection::vec(input(), 0..120)) {
        let tiers: Vec<Vec<String>> = [vec!["a", "b"], vec!["c"]]
            .map(|tier| tier.iter().map(|name| format!("http://{name}/announce")).collect())
            .into();
        let mut announcer = new(&[Family::V4, Family::V6], &tiers, seed);
        let mut now = at(0);
        let mut in_flight: Vec<AnnounceAction> = Vec::new();
        announcer.handle_start(now);
        in_flight.extend(std::iter::from_fn(|| announcer.poll_action()));
        for input in inputs {
            match input {
                Input::Wait(seconds) => {
                    now += Duration::from_secs(seconds);
                    announcer.handle_timeout(now);
                }
                Input::Answer { which, outcome } if !in_flight.is_empty() => {
                    let action = in_flight.swap_remove(which % in_flight.len());
                    let refused = |retry| AnnounceFailure::Reply(ReplyError::Refused { reason: "no".into(), retry });
                    match outcome {
                        0 => announcer.handle_response(now, action.id, Err(&down())),
                        1 => announcer.handle_response(now, action.id, Err(&NO_V6)),
                        2 => announcer.handle_response(now, action.id, Err(&refused(None))),
                        _ => announcer.handle_response(now, action.id, Ok(&response())),
                    }
                }
                Input::Answer { .. } => {}
                Input::Want => announcer.request_more_peers(now),
                Input::Completed => announcer.handle_completed(now),
                Input::Stop => announcer.handle_stop(now),
                Input::Start => announcer.handle_start(now),
                Input::AddressChange => {
                    announcer.handle_address_change(now);
                    if announcer.phase == Phase::Running {
                        in_flight.clear();
                    }
                }
            }
            in_flight.extend(std::iter::from_fn(|| announcer.poll_action()));
            let regular = |family| {
                in_flight.iter().filter(|a| a.family == family && a.request.event != Some(Event::Stopped)).count()
            };
            for family in [Family::V4, Family::V6] {
                prop_assert!(regular(family) <= PARALLEL_MAX);
                let is_silent = in_flight.iter().all(|action| action.family != family);
                if announcer.phase == Phase::Running && is_silent {
                    prop_assert!(announcer.poll_timeout().is_some_and(|next| next > now));
                    prop_assert!(announcer.poll_timeout().is_some_and(|next| next <= now + INTERVAL_MAX));
                }
            }
        }
    }
}

fn url(name: &str) -> String {
    format!("http://{name}.example/announce")
}

#[test]
fn replaced_trackers_keep_what_is_known_and_those_that_go_are_told() {
    let mut announcer = announcer(&[&["a"], &["b"]]);
    announcer.handle_start(at(0));
    assert_eq!(succeed(&mut announcer, at(1)), ("a".into(), Some(Event::Started)));
    // One that stays in use is not asked again; the order is new.
    announcer.handle_trackers(at(2), &[vec![url("c")], vec![url("a")]]);
    assert_eq!(announcer.poll_action(), None);
    assert_eq!(announcer.poll_timeout(), Some(at(1801)));
    let urls: Vec<&str> = announcer.trackers().map(|view| view.url).collect();
    assert_eq!(urls, [url("c"), url("a")]);
    // One that goes is told, and another is looked for.
    announcer.handle_trackers(at(3), &[vec![url("c")]]);
    let told = announcer.poll_action().expect("it lists us");
    assert_eq!((told.url.host_str(), told.request.event), (Some("a.example"), Some(Event::Stopped)));
    assert_eq!(succeed(&mut announcer, at(4)), ("c".into(), Some(Event::Started)));
    announcer.handle_response(at(5), told.id, Ok(&response()));
    assert_eq!(announcer.poll_action(), None, "that answer changes nothing");
    // It may come back.
    announcer.handle_trackers(at(6), &[vec![url("a")]]);
    assert_eq!(announcer.poll_action().expect("c is told").request.event, Some(Event::Stopped));
    assert_eq!(succeed(&mut announcer, at(7)), ("a".into(), Some(Event::Started)));
    announcer.handle_trackers(at(8), &[]);
    assert_eq!(announcer.trackers().count(), 0);
    assert_eq!(announcer.poll_action().expect("a is told").request.event, Some(Event::Stopped));
    assert_eq!((announcer.poll_action(), announcer.poll_timeout()), (None, None));
}

#[test]
fn an_answer_of_a_tracker_that_went_meanwhile_changes_nothing() {
    let mut announcer = announcer(&[&["a"]]);
    announcer.handle_start(at(0));
    let (id, ..) = one(&mut announcer);
    announcer.handle_trackers(at(1), &[vec![url("b")]]);
    let (of_b, host, event) = one(&mut announcer);
    assert_eq!((host.as_str(), event), ("b", Some(Event::Started)));
    announcer.handle_response(at(2), id, Ok(&response()));
    announcer.handle_response(at(3), of_b, Ok(&response()));
    assert_eq!(announcer.poll_timeout(), Some(at(1803)));
}
