//! Keeps the shape of the workspace: which crate may depend on which, what the pure crates must never touch, and
//! which of the core's modules may know each other. `docs/architecture.md` says why.

#[path = "architecture/circles.rs"]
mod circles;

use std::fs;
use std::path::{Path, PathBuf};

/// Each package of the workspace, its folder, and the packages of the workspace that it may depend on, by the names
/// of their libraries.
const CRATES: &[(&str, &str, &[&str])] = &[
    ("swarmbt-core", "engine/core", &[]),
    ("swarmbt-fuzz", "engine/fuzz", &["swarm-core", "swarm-engine", "swarm-tracker"]),
    ("swarmbt-sim", "engine/sim", &["swarm-core", "swarm-tracker"]),
    ("swarmbt-engine", "engine", &["swarm-core"]),
    ("swarmbt-tracker", "tracker", &["swarm-core"]),
    ("swarmbt-daemon", "cli/daemon", &["swarm-engine"]),
    ("swarmbt", "cli", &["swarm-core", "swarm-daemon", "swarm-engine", "swarm-tracker"]),
    ("swarmbt-benches", "benches", &["swarm-core", "swarm-engine", "swarm-sim", "swarm-tracker"]),
];

/// Sources that take time, randomness and the world's answers as arguments.
const PURE: &[&str] = &["engine/core/src", "engine/sim/src"];

/// Crates that open sockets or files, run tasks, or make randomness of their own.
const IMPURE_CRATES: &[&str] = &[
    "async-std",
    "crossbeam",
    "futures",
    "getrandom",
    "hyper",
    "libc",
    "memmap2",
    "mio",
    "nix",
    "parking_lot",
    "rand",
    "rayon",
    "reqwest",
    "rustix",
    "socket2",
    "tempfile",
    "tokio",
    "tracing",
];

/// What pure code never says.
const IMPURE_WORDS: &[&str] = &[
    "Instant",
    "SystemTime",
    "std::env",
    "std::fs",
    "std::io",
    "std::process",
    "std::thread",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "ToSocketAddrs",
    "Mutex",
    "RwLock",
    "Condvar",
    "mpsc",
    "async",
    ".await",
    "thread_local!",
    "thread_rng",
    "RandomState",
    "println!",
    "eprintln!",
];

/// Where pure code may start threads, since there they only share out work whose outcome does not depend on them, and end
/// before the call does.
const THREADS_SHARE_WORK_ONLY: &[&str] = &["sim/src/lanes.rs"];

/// Where hash tables may be used in pure code, since there they only answer whether something is in them: the order
/// in which they would be walked is random.
const HASH_TABLES_LOOKED_UP_ONLY: &[&str] =
    &["core/src/bencode/mod.rs", "core/src/metainfo/parse.rs", "core/src/metainfo/path.rs"];

/// The modules of these sources from the bottom up: each may import modules of the rows above its own, and those of the
/// first row each other.
const LAYERS: &[(&str, &[&[&str]])] = &[
    (
        "engine/core/src",
        &[
            &[
                "bencode",
                "bitfield",
                "fields",
                "geometry",
                "hex",
                "id",
                "ip_filter",
                "merkle",
                "net",
                "padding",
                "rate",
                "rng",
                "time",
            ],
            &[
                "admission",
                "choker",
                "dht",
                "lsd",
                "metainfo",
                "mse",
                "picker",
                "port_mapping",
                "proxy",
                "scrub",
                "tracker",
                "utp",
                "webseed",
                "wire",
            ],
            &["peer", "reading"],
            &["torrent"],
        ],
    ),
    (
        "engine/src",
        &[
            &[],
            &["clock", "hash", "id", "ip_filter", "spool"],
            &["buffer"],
            &["storage"],
            &["error"],
            &["create", "net"],
            &["dht", "http", "upnp"],
            &["session"],
        ],
    ),
];

