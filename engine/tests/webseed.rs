//! Web seeds (BEP 19) over loopback: what is asked for, and what comes of servers that misbehave.

mod common;

use common::origin::{Answer, Asked, Origin};
use common::web::*;
use common::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use swarm_core::metainfo::{Content, Create, FileAttr, Hashes, Metainfo, SourceFile};
use swarm_engine::{AddTorrent, Event, IpFilter, IpFilterSource, IpRange, WebSeedFault, WebSeedPenalty};
use tempfile::TempDir;

#[tokio::test]
async fn a_torrent_comes_whole_from_a_web_seed_alone() {
    let web = Web::of(FILES, PIECE);
    let origin = Origin::of(web.files.clone()).await;
    let torrent = web.whole_from(&origin).await;
    let (asked, total) = (origin.asked(), web.metainfo.info.payload_len());
    assert_eq!(origin.bytes_asked() as u64, total, "each byte once");
    assert!(asked.iter().all(|asked| asked.method == "GET" && asked.range.is_some()), "{asked:?}");
    assert!(asked.iter().all(|asked| asked.headers["accept-encoding"] == "identity"));
    let connections = asked.iter().map(|asked| asked.connection).max().unwrap() + 1;
    assert!(connections < asked.len(), "{connections} connections for {} requests", asked.len());
    let stats = torrent.stats().await.unwrap();
    assert_eq!((stats.web_seeds.len(), stats.web_seeds[0].bytes_down), (1, total));
    assert_eq!(stats.totals.bytes_down, total);
}

fn is_range(asked: &Asked) -> bool {
    asked.range.is_some_and(|(first, _)| first > 0)
}

#[tokio::test]
async fn a_server_that_sends_whole_files_only_is_told_of_and_asked_in_order() {
    let whole = |asked: &Asked, file: &[u8]| is_range(asked).then(|| Answer::new(200, file));
    let (file, fault, penalty) = first_fault(ONE, whole).await;
    assert_eq!((file.as_deref(), penalty), (Some("data/a.bin"), WebSeedPenalty::InOrder));
    assert_eq!(fault, WebSeedFault::NoRanges);
}

/// A server that knows no ranges.
async fn without_ranges(files: BTreeMap<String, Vec<u8>>) -> Origin {
    Origin::with(files, |asked, files| Answer::new(200, &*files[&asked.path])).await
}

#[tokio::test]
async fn a_server_without_ranges_sends_a_large_file_once() {
    // More than one fetch takes.
    let web = Web::of(&[("a.bin", 40_000_000)], PIECE);
    let origin = without_ranges(web.files.clone()).await;
    web.whole_from(&origin).await;
    assert_eq!(origin.asked().len(), 1, "what comes of one answer serves all fetches");
}

#[tokio::test]
async fn a_server_without_ranges_sends_each_of_many_files() {
    let web = Web::of(FILES, PIECE);
    let origin = without_ranges(web.files.clone()).await;
    web.whole_from(&origin).await;
    // One for each that has bytes; and the first of all, if it was for another than the first file.
    let with_bytes = FILES.iter().filter(|(_, len)| *len > 0).count();
    assert!(origin.asked().len() <= with_bytes + 1, "{} requests", origin.asked().len());
}

#[tokio::test]
async fn the_answer_that_shows_that_there_are_no_ranges_serves_what_follows() {
    let web = Web::of(&[("a.bin", 40_000_000)], PIECE);
    let count = AtomicUsize::new(0);
    let origin = Origin::with(web.files.clone(), move |asked, files| {
        let file = &files[&asked.path];
        match count.fetch_add(1, Ordering::Relaxed) {
            0 => Answer::part(asked, file),
            1 => Answer::new(200, &**file),
            // Those that were sent at the same time.
            _ => Answer { silent: true, ..Answer::new(200, "") },
        }
    })
    .await;
    let torrent = web.start(&[origin.url("/")]).await;
    let faults = faults(&torrent, 2).await;
    assert!(matches!(&faults[..], [(_, WebSeedFault::NoRanges, WebSeedPenalty::InOrder)]), "{faults:?}");
    web.check();
}

