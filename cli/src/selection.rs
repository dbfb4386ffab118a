//! Which files of a torrent are downloaded: by patterns, by index, or by a magnet link.

use crate::exit::{Exit, fail};
use crate::units::count;
use anyhow::Result;
use globset::{Glob, GlobSet, GlobSetBuilder};
use std::ops::RangeInclusive;
use swarm_core::metainfo::{FileEntry, Magnet, Metainfo};

#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub globs: Vec<Glob>,
    /// Indices as [`listed`] counts them.
    pub indices: Vec<RangeInclusive<usize>>,
}

impl Selection {
    /// Whether each file is wanted; `None`: all are. Without a selection by the user, the link's holds (BEP
    /// 53).
    pub fn wanted(&self, metainfo: &Metainfo, link: Option<&Magnet>) -> Result<Option<Vec<bool>>> {
        if self.globs.is_empty() && self.indices.is_empty() {
            return of_link(metainfo, link);
        }
        let (name, files) = (&metainfo.info.name, &metainfo.info.files);
        let fail = |what: String| fail(Exit::Usage, format!("{name}: {what}"));
        let set = set(&self.globs)?;
        let mut wanted = vec![false; files.len()];
        listed(files).for_each(|(at, file)| wanted[at] = matches(&set, &file.path));
        let listed: Vec<usize> = listed(files).map(|(at, _)| at).collect();
        if !self.globs.is_empty() && !wanted.contains(&true) {
            let globs: Vec<_> = self.globs.iter().map(Glob::glob).collect();
            return fail(format!("no file matches --files {}", globs.join(" ")));
        }
        for range in &self.indices {
            let Some(at) = listed.get(range.start() - 1..*range.end()) else {
                let (index, count) = (range.end(), count(listed.len(), "file"));
                return fail(format!(
                    "--select-file: there is no file {index}, only {count}; see `swarm show`"
                ));
            };
            at.iter().for_each(|&at| wanted[at] = true);
        }
        Ok(Some(wanted))
    }
}

/// The files that people see, all but pad files, each with its place in the metainfo. They are counted from
/// 1.
pub fn listed(files: &[FileEntry]) -> impl Iterator<Item = (usize, &FileEntry)> {
    files.iter().enumerate().filter(|(_, file)| !file.attr.pad)
}

fn of_link(metainfo: &Metainfo, link: Option<&Magnet>) -> Result<Option<Vec<bool>>> {
    let selected = link.and_then(|link| link.wanted(metainfo.info.files.len()));
    if selected.as_ref().is_some_and(|selected| !selected.contains(&true)) {
        let message = format!("{}: the link selects none of its files", metainfo.info.name);
        return fail(Exit::Metainfo, message);
    }
    Ok(selected)
}

fn set(globs: &[Glob]) -> Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(glob.clone());
    }
    Ok(set.build()?)
}

fn matches(set: &GlobSet, path: &[String]) -> bool {
    set.is_match(path.join("/")) || (path.len() > 1 && set.is_match(path[1..].join("/")))
}

pub fn parse_glob(text: &str) -> Result<Glob, String> {
    Glob::new(text).map_err(|error| format!("is not a pattern: {}", error.kind()))
}

/// An index or a range of `--select-file`, as in `3` or `3-5`.
pub fn parse_indices(text: &str) -> Result<RangeInclusive<usize>, &'static str> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let index = |text: &str| text.parse::<usize>().ok().filter(|&index| index > 0);
    match (index(first), index(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err("is no list of indices from 1 up; write it as in 1,3-5"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_with_and_without_the_torrents_name() {
        let matches = |glob: &str, path: &str| {
            let path: Vec<String> = path.split('/').map(str::to_owned).collect();
            super::matches(&set(&[parse_glob(glob).unwrap()]).unwrap(), &path)
        };
        assert!(matches("*.iso", "release/sub/a.iso"));
        assert!(matches("sub/*", "release/sub/a.iso"));
        assert!(matches("release/sub/*", "release/sub/a.iso"));
        assert!(matches("a.iso", "a.iso"));
        assert!(!matches("a.iso", "release/sub/a.iso"));
        assert!(parse_glob("[").is_err());
    }

    #[test]
    fn indices_count_from_one_and_may_be_ranges() {
        assert_eq!(parse_indices("3"), Ok(3..=3));
        assert_eq!(parse_indices("3-5"), Ok(3..=5));
        for text in ["", "0", "5-3", "-2", "3-", "a", "1-2-3", "99999999999999999999"] {
            assert!(parse_indices(text).is_err(), "{text}");
        }
    }
}
