//! Names of clients, as their peer ids tell them (BEP 20).

use crate::id::PeerId;
use crate::rng::Rng;

/// Our two letters.
const OUR_CODE: &[u8; 2] = b"SW";

/// A peer id of ours: `-SW0100-` for version 0.1.0, then 12 random letters and digits.
pub fn peer_id(rng: &mut Rng) -> PeerId {
    const VERSION: [&str; 3] =
        [env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"), env!("CARGO_PKG_VERSION_PATCH")];
    const ALPHABET: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut id = *b"-..0000-............";
    id[1..3].copy_from_slice(OUR_CODE);
    for (digit, part) in id[3..6].iter_mut().zip(VERSION) {
        let number: usize = part.parse().expect("Cargo gives versions as numbers");
        *digit = ALPHABET[number.min(35)];
    }
    id[8..].fill_with(|| ALPHABET[rng.index(ALPHABET.len())]);
    PeerId(id)
}

/// What a peer id says of its owner, such as `qBittorrent 4.6.2`. For display: anyone may say anything.
pub fn client_name(id: &PeerId) -> String {
    azureus_style(id).or_else(|| dashed_style(id)).unwrap_or_else(|| format!("unknown ({id})"))
}

/// `-XXabcd-`: two letters and four digits, of which the last is often unused.
fn azureus_style(id: &PeerId) -> Option<String> {
    let [b'-', code @ .., b'-'] = id.0.first_chunk::<8>()? else { return None };
    let (code, digits) = code.split_first_chunk::<2>()?;
    if !code.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    let mut version =
        digits.iter().map(|&digit| char::from(digit).to_digit(36)).collect::<Option<Vec<u32>>>()?;
    version.pop_if(|last| *last == 0);
    let version: Vec<String> = version.iter().map(u32::to_string).collect();
    Some(format!("{} {}", name_of(code), version.join(".")))
}

/// `M7-10-5--`, `A2-1-36-0-`: a code, then decimal numbers between dashes.
fn dashed_style(id: &PeerId) -> Option<String> {
    let text = id.0.split(|&b| b == b'-').map(|part| std::str::from_utf8(part).ok());
    let [first, minor, patch] = text.take(3).collect::<Option<Vec<&str>>>()?.try_into().ok()?;
    // aria2 puts a dash after its code as well.
    let (name, numbers) = match first.strip_prefix('M') {
        Some(major) => ("BitTorrent", [major, minor, patch]),
        None if first == "A2" => ("aria2", [minor, patch, ""]),
        None => return None,
    };
    let numbers: Vec<&str> = numbers.into_iter().filter(|n| !n.is_empty()).collect();
    let is_number = |n: &&str| n.len() <= 3 && n.bytes().all(|b| b.is_ascii_digit());
    numbers.iter().all(is_number).then(|| format!("{name} {}", numbers.join(".")))
}

/// The client that uses this code, or the code itself.
fn name_of(code: &[u8; 2]) -> String {
    let name = match code {
        OUR_CODE => "Swarm",
        b"7T" => "aTorrent",
        b"AZ" => "Vuze",
        b"BC" => "BitComet",
        b"BI" => "BiglyBT",
        b"BT" => "BitTorrent",
        b"BW" => "BitTorrent Web",
        b"DE" => "Deluge",
        b"FD" => "Free Download Manager",
        b"FL" => "Flud",
        b"FW" => "FrostWire",
        b"GT" => "anacrolix/torrent",
        b"KT" => "KTorrent",
        b"LT" => "libtorrent",
        b"MG" => "MediaGet",
        b"PI" => "PicoTorrent",
        b"TL" => "Tribler",
        b"TR" => "Transmission",
        b"UM" => "µTorrent Mac",
        b"UT" => "µTorrent",
        b"UW" => "µTorrent Web",
        b"WD" => "WebTorrent Desktop",
        b"WW" => "WebTorrent",
        b"XL" | b"SD" => "Xunlei",
        b"lt" => "libTorrent (rTorrent)",
        b"qB" => "qBittorrent",
        b"rQ" => "rqbit",
        _ => return code.iter().map(|&b| char::from(b)).collect(),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn our_own_id_names_us_and_is_random() {
        let mut rng = crate::rng::Rng::new(1);
        let (a, b) = (peer_id(&mut rng), peer_id(&mut rng));
        assert_ne!(a, b);
        assert_eq!(a.0[..3], *b"-SW");
        assert_eq!(a.0[7], b'-');
        assert!(a.0[8..].iter().all(u8::is_ascii_alphanumeric));
        assert!(client_name(&a).starts_with("Swarm "));
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(client_name(&a), format!("Swarm {version}"));
    }

    #[test]
    fn well_known_clients_have_names() {
        let name = |id: &[u8; 20]| client_name(&PeerId(*id));
        assert_eq!(name(b"-qB4620-abcdefghijkl"), "qBittorrent 4.6.2");
        assert_eq!(name(b"-lt0D80-abcdefghijkl"), "libTorrent (rTorrent) 0.13.8");
        assert_eq!(name(b"-LT20B1-abcdefghijkl"), "libtorrent 2.0.11.1");
        assert_eq!(name(b"-ZZ1230-abcdefghijkl"), "ZZ 1.2.3");
        assert_eq!(name(b"M7-10-5--abcdefghijk"), "BitTorrent 7.10.5");
        assert_eq!(name(b"A2-1-36-0-abcdefghij"), "aria2 1.36");
    }

    #[test]
    fn an_id_of_no_known_style_is_shown_harmlessly() {
        assert_eq!(client_name(&PeerId(*b"exbc\x1b[2Jxxxxxxxxxxxx")), "unknown (exbc%1b[2Jxxxxxxxxxxxx)");
    }

    proptest! {
        #[test]
        fn names_are_short_and_without_control_characters(
            id: [u8; 20], style in prop::sample::select(vec![&b""[..], b"-", b"-qB", b"M", b"A2-"]),
        ) {
            let mut id = id;
            id[..style.len()].copy_from_slice(style);
            id[7] = b'-';
            let name = client_name(&PeerId(id));
            prop_assert!(name.len() <= 80);
            prop_assert!(!name.chars().any(char::is_control));
        }
    }
}