/// The beginning of a file, whatever part of it is asked for.
fn begun(file: &[u8]) -> Answer {
    Answer::new(200, file).cut_to(file.len() * 9 / 10)
}

#[tokio::test]
async fn a_server_that_begins_anew_forever_loses_the_file() {
    let web = Web::of(ONE, PIECE);
    let origin = Origin::with(web.files.clone(), |asked, files| begun(&files[&asked.path])).await;
    let torrent = web.start(&[origin.url("/")]).await;
    let told: Vec<_> =
        faults(&torrent, 4).await.into_iter().map(|(_, fault, penalty)| (fault, penalty)).collect();
    assert_eq!(told[0], (WebSeedFault::NoRanges, WebSeedPenalty::InOrder));
    assert!(told[1..3].iter().all(|(fault, _)| *fault == WebSeedFault::TooLittle), "{told:?}");
    assert_eq!(told[3], (WebSeedFault::NoRanges, WebSeedPenalty::FileDropped));
    assert_eq!(origin.asked().len(), 3);
}

#[tokio::test]
async fn a_file_that_begins_anew_forever_costs_no_other_file() {
    let web = Web::of(&[("a.bin", 3_000_000), ("z.bin", 300_000)], PIECE);
    let origin = Origin::with(web.files.clone(), |asked, files| match &*asked.path {
        "/data/a.bin" => begun(&files[&asked.path]),
        path => Answer::new(200, &*files[path]),
    })
    .await;
    let torrent = web.start(&[origin.url("/")]).await;
    let (mut events, mut dropped) = (torrent.events(), Vec::new());
    // More than comes of the one.
    while torrent.stats().await.unwrap().bytes_verified < 2_900_000 {
        let event = events.next().await.expect("the torrent goes on");
        if let Event::WebSeedFault { file, penalty: WebSeedPenalty::FileDropped, .. } = event {
            dropped.push(file);
        }
        assert!(dropped.len() <= 1, "{dropped:?}");
    }
    assert_eq!(dropped, [Some("data/a.bin".to_owned())]);
}

#[tokio::test]
async fn another_part_than_the_one_asked_for_costs_the_file() {
    let other = |asked: &Asked, file: &[u8]| {
        let (first, last) = asked.range?;
        let range = format!("bytes {}-{last}/{}", first + 1, file.len());
        Some(Answer::new(206, &file[first + 1..=last]).header("content-range", range))
    };
    let (_, fault, penalty) = first_fault(ONE, other).await;
    assert_eq!((fault, penalty), (WebSeedFault::WrongRange, WebSeedPenalty::FileDropped));
}

#[tokio::test]
async fn more_than_was_asked_for_costs_the_file() {
    let more = |asked: &Asked, file: &[u8]| {
        let mut answer = Answer::part(asked, file);
        answer.body.extend(b"and more");
        answer.chunked = true;
        Some(answer)
    };
    let (_, fault, penalty) = first_fault(ONE, more).await;
    assert_eq!((fault, penalty), (WebSeedFault::WrongRange, WebSeedPenalty::FileDropped));
}

#[tokio::test]
async fn a_body_that_ends_early_pauses_the_url_and_what_came_is_kept() {
    let web = Web::of(ONE, PIECE);
    let cut = AtomicUsize::new(0);
    let origin = Origin::with(web.files.clone(), move |asked, files| {
        let answer = Answer::part(asked, &files[&asked.path]);
        let half = answer.body.len() / 2;
        match cut.fetch_add(1, Ordering::Relaxed) {
            1 => answer.cut_to(half),
            _ => answer,
        }
    })
    .await;
    let torrent = web.start(&[origin.url("/")]).await;
    let (file, fault, penalty) = faults(&torrent, 1).await.remove(0);
    assert_eq!((file, fault), (None, WebSeedFault::TooLittle));
    assert!(matches!(penalty, WebSeedPenalty::Paused(wait) if wait < Duration::from_secs(4)));
    torrent.completed().await.unwrap();
    web.check();
    let again = torrent.stats().await.unwrap().totals.bytes_down - 3_000_000;
    assert!(again < 100_000, "{again} bytes came twice");
}

