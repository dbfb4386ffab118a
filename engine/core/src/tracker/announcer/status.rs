//! What a user may ask about a tracker.

use crate::net::Family;
use crate::time::Time;

/// How a tracker stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrackerStatus {
    /// It was not needed so far.
    #[default]
    #[error("not needed so far")]
    NotContacted,
    /// It is being asked.
    #[error("announcing")]
    Announcing,
    /// It has answered.
    #[error("working")]
    Working,
    /// It is never asked, for this reason.
    #[error("{0}")]
    Unsupported(&'static str),
    /// Its host has no address of the family. No trouble as long as it has one of another.
    #[error("{0}")]
    NoAddress(String),
    /// The last announce failed: what the tracker, the network or the system said.
    #[error("{0}")]
    Failed(String),
}

/// A tracker as one address family knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerView<'a> {
    /// Its URL as it was given.
    pub url: &'a str,
    /// The address family that the rest is about.
    pub family: Family,
    /// How it stands.
    pub status: TrackerStatus,
    /// Peers in the last reply.
    pub peers: u32,
    /// Seeds in the swarm, if the tracker said so.
    pub complete: Option<u32>,
    /// Leechers in the swarm, if the tracker said so.
    pub incomplete: Option<u32>,
    /// Not before this time is it announced to again; `None` if never, or not known yet.
    pub next_announce: Option<Time>,
}
