//! Files that others write, or that a crash leaves half written; and what web servers answer.

use crate::Target;
use crate::input::Input;
use crate::memory::bounded;
use swarm_core::ip_filter::{IpFilter, parse_line};
use swarm_core::webseed::{file_url, parse_url};
use swarm_engine::fuzz;

pub(super) const IP_FILTER: Target =
    Target { name: "ip_filter", run: ip_filter, seeds: ip_filters, runs: 50_000 };
pub(super) const RESUME: Target = Target { name: "resume", run: resume, seeds: resumes, runs: 50_000 };
pub(super) const WEB_SEED: Target = Target { name: "web_seed", run: web_seed, seeds: answers, runs: 100_000 };

/// A whole file, gzipped or not; and its lines one by one.
fn ip_filter(input: &[u8]) {
    let filter = bounded(input.len(), 32, || fuzz::ip_filter(input));
    let lines = input.split(|byte| *byte == b'\n');
    let ranges: Vec<_> = lines.filter_map(|line| parse_line(line).ok().flatten()).collect();
    let by_line = IpFilter::new(ranges.iter().copied());
    assert!(by_line.ranges() <= ranges.len());
    if let Some(filter) = filter.filter(|_| !input.starts_with(b"\xff\xff\xff\xffP2B")) {
        for ip in [[0, 0, 0, 0], [1, 2, 3, 4], [10, 0, 0, 1], [255, 255, 255, 255]] {
            assert_eq!(filter.is_blocked(ip.into()), by_line.is_blocked(ip.into()));
        }
    }
}

fn ip_filters() -> Vec<Vec<u8>> {
    let text = b"# a comment\n10.0.0.0/8\n1.2.3.4\n001.002.003.000 - 001.002.003.255 , 000 , name\n\
        Some name:5.6.7.8-5.6.7.9\n2001:db8::/32\n::1\nbad line\n";
    let p2b = [b"\xff\xff\xff\xffP2B\x02name\0".as_slice(), &[1, 2, 3, 4], &[1, 2, 3, 9]].concat();
    let p2b3 = [
        b"\xff\xff\xff\xffP2B\x03\0\0\0\x01name\0\0\0\0\x01\0\0\0\0".as_slice(),
        &[1, 2, 3, 4],
        &[1, 2, 3, 9],
    ];
    vec![text.to_vec(), p2b, p2b3.concat(), b"1.0.0.0-2.0.0.0\r\n3.0.0.0/33\n".to_vec()]
}

/// The state of a torrent, and the records of its journal, with checksums that fit.
fn resume(input: &[u8]) {
    // Beside it there is a buffer of 64 KiB to read or to write through.
    bounded(input.len() + 1_024, 64, || fuzz::state(input));
    bounded(input.len() + 1_024, 64, || fuzz::journal(input));
}

fn resumes() -> Vec<Vec<u8>> {
    // Journal records: kind, index, and two numbers, in little endian.
    let record = |kind: u32, index: u32, a: u64, b: u64| {
        [&kind.to_le_bytes()[..], &index.to_le_bytes(), &a.to_le_bytes(), &b.to_le_bytes()].concat()
    };
    let journal = [record(1, 2, 0, 0), record(4, 0, 9, 8), record(1, 3, 0, 0), record(2, 0, 1, 0), {
        [record(3, 1, 5, 5), record(5, 2, 0, 0), record(1, 2, 0, 0)].concat()
    }];
    let mut seeds = fuzz::states();
    seeds.push(journal.concat());
    seeds
}

/// An answer's head, and what a URL leads to.
fn web_seed(input: &[u8]) {
    let mut choices = Input(input);
    let status = choices.of(&[206, 206, 200, 416, 404, 503, 429, 302]);
    let body_len = match choices.below(4) {
        0 => None,
        1 => Some(choices.number().into()),
        2 => Some(100),
        _ => Some(1_000_000),
    };
    let (names, values) = (choices.byte(), [choices.chunk(), choices.chunk(), choices.chunk()]);
    let of = |n: usize| (names >> n & 1 == 1).then_some(values[n]);
    let (len, range) = (1_000_000, 100..200);
    let part = fuzz::answer(status, [of(0), of(1), of(2)], body_len, len, range.clone());
    if let Some(part) = part {
        let is_asked = part.start == range.start && part.end > part.start && part.end <= range.end;
        assert!(part == (0..len) || is_asked, "{part:?} is no part of what was asked for");
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(url) = parse_url(text) {
        let path: Vec<&[u8]> = text.split('|').map(str::as_bytes).collect();
        for single_file in [false, true] {
            let Some(file) = file_url(&url, single_file, path.iter().copied()) else { continue };
            assert_eq!((file.host(), file.port(), file.scheme()), (url.host(), url.port(), url.scheme()));
            assert!(file.path().starts_with(url.path().trim_end_matches('/')), "{file} is not below {url}");
        }
    }
}

fn answers() -> Vec<Vec<u8>> {
    // Status, length of the body, which headers there are, and Content-Range, Content-Encoding, Retry-After.
    let head = |start: [u8; 3], values: [&str; 3]| {
        let values = values.iter().flat_map(|value| [&[value.len() as u8], value.as_bytes()].concat());
        start.into_iter().chain(values).collect::<Vec<u8>>()
    };
    let mut seeds = vec![
        head([0, 2, 1], ["bytes 100-199/1000000", "", ""]),
        head([0, 0, 1], ["bytes 100-150/*", "", ""]),
        head([2, 3, 2], ["", "identity", ""]),
        head([3, 0, 1], ["bytes */1000000", "", ""]),
        head([5, 0, 4], ["", "", "120"]),
        head([6, 0, 4], ["", "", "Fri, 31 Dec 1999 23:59:59 GMT"]),
    ];
    seeds.extend(["http://host/a/b|c", "https://u:p@[::1]:8/%20?q|..|x"].map(|url| url.as_bytes().to_vec()));
    seeds
}