#[tokio::test]
async fn one_missing_file_of_many_costs_what_lies_in_its_pieces_only() {
    let web = Web::of(FILES, PIECE);
    let mut files = web.files.clone();
    let lost = files.remove("/data/z.bin").unwrap();
    let origin = Origin::of(files).await;
    let torrent = web.start(&[origin.url("/")]).await;
    let (file, fault, penalty) = faults(&torrent, 1).await.remove(0);
    assert_eq!(file.as_deref(), Some("data/z.bin"));
    assert_eq!(fault, WebSeedFault::Status { status: 404 });
    assert!(matches!(penalty, WebSeedPenalty::FilePaused(_)));
    let mut events = torrent.events();
    let of_others = web.metainfo.info.payload_len() - lost.len() as u64;
    while torrent.stats().await.unwrap().bytes_verified + u64::from(2 * PIECE) < of_others {
        events.next().await;
    }
    let asked = origin.asked().iter().filter(|asked| asked.path == "/data/z.bin").count();
    assert!(asked <= 16, "asked {asked} times for what is not there");
    torrent.stop().await.unwrap();
}

#[tokio::test]
async fn a_busy_server_is_left_alone_for_as_long_as_it_says() {
    let busy = |_: &Asked, _: &[u8]| Some(Answer::new(503, "later").header("retry-after", 1_000));
    let (file, fault, penalty) = first_fault(ONE, busy).await;
    let wait = Duration::from_secs(1_000);
    assert_eq!((file, penalty), (None, WebSeedPenalty::Paused(wait)));
    assert_eq!(fault, WebSeedFault::Busy { status: 503, retry_after: Some(wait) });
}

#[tokio::test]
async fn a_login_page_costs_the_file() {
    let page = |_: &Asked, _: &[u8]| {
        Some(Answer::new(200, "<html>who are you?").header("content-type", "text/html"))
    };
    let (_, fault, penalty) = first_fault(ONE, page).await;
    assert_eq!(fault, WebSeedFault::WrongLength { found: 18, expected: 3_000_000 });
    assert_eq!(penalty, WebSeedPenalty::FileDropped);
}

#[tokio::test]
async fn a_compressed_body_costs_the_file() {
    let gzip =
        |asked: &Asked, file: &[u8]| Some(Answer::part(asked, file).header("content-encoding", "gzip"));
    let (_, fault, penalty) = first_fault(ONE, gzip).await;
    assert_eq!((fault, penalty), (WebSeedFault::Encoded("gzip".to_owned()), WebSeedPenalty::FileDropped));
}

#[tokio::test]
async fn a_url_that_lies_is_dropped() {
    let lie = |asked: &Asked, file: &[u8]| {
        let mut answer = Answer::part(asked, file);
        answer.body.iter_mut().for_each(|byte| *byte = !*byte);
        Some(answer)
    };
    let (file, fault, penalty) = first_fault(ONE, lie).await;
    assert_eq!((file, fault, penalty), (None, WebSeedFault::Corrupt, WebSeedPenalty::Dropped));
}

#[tokio::test]
async fn a_dropped_url_stays_dropped_over_a_pause() {
    let web = Web::of(ONE, PIECE);
    let origin = Origin::with(web.files.clone(), |asked, files| {
        let mut answer = Answer::part(asked, &files[&asked.path]);
        answer.body.fill(0);
        answer
    })
    .await;
    let torrent = web.start(&[origin.url("/")]).await;
    assert_eq!(faults(&torrent, 1).await[0].1, WebSeedFault::Corrupt);
    let asked = origin.asked().len();
    let mut events = torrent.events();
    torrent.pause();
    while !matches!(events.next().await, Some(Event::Paused)) {}
    torrent.resume();
    while !matches!(events.next().await, Some(Event::WebSeedFault { penalty: WebSeedPenalty::Dropped, .. })) {
    }
    torrent.stats().await.unwrap();
    assert_eq!(origin.asked().len(), asked);
}

