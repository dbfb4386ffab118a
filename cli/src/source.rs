//! SOURCE: where a command finds out what the torrent is.

use crate::exit::{Exit, Failure, printable};
use anyhow::{Context as _, Result};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use swarm_core::id::InfoHash;
use swarm_core::metainfo::{METAINFO_LEN_MAX, Metainfo};
use swarm_engine::SessionOptions;
use url::Url;

/// The metainfo that SOURCE names: a file, or an http(s) URL of one, fetched from the addresses and the device of
/// a session with these options.
///
/// # Errors
/// One line that starts with the source. Invalid metainfo, and what is no source at all, ends with status 3.
pub async fn load(source: &OsStr, options: &SessionOptions) -> Result<Metainfo> {
    let label = printable(&source.to_string_lossy());
    let bytes = read(source, options).await.with_context(|| label.clone())?;
    Metainfo::parse(&bytes).context(label)
}

async fn read(source: &OsStr, options: &SessionOptions) -> Result<Vec<u8>> {
    let Some(text) = source.to_str() else { return read_file(Path::new(source)) };
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
    match scheme.as_str() {
        "http" | "https" => {
            let url = Url::parse(text)
                .map_err(|error| Failure::new(Exit::Metainfo, format!("is not a valid URL: {error}")))?;
            Ok(swarm_engine::fetch(&url, METAINFO_LEN_MAX, options).await?)
        }
        "magnet" => Err(Failure::new(Exit::Metainfo, "magnet links are not supported yet").into()),
        _ if text.parse::<InfoHash>().is_ok() && !Path::new(text).exists() => {
            Err(Failure::new(Exit::Metainfo, "bare info-hashes are not supported yet").into())
        }
        _ => read_file(Path::new(text)),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).context("cannot open")?;
    let mut bytes = Vec::new();
    // A byte more than allowed, so that the parser can tell.
    file.take(METAINFO_LEN_MAX as u64 + 1).read_to_end(&mut bytes).context("cannot read")?;
    Ok(bytes)
}
