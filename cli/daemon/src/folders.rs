//! Which folders may be used.

use crate::torrents::Refusal;
use std::path::{Component, Path, PathBuf};

/// The folder that a client means: absolute, without links, and at or below one of those that may be used. What is not there yet is
/// made later. A relative path is below the first.
///
/// # Errors
/// If it lies elsewhere, or cannot be looked at.
pub fn resolve(given: Option<&Path>, dir: &Path, others: &[PathBuf]) -> Result<PathBuf, Refusal> {
    let home = real(dir)?;
    let Some(given) = given else { return Ok(home) };
    let refused = || Refusal::Folder(given.to_owned());
    let is_plain = |part: Component<'_>| !matches!(part, Component::ParentDir);
    if !given.components().all(is_plain) || given.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(refused());
    }
    let path = real(&home.join(given))?;
    let is_below = |folder: &Path| real(folder).is_ok_and(|folder| path.starts_with(folder));
    match path.starts_with(&home) || others.iter().any(|other| is_below(other)) {
        true => Ok(path),
        false => Err(refused()),
    }
}

/// Whether a folder that [`resolve`] gave before still is what it was: at or below one of those that may be used, with no link on the
/// way from there. To be asked before each use.
///
/// # Errors
/// If it lies elsewhere now, or cannot be looked at.
pub fn check(folder: &Path, dir: &Path, others: &[PathBuf]) -> Result<(), Refusal> {
    let mut outcome = Err(Refusal::Folder(folder.to_owned()));
    for allowed in std::iter::once(dir).chain(others.iter().map(PathBuf::as_path)) {
        let Ok(allowed) = real(allowed) else { continue };
        let Ok(below) = folder.strip_prefix(&allowed) else { continue };
        match check_below(&allowed, below) {
            Ok(()) => return Ok(()),
            Err(error) => {
                let what = format!("{}: is not the folder that it was: {error}", folder.display());
                outcome = Err(Refusal::Invalid(what));
            }
        }
    }
    outcome
}

/// Whether the file system of a folder could hold this much, were it empty. What does not fit now may fit later.
///
/// # Errors
/// If it never can.
pub fn expect_room(folder: &Path, bytes: u64) -> Result<(), Refusal> {
    match size_of_file_system(folder) {
        Some(size) if size > 0 && bytes > size => {
            Err(Refusal::TooLarge { dir: folder.to_owned(), needed: bytes, size })
        }
        _ => Ok(()),
    }
}

/// How large the file system is that a folder is on, or will be; `None` where the system does not say.
#[cfg(unix)]
fn size_of_file_system(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find(|path| path.exists())?;
    let stat = rustix::fs::statvfs(there).ok()?;
    stat.f_blocks.checked_mul(stat.f_frsize)
}

#[cfg(not(unix))]
fn size_of_file_system(_: &Path) -> Option<u64> {
    None
}