#[tokio::test]
async fn a_server_that_is_not_there_pauses_the_url() {
    let web = Web::of(ONE, PIECE);
    let torrent = web.start(&["http://127.0.0.1:1/".to_owned()]).await;
    let (file, fault, penalty) = faults(&torrent, 1).await.remove(0);
    assert!(file.is_none() && matches!(fault, WebSeedFault::Network(_)), "{fault}");
    assert!(matches!(penalty, WebSeedPenalty::Paused(_)));
}

#[tokio::test]
async fn other_schemes_are_passed_over_by_name() {
    let web = Web::of(ONE, PIECE);
    let origin = Origin::of(web.files.clone()).await;
    let torrent = web.start(&["ftp://h/f".to_owned(), "/27/items".to_owned(), origin.url("/")]).await;
    let all = faults(&torrent, 2).await;
    let ftp = "ftp: is not supported, only http: and https:";
    assert_eq!(all[0].1, WebSeedFault::Unsupported(ftp.to_owned()));
    assert!(matches!(&all[1].1, WebSeedFault::Unsupported(why) if why.starts_with("not a URL")));
    torrent.completed().await.unwrap();
    web.check();
}

#[tokio::test]
async fn a_server_that_closes_after_each_answer_serves_all_the_same() {
    let web = Web::of(FILES, PIECE);
    let origin = Origin::with(web.files.clone(), |asked, files| Answer {
        close: true,
        ..Answer::part(asked, &files[&asked.path]).header("connection", "close")
    })
    .await;
    web.whole_from(&origin).await;
}

#[tokio::test]
async fn mirrors_share_the_work_and_a_dead_one_holds_up_nothing() {
    let web = Web::of(&[("a.bin", 40_000_000)], PIECE);
    let mirrors = [Origin::of(web.files.clone()).await, Origin::of(web.files.clone()).await];
    let dead = "http://127.0.0.1:1/".to_owned();
    let torrent = web.start(&[dead, mirrors[0].url("/"), mirrors[1].url("/")]).await;
    torrent.completed().await.unwrap();
    web.check();
    let served = mirrors.each_ref().map(Origin::bytes_asked);
    assert!(served.iter().all(|&bytes| bytes > 1_000_000), "{served:?}");
    assert_eq!(served.iter().sum::<usize>(), 40_000_000, "each byte once");
}

/// Linux has all of 127.0.0.0/8 on loopback.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn requests_leave_from_the_address_that_the_session_is_bound_to() {
    let mut web = Web::of(ONE, PIECE);
    web.session = session("127.0.0.2");
    let origin = Origin::of(web.files.clone()).await;
    web.start(&[origin.url("/")]).await.completed().await.unwrap();
    let own: std::net::IpAddr = [127, 0, 0, 2].into();
    assert!(origin.asked().iter().all(|asked| asked.from == own), "{:?}", origin.asked()[0].from);
}

#[tokio::test]
async fn strangers_name_no_web_seed_on_this_machine_and_the_user_does() {
    let web = Web::of(ONE, PIECE);
    let origin = Origin::of(web.files.clone()).await;
    let mut metainfo = (*web.metainfo).clone();
    metainfo.web_seeds = vec![origin.url("/")];
    let torrent = web.session.add(AddTorrent::download(metainfo, web.target.path())).await.unwrap();
    let (_, fault, penalty) = faults(&torrent, 1).await.remove(0);
    assert!(matches!(fault, WebSeedFault::Forbidden(_)), "{fault}");
    assert_eq!((penalty, origin.asked().len()), (WebSeedPenalty::Dropped, 0));
}

