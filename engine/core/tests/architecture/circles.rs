//! Which files of a folder name each other in a circle.
//!
//! The rule: an arrow leads from a file to the file that *defines* what it names, in `use` declarations and in paths in its
//! code. A `mod` declaration is no arrow, and neither is a re-export (`pub use`, also `pub(crate)` and the like) of what
//! the file does not use itself: names are followed through imports to where they are defined, so a `mod.rs` that is
//! a list of its children is in no circle with them. Tests do not count, and neither do methods of types that are
//! named by nobody: a child may add an `impl` block to a type of its parent if the parent names nothing of the child.

use super::says;
use std::collections::{BTreeMap, BTreeSet};

/// A path in a `use` declaration, and the name that it has here.
struct Import {
    path: Vec<String>,
    alias: String,
    is_exported: bool,
}

/// A file as a module of its crate.
struct File {
    /// The modules on the way to it, the crate's root not counted.
    module: Vec<String>,
    imports: Vec<Import>,
    /// Everything but `use` declarations.
    code: String,
}

/// The files of one crate, by their paths below its `src`.
pub struct Files(BTreeMap<String, File>);

impl Files {
    /// Of (path below `src`, code without comments).
    pub fn new(sources: impl IntoIterator<Item = (String, String)>) -> Files {
        let is_test = |path: &str| path.split('/').any(|part| part == "tests" || part == "tests.rs");
        let sources = sources.into_iter().filter(|(path, _)| !is_test(path));
        Files(sources.map(|(path, code)| (path.clone(), file(&path, &code))).collect())
    }

    /// A circle among the files below `folder`, if there is one.
    pub fn circle(&self, folder: &str) -> Option<Vec<&str>> {
        let mut done = BTreeSet::new();
        let names = self.0.keys().filter(|path| path.starts_with(folder));
        names.into_iter().find_map(|name| self.circle_from(name, folder, &mut Vec::new(), &mut done))
    }

    fn circle_from<'a>(
        &'a self,
        name: &'a str,
        folder: &str,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<Vec<&'a str>> {
        if let Some(at) = way.iter().position(|file| *file == name) {
            return Some(way[at..].to_vec());
        }
        if !done.insert(name) {
            return None;
        }
        way.push(name);
        let arrows = self.arrows(name).into_iter().filter(|to| to.starts_with(folder));
        let circle = arrows.into_iter().find_map(|to| self.circle_from(to, folder, way, done));
        way.pop();
        circle
    }

    /// The other files that define what a file names.
    fn arrows(&self, name: &str) -> BTreeSet<&str> {
        let file = &self.0[name];
        let mut arrows = BTreeSet::new();
        for import in &file.imports {
            if import.is_exported && !says(&file.code, &import.alias) {
                continue;
            }
            match self.module(&self.absolute(file, &import.path)) {
                // The module as a whole: what is named in it shows in the code.
                Some(module) => arrows.extend(
                    members(&file.code, &import.alias).filter_map(|name| self.definition(module, &name, 0)),
                ),
                None => arrows.extend(self.resolve(file, &import.path)),
            }
        }
        let paths = paths(&file.code);
        arrows.extend(paths.iter().filter_map(|path| self.resolve(file, path)));
        arrows.remove(name);
        arrows
    }

    fn resolve(&self, file: &File, path: &[String]) -> Option<&str> {
        let path = self.absolute(file, path);
        let depth = (0..=path.len()).rev().find(|&depth| self.module(&path[..depth]).is_some())?;
        self.definition(self.module(&path[..depth])?, path.get(depth)?, 0)
    }

    /// The file that defines what `module` calls `name`.
    fn definition<'a>(&'a self, module: &'a str, name: &str, depth: usize) -> Option<&'a str> {
        let file = &self.0[module];
        let named = file.imports.iter().find(|import| import.alias == name);
        let Some(import) = named.filter(|_| depth < 10) else { return Some(module) };
        let path = self.absolute(file, &import.path);
        let (name, parent) = path.split_last()?;
        self.module(parent).map_or(Some(module), |parent| self.definition(parent, name, depth + 1))
    }

    /// A path from the crate's root; empty if it leads elsewhere.
    fn absolute(&self, file: &File, path: &[String]) -> Vec<String> {
        let mut module = file.module.clone();
        let mut rest = path;
        match rest.first().map(String::as_str) {
            Some("crate") => (module, rest) = (Vec::new(), &rest[1..]),
            Some("self") => rest = &rest[1..],
            Some("super") => {
                while rest.first().is_some_and(|part| part == "super") {
                    module.pop();
                    rest = &rest[1..];
                }
            }
            Some(child) if self.module(&[&module[..], &[child.to_owned()]].concat()).is_some() => {}
            _ => return vec!["-".to_owned()],
        }
        module.extend_from_slice(rest);
        module
    }

    fn module(&self, module: &[String]) -> Option<&str> {
        if module.is_empty() {
            return None;
        }
        let path = module.join("/");
        let file = |name: String| self.0.get_key_value(&name).map(|(name, _)| name.as_str());
        file(format!("{path}.rs")).or_else(|| file(format!("{path}/mod.rs")))
    }
}

