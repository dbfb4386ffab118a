//! A file of the torrent for players, while it is downloaded: `get --stream`.

use crate::selection::listed;
use anyhow::{Context as _, Result};
use std::cmp::Reverse;
use std::net::Ipv4Addr;
use swarm_core::id::FileIndex;
use swarm_core::metainfo::Metainfo;
use swarm_daemon::stream::{self, StreamFile};
use swarm_engine::TorrentHandle;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A file that is served for as long as this lives.
pub struct Stream {
    pub address: String,
    pub path: String,
    _stop: watch::Sender<bool>,
}

/// The file that players are given: the largest of audio or video among those that are wanted, or else the largest.
fn choose(metainfo: &Metainfo, wanted: Option<&[bool]>) -> Option<FileIndex> {
    let files = listed(&metainfo.info.files).filter(|(at, _)| wanted.is_none_or(|wanted| wanted[*at]));
    let best = files.max_by_key(|(at, file)| {
        let is_playable = file.path.last().is_some_and(|name| stream::is_playable(name));
        (is_playable, file.length, Reverse(*at))
    });
    best.map(|(at, _)| FileIndex(at as u32))
}

/// Serves a file on a port of loopback; `None` if none is wanted.
pub fn start(handle: &TorrentHandle, wanted: Option<&[bool]>) -> Result<Option<Stream>> {
    let Some(metainfo) = handle.metainfo() else { return Ok(None) };
    let Some(file) = choose(&metainfo, wanted) else { return Ok(None) };
    let path = &metainfo.info.files[file.idx()].path;
    let (name, path) = (path.last().cloned().unwrap_or_default(), path.join("/"));
    let opened = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listener = opened.and_then(|listener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    });
    let listener = listener.context("--stream: cannot listen on 127.0.0.1")?;
    let token = stream::new_token().context("--stream: the system gives no random bytes")?;
    let at = listener.local_addr().context("--stream: cannot listen on 127.0.0.1")?;
    let address = format!("http://{at}{}", stream::address_of_one(&token, &name));
    let (stop, stopping) = watch::channel(false);
    let file = StreamFile { handle: handle.clone(), metainfo, file, name };
    tokio::spawn(stream::serve(listener, token, file, stopping));
    Ok(Some(Stream { address, path, _stop: stop }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_film_is_chosen_before_a_larger_archive() {
        let file = |name: &str, len: u32| format!("d6:lengthi{len}e4:pathl{}:{name}ee", name.len());
        let files =
            [file("a.zip", 9_000), file("b.mkv", 5_000), file("c.mp4", 5_000), file("d.mp3", 10)].concat();
        let text =
            format!("d4:infod5:filesl{files}e4:name1:t12:piece lengthi16384e6:pieces40:{}ee", "a".repeat(40));
        let metainfo = Metainfo::parse(text.as_bytes()).unwrap();
        assert_eq!(choose(&metainfo, None), Some(FileIndex(1)));
        assert_eq!(choose(&metainfo, Some(&[true, false, false, true])), Some(FileIndex(3)));
        assert_eq!(choose(&metainfo, Some(&[true, false, false, false])), Some(FileIndex(0)));
        assert_eq!(choose(&metainfo, Some(&[false; 4])), None);
    }
}