#[tokio::test]
async fn an_ip_filter_holds_for_web_seeds_too() {
    let mut web = Web::of(ONE, PIECE);
    let origin = Origin::of(web.files.clone()).await;
    web.session = common::session_on("127.0.0.1", |options| {
        let [first, last] = ["127.0.0.0", "127.255.255.255"].map(|ip| ip.parse().unwrap());
        options.ip_filter(IpFilterSource::from(IpFilter::new([IpRange::new(first, last).unwrap()])))
    });
    for url in [origin.url("/"), origin.url("/").replace("127.0.0.1", "localhost")] {
        let target = TempDir::new().unwrap();
        let download = AddTorrent::download((*web.metainfo).clone(), target.path()).web_seeds([url]);
        let torrent = web.session.add(download).await.unwrap();
        let (_, fault, _) = faults(&torrent, 1).await.remove(0);
        assert!(matches!(fault, WebSeedFault::Forbidden(_)), "{fault}");
        web.session.remove(torrent.id(), swarm_engine::Data::Delete).await.unwrap();
    }
    assert!(origin.asked().is_empty());
}

fn created(create: &Create, bytes: &[u8], piece_len: u32) -> Arc<Metainfo> {
    let pieces = bytes.chunks(piece_len as usize);
    let hashes: Vec<[u8; 20]> = pieces.map(|piece| swarm_engine::hash::sha1([piece])).collect();
    Arc::new(Metainfo::parse(&create.encode(Hashes::v1(hashes.as_flattened())).unwrap()).unwrap())
}

/// Pad files, a `+`, spaces, and a name that is no UTF-8 text of ours.
#[tokio::test]
async fn pads_are_never_asked_for_and_names_are_encoded() {
    let target = TempDir::new().unwrap();
    let lens = [50_000, 15_536, 40_000];
    let names = [vec!["c+d e&f.bin"], vec![".pad", "15536"], vec!["50% é", "x#?.bin"]];
    let mut all = Vec::new();
    let mut files = BTreeMap::new();
    let entries = names.iter().zip(lens).enumerate().map(|(nth, (path, len))| {
        let is_pad = nth == 1;
        let bytes = if is_pad { vec![0; len] } else { content(len, nth as u64) };
        all.extend(&bytes);
        let encoded = ["/data/c%2Bd%20e%26f.bin", "", "/data/50%25%20%C3%A9/x%23%3F.bin"][nth];
        files.insert(encoded.to_owned(), bytes);
        SourceFile {
            path: path.iter().map(|&name| name.to_owned()).collect(),
            length: len as u64,
            attr: FileAttr { pad: is_pad, ..FileAttr::default() },
            symlink_target: None,
        }
    });
    let create = Create::new("data".to_owned(), Content::Folder(entries.collect()), 65_536);
    let metainfo = created(&create, &all, 65_536);
    // Of the pad file.
    files.remove("");
    let origin = Origin::of(files.clone()).await;
    let session = session("127.0.0.1");
    let download = get(&metainfo, target.path(), &[]).web_seeds([origin.url("")]);
    session.add(download).await.unwrap().completed().await.unwrap();
    let asked: BTreeSet<String> = origin.asked().into_iter().map(|asked| asked.path).collect();
    assert!(asked.iter().eq(files.keys()), "{asked:?}");
    let got = std::fs::read(target.path().join("data/50% é/x#?.bin")).unwrap();
    assert!(got == content(40_000, 2));
}

#[tokio::test]
async fn files_that_nobody_wants_are_not_fetched() {
    let web = Web::of(&[("a.bin", 300_000), ("b.bin", 3_000_000), ("c.bin", 300_000)], PIECE);
    let origin = Origin::of(web.files.clone()).await;
    let wanted = swarm_engine::Files::only([swarm_engine::FileIndex(0)]);
    let torrent = web.session.add(web.download(&[origin.url("/")]).files(wanted)).await.unwrap();
    torrent.completed().await.unwrap();
    assert!(origin.bytes_asked() <= 300_000 + PIECE as usize, "{} bytes", origin.bytes_asked());
}

#[tokio::test]
async fn a_rate_limit_holds_for_web_seeds() {
    let web = Web::of(ONE, PIECE);
    let origin = Origin::of(web.files.clone()).await;
    let start = std::time::Instant::now();
    let torrent = web.session.add(web.download(&[origin.url("/")]).download_limit(1_500_000)).await.unwrap();
    torrent.completed().await.unwrap();
    // Two seconds at that rate, less what may come at once.
    assert!(start.elapsed() >= Duration::from_millis(1_500), "{:?}", start.elapsed());
    web.check();
}

