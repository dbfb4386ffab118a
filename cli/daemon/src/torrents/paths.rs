//! Who may write where.

use super::record::Id;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The paths that downloads own: each torrent's file or folder.
#[derive(Debug, Default)]
pub struct Claims {
    by_path: BTreeMap<PathBuf, Id>,
}

impl Claims {
    /// Gives a path to a torrent. The caller has asked [`conflict`](Self::conflict) before.
    pub fn claim(&mut self, root: PathBuf, id: Id) {
        self.by_path.insert(root, id);
    }

    /// Takes it back, if it is this torrent's.
    pub fn release(&mut self, root: &Path, id: Id) {
        if self.by_path.get(root) == Some(&id) {
            self.by_path.remove(root);
        }
    }

    /// Whether this torrent owns the path.
    pub fn owns(&self, root: &Path, id: Id) -> bool {
        self.by_path.get(root) == Some(&id)
    }

    /// The torrent, and the path, that keep another from writing below `root`: it owns that path itself, or its files and the other's
    /// lie among each other. `files_of` tells the absolute paths of a torrent's files, of `None` those of the newcomer.
    pub fn conflict(
        &self,
        root: &Path,
        id: Option<Id>,
        files_of: impl Fn(Option<Id>) -> Vec<PathBuf>,
    ) -> Option<(Id, PathBuf)> {
        let is_other = |owner: &Id| Some(*owner) != id;
        if let Some(owner) = self.by_path.get(root).filter(|owner| is_other(owner)) {
            return Some((*owner, root.to_owned()));
        }
        // A folder of theirs that we would be inside of: what matters is whether they have files there.
        for above in root.ancestors().skip(1) {
            let Some(owner) = self.by_path.get(above).filter(|owner| is_other(owner)) else { continue };
            let theirs = files_of(Some(*owner));
            if let Some(file) = theirs.iter().find(|file| file.starts_with(root) || root.starts_with(file)) {
                return Some((*owner, file.clone()));
            }
        }
        // Theirs inside of ours.
        let below = self.by_path.range(root.to_owned()..).skip_while(|(path, _)| *path == root);
        let mut below =
            below.take_while(|(path, _)| path.starts_with(root)).filter(|(_, owner)| is_other(owner));
        let mut ours = None;
        below.find_map(|(path, owner)| {
            let ours = ours.get_or_insert_with(|| files_of(None));
            let is_hit = ours.iter().any(|file| file.starts_with(path) || path.starts_with(file));
            is_hit.then(|| (*owner, path.clone()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(texts: &[&str]) -> Vec<PathBuf> {
        texts.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn a_path_has_one_owner() {
        let mut claims = Claims::default();
        claims.claim("/d/a".into(), Id(1));
        let none = |_| Vec::new();
        let at = |root: &str, id| claims.conflict(Path::new(root), id, none);
        assert_eq!(at("/d/a", None), Some((Id(1), "/d/a".into())));
        assert_eq!(at("/d/a", Some(Id(1))), None, "itself");
        assert_eq!(at("/d/b", None), None);
        assert_eq!(at("/d/ab", None), None, "a name that begins alike");
        claims.release(Path::new("/d/a"), Id(2));
        assert!(claims.owns(Path::new("/d/a"), Id(1)));
        claims.release(Path::new("/d/a"), Id(1));
        assert_eq!(claims.conflict(Path::new("/d/a"), None, none), None);
    }

    #[test]
    fn a_torrent_inside_of_anothers_folder_may_not_meet_its_files() {
        let mut claims = Claims::default();
        claims.claim("/d/a".into(), Id(1));
        let theirs = |_| paths(&["/d/a/x/1", "/d/a/y"]);
        let at = |root: &str| claims.conflict(Path::new(root), None, theirs);
        assert_eq!(at("/d/a/x"), Some((Id(1), "/d/a/x/1".into())));
        assert_eq!(at("/d/a/x/1"), Some((Id(1), "/d/a/x/1".into())));
        assert_eq!(at("/d/a/y/z"), Some((Id(1), "/d/a/y".into())), "below a file");
        assert_eq!(at("/d/a/z"), None);
    }

    #[test]
    fn a_torrents_files_may_not_meet_what_lies_inside_of_its_folder() {
        let mut claims = Claims::default();
        claims.claim("/d/a-b".into(), Id(7));
        claims.claim("/d/a/x".into(), Id(1));
        claims.claim("/d/a/y".into(), Id(2));
        let at = |files: &[&str]| claims.conflict(Path::new("/d/a"), None, |_| paths(files));
        assert_eq!(at(&["/d/a/z", "/d/a/y/1"]), Some((Id(2), "/d/a/y".into())));
        assert_eq!(at(&["/d/a/x"]), Some((Id(1), "/d/a/x".into())));
        assert_eq!(at(&["/d/a/z"]), None);
    }
}
