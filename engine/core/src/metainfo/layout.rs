//! Other names for a torrent's files on disk than those in its metainfo.

use super::path::PathRules;
use super::{Info, PATH_DEPTH_MAX};
use crate::id::FileIndex;
use std::collections::{BTreeMap, BTreeSet};

/// How long a path of a file may be, in bytes, with a separator between its names.
const PATH_LEN_MAX: usize = 4_096;

/// Where a torrent's files are below the folder that holds them, as far as they are not where its metainfo says. The default changes
/// nothing. What peers and web seeds are told of the torrent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    root: Option<String>,
    files: BTreeMap<FileIndex, Vec<String>>,
}

/// Why files cannot have these names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// There is nothing of this name.
    #[error("{0:?}: the torrent has no such file or folder")]
    NoSuchPath(String),
    /// There is no such file, or it is never on disk.
    #[error("there is no file {0} on disk")]
    NoSuchFile(u32),
    /// It is no name of a file.
    #[error("{0:?}: is no name that a file can have here")]
    Name(String),
    /// It is too long.
    #[error("{0:?}: the path is too long, or too deep")]
    TooLong(String),
    /// It leads out of the torrent's folder.
    #[error("{0:?}: leads out of the torrent's folder")]
    Outside(String),
    /// Two files would have one name, or a file be the folder of another.
    #[error("{0:?}: another file of the torrent has this name")]
    Taken(String),
}

impl Layout {
    /// Gives the torrent's file or folder the name `root`, and files of a folder these paths below it, by their indices.
    /// [`apply`](Self::apply) tells whether that can be.
    pub fn new(root: Option<String>, files: BTreeMap<FileIndex, Vec<String>>) -> Layout {
        Layout { root, files }
    }

    /// The name of the torrent's file or folder, if it is another one.
    pub fn root(&self) -> Option<&str> {
        self.root.as_deref()
    }

    /// The paths below it of files that have other ones.
    pub fn files(&self) -> &BTreeMap<FileIndex, Vec<String>> {
        &self.files
    }

    /// Whether everything is where the metainfo says.
    pub fn is_empty(&self) -> bool {
        self.root.is_none() && self.files.is_empty()
    }

    /// A file's path, its torrent's name first; `None` if there is no such file.
    pub fn path_of(&self, info: &Info, file: FileIndex) -> Option<Vec<String>> {
        let entry = info.files.get(file.idx())?;
        let below = match self.files.get(&file) {
            Some(path) => path,
            None => entry.path.get(1..).unwrap_or_default(),
        };
        let root = self.root.as_ref().unwrap_or(&info.name);
        Some(std::iter::once(root).chain(below).cloned().collect())
    }

    /// The layout in which what is at `from` now, a file or a folder, is at `to`. Both are whole paths with `/`, the torrent's name first.
    ///
    /// # Errors
    /// If there is nothing at `from`, or it cannot be at `to`.
    pub fn renamed(&self, info: &Info, from: &str, to: &str) -> Result<Layout, LayoutError> {
        let (old, new) = (names(from), names(to));
        let mut layout = self.clone();
        let root = self.root.as_ref().unwrap_or(&info.name);
        if old.first() != Some(&root.as_str()) {
            return Err(LayoutError::NoSuchPath(from.to_owned()));
        }
        if old.len() == 1 {
            let &[name] = new.as_slice() else { return Err(LayoutError::Outside(to.to_owned())) };
            layout.root = (name != info.name).then(|| name.to_owned());
        } else {
            if new.len() < 2 || new[0] != root {
                return Err(LayoutError::Outside(to.to_owned()));
            }
            let mut is_any = false;
            for (index, entry) in (0..).map(FileIndex).zip(&info.files).filter(|(_, file)| !file.attr.pad) {
                let Some(path) = self.path_of(info, index) else { continue };
                if path.len() < old.len() || !path.iter().zip(&old).all(|(a, b)| a == b) {
                    continue;
                }
                is_any = true;
                let rest = path[old.len()..].iter().map(String::as_str);
                let path: Vec<String> = new[1..].iter().copied().chain(rest).map(str::to_owned).collect();
                match entry.path[1..] == path[..] {
                    true => layout.files.remove(&index),
                    false => layout.files.insert(index, path),
                };
            }
            if !is_any {
                return Err(LayoutError::NoSuchPath(from.to_owned()));
            }
        }
        layout.apply(info).map(|_| layout)
    }

    /// The torrent with these names.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn apply(&self, info: &Info) -> Result<Info, LayoutError> {
        let rules = PathRules::native();
        let mut named = info.clone();
        if let Some(root) = &self.root {
            check(rules, std::slice::from_ref(root))?;
            named.name.clone_from(root);
        }
        for (&file, path) in &self.files {
            let is_there = info.files.get(file.idx()).is_some_and(|entry| !entry.attr.pad);
            if !is_there || info.single_file || path.is_empty() {
                return Err(LayoutError::NoSuchFile(file.0));
            }
            check(rules, path)?;
        }
        let mut moved = BTreeMap::new();
        for (index, entry) in (0..).map(FileIndex).zip(&mut named.files) {
            let path = self.path_of(info, index).unwrap_or_default();
            if let Some(before) = self.files.get(&index).and_then(|_| info.files.get(index.idx())) {
                moved.insert(&before.path[..], path.clone());
            }
            entry.path = path;
        }
        for entry in &mut named.files {
            let Some(target) = &mut entry.symlink_target else { continue };
            match moved.get(&target[..]) {
                Some(path) => target.clone_from(path),
                None => target.first_mut().into_iter().for_each(|root| root.clone_from(&named.name)),
            }
        }
        if !self.files.is_empty() {
            expect_unique(&named, rules)?;
        }
        Ok(named)
    }
}

