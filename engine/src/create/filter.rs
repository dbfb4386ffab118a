//! Which files are taken: patterns as in gitignore files.

use super::{CreateError, WalkOptions};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::path::Path;

/// One pattern of [`WalkOptions`].
struct Pattern {
    text: String,
    matcher: Gitignore,
    /// Whether it has matched something.
    is_used: bool,
}

/// The patterns of [`WalkOptions`].
pub(super) struct Filter {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

/// Checks a pattern of [`WalkOptions`].
///
/// # Errors
/// [`CreateError::Pattern`].
pub fn check_pattern(text: &str) -> Result<(), CreateError> {
    Pattern::new(text, &[]).map(drop)
}

impl Filter {
    pub(super) fn new(path: &Path, options: &WalkOptions) -> Result<Filter, CreateError> {
        let prefixes = prefixes(path, options);
        // A folder that holds one of its own name: the pattern is taken literally.
        let is_plain = |prefix: &&String| path.join(prefix.as_str()).symlink_metadata().is_err();
        let outside: Vec<String> = prefixes.iter().filter(is_plain).cloned().collect();
        let patterns = |texts: &[String], prefixes: &[String]| {
            texts.iter().map(|text| Pattern::new(text, prefixes)).collect::<Result<Vec<_>, _>>()
        };
        let (include, exclude) =
            (patterns(&options.include, &outside)?, patterns(&options.exclude, &prefixes)?);
        Ok(Filter { include, exclude })
    }

    /// Whether this entry of a folder is left out: the last pattern that matches decides. Marks patterns as
    /// used.
    pub(super) fn excludes(&mut self, folder: &[String], name: &str, is_dir: bool) -> bool {
        let path = folder.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join("/");
        let mut is_excluded = false;
        for pattern in &mut self.exclude {
            let found = pattern.matcher.matched(&path, is_dir);
            pattern.is_used |= !found.is_none();
            is_excluded = (is_excluded || found.is_ignore()) && !found.is_whitelist();
        }
        is_excluded
    }

    /// Whether a file is to be taken, by its name or one of its folders'. Marks patterns as used.
    pub(super) fn includes(&mut self, names: &[String]) -> bool {
        let path = names.join("/");
        let mut is_included = self.include.is_empty();
        for pattern in &mut self.include {
            let found = pattern.matcher.matched_path_or_any_parents(&path, false);
            pattern.is_used |= !found.is_none();
            is_included = (is_included || found.is_ignore()) && !found.is_whitelist();
        }
        is_included
    }

    pub(super) fn has_idle_excludes(&self) -> bool {
        self.exclude.iter().any(|pattern| !pattern.is_used)
    }

    /// The patterns that have matched nothing: to include, and to exclude.
    pub(super) fn idle(self) -> [Vec<String>; 2] {
        [self.include, self.exclude].map(|patterns| {
            patterns.into_iter().filter(|pattern| !pattern.is_used).map(|pattern| pattern.text).collect()
        })
    }
}

impl Pattern {
    /// Reads a pattern; one that begins with a prefix and `/` also means what follows, from the top folder
    /// on.
    fn new(text: &str, prefixes: &[String]) -> Result<Pattern, CreateError> {
        let malformed = |e: ignore::Error| CreateError::Pattern {
            pattern: text.to_owned(),
            why: match e {
                ignore::Error::Glob { err, .. } => err,
                e => e.to_string(),
            },
        };
        let (mark, plain) = text.strip_prefix('!').map_or(("", text), |plain| ("!", plain));
        let mut rest = plain;
        while let Some(after) = rest.strip_prefix("./") {
            rest = after.trim_start_matches('/');
        }
        let own = if rest == plain { plain.to_owned() } else { format!("/{rest}") };
        let within = prefixes.iter().filter_map(|prefix| {
            let rest = plain.strip_prefix(prefix.as_str())?.strip_prefix('/')?;
            (!rest.is_empty()).then(|| format!("/{}", rest.trim_start_matches('/')))
        });
        let lines: Vec<String> = std::iter::once(own).chain(within).collect();
        let mut builder = GitignoreBuilder::new(".");
        builder.allow_unclosed_class(false);
        for line in lines {
            // What is a comment or the end of a line in a file is part of a name here.
            let line = match line.strip_prefix('#') {
                Some(rest) => format!("{mark}\\#{rest}"),
                None => format!("{mark}{line}"),
            };
            let line = line.strip_suffix(' ').map_or(line.clone(), |rest| format!("{rest}\\ "));
            builder.add_line(None, &line).map_err(malformed)?;
        }
        let matcher = builder.build().map_err(malformed)?;
        Ok(Pattern { text: text.to_owned(), matcher, is_used: false })
    }
}

/// What somebody may write before a path below the folder: the folder's name, the torrent's, the path as it
/// was given.
fn prefixes(path: &Path, options: &WalkOptions) -> Vec<String> {
    let real = path.canonicalize().ok();
    let name_of = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let given = path.to_string_lossy();
    let given = given.trim_end_matches('/');
    let mut prefixes: Vec<String> = [options.name.clone(), name_of(path), real.as_deref().and_then(name_of)]
        .into_iter()
        .flatten()
        .collect();
    prefixes.extend([given.to_owned(), given.trim_start_matches("./").to_owned()]);
    prefixes.extend(real.map(|real| real.to_string_lossy().into_owned()));
    prefixes.sort();
    prefixes.dedup();
    prefixes.retain(|prefix| !prefix.is_empty() && prefix != ".");
    prefixes
}