/// Folders, below a crate's sources, whose files do not name each other in a circle (see [`circles`]).
const WITHOUT_CIRCLES: &[(&str, &[&str])] = &[
    (
        "engine/core/src",
        &[
            "choker",
            "dht",
            "metainfo",
            "mse",
            "picker",
            "port_mapping",
            "proxy",
            "tracker",
            "utp",
            "webseed",
            "wire",
        ],
    ),
    ("engine/sim/src", &[""]),
    ("engine/src", &["session", "net", "http", "hash"]),
    ("cli/src", &[""]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn manifest(folder: &str) -> toml::Table {
    let path = root().join(folder).join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The dependencies in these sections, also those for some platforms only.
fn dependencies(manifest: &toml::Table, sections: &[&str]) -> Vec<String> {
    let platforms = manifest.get("target").and_then(toml::Value::as_table);
    let tables = platforms.into_iter().flat_map(toml::Table::values).filter_map(toml::Value::as_table);
    tables
        .chain([manifest])
        .flat_map(|table| sections.iter().filter_map(|section| table.get(*section)?.as_table()))
        .flat_map(|section| section.keys().cloned())
        .collect()
}

/// Every Rust file under `folder`, by its path there, without comments.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("a folder that can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                let code = text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>();
                found.push((path.to_string_lossy().replace('\\', "/"), code.join("\n")));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {folder}");
    found
}

/// Whether `word` is in `code`, not as a part of a longer name.
fn says(code: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !(word.starts_with(is_name) && before.is_some_and(is_name)
            || word.ends_with(is_name) && after.is_some_and(is_name))
    })
}

/// The names that follow `crate::` in `code`.
fn imports(code: &str) -> Vec<&str> {
    let name = |text: &'_ str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    code.split("crate::")
        .skip(1)
        .flat_map(|rest| match rest.strip_prefix('{') {
            None => vec![&rest[..name(rest)]],
            // Of `{a::B, c::{D, E}}` the names at the first level.
            Some(group) => {
                let (mut depth, mut names, mut start) = (1, Vec::new(), true);
                for (at, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                    if depth == 1 && start && c.is_alphabetic() {
                        names.push(&group[at..at + name(&group[at..])]);
                        start = false;
                    }
                    start |= depth == 1 && c == ',';
                }
                names
            }
        })
        .collect()
}

/// Whether a dependency is a package of this workspace: those are declared once, with their paths.
fn is_ours(dependency: &str) -> bool {
    let declared = manifest(".")["workspace"]["dependencies"].clone();
    declared.get(dependency).is_some_and(|dependency| dependency.get("path").is_some())
}

