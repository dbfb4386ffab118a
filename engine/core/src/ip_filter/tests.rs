use super::*;
use proptest::prelude::*;
use std::net::Ipv4Addr;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn read(text: &str) -> (IpFilter, Vec<String>) {
    let mut reader = FilterReader::default();
    text.split_terminator('\n').for_each(|line| reader.handle_line(line.as_bytes()));
    let (filter, bad, _) = reader.finish();
    (filter, bad.iter().map(ToString::to_string).collect())
}

/// Asserts that all lines of `text` are good, and which addresses they block.
#[track_caller]
fn check(text: &str, blocked: &[&str], allowed: &[&str]) {
    let (filter, bad) = read(text);
    assert_eq!(bad, [""; 0], "{text}");
    blocked.iter().for_each(|addr| assert!(filter.is_blocked(ip(addr)), "{addr} by {text}"));
    allowed.iter().for_each(|addr| assert!(!filter.is_blocked(ip(addr)), "{addr} by {text}"));
}

#[test]
fn networks_addresses_and_ranges() {
    check("192.0.2.0/24", &["192.0.2.0", "192.0.2.255"], &["192.0.1.255", "192.0.3.0"]);
    check("192.0.2.77/24 # of somebody", &["192.0.2.0", "192.0.2.255"], &["192.0.3.0"]);
    check("192.0.2.0/24 ; SBL-1:2", &["192.0.2.9"], &["192.0.3.0"]);
    check("192.0.2.7", &["192.0.2.7", "::ffff:192.0.2.7"], &["192.0.2.6", "192.0.2.8"]);
    check("192.0.2.7-192.0.2.9\r", &["192.0.2.7", "192.0.2.9"], &["192.0.2.6", "192.0.2.10"]);
    check("2001:db8::/33", &["2001:db8::", "2001:db8:7fff::1"], &["2001:db8:8000::", "2001:db7::"]);
    check("2001:db8::1 - 2001:db8::3", &["2001:db8::2"], &["2001:db8::", "2001:db8::4"]);
    check("::ffff:192.0.2.0-::ffff:192.0.2.9", &["192.0.2.3"], &["::3"]);
    check("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::", "2001:db8::1"]);
    check("::/0", &["::", "ffff::"], &["1.2.3.4"]);
    check("0.0.0.0-255.255.255.255\n1.2.3.4", &["255.255.255.255", "0.0.0.0"], &[]);
}

#[test]
fn emule_levels_and_zeros() {
    check("001.009.096.105 - 001.009.096.110 , 000 , A name: 1-2, #3", &["1.9.96.105"], &["1.9.96.111"]);
    check("010.000.000.000-010.000.000.255,127,x", &["10.0.0.9"], &["8.0.0.9"]);
    check("010.000.000.000 - 010.000.000.255 , 128 , x", &[], &["10.0.0.9"]);
    check("192.0.2.0 - 192.0.2.9 , a name without a level", &["192.0.2.9"], &[]);
    // Allowed by one line, blocked by another: blocked.
    check("192.0.2.0 - 192.0.2.9 , 200 , x\n192.0.2.0 - 192.0.2.4 , 0 , y", &["192.0.2.4"], &["192.0.2.5"]);
}

#[test]
fn peerguardian_names() {
    check("Some, Inc:192.0.2.0-192.0.2.9", &["192.0.2.9"], &["192.0.2.10"]);
    check("10.0.0.1-10.0.0.2, a name:192.0.2.0-192.0.2.9", &[], &["192.0.2.10"]);
    check("a-b c/d # e:f:192.0.2.0-192.0.2.9", &["192.0.2.0"], &["0.0.0.0"]);
    check("a:192.0.2.0/24", &["192.0.2.9"], &["192.0.3.0"]);
}

#[test]
fn bad_lines_are_named_and_the_others_count() {
    let text = "<html>\n192.0.2.1\n\n# fine\n1.2.3.400\n1.2.3.9-1.2.3.4\n1.2.3.4-::1\n1.2.3.4/33\n\
                192.0.2.2\nx\n1.2.3.4 - 1.2.3.500\n01.02.03";
    let (filter, bad) = read(text);
    assert_eq!(
        bad,
        [
            "line 1 names no range of addresses",
            "line 5 names no range of addresses",
            "line 6 names a range that ends before it begins",
            "line 7 names a range from IPv4 to IPv6",
            "line 8 names a prefix longer than an address",
        ]
    );
    assert_eq!(filter, read("192.0.2.1-192.0.2.2").0);
}

#[test]
fn at_most_so_many_ranges() {
    let mut reader = FilterReader::default();
    let single = |n: usize| IpRange::network(Ipv4Addr::from_bits(2 * n as u32).into(), 32).unwrap();
    (0..=RANGES_MAX).for_each(|n| reader.add(single(n)));
    assert!(reader.is_full());
    assert_eq!(reader.finish().0.ranges(), RANGES_MAX);
}

/// What went wrong in other programs, by their public reports.
mod reported {
    use super::*;

    /// Transmission 9075: a shift by 32 made one address every address.
    #[test]
    fn a_prefix_of_all_bits_is_one_address() {
        check("10.5.6.7/32", &["10.5.6.7"], &["10.5.6.6", "10.5.6.8", "200.0.0.1", "0.0.0.0"]);
        check("2001:db8::7/128", &["2001:db8::7"], &["2001:db8::6", "2001:db8::8", "::"]);
    }

