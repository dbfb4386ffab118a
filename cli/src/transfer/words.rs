//! What the engine says, in the words and options of the command.

use crate::exit::{Exit, Failure};
use crate::units::size;
use anyhow::Error;
use swarm_engine::{StorageError, Waiting};

/// Why a torrent has failed, with the exit status that the engine's error has.
pub fn failure(error: swarm_engine::Error) -> Error {
    match &error {
        swarm_engine::Error::Storage(storage) => {
            let text = of_storage(storage);
            Failure::new(Exit::of(&error.into()), text).into()
        }
        _ => error.into(),
    }
}

/// What is wrong with the files, or with the disk.
pub fn of_storage(error: &StorageError) -> String {
    match error {
        StorageError::ForeignData { path } => format!(
            "{}: is already there with other content; move it away, choose another folder with -o, or give --overwrite",
            path.display()
        ),
        StorageError::NoSpace { path, needed: needed @ 1.. } => {
            format!("{}: no space left on the disk: {} more are needed", path.display(), size(*needed))
        }
        StorageError::TooLarge { path, needed, total } => format!(
            "{}: {} are still needed, and the volume has {} in all; choose another folder with -o, or fewer files \
             with --files",
            path.display(),
            size(*needed),
            size(*total)
        ),
        _ => error.to_string(),
    }
}

/// What the gateway does for us, where it does nothing.
pub const NOT_MAPPED: &str = "port not mapped";

/// Why nothing moves; `reach` is what the gateway does for us.
pub fn of_waiting(waiting: &Waiting, reach: Option<&str>) -> String {
    match waiting {
        Waiting::NoPeers | Waiting::Unreachable { .. } if reach == Some(NOT_MAPPED) => {
            format!("{waiting}; our port is not mapped, so they may not reach us either")
        }
        Waiting::NobodyToAsk { .. } => format!("{waiting}; add --tracker URL or --peer ADDR:PORT"),
        Waiting::MetadataTooLong { .. } => {
            format!("{waiting}; if that is true, only its metainfo file will do: get that instead of a link")
        }
        Waiting::Disk(error) => of_storage(error),
        _ => waiting.to_string(),
    }
}

/// How much of a torrent was here already, and where.
pub fn reused(bytes: u64, bytes_total: u64, from: &[String]) -> String {
    if bytes == 0 {
        return "nothing was found to reuse".to_owned();
    }
    let (named, more) = from.split_at(from.len().min(ORIGINS_NAMED_MAX));
    let mut places = named.join(", ");
    if !more.is_empty() {
        places = format!("{places} and {} more", more.len());
    }
    format!("reused {} of {} from {places}", size(bytes), size(bytes_total))
}

/// How many of the places that something was reused from are named.
const ORIGINS_NAMED_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn sizes_and_options_are_those_of_the_command() {
        let path = PathBuf::from("out/a");
        let full = StorageError::NoSpace { path: path.clone(), needed: 3 << 29 };
        assert_eq!(of_storage(&full), "out/a: no space left on the disk: 1.5 GiB more are needed");
        let full = StorageError::NoSpace { path: path.clone(), needed: 0 };
        assert_eq!(of_storage(&full), "out/a: no space left on the disk");
        let small = StorageError::TooLarge { path: path.clone(), needed: 1 << 40, total: 16 << 30 };
        let told = "out/a: 1 TiB are still needed, and the volume has 16 GiB in all; choose another folder with -o, or \
                    fewer files with --files";
        assert_eq!(of_storage(&small), told);
        let error = failure(StorageError::ForeignData { path }.into());
        assert_eq!(Exit::of(&error), Exit::Data);
        assert!(error.to_string().ends_with("or give --overwrite"), "{error}");
    }

    #[test]
    fn what_was_reused_is_told_with_some_of_the_places() {
        let from: Vec<String> = ["a", "b", "c", "d", "e"].map(str::to_owned).into();
        assert_eq!(reused(3 << 29, 2 << 30, &from[..1]), "reused 1.5 GiB of 2 GiB from a");
        assert_eq!(reused(1024, 2048, &from), "reused 1 KiB of 2 KiB from a, b, c and 2 more");
        assert_eq!(reused(0, 2048, &from), "nothing was found to reuse");
    }
}