#[test]
fn crates_depend_in_one_direction() {
    let members = manifest(".")["workspace"]["members"].clone();
    let mut members: Vec<_> = members.as_array().expect("a list").iter().filter_map(|m| m.as_str()).collect();
    let mut known: Vec<_> = CRATES.iter().map(|(_, folder, _)| *folder).collect();
    members.sort_unstable();
    known.sort_unstable();
    assert_eq!(members, known, "each crate of the workspace has its place in CRATES");

    for (name, folder, allowed) in CRATES {
        let manifest = manifest(folder);
        assert_eq!(manifest["package"]["name"].as_str(), Some(*name));
        for dependency in dependencies(&manifest, &["dependencies", "build-dependencies"]) {
            assert!(
                !is_ours(&dependency) || allowed.contains(&&*dependency),
                "{name} must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn pure_crates_have_no_way_to_touch_the_world() {
    for folder in ["engine/core", "engine/sim"] {
        for dependency in dependencies(&manifest(folder), &["dependencies", "build-dependencies"]) {
            assert!(!IMPURE_CRATES.contains(&&*dependency), "{folder} must not depend on {dependency}");
        }
    }
    let lib = fs::read_to_string(root().join("engine/core/src/lib.rs")).expect("the core");
    assert!(lib.contains("#![forbid(unsafe_code)]"));
}

#[test]
fn pure_code_takes_time_and_randomness_as_arguments() {
    for (path, code) in PURE.iter().flat_map(|folder| sources(folder)) {
        // A command around the simulator prints and reads arguments.
        if path.contains("/src/bin/") || path.ends_with("/src/main.rs") {
            continue;
        }
        let may_thread = THREADS_SHARE_WORK_ONLY.iter().any(|allowed| path.ends_with(allowed));
        for word in IMPURE_WORDS {
            let may = may_thread && *word == "std::thread";
            assert!(may || !says(&code, word), "{path} says `{word}`");
        }
        let has_tables = says(&code, "HashMap") || says(&code, "HashSet");
        let may = HASH_TABLES_LOOKED_UP_ONLY.iter().any(|allowed| path.ends_with(allowed));
        assert!(
            !has_tables || may,
            "{path} has a hash table; use a BTreeMap, whose order is the same each time"
        );
    }
}

#[test]
fn modules_know_only_those_below_them() {
    for (src, layers) in LAYERS {
        let layer_of = |module: &str| layers.iter().position(|layer| layer.contains(&module));
        let below = format!("/{src}/");
        for (path, code) in sources(src) {
            let (_, below_src) = path.rsplit_once(&below).expect("a file below the folder");
            let module = below_src.split(['/', '.']).next().unwrap_or_default();
            if module == "lib" {
                continue;
            }
            let layer = layer_of(module).unwrap_or_else(|| panic!("{module} has no place in LAYERS"));
            for import in imports(&code) {
                // Types that the crate exports count as their module's.
                let import = if matches!(import, "Error" | "ErrorKind") { "error" } else { import };
                let imported =
                    layer_of(import).unwrap_or_else(|| panic!("{path}: {import} is not in LAYERS"));
                let may = import == module || imported < layer || imported == 0;
                assert!(may, "{path} must not know `{import}`");
            }
        }
    }
}

#[test]
fn no_files_name_each_other_in_a_circle() {
    for (src, folders) in WITHOUT_CIRCLES {
        let below = format!("/{src}/");
        let sources = sources(src).into_iter().map(|(path, code)| {
            let (_, path) = path.rsplit_once(&below).expect("a file below the folder");
            (path.to_owned(), code)
        });
        let files = circles::Files::new(sources);
        for folder in *folders {
            let circle = files.circle(folder);
            assert!(circle.is_none(), "{src}: files name each other in a circle: {circle:?}");
        }
    }
}

#[test]
fn nothing_goes_past_the_proxy() {
    let opens =
        ["TcpSocket", "TcpStream::connect", "UdpSocket::bind", "Socket::new(Domain", "Domain::for_address"];
    for (path, code) in sources("engine/src") {
        let (code, _) = code.split_once("#[cfg(test)]").unwrap_or((&code, ""));
        let is_test = path.ends_with("/tests.rs");
        for word in ["lookup_host", "ToSocketAddrs", "to_socket_addrs"] {
            let may = is_test || path.ends_with("/net/names.rs");
            assert!(may || !says(code, word), "{path}: names are looked up in net/names.rs only");
        }
        for word in opens {
            let may = is_test || path.ends_with("/net/socket.rs");
            assert!(
                may || !says(code, word),
                "{path} says `{word}`: sockets are opened in net/socket.rs only"
            );
        }
        if path.ends_with("/net/socket.rs") {
            for opener in ["fn udp(", "fn connect_udp(", "async fn connect_tcp("] {
                assert!(code.contains(&format!("pub(super) {opener}")), "{opener}: for `net` only");
            }
        }
    }
}

#[test]
fn words_and_imports_are_found_where_they_are() {
    assert!(says("use std::time::Instant;", "Instant"));
    assert!(!says("let instantiate = Instants;", "Instant"));
    assert!(says("x.await?", ".await"));
    assert_eq!(
        imports("use crate::id::A;\nuse crate::{rng::{B, C}, time};\ncrate::wire::f()"),
        ["id", "rng", "time", "wire"]
    );
}
