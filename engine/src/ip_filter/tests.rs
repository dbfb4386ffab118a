use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write as _;
use std::time::Duration;
use tempfile::TempDir;

fn load_bytes(bytes: &[u8]) -> Result<Loaded, IpFilterError> {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("filter");
    std::fs::write(&file, bytes).unwrap();
    load_file(&file)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn blocks(loaded: &Loaded, ip: &str) -> bool {
    loaded.filter.is_blocked(ip.parse().unwrap())
}

#[test]
fn text_and_gzip_of_several_members_are_read() {
    let text = b"192.0.2.0/24\nx:198.51.100.1-198.51.100.2\r\nrubbish\n203.0.113.1 - 203.0.113.2 , 0 , y";
    let members = [gzip(&text[..20]), gzip(&text[20..])].concat();
    for bytes in [text.to_vec(), gzip(text), members] {
        let loaded = load_bytes(&bytes).unwrap();
        for ip in ["192.0.2.255", "198.51.100.2", "203.0.113.1"] {
            assert!(blocks(&loaded, ip), "{ip}");
        }
        assert_eq!(loaded.bad_lines, 1);
        assert_eq!(loaded.bad[0].to_string(), "line 3 names no range of addresses");
    }
}

#[test]
fn p2b_of_each_version_is_read() {
    let range = [192, 0, 2, 0, 192, 0, 2, 9];
    let named = |version| [P2B, &[version], b"a\0", &range, b"\0", &[10, 0, 0, 1, 10, 0, 0, 1]].concat();
    let table = [P2B, &[3, 0, 0, 0, 1], b"a\0", &[0, 0, 0, 1, 0, 0, 0, 0], &range].concat();
    for bytes in [named(1), named(2), table, gzip(&named(2))] {
        let loaded = load_bytes(&bytes).unwrap();
        assert!(blocks(&loaded, "192.0.2.9") && !blocks(&loaded, "192.0.2.10"));
    }
    let cut = named(2);
    assert!(load_bytes(&cut[..cut.len() - 1]).is_err(), "cut short");
    assert!(load_bytes(&[P2B, &[9]].concat()).unwrap_err().to_string().contains("unknown version"));
}

#[test]
fn what_is_no_filter_is_an_error_and_what_is_empty_is_none() {
    assert_eq!(load_bytes(b"").unwrap().filter.ranges(), 0);
    assert_eq!(load_bytes(b"# nobody today\n").unwrap().filter.ranges(), 0);
    let page = load_bytes(b"<html>\n<p>Not found</p>\n").unwrap_err();
    assert_eq!(page.to_string(), "no line of it is one of an IP filter; line 1 names no range of addresses");
    let gz = gzip("192.0.2.1\n".repeat(1_000).as_bytes());
    assert!(load_bytes(&gz[..gz.len() - 9]).is_err(), "gzip cut short");
    assert!(load_bytes(b"PK\x03\x04rest").unwrap_err().to_string().contains("zip archive"));
    assert!(load_bytes(b"\xff\xfe1\0.\0").unwrap_err().to_string().contains("UTF-16"));
    assert!(matches!(load_file(Path::new("/nowhere/at/all")), Err(IpFilterError::Io(_))));
}

#[test]
fn an_endless_line_costs_no_memory_and_is_named() {
    let long = [&b"192.0.2.1\n"[..], &vec![b'x'; 3 << 20], b"\n192.0.2.2\n"].concat();
    let loaded = load_bytes(&gzip(&long)).unwrap();
    assert_eq!(loaded.bad[0].to_string(), "line 2 is too long");
    assert!(blocks(&loaded, "192.0.2.2"));
    let mut line = Vec::new();
    let is_whole = read_until(&mut &long[10..], b'\n', &mut line).unwrap();
    assert_eq!((is_whole, line.capacity() <= 2 * LINE_LEN_MAX), (Some(false), true));
}

#[test]
fn a_file_is_read_again_when_it_has_changed_and_is_whole() {
    let stamp = |len| {
        Some(Stamp { len, modified: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(len)), inode: 1 })
    };
    let mut watch = Watch::new(stamp(10));
    assert_eq!(watch.handle_look(stamp(10)), Look::Rest);
    assert_eq!(watch.handle_look(stamp(20)), Look::Rest, "somebody may be writing");
    assert_eq!(watch.handle_look(stamp(30)), Look::Rest);
    assert_eq!(watch.handle_look(stamp(30)), Look::Read);
    assert_eq!(watch.handle_look(stamp(30)), Look::Rest);
    assert_eq!(watch.handle_look(None), Look::Gone);
    assert_eq!(watch.handle_look(None), Look::Rest, "said once");
    assert_eq!(watch.handle_look(stamp(30)), Look::Rest);
    assert_eq!(watch.handle_look(stamp(30)), Look::Read, "it is back, and may be another");
    assert_eq!(watch.handle_look(None), Look::Gone);
}
