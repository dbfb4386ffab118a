//! Looking for a tracker that answers, in virtual time: what is asked when, and when the first peers come.

use super::*;
use std::collections::BTreeMap;

/// How long the shell waits for a UDP tracker that says nothing.
const SILENCE: Duration = Duration::from_secs(35);
const ROUND_TRIP: Duration = Duration::from_millis(50);

/// What a tracker does.
#[derive(Clone, Copy, PartialEq)]
enum Habit {
    Silent,
    Refuses,
    Answers,
    /// Answers after so many seconds.
    Slow(u64),
}

/// One torrent's announcer among trackers with habits, on a virtual clock.
struct World {
    announcer: Announcer,
    habits: BTreeMap<String, Habit>,
    now: Time,
    /// Announces under way, by when they end.
    pending: BTreeMap<(Time, AnnounceId), (String, Habit)>,
    /// Every announce: when, and the URL.
    asked: Vec<(Time, String)>,
    /// Every answer with peers.
    answered: Vec<(Time, String)>,
    /// Most announces that were under way at once.
    most: usize,
}

impl World {
    fn new(tiers: &[(&str, Habit)], private: bool) -> World {
        let urls: Vec<Vec<String>> = tiers.iter().map(|(url, _)| vec![(*url).to_owned()]).collect();
        let config = AnnouncerConfig { private, ..config(&[Family::V4]) };
        let named = TrackerUrls { by_metainfo: &urls, by_user: &[] };
        World {
            announcer: Announcer::new(config, named, Rng::new(1)),
            habits: tiers.iter().map(|(url, habit)| ((*url).to_owned(), *habit)).collect(),
            now: Time::ZERO,
            pending: BTreeMap::new(),
            asked: Vec::new(),
            answered: Vec::new(),
            most: 0,
        }
    }

    fn start(tiers: &[(&str, Habit)]) -> World {
        let mut world = World::new(tiers, false);
        world.announcer.handle_start(world.now);
        world.drain();
        world
    }

    fn drain(&mut self) {
        while let Some(action) = self.announcer.poll_action() {
            let url = action.url.to_string();
            let habit = self.habits[&url];
            let takes = match habit {
                Habit::Silent => SILENCE,
                Habit::Refuses => Duration::from_millis(1),
                Habit::Answers => ROUND_TRIP,
                Habit::Slow(seconds) => Duration::from_secs(seconds),
            };
            self.asked.push((self.now, url.clone()));
            self.pending.insert((self.now + takes, action.id), (url, habit));
            self.most = self.most.max(self.pending.len());
        }
    }

    /// The next thing that happens, if it happens by then.
    fn step(&mut self, until: Time) -> bool {
        let ends = self.pending.keys().next().map(|&(at, _)| at);
        let timer = self.announcer.poll_timeout();
        let Some(next) = ends.into_iter().chain(timer).min().filter(|&next| next <= until) else {
            return false;
        };
        self.now = self.now.max(next);
        if ends == Some(next) {
            let ((_, id), (url, habit)) = self.pending.pop_first().unwrap();
            match habit {
                Habit::Silent | Habit::Refuses => self.announcer.handle_response(self.now, id, Err(&down())),
                _ => {
                    self.answered.push((self.now, url));
                    self.announcer.handle_response(self.now, id, Ok(&response()));
                }
            }
        } else {
            self.announcer.handle_timeout(self.now);
        }
        self.drain();
        true
    }

    fn run(&mut self, until: Time) {
        while self.step(until) {}
        self.now = until;
    }

    /// When the first peers came, if they came by then.
    fn first_peers(&mut self, until: Time) -> Option<Time> {
        while self.answered.is_empty() && self.step(until) {}
        self.answered.first().map(|&(at, _)| at)
    }

    fn asked_by(&self, until: Time) -> usize {
        self.asked.iter().filter(|&&(at, _)| at <= until).count()
    }
}

fn urls(count: usize, host: impl Fn(usize) -> String) -> Vec<String> {
    (0..count).map(|n| format!("udp://{}:1/announce", host(n))).collect()
}

fn with(urls: &[String], habit: Habit) -> impl Iterator<Item = (&str, Habit)> {
    urls.iter().map(move |url| (url.as_str(), habit))
}

const LIVE: (&str, Habit) = ("udp://live.example:1/announce", Habit::Answers);

#[test]
fn silent_tiers_delay_the_first_peers_by_seconds() {
    for silent in [0, 1, 3, 5] {
        let dead = urls(silent, |n| format!("dead{n}.example"));
        let tiers: Vec<_> = with(&dead, Habit::Silent).chain([LIVE]).collect();
        let first = World::start(&tiers).first_peers(at(300)).expect("it is asked");
        assert!(first <= at(10), "{silent} silent tiers: {first:?}");
    }
}

#[test]
fn a_host_that_is_silent_on_some_ports_is_asked_on_others() {
    let dead: Vec<_> = (1..6).map(|port| format!("udp://one.example:{port}/announce")).collect();
    let live = "udp://one.example:9/announce";
    let tiers: Vec<_> = with(&dead, Habit::Silent).chain([(live, Habit::Answers)]).collect();
    let first = World::start(&tiers).first_peers(at(300)).expect("it is asked");
    assert!(first <= at(10), "{first:?}");
}

#[test]
fn two_hundred_trackers_are_all_asked_and_those_that_refuse_cost_little() {
    for dead in [
        urls(199, |n| format!("dead{n}.example")),
        (1..200).map(|port| format!("udp://one.example:{port}/announce")).collect(),
    ] {
        let tiers: Vec<_> = with(&dead, Habit::Refuses).chain([LIVE]).collect();
        let mut world = World::start(&tiers);
        let first = world.first_peers(at(300)).expect("it is asked");
        assert!(first <= at(3), "{first:?}");
        assert_eq!(world.asked.len(), 200, "each once");
    }
}

