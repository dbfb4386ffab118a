//! What a user may ask about a tracker.

use crate::net::Family;
use crate::time::Time;

/// How things stand with one tracker in one address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrackerState<'a> {
    /// It cannot be announced to; why.
    Unsupported(&'static str),
    /// Not needed so far.
    NotContacted,
    /// An announce is under way.
    Announcing,
    /// The last announce succeeded.
    Working,
    /// It has no address of this family, in words. No trouble as long as it has one of another.
    NoAddress(&'a str),
    /// The last announce failed; why.
    Failed(&'a str),
}

/// A tracker as a user sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackerStatus<'a> {
    /// Its URL as it was given.
    pub url: &'a str,
    /// Its tier, counted from zero; lower tiers are tried first.
    pub tier: usize,
    /// The address family that the rest is about.
    pub family: Family,
    /// How things stand.
    pub state: TrackerState<'a>,
    /// A message from the tracker for the user, from the last announce that succeeded.
    pub warning: Option<&'a str>,
    /// Peers in the last reply.
    pub peers: u32,
    /// Seeds in the swarm, if the tracker said so.
    pub complete: Option<u32>,
    /// Leechers in the swarm, if the tracker said so.
    pub incomplete: Option<u32>,
    /// When the last announce succeeded.
    pub last_success: Option<Time>,
    /// Not before this time is it announced to again; `None` if never, or not known yet.
    pub next_announce: Option<Time>,
}