fn file(path: &str, code: &str) -> File {
    let module = path.trim_end_matches(".rs").trim_end_matches("/mod");
    let module = module.split('/').filter(|part| !matches!(*part, "lib" | "main" | "mod")).map(str::to_owned);
    // Tests stand at the end.
    let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let (mut imports, mut rest) = (Vec::new(), String::new());
    let mut declaration: Option<String> = None;
    for line in code.lines() {
        let start = line.trim_start();
        let is_use = start.starts_with("use ") || start.starts_with("pub") && start.contains(" use ");
        if declaration.is_none() && is_use {
            declaration = Some(String::new());
        }
        let Some(text) = &mut declaration else {
            rest += line;
            rest.push('\n');
            continue;
        };
        text.push_str(start);
        text.push(' ');
        if line.contains(';') {
            let text = declaration.take().unwrap_or_default();
            let (visibility, tree) = text.split_once("use ").unwrap_or_default();
            let tree = tree.trim().trim_end_matches(';');
            let is_exported = visibility.trim().starts_with("pub");
            import_all(tree, &[], &mut |path, alias| imports.push(Import { path, alias, is_exported }));
        }
    }
    File { module: module.collect(), imports, code: rest }
}

/// Takes a `use` tree apart.
fn import_all(tree: &str, before: &[String], found: &mut impl FnMut(Vec<String>, String)) {
    let tree = tree.trim();
    if let Some((path, group)) = tree.split_once('{') {
        let path = path.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned);
        let before: Vec<String> = before.iter().cloned().chain(path).collect();
        let (mut depth, mut start) = (0, 0);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    import_all(&group[start..at], &before, found);
                    start = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
    let mut path: Vec<String> = before.iter().cloned().chain(path.split("::").map(str::to_owned)).collect();
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let Some(last) = path.last().filter(|last| !last.is_empty()).cloned() else { return };
    found(path, if alias.is_empty() { last } else { alias.trim().to_owned() });
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The names that follow `module::` in `code`.
fn members<'a>(code: &'a str, module: &str) -> impl Iterator<Item = String> + 'a {
    let prefix = format!("{module}::");
    let hits: Vec<usize> = code.match_indices(&prefix).map(|(at, _)| at).collect();
    hits.into_iter().filter_map(move |at| {
        let is_whole = !code[..at].ends_with(|c: char| is_name(c) || c == ':');
        let rest = &code[at + prefix.len()..];
        is_whole.then(|| rest.chars().take_while(|c| is_name(*c)).collect())
    })
}

/// The paths in `code` that begin with `crate`, `super` or `self`.
fn paths(code: &str) -> Vec<Vec<String>> {
    let starts = ["crate::", "super::", "self::"];
    let hits = starts.iter().flat_map(|start| code.match_indices(start).map(|(at, _)| at));
    let whole = hits.filter(|at| !code[..*at].ends_with(|c: char| is_name(c) || c == ':'));
    whole
        .map(|at| {
            let path = code[at..].split(|c: char| !is_name(c) && c != ':').next().unwrap_or_default();
            path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()
        })
        .collect()
}

#[test]
fn a_circle_is_found_and_re_exports_are_none() {
    let files = |sources: &[(&str, &str)]| {
        Files::new(sources.iter().map(|(path, code)| ((*path).to_owned(), (*code).to_owned())))
    };
    let list = ("a/mod.rs", "mod b;\nmod c;\npub use b::B;\npub use c::{C, D as E};\n");
    let c = ("a/c.rs", "use super::B;\npub struct C(B);\npub struct D;\n");
    let line = files(&[list, c, ("a/b.rs", "pub struct B;\n")]);
    assert_eq!(line.circle("a"), None);
    let circle = files(&[list, c, ("a/b.rs", "use super::{\n    E,\n};\npub struct B(E);\n")]);
    assert_eq!(circle.circle("a"), Some(vec!["a/b.rs", "a/c.rs"]));
    let by_path = files(&[list, c, ("a/b.rs", "pub struct B(crate::a::c::D);\n")]);
    assert!(by_path.circle("a").is_some());
    let by_module = files(&[list, c, ("a/b.rs", "use crate::a::c;\npub struct B(c::D);\n")]);
    assert!(by_module.circle("a").is_some());
    let parent = ("a/mod.rs", "mod b;\npub use b::B;\npub struct A(B);\n");
    assert!(files(&[parent, ("a/b.rs", "pub struct B(Box<super::A>);\n")]).circle("a").is_some());
    assert_eq!(
        files(&[parent, ("a/b.rs", "pub struct B;\n#[cfg(test)]\nmod tests { super::A; }\n")]).circle("a"),
        None
    );
}