    /// Naunter/BT_BlockLists 19, in Transmission 4: a name before IPv6 addresses, and names with colons.
    #[test]
    fn names_before_ipv6_and_names_with_colons() {
        check(
            "blocklist_de:2001:41d0:203:5c64::-2001:41d0:203:5c64::",
            &["2001:41d0:203:5c64::"],
            &["2001:41d0:203:5c64::1", "2001:41d0:203:5c63::"],
        );
        check("scan TCP:443:64 hits:192.0.2.0-192.0.2.9", &["192.0.2.5"], &["64.0.0.0"]);
        // `ab:2001:db8::1` is an address too, and the range from there to `2001:db8::9` most of the internet.
        check("ab:2001:db8::1-2001:db8::9", &["2001:db8::9"], &["2001:db7::", "ab:2001:db8::1", "db8::1"]);
    }

    /// qBittorrent 20970: IPv6 with all of its zeros.
    #[test]
    fn ipv6_in_full() {
        let line = "x:2a05:bb80:0000:0000:0000:0000:0000:0000-2a05:bb87:ffff:ffff:ffff:ffff:ffff:ffff";
        check(line, &["2a05:bb80::", "2a05:bb87:ffff::"], &["2a05:bb88::", "2a05:bb7f::"]);
    }

    /// qBittorrent 7977: blank lines and single addresses were malformed.
    #[test]
    fn blank_lines_and_single_addresses() {
        check("# a comment\n   \n\t\r\n192.0.2.7\r\n", &["192.0.2.7"], &["192.0.2.8"]);
    }

    /// qBittorrent 21455: the name of the file said another format than its lines.
    #[test]
    fn formats_are_told_apart_by_lines() {
        let mixed = "192.0.2.0/28\nx:198.51.100.1-198.51.100.2\n203.0.113.1 - 203.0.113.2 , 0 , y";
        check(mixed, &["192.0.2.15", "198.51.100.2", "203.0.113.2"], &["192.0.2.16"]);
    }

    /// csf-firewall 79: two addresses in one line.
    #[test]
    fn two_addresses_run_together_are_none() {
        assert_eq!(parse_line(b"176.221.42.3254.174.140.223"), Err(LineError::NoRange));
    }

    /// PeerBanHelper 138: Transmission knew no single IPv6 networks.
    #[test]
    fn ipv6_networks_of_one_address() {
        check(
            "2402:b400:4700:3ccb:ded3:21ff:aa28:1000/128",
            &["2402:b400:4700:3ccb:ded3:21ff:aa28:1000"],
            &["::"],
        );
    }

    /// opnsense 2298: the list's address served a web page.
    #[test]
    fn a_web_page_is_no_filter() {
        let page = "<!DOCTYPE html>\n<a href=\"http://192.0.2.1/24\">x</a>\n<p>2001:db8::1</p>";
        let (filter, bad) = read(page);
        assert!(filter.is_empty());
        assert_eq!(bad.len(), 3);
    }

    /// Old lists are Latin-1, and editors put a mark before the first line.
    #[test]
    fn bytes_that_are_not_utf8_and_a_byte_order_mark() {
        let blocked = |line: &[u8]| IpFilter::new(parse_line(line).unwrap()).is_blocked(ip("192.0.2.1"));
        assert!(blocked(b"Universit\xe4t:192.0.2.0-192.0.2.9"));
        assert!(blocked(b"\xef\xbb\xbf192.0.2.0/24"));
        assert_eq!(parse_line(b"\xef\xbb\xbf# list"), Ok(None));
    }

    /// BiglyBT 3209: what was loaded twice stood twice.
    #[test]
    fn what_stands_twice_counts_once() {
        let (filter, _) = read("192.0.2.0/24\n192.0.2.0/25\n192.0.3.0/24\n192.0.2.0/24\n192.0.5.0/24");
        assert_eq!(filter.ranges(), 2, "those that touch are one, those that do not are two");
        assert!(filter.is_blocked(ip("192.0.3.255")) && !filter.is_blocked(ip("192.0.4.0")));
    }
}

proptest! {
    #[test]
    fn a_filter_blocks_what_one_of_its_ranges_holds(
        ranges in prop::collection::vec((any::<u16>(), 0..300_u32, any::<bool>()), 0..40),
        looked_up in prop::collection::vec((any::<u16>(), any::<bool>()), 100),
    ) {
        // Near both ends of the addresses, where numbers overflow.
        let base = |high: bool| if high { u32::MAX - 0xffff } else { 0 };
        let at = |n: u32| IpAddr::from(Ipv4Addr::from_bits(n));
        let bounds = ranges.iter().map(|&(first, len, high)| {
            let first = base(high) + u32::from(first);
            (first, first.saturating_add(len))
        }).collect::<Vec<_>>();
        let filter: IpFilter = bounds.iter().map(|&(a, b)| IpRange::new(at(a), at(b)).unwrap()).collect();
        let edges = bounds.iter().flat_map(|&(a, b)| [a.saturating_sub(1), a, b, b.saturating_add(1)]);
        let others = looked_up.iter().map(|&(n, high)| base(high) + u32::from(n));
        for n in edges.chain(others) {
            let expected = bounds.iter().any(|&(a, b)| a <= n && n <= b);
            prop_assert_eq!(filter.is_blocked(at(n)), expected, "{}", at(n));
        }
        for pair in filter.v4.windows(2) {
            prop_assert!(pair[0].1 + 1 < pair[1].0, "sorted, and none touch");
        }
    }

    #[test]
    fn no_line_is_too_much(line in prop::collection::vec(any::<u8>(), 0..200), text in "[0-9a-f:./, -]{0,80}") {
        let _ = parse_line(&line);
        let _ = parse_line(text.as_bytes());
    }
}
