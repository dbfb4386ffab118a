//! What is asked of a torrent whose files are to be moved.

use crate::error::Error;
use std::path::PathBuf;
use swarm_core::metainfo::Layout;
use tokio::sync::oneshot;

/// Where a torrent's files are to be.
#[derive(Debug)]
pub(crate) struct Request {
    pub(super) dir: PathBuf,
    pub(super) layout: Layout,
    /// It was begun before.
    pub(super) resumes: bool,
    pub(super) reply: oneshot::Sender<Result<(), Error>>,
}
