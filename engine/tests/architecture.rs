//! Keeps the engine's modules in their order: sockets, files and hashing know nothing of sessions and torrents, which stand
//! above them. `docs/architecture.md` says why.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules from the bottom up. A module may import those of the rows above its own in this list.
const LAYERS: &[&[&str]] = &[
    &["clock", "hash", "ip_filter"],
    &["buffer"],
    &["storage"],
    &["error"],
    &["create", "net"],
    &["dht", "http", "upnp"],
    &["session"],
    &["lib"],
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).expect("a folder of sources").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    folders.iter().flat_map(|folder| sources(folder)).chain(files).collect()
}

/// The modules of this crate that the code names, in whatever form. Types that it exports count as their module's.
fn imports(code: &str) -> Vec<&str> {
    let code = code.split("crate::").skip(1);
    let name = |rest: &'_ str| rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let module = |rest| match &rest[..name(rest)] {
        "Error" | "ErrorKind" => "error",
        "" => {
            panic!("`crate::{}`: import from one module at a time", rest.lines().next().unwrap_or_default())
        }
        other => other,
    };
    code.map(module).collect()
}

fn layer_of(module: &str) -> usize {
    let layer = LAYERS.iter().position(|layer| layer.contains(&module));
    layer.unwrap_or_else(|| panic!("{module} has no place in LAYERS"))
}

#[test]
fn modules_of_the_engine_know_only_those_below_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in sources(&src) {
        let inside = path.strip_prefix(&src).expect("a source").with_extension("");
        let module = inside.iter().next().and_then(|name| name.to_str()).expect("a module");
        let text = fs::read_to_string(&path).expect("a source");
        let code = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>();
        for import in imports(&code.join("\n")) {
            let may = import == module || layer_of(import) < layer_of(module);
            assert!(may, "{} must not know `{import}`", path.display());
        }
    }
}

#[test]
fn imports_are_found_where_they_are() {
    assert_eq!(
        imports("use crate::net::socket;\nfn f(a: crate::Error) { crate::session::g() }"),
        ["net", "error", "session"]
    );
}
