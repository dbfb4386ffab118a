//! The trackers of one torrent, by who named them.

use crate::tracker::access::UrlOrigin;
use crate::tracker::udp;
use url::Url;

/// Most trackers of one torrent's metainfo, and as many of the user's; further ones are left out
/// ([`Announcer::left_out`](super::Announcer::left_out)).
pub const TRACKERS_MAX: usize = 512;

/// The trackers of a torrent, by who named them.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrackerUrls<'a> {
    /// The tiers of the metainfo, tried first.
    pub by_metainfo: &'a [Vec<String>],
    /// Those of the user, each a tier of its own.
    pub by_user: &'a [String],
}

/// A tracker as the metainfo or the user names it.
#[derive(Debug)]
pub(super) struct Tracker {
    pub(super) url: String,
    pub(super) origin: UrlOrigin,
    pub(super) tier: usize,
    /// Which host it is at, as a number that trackers at one host have in common.
    pub(super) host: usize,
    /// The same for its host and port.
    pub(super) port: usize,
    /// What to fetch, or why we cannot.
    pub(super) target: Result<Url, &'static str>,
}

/// The trackers that are `named`, each once, and how many are beyond the bound.
pub(super) fn trackers(named: TrackerUrls<'_>) -> (Vec<Tracker>, usize) {
    let (mut trackers, mut left_out) = (Vec::new(), 0);
    let by_metainfo = named.by_metainfo.iter().map(|tier| (tier.as_slice(), UrlOrigin::Metainfo));
    let by_user = named.by_user.iter().map(|url| (std::slice::from_ref(url), UrlOrigin::Typed));
    for (tier, (urls, origin)) in by_metainfo.chain(by_user).enumerate() {
        for url in urls {
            left_out += usize::from(!add_tracker(&mut trackers, url, origin, tier));
        }
    }
    (trackers, left_out)
}

/// Adds a tracker, unless it is known already. Whether there was room.
pub(super) fn add_tracker(trackers: &mut Vec<Tracker>, url: &str, origin: UrlOrigin, tier: usize) -> bool {
    if let Some(known) = trackers.iter_mut().find(|tracker| tracker.url == url) {
        known.origin = known.origin.max(origin);
        return true;
    }
    let room = if origin == UrlOrigin::Typed { 2 * TRACKERS_MAX } else { TRACKERS_MAX };
    if trackers.len() >= room {
        return false;
    }
    let target = target(url);
    let next = trackers.len();
    let at_host = |other: &Tracker| host_and_port(&other.target).0 == host_and_port(&target).0;
    let at_port = |other: &Tracker| host_and_port(&other.target) == host_and_port(&target);
    let host = trackers.iter().position(at_host).unwrap_or(next);
    let port = trackers.iter().position(at_port).unwrap_or(next);
    trackers.push(Tracker { url: url.to_owned(), origin, tier, host, port, target });
    true
}

fn host_and_port<'a>(target: &'a Result<Url, &str>) -> (Option<&'a str>, Option<u16>) {
    let url = target.as_ref().ok();
    (url.and_then(Url::host_str), url.and_then(Url::port_or_known_default))
}

fn target(url: &str) -> Result<Url, &'static str> {
    let parsed = Url::parse(url.trim()).map_err(|_| "not a URL")?;
    match parsed.scheme() {
        "http" | "https" => Ok(parsed),
        "udp" if parsed.port().is_none() => Err("it names no port, and udp: has none of its own"),
        "udp" if udp::url_data(&parsed).len() > udp::URL_DATA_LEN_MAX => Err("too long for UDP"),
        "udp" => Ok(parsed),
        "ws" | "wss" => Err("WebTorrent trackers are not supported"),
        _ => Err("not an http, https or udp URL"),
    }
}
