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