fn names(path: &str) -> Vec<&str> {
    path.trim_end_matches('/').split('/').collect()
}

fn check(rules: PathRules, path: &[String]) -> Result<(), LayoutError> {
    if let Some(name) = path.iter().find(|name| !rules.is_safe(name)) {
        return Err(LayoutError::Name((*name).clone()));
    }
    let len: usize = path.iter().map(|name| name.len() + 1).sum();
    match path.len() >= PATH_DEPTH_MAX || len > PATH_LEN_MAX {
        true => Err(LayoutError::TooLong(path.join("/").chars().take(100).collect())),
        false => Ok(()),
    }
}

/// Each file has a path of its own, and none is the folder of another.
fn expect_unique(info: &Info, rules: PathRules) -> Result<(), LayoutError> {
    let fold = |path: &[String]| path.iter().map(|name| rules.fold(name)).collect::<Vec<_>>().join("/");
    let files = || info.files.iter().filter(|file| !file.is_padding_for_sure());
    let mut taken = BTreeSet::new();
    for file in files() {
        if !taken.insert(fold(&file.path)) {
            return Err(LayoutError::Taken(file.path.join("/")));
        }
    }
    for file in files() {
        let path = fold(&file.path);
        let mut folders = path.match_indices('/').map(|(at, _)| &path[..at]);
        if folders.any(|folder| taken.contains(folder)) {
            return Err(LayoutError::Taken(file.path.join("/")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metainfo::Metainfo;

    fn info(files: &[&str]) -> Info {
        let one = |path: &&str| {
            let names: String = path.split('/').map(|name| format!("{}:{name}", name.len())).collect();
            format!("d6:lengthi5e4:pathl{names}ee")
        };
        let list: String = files.iter().map(one).collect();
        let text = format!(
            "d4:infod5:filesl{list}e4:name1:t12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee"
        );
        Info::clone(&Metainfo::parse(text.as_bytes()).unwrap().info)
    }

    fn paths(layout: &Layout, info: &Info) -> Vec<String> {
        layout.apply(info).unwrap().files.iter().map(|file| file.path.join("/")).collect()
    }

    #[test]
    fn a_file_a_folder_and_the_whole_get_other_names() {
        let info = info(&["a/1", "a/2", "b"]);
        let layout = Layout::default();
        let layout = layout.renamed(&info, "t/a/1", "t/c/one").unwrap();
        assert_eq!(paths(&layout, &info), ["t/c/one", "t/a/2", "t/b"]);
        let layout = layout.renamed(&info, "t/c", "t/d/e").unwrap();
        let layout = layout.renamed(&info, "t", "new name").unwrap();
        assert_eq!(paths(&layout, &info), ["new name/d/e/one", "new name/a/2", "new name/b"]);
        assert_eq!(layout.apply(&info).unwrap().info_hash, info.info_hash);
        let layout = layout.renamed(&info, "new name/d/e/one", "new name/a/1").unwrap();
        assert_eq!(layout.renamed(&info, "new name", "t"), Ok(Layout::default()));
    }

    #[test]
    fn nothing_leads_out_or_hits_another_file() {
        let info = info(&["a/1", "a/2", "b"]);
        let layout = Layout::default();
        for (from, to) in [
            ("t/a/1", "t/../x"),
            ("t/a/1", "t/a//x"),
            ("t/a/1", "x"),
            ("t/a/1", "u/x"),
            ("t/a/1", "/t/x"),
            ("t/a/1", "t/a/2"),
            ("t/a/1", "t/b/x"),
            ("t/b", "t/a"),
            ("t/a/1", "t"),
            ("t/a/1", ""),
            ("t/a/1", "t/a/\0"),
            ("t", ".."),
            ("t", "x/y"),
            ("t", ""),
            ("t/z", "t/y"),
            ("a/1", "a/3"),
        ] {
            assert!(layout.renamed(&info, from, to).is_err(), "{from} {to}");
        }
        let long = format!("t/{}", "x".repeat(256));
        assert!(layout.renamed(&info, "t/b", &long).is_err());
        let deep = format!("t/{}", vec!["x"; 300].join("/"));
        assert!(layout.renamed(&info, "t/b", &deep).is_err());
        let unknown = Layout::new(None, BTreeMap::from([(FileIndex(9), vec!["x".to_owned()])]));
        assert_eq!(unknown.apply(&info), Err(LayoutError::NoSuchFile(9)));
    }
}
