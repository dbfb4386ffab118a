use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn announce(peers: u32, seeds: u32, want: usize, leechers_only: bool, random: u64) -> Announce {
    Announce {
        info_hash: InfoHash([b'a'; 20]),
        addr: ([127, 0, 0, 1], 1).into(),
        standing: Standing::Leecher,
        completed: false,
        no_room: false,
        want,
        leechers_only,
        timeout_s: 2700,
        view: View {
            v4: FamilyView { peers, seeds, swept_s: 1_000_000, counted_s: 1_000_000 },
            ..View::default()
        },
        random,
    }
}

proptest! {
    #[test]
    fn ranks_are_enough_different_and_there(
        peers in 1_u32..5000,
        seeds in 0_u32..5000,
        want in 1_usize..200,
        leechers_only: bool,
        random: u64,
    ) {
        let seeds = seeds.min(peers - 1);
        let first = if leechers_only { seeds as usize } else { 0 };
        let all = peers as usize - first;
        let mut ranks: Vec<usize> = Vec::new();
        for (from, to) in announce(peers, seeds, want, leechers_only, random).ranks() {
            prop_assert!(from <= to);
            ranks.extend(from..=to);
        }
        prop_assert_eq!(ranks.iter().collect::<HashSet<_>>().len(), ranks.len());
        prop_assert!(ranks.iter().all(|&rank| rank >= first));
        let there = ranks.iter().filter(|&&rank| rank < peers as usize).count();
        prop_assert!(there >= all.min(want), "{there} of {all}");
        prop_assert!(ranks.len() <= want + STRETCHES);
    }

    #[test]
    fn peers_are_read_as_they_were_written(v6: bool, ip: u128, port: u16) {
        let ip: IpAddr = if v6 { Ipv6Addr::from(ip).into() } else { Ipv4Addr::from(ip as u32).into() };
        prop_assert_eq!(peer(&member(SocketAddr::new(ip, port))), Some(SocketAddr::new(ip, port)));
    }
}

#[test]
fn each_part_of_a_large_swarm_is_as_likely_as_any_other() {
    let (peers, rounds) = (1000, 4000);
    let mut told = vec![0_u32; peers];
    for round in 0..rounds {
        let announce = announce(peers as u32, 0, 50, false, round * 7919);
        for (from, to) in announce.ranks() {
            told[from..=to].iter_mut().for_each(|count| *count += 1);
        }
    }
    let expected = rounds as f64 * 55.0 / peers as f64;
    let far = told.iter().filter(|&&count| (f64::from(count) / expected - 1.0).abs() > 0.3).count();
    assert_eq!(far, 0, "expected {expected}, found {:?} to {:?}", told.iter().min(), told.iter().max());
}

fn asked(announce: &Announce) -> Vec<String> {
    let mut commands = Pipeline::new();
    announce.ask(1_000_100, &mut commands);
    let text = |cmd: &redis::Cmd| {
        let parts = cmd.args_iter().map(|arg| match arg {
            redis::Arg::Simple(bytes) => bytes.escape_ascii().to_string(),
            _ => "?".to_owned(),
        });
        parts.collect::<Vec<_>>().join(" ")
    };
    commands.cmd_iter().map(text).collect()
}

#[test]
fn an_announce_is_as_many_commands_as_answers() {
    let mut first = announce(0, 0, 50, false, 0);
    first.view = View::default();
    let key = "swarm:{.aaaaaaaaaaaaaaaaaaaa}";
    assert_eq!(asked(&first)[0], format!("ZREMRANGEBYSCORE {key}4 (-997400 (997400"));
    assert_eq!(asked(&first)[1], format!("ZADD {key}4 1000100 \\x7f\\x00\\x00\\x01\\x00\\x01"));
    assert_eq!(asked(&first).last().unwrap(), &format!("ZRANDMEMBER {key}4 51"));
    let known = announce(10, 2, 50, true, 0);
    assert!(asked(&known)[0].starts_with("ZADD"), "it was swept a short while ago");
    assert_eq!(asked(&known).last().unwrap(), &format!("ZRANGE {key}4 (0 +inf BYSCORE LIMIT 0 51"));
    let all = Announce { leechers_only: false, ..known.clone() };
    assert_eq!(asked(&all).last().unwrap(), &format!("ZRANGE {key}4 0 50"));
    let variants = [
        first,
        known.clone(),
        Announce { completed: true, standing: Standing::Seed, ..known.clone() },
        Announce { no_room: true, ..announce(600, 0, 50, false, 590) },
        Announce { standing: Standing::Stops, ..known },
    ];
    for announce in variants {
        let answer = |command: &String| match command.split(' ').next().unwrap() {
            "ZRANGE" | "ZRANDMEMBER" => Value::Array(vec![Value::BulkString(vec![127, 0, 0, 2, 0, 2])]),
            "GETEX" => Value::BulkString(b"3".to_vec()),
            _ => Value::Int(1),
        };
        let commands = asked(&announce);
        let mut answers = Answers::new(commands.iter().map(answer).collect());
        let told = announce.answer(1_000_100, &mut answers).unwrap();
        assert!(answers.0.is_empty(), "{commands:?}");
        assert_eq!(told.stats, ScrapeStats { complete: 2, incomplete: 1, downloaded: 3 });
        for refused in 0..commands.len() {
            let mut some: Vec<_> = commands.iter().map(answer).collect();
            some.truncate(refused);
            assert!(announce.answer(1_000_100, &mut Answers::new(some)).is_err());
        }
    }
}
#[test]
fn many_peers_are_counted_once_a_second() {
    let named = |announce: &Announce| -> Vec<String> {
        asked(announce).iter().map(|command| command.split(' ').next().unwrap().to_owned()).collect()
    };
    let mut many = announce(100, 40, 50, false, 0);
    many.view.v4.counted_s = 1_000_100;
    many.view.v6 = FamilyView { peers: 5, seeds: 1, ..FamilyView::default() };
    many.view.downloaded = 7;
    assert_eq!(named(&many), ["ZADD", "EXPIRE", "ZCARD", "ZRANGE"]);
    let answers = [Value::Int(0), Value::Int(1), Value::Int(101), Value::Array(Vec::new())];
    let told = many.answer(1_000_100, &mut Answers::new(answers.into())).unwrap();
    assert_eq!(told.stats, ScrapeStats { complete: 41, incomplete: 65, downloaded: 7 });
    assert_eq!(told.view.v4, FamilyView { peers: 101, ..many.view.v4 });
    let completes = Announce { completed: true, standing: Standing::Seed, ..many.clone() };
    let mut later = many.clone();
    later.view.v4.counted_s -= COUNT_S;
    let mut few = many.clone();
    (few.view.v4.peers, few.view.v4.seeds) = (MANY_PEERS - 1, 0);
    let mut from_v6 = many.clone();
    from_v6.addr = "[::1]:1".parse().unwrap();
    from_v6.view.v6.peers = MANY_PEERS;
    for counts in [completes, later, few, from_v6, Announce { no_room: true, ..many }] {
        assert!(named(&counts).contains(&"ZCOUNT".to_owned()), "{counts:?}");
    }
}
