//! The trackers of one torrent, by who named them.

use std::collections::BTreeMap;

use url::Url;

use crate::tracker::access::UrlOrigin;
use crate::tracker::udp;

/// Most trackers of one torrent's metainfo, and as many of the user's; further ones are left out
/// ([`Announcer::left_out`]).
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
    let (mut trackers, mut places): (Vec<Tracker>, BTreeMap<&str, usize>) = Default::default();
    let (mut hosts, mut ports) = (BTreeMap::new(), BTreeMap::new());
    let mut left_out = 0;
    let by_metainfo = named.by_metainfo.iter().map(|tier| (tier.as_slice(), UrlOrigin::Metainfo));
    let by_user = named.by_user.iter().map(|url| (std::slice::from_ref(url), UrlOrigin::Typed));
    for (tier, (urls, origin)) in by_metainfo.chain(by_user).enumerate() {
        for url in urls {
            let room = if origin == UrlOrigin::Typed { 2 * TRACKERS_MAX } else { TRACKERS_MAX };
            if let Some(&known) = places.get(url.as_str()) {
                let known = &mut trackers[known];
                known.origin = known.origin.max(origin);
            } else if trackers.len() < room {
                let (target, next) = (target(url), trackers.len());
                let host = target.as_ref().ok().and_then(Url::host_str).unwrap_or_default().to_owned();
                let port = target.as_ref().ok().and_then(Url::port_or_known_default);
                let host = *hosts.entry(host).or_insert(next);
                let port = *ports.entry((host, port)).or_insert(next);
                places.insert(url, next);
                trackers.push(Tracker { url: url.clone(), origin, tier, host, port, target });
            } else {
                left_out += 1;
            }
        }
    }
    (trackers, left_out)
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