/// Opens the deepest part of `below` that is there, beneath `allowed`.
#[cfg(target_os = "linux")]
fn check_below(allowed: &Path, below: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
    use rustix::io::Errno;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = match openat(CWD, allowed, flags, Mode::empty()) {
        Ok(root) => root,
        // It is made by the first torrent.
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for part in below.ancestors().filter(|part| !part.as_os_str().is_empty()) {
        match openat2(&root, part, flags, Mode::empty(), resolve) {
            Ok(_) => return Ok(()),
            Err(Errno::NOENT) => {}
            Err(Errno::LOOP | Errno::XDEV) => {
                return Err(std::io::Error::other("a link leads away from it"));
            }
            // Of a kernel before 5.6, or where a sandbox keeps it from us.
            Err(Errno::NOSYS | Errno::PERM) => return check_resolved(allowed, below),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn check_below(allowed: &Path, below: &Path) -> std::io::Result<()> {
    check_resolved(allowed, below)
}

/// The same by the path that the folder has without links.
fn check_resolved(allowed: &Path, below: &Path) -> std::io::Result<()> {
    let path = allowed.join(below);
    match real(&path) {
        Ok(real) if real == path => Ok(()),
        Ok(_) => Err(std::io::Error::other("a link leads away from it")),
        Err(error) => Err(std::io::Error::other(error.to_string())),
    }
}

/// The path without links: of its deepest part that is there, and the rest as it is.
fn real(path: &Path) -> Result<PathBuf, Refusal> {
    let invalid = |error: std::io::Error| Refusal::Invalid(format!("{}: {error}", path.display()));
    let absolute = std::path::absolute(path).map_err(invalid)?;
    let mut missing = Vec::new();
    let mut at = absolute.as_path();
    loop {
        match at.canonicalize() {
            Ok(found) => return Ok(missing.into_iter().rev().fold(found, |path, name| path.join(name))),
            Err(error) => {
                let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else {
                    return Err(invalid(error));
                };
                // A link to nothing is there, and leads who knows where.
                if at.symlink_metadata().is_ok() {
                    return Err(invalid(error));
                }
                missing.push(name.to_owned());
                at = parent;
            }
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// What is given as a folder may be a link by the time that it is used.
    #[test]
    fn a_folder_that_was_swapped_for_a_link_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().canonicalize().unwrap().join(name);
        for dir in ["home/a/b", "other", "private/b"] {
            std::fs::create_dir_all(at(dir)).unwrap();
        }
        let others = [at("other"), at("not-there-yet")];
        let check = |folder: &str| super::check(&at(folder), &at("home"), &others);
        for folder in ["home", "home/a/b", "home/a/new/newer", "other", "other/x", "not-there-yet/x"] {
            assert_eq!(check(folder), Ok(()), "{folder}");
        }
        assert_eq!(check("private"), Err(Refusal::Folder(at("private"))));
        assert_eq!(check("homely"), Err(Refusal::Folder(at("homely"))));
        std::fs::rename(at("home/a"), at("home/was-a")).unwrap();
        for target in ["private", "home/was-a", "nowhere"] {
            symlink(at(target), at("home/a")).unwrap();
            for folder in ["home/a", "home/a/b", "home/a/new"] {
                assert!(check(folder).is_err(), "{folder} to {target}");
                let (allowed, below) = (at("home"), Path::new(folder).strip_prefix("home").unwrap());
                assert!(check_resolved(&allowed, below).is_err(), "{folder} to {target}");
            }
            std::fs::remove_file(at("home/a")).unwrap();
        }
        assert!(check_resolved(&at("home"), Path::new("was-a/b")).is_ok());
        std::fs::write(at("home/file"), "").unwrap();
        assert!(check("home/file").is_err(), "no folder at all");
    }

    #[test]
    fn what_can_never_fit_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("not/there/yet");
        assert_eq!(expect_room(&folder, 1), Ok(()));
        assert!(matches!(expect_room(&folder, u64::MAX), Err(Refusal::TooLarge { .. })));
    }

    #[test]
    fn only_folders_that_the_configuration_names_are_used() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().canonicalize().unwrap().join(name);
        for dir in ["home", "other", "private"] {
            std::fs::create_dir(at(dir)).unwrap();
        }
        symlink(at("private"), at("home/out")).unwrap();
        symlink(at("nowhere"), at("home/dangling")).unwrap();
        symlink(at("other"), at("home/to-other")).unwrap();
        let others = [at("other")];
        let resolve = |given: &Path| resolve(Some(given), &at("home"), &others);
        assert_eq!(super::resolve(None, &at("home"), &others), Ok(at("home")));
        for (given, expected) in [
            (at("home"), at("home")),
            (at("home/new/newer"), at("home/new/newer")),
            (at("other/x"), at("other/x")),
            (PathBuf::from("movies"), at("home/movies")),
            (PathBuf::from("to-other/x"), at("other/x")),
        ] {
            assert_eq!(resolve(&given), Ok(expected), "{}", given.display());
        }
        for given in [
            at("private"),
            at("home/out"),
            at("home/out/new"),
            at("home/dangling"),
            at("home/../private"),
            at("homely"),
            at(""),
            "/".into(),
            "..".into(),
            "movies/../../private".into(),
            "a\0b".into(),
        ] {
            assert!(resolve(&given).is_err(), "{}", given.display());
        }
    }
}
