//! A torrent that does not run.

use super::command::Command;
use super::event::TorrentStats;
use super::handle::Phase;
use super::options::AddTorrent;
use super::readers::Readers;
use super::torrent::{Channels, Next};
use std::rc::Rc;

/// Takes commands of a torrent that does not run, until one asks for something else.
pub(super) async fn paused(
    options: &mut Rc<AddTorrent>,
    stats: &TorrentStats,
    readers: &mut Readers,
    channels: &mut Channels,
) -> Next {
    loop {
        let Some(command) = channels.commands.recv().await else { std::future::pending().await };
        command.apply(options);
        match *command {
            Command::Stats(reply) => drop(reply.send(stats.clone())),
            Command::FileProgress(reply) => drop(reply.send(None)),
            Command::Pieces(reply) => drop(reply.send(None)),
            Command::Read(request) => drop(readers.add(request)),
            Command::SetFiles(_) | Command::Recheck => {
                channels.phase.send_replace(Phase::Running { complete: false });
            }
            Command::Relocate(request) => {
                channels.relocation = Some(request);
                return Next::Relocate;
            }
            Command::Pause => return Next::Pause,
            Command::Resume => return Next::Restart,
            Command::Stop => return Next::Stop,
            Command::Delete => return Next::Delete,
            _ => {}
        }
    }
}
