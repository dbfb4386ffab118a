//! Moving a torrent's files while it does not run: beside the network thread, since that takes as long as disks take.

use super::context::Context;
use super::event::{State, TorrentStats};
use super::options::{AddTorrent, Mode};
use super::pausing::paused;
use super::readers::Readers;
use super::relocation::Request;
use super::torrent::{Channels, Next};
use crate::error::{Error, OptionError};
use crate::storage::{Location, Relocation, Spot, StorageError, relocate as move_files};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use swarm_core::metainfo::Info;
use tokio::sync::oneshot;

/// Moves the files of a torrent that does not run, and takes commands meanwhile. What comes next: it starts again, unless it was asked to end.
pub(super) async fn relocate(
    context: &Context,
    options: &mut Rc<AddTorrent>,
    stats: &TorrentStats,
    readers: &mut Readers,
    channels: &mut Channels,
) -> Next {
    let Some(request) = channels.relocation.take() else { return Next::Restart };
    let Request { dir, layout, resumes, reply } = *request;
    let is_in_files = options.storage.is_none() && options.mode != Mode::Metadata;
    if !is_in_files {
        let _ = reply.send(Err(OptionError::NoFiles.into()));
        return Next::Restart;
    }
    let stats = TorrentStats { state: State::Moving, waiting: None, ..stats.clone() };
    let metainfo = channels.known.metainfo.get().cloned();
    let (mut next, mut moved) = (Next::Restart, Ok(None));
    if let Some(metainfo) = metainfo {
        let relocation = Relocation {
            from: Spot { dir: options.dir.clone(), layout: options.layout.clone() },
            to: Spot { dir: dir.clone(), layout: layout.clone() },
            is_seed: options.mode == Mode::Seed,
            resumes,
            state_dir: context.options.state_dir.clone(),
        };
        let goes_on = Arc::new(AtomicBool::new(true));
        let mut moving = Box::pin(start(Arc::clone(&metainfo.info), relocation, Arc::clone(&goes_on)));
        moved = loop {
            tokio::select! {
                moved = &mut moving => break moved.map(Some),
                asked = paused(options, &stats, readers, channels) => match asked {
                    Next::Stop | Next::Delete => {
                        goes_on.store(false, Ordering::Relaxed);
                        next = asked;
                        break moving.await.map(Some);
                    }
                    Next::Relocate => drop(channels.relocation.take()),
                    _ => {}
                }
            }
        };
    }
    let moved = moved.map(|location| {
        let options = Rc::make_mut(options);
        (options.dir, options.layout) = (dir.clone(), layout);
        channels.known.set_dir(dir);
        if location.is_some() {
            channels.known.set_location(location);
        }
    });
    let _ = reply.send(moved);
    next
}

/// Moves files on a thread of its own: workers have torrents to serve.
async fn start(info: Arc<Info>, relocation: Relocation, goes_on: Arc<AtomicBool>) -> Result<Location, Error> {
    let (done, moved) = oneshot::channel::<Result<Location, StorageError>>();
    let thread = std::thread::Builder::new().name("swarm-move".to_owned()).spawn(move || {
        let _ = done.send(move_files(&info, &relocation, &|| goes_on.load(Ordering::Relaxed)));
    });
    thread.map_err(|error| Error::system("starting a thread", error))?;
    Ok(moved.await.map_err(|_| Error::panicked())??)
}