#[test]
fn a_file_full_of_trackers_is_no_weapon() {
    for (dead, habit) in [
        (urls(200, |n| format!("victim{n}.example")), Habit::Silent),
        (urls(200, |n| format!("victim{n}.example")), Habit::Refuses),
        ((1..201).map(|port| format!("udp://victim.example:{port}/announce")).collect(), Habit::Refuses),
        ((1..201).map(|n| format!("udp://victim.example:1/announce{n}")).collect(), Habit::Refuses),
    ] {
        let mut world = World::start(&with(&dead, habit).collect::<Vec<_>>());
        world.run(at(3600));
        assert!(world.most <= PARALLEL_MAX, "{} at once", world.most);
        for start in 0..60 {
            let asked = world.asked_by(at(start + 1)) - world.asked_by(at(start));
            assert!(asked <= 200, "{asked} within a second");
        }
        // After the first time around each is left alone longer and longer, and a host as a whole, too.
        let hosts = if dead[0].contains("victim0") { 200 } else { 1 };
        let again = world.asked.len() - 200;
        let bound = (200 * 10).min(hosts * 3600 / HOST_PAUSE.as_secs() as usize);
        assert!(again <= bound, "{again} announces more within the hour, bound {bound}");
    }
}

#[test]
fn one_port_of_a_host_is_asked_one_thing_at_a_time() {
    let dead: Vec<_> = (1..20).map(|n| format!("udp://victim.example:1/announce{n}")).collect();
    let mut world = World::start(&with(&dead, Habit::Silent).collect::<Vec<_>>());
    world.run(at(34));
    assert_eq!(world.asked.len(), 1);
    let dead: Vec<_> = (1..20).map(|port| format!("udp://victim.example:{port}/announce")).collect();
    let mut world = World::start(&with(&dead, Habit::Silent).collect::<Vec<_>>());
    world.run(at(34));
    assert_eq!(world.asked.len(), HOST_PARALLEL_MAX);
}

#[test]
fn tiers_never_tried_come_before_those_that_failed() {
    let dead = urls(60, |n| format!("dead{n}.example"));
    let tiers: Vec<_> = with(&dead, Habit::Silent).chain([LIVE]).collect();
    let mut world = World::start(&tiers);
    world.first_peers(at(1000)).expect("it is asked");
    assert_eq!(world.asked.len(), 61, "nobody twice before everybody once");
}

#[test]
fn a_private_torrents_trackers_are_asked_one_at_a_time() {
    let dead = urls(3, |n| format!("dead{n}.example"));
    let tiers: Vec<_> = with(&dead, Habit::Silent).chain([LIVE]).collect();
    let mut world = World::new(&tiers, true);
    world.announcer.handle_start(world.now);
    world.drain();
    let first = world.first_peers(at(1000)).expect("it is asked");
    assert_eq!(world.most, 1);
    assert!(first < Time::ZERO + SILENCE * 4, "{first:?}: nobody is tried twice before everybody once");
}

#[test]
fn once_a_tracker_has_answered_the_order_of_tiers_stands() {
    let slow = "udp://slow.example:1/announce";
    let tiers = [(slow, Habit::Slow(3)), LIVE];
    let mut world = World::start(&tiers);
    world.run(at(10));
    let hosts: Vec<_> = world.answered.iter().map(|(_, url)| url.as_str()).collect();
    assert_eq!(hosts, [LIVE.0, slow], "the first answer counts, and the better tier's when it comes");
    world.run(at(1900));
    let again: Vec<_> = world.asked[2..].iter().map(|(_, url)| url.as_str()).collect();
    assert_eq!(again, [slow], "who is slow is not overtaken any more");
}

#[test]
fn trackers_that_were_asked_together_are_all_told_of_the_end() {
    let slow = "udp://slow.example:1/announce";
    let mut world = World::start(&[(slow, Habit::Slow(30)), LIVE]);
    world.run(at(5));
    assert_eq!(world.answered.len(), 1);
    let told = |world: &mut World| -> Vec<String> {
        std::iter::from_fn(|| world.announcer.poll_action()).map(|a| a.url.to_string()).collect()
    };
    world.announcer.handle_stop(world.now);
    assert_eq!(told(&mut world), [LIVE.0]);
    world.announcer.handle_timeout(world.now + STOP_PATIENCE);
    assert_eq!(told(&mut world), [slow], "it may have listed us");
}

#[test]
fn a_tracker_that_falls_silent_delays_the_next_by_seconds_too() {
    let dead = urls(5, |n| format!("dead{n}.example"));
    let tiers: Vec<_> = with(&dead, Habit::Silent).chain([LIVE]).collect();
    let mut world = World::start(&tiers);
    world.run(at(1790));
    world.answered.clear();
    let again = world.first_peers(at(5000)).expect("it is asked again");
    assert!(again <= at(1800 + 120), "{again:?}");
}

#[test]
fn trackers_beyond_the_bound_are_counted_and_the_users_are_not_among_them() {
    let many = [urls(TRACKERS_MAX + 7, |n| format!("t{n}.example"))];
    let by_user = ["http://mine.example/announce".to_owned()];
    let named = TrackerUrls { by_metainfo: &many, by_user: &by_user };
    let announcer = Announcer::new(config(&[Family::V4]), named, Rng::new(1));
    assert_eq!(announcer.left_out(), 7);
    assert!(announcer.trackers().any(|tracker| tracker.url == by_user[0]));
}