#[tokio::test]
async fn large_pieces_over_many_files_come_within_little_memory() {
    let sizes: Vec<(String, usize)> =
        (0..40).map(|nth| (format!("f{nth:02}"), 1_000_000 + nth * 7)).collect();
    let files: Vec<(&str, usize)> = sizes.iter().map(|(name, len)| (&**name, *len)).collect();
    let mut web = Web::of(&files, 16 << 20);
    web.session = session_on("127.0.0.1", |options| options.buffer_bytes(4 << 20));
    let origin = Origin::of(web.files.clone()).await;
    web.whole_from(&origin).await;
}

#[tokio::test]
async fn beside_a_seed_little_comes_from_the_web() {
    let web = Web::of(&[("a.bin", 8_000_000)], PIECE);
    let origin = Origin::of(web.files.clone()).await;
    let seeder = session("127.0.0.1");
    // A super-seed shows nothing at first: its pieces look like gaps.
    let seed = AddTorrent::seed(Arc::clone(&web.metainfo), web.source.path()).super_seeding(false);
    seeder.add(seed).await.unwrap().completed().await.unwrap();
    // The peer is there before the web seed is.
    let download = get(&web.metainfo, web.target.path(), &[&seeder]).download_limit(4_000_000);
    let torrent = web.session.add(download).await.unwrap();
    while torrent.stats().await.unwrap().rate_down == 0 {
        tokio::task::yield_now().await;
    }
    torrent.add_web_seeds([origin.url("/")]);
    torrent.completed().await.unwrap();
    web.check();
    assert_eq!(origin.bytes_asked(), 0, "what a peer has is not fetched");
}

#[tokio::test]
async fn a_single_file_is_at_the_url_itself_with_its_query() {
    let target = TempDir::new().unwrap();
    let bytes = content(200_000, 1);
    let create = Create::new(
        "x.iso".to_owned(),
        Content::File { length: bytes.len() as u64, attr: FileAttr::default() },
        PIECE,
    );
    let metainfo = created(&create, &bytes, PIECE);
    let path = "/bucket/key?X-Amz-Signature=a%2Bb&X-Amz-Expires=60";
    let origin = Origin::of([(path.to_owned(), bytes.clone())].into()).await;
    let session = session("127.0.0.1");
    let torrent =
        session.add(get(&metainfo, target.path(), &[]).web_seeds([origin.url(path)])).await.unwrap();
    torrent.completed().await.unwrap();
    assert!(std::fs::read(target.path().join("x.iso")).unwrap() == bytes);
    assert!(origin.asked().iter().all(|asked| asked.method == "GET" && asked.path == path));
}

/// Answers that libtorrent's own tests have, since its parser stumbled over some of them.
#[tokio::test]
async fn malformed_answers_are_faults() {
    for head in [
        "HTTP/1.1 206 OK\nContent-Range: bYTes -3-4\n\n",
        "HTTP/1.1 206 OK\nContent-Range: bYTes 3--434\n\n",
        "HTTP/1.1 206 OK\nContent-Range: bytes 0-999999999999999999999999\n\n",
        "HTTP/1.1 206 OK\nContent-Range: bytes 999999999999999999999999-0\n\n",
        "HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-16383/16384\r\nTransfer-Encoding: chunked\r\n\r\n1z\r\nxxxx",
        "HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-16383/16384\r\nTransfer-Encoding: chunked\r\n\r\n80000000\r\nxxxx",
        "HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-16383/16384\r\nContent-Length: -1\r\n\r\nxxxx",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
        "nonsense\r\n\r\n",
        "",
    ] {
        let answer = |_: &Asked, _: &[u8]| Some(Answer { raw: Some(head.into()), ..Answer::new(206, "") });
        let (_, fault, _) = first_fault(&[("a.bin", 16_384)], answer).await;
        let is_named =
            matches!(fault, WebSeedFault::Network(_) | WebSeedFault::WrongRange | WebSeedFault::TooLittle);
        assert!(is_named, "{head:?}: {fault}");
    }
}
