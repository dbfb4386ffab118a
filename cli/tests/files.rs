//! `swarm create`, `show`, `magnet` and `verify` on real files.

mod common;

use common::{bytes, run, run_ok, swarm, tree, write, write_tree};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

fn show(dir: &Path, meta: &str) -> Value {
    run_ok(dir, ["show", meta, "--json"]).json()
}

#[test]
fn what_create_makes_show_shows_and_verify_accepts() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let root = write_tree(dir, "release");
    let created = run_ok(dir, ["create", "data/release", "--json", "-a", "http://t.example/announce"]).json();
    let shown = show(dir, "release.meta");
    let size: usize = tree(&root).values().map(Vec::len).sum();
    assert_eq!(created["output"], "release.meta");
    assert_eq!(created["files"], tree(&root).len());
    for format in ["v2", "hybrid"] {
        let options = ["create", "data/release", "--json", "--format", format, "-o", format];
        assert_eq!(run_ok(dir, options).json()["files"], tree(&root).len(), "{format}: without its padding");
    }
    for key in ["name", "info_hash_v1", "piece_length", "pieces", "total_size", "magnet"] {
        assert_eq!(created[key], shown[key], "{key}");
    }
    assert_eq!(shown["total_size"], size);
    assert_eq!(shown["piece_length"], 16_384);
    assert_eq!(shown["trackers"], json!([["http://t.example/announce"]]));
    assert_eq!(shown["info_hash_v2"], Value::Null);
    let mut paths: Vec<&str> =
        shown["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert!(paths.is_sorted() && paths.contains(&"release/a/b/c/deep.bin"));
    paths.dedup();
    assert_eq!(paths.len(), tree(&root).len());

    let verified = run_ok(dir, ["verify", "release.meta", "data", "--json"]).json();
    let itself = run_ok(dir, ["verify", "release.meta", "data/release", "--json"]).json();
    assert_eq!(itself, verified, "the data itself is named, as `seed` takes it");
    assert_eq!(verified["pieces_ok"], shown["pieces"]);
    assert_eq!(verified["bytes_ok"], size);
    assert_eq!(verified["bad_pieces"], json!([]));

    let magnet = run_ok(dir, ["magnet", "release.meta"]).stdout;
    assert_eq!(magnet, format!("{}\n", shown["magnet"].as_str().unwrap()));
    let table = run_ok(dir, ["show", "release.meta"]).stdout;
    assert!(table.contains(shown["info_hash_v1"].as_str().unwrap()) && table.contains("deep.bin"));
}

#[test]
fn everything_that_create_is_told_is_in_the_metainfo() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir.join("x/keep.txt"), "1");
    write(dir.join("x/drop.tmp"), "2");
    write(dir.join("x/.git/config"), "3");
    let told = [
        "--tier",
        "http://b.example/announce,udp://c.example:80",
        "-a",
        "https://a.example/announce",
        "-w",
        "https://w.example/x/",
        "-l",
        "1MiB",
        "--name",
        "Name",
        "--comment",
        "two words",
        "--private",
        "--source",
        "S",
        "--node",
        "dht.example:6881",
        "--exclude",
        "*.tmp",
        "--exclude",
        ".git",
    ];
    run_ok(dir, ["create", "x", "-o", "out.meta"].iter().chain(&told));
    let shown = show(dir, "out.meta");
    let expected = json!({
        "name": "Name", "piece_length": 1 << 20, "pieces": 1, "total_size": 1, "private": true,
        "files": [{"path": "Name/keep.txt", "length": 1}],
        "trackers": [["https://a.example/announce"], ["http://b.example/announce", "udp://c.example:80"]],
        "web_seeds": ["https://w.example/x/"], "nodes": [["dht.example", 6881]],
        "comment": "two words", "source": "S", "warnings": [],
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(shown[key], *value, "{key}");
    }
    assert!(shown["creation_date"].as_i64().unwrap() > 1_700_000_000);
}

#[test]
fn without_a_date_the_same_files_give_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_tree(dir, "x");
    for output in ["1.meta", "2.meta"] {
        run_ok(dir, ["create", "data/x", "--no-date", "-o", output]);
    }
    assert_eq!(fs::read(dir.join("1.meta")).unwrap(), fs::read(dir.join("2.meta")).unwrap());
}

#[test]
fn nothing_is_overwritten_unless_forced() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir.join("x"), "data");
    write(dir.join("x.meta"), "mine");
    let refused = run(dir, ["create", "x"]);
    assert_eq!(refused.code, Some(1));
    let line = "swarm: x.meta: exists already; replace it with -f, or write elsewhere with -o\n";
    assert_eq!(refused.stderr, line);
    assert_eq!(fs::read(dir.join("x.meta")).unwrap(), b"mine");
    run_ok(dir, ["create", "x", "-f"]);
    assert_eq!(show(dir, "x.meta")["total_size"], 4);
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["x", "x.meta"], "no temporary file is left");
}

#[test]
fn the_output_cannot_be_part_of_what_it_describes() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir.join("x/file"), "data");
    let inside = dir.join("x");
    for args in [
        &["create", "."][..],
        &["create", "../x", "-f"],
        &["create", ".", "-o", "sub/../y.meta", "--exclude", "z", "-f"],
    ] {
        fs::create_dir_all(inside.join("sub")).unwrap();
        let refused = run(&inside, args);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains("lies in what it is to describe"), "{refused:?}");
    }
    run_ok(&inside, ["create", ".", "--exclude", "*.meta", "-f"]);
    assert_eq!(show(&inside, "x.meta")["files"], json!([{"path": "x/file", "length": 4}]));
    run_ok(&inside, ["create", ".", "-o", "../outside.meta"]);
    let itself = run(dir, ["create", "x/file", "-f", "-o", "x/file"]);
    assert_eq!(itself.code, Some(2));
    assert_eq!(fs::read(dir.join("x/file")).unwrap(), b"data");
}

#[test]
fn a_pattern_that_matches_nothing_is_refused_or_told() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir.join("x/file"), "data");
    write(dir.join("x/private/key"), "secret");
    for pattern in ["private/", "./private", "x/private", "private", "/private/", "x/private/"] {
        run_ok(dir, ["create", "x", "--exclude", pattern, "-f"]);
        assert_eq!(show(dir, "x.meta")["files"], json!([{"path": "x/file", "length": 4}]), "{pattern}");
        run_ok(dir, ["create", "./x/", "--exclude", pattern, "-f"]);
        assert_eq!(show(dir, "x.meta")["files"], json!([{"path": "x/file", "length": 4}]), "{pattern}");
    }
    fs::remove_file(dir.join("x.meta")).unwrap();
    let refused = run(dir, ["create", "x", "--exclude", "privat/", "--exclude", "key"]);
    let line = "swarm: x: --exclude privat/ matches nothing; mend the pattern, or go on with -f\n";
    assert_eq!((refused.code, refused.stderr.as_str()), (Some(2), line));
    assert!(!dir.join("x.meta").exists());
    let told = run_ok(dir, ["create", "x", "--exclude", "privat/", "-f"]);
    assert!(told.stderr.contains("x: --exclude privat/ matches nothing"), "{told:?}");
    let told = run_ok(dir, ["create", "x", "--include", "file", "--include", "*.iso", "-f"]);
    assert!(told.stderr.contains("--include *.iso matches nothing"), "{told:?}");
}

#[test]
fn only_a_regular_file_is_replaced() {
    use std::os::unix::fs::{FileTypeExt as _, symlink};
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir.join("x"), "data");
    let make_fifo = std::process::Command::new("mkfifo").arg(dir.join("fifo")).status().unwrap();
    assert!(make_fifo.success());
    fs::create_dir(dir.join("folder")).unwrap();
    symlink("fifo", dir.join("to-fifo")).unwrap();
    symlink("nowhere", dir.join("dangling")).unwrap();
    symlink("/dev/null", dir.join("null")).unwrap();
    for (output, what) in [
        ("fifo", "is neither a file nor a folder"),
        ("to-fifo", "is neither a file nor a folder"),
        ("null", "is neither a file nor a folder"),
        ("folder", "is a folder"),
        ("dangling", "is a link to nothing"),
    ] {
        let refused = run(dir, ["create", "x", "-f", "-o", output]);
        let line = format!("swarm: {output}: {what}, which is never replaced; write elsewhere with -o\n");
        assert_eq!((refused.code, refused.stderr), (Some(1), line));
    }
    assert!(fs::metadata(dir.join("fifo")).unwrap().file_type().is_fifo());
    write(dir.join("real/old.meta"), "old");
    symlink("real/old.meta", dir.join("link.meta")).unwrap();
    run_ok(dir, ["create", "x", "-f", "-o", "link.meta"]);
    assert!(dir.join("link.meta").is_symlink(), "the link stays");
    assert_eq!(show(dir, "real/old.meta")["total_size"], 4);
}

#[test]
fn linked_folders_that_contain_each_other_are_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for folder in ["a", "b", "c"] {
        write(dir.join("x").join(folder).join("file"), "data");
        for other in ["a", "b", "c"] {
            std::os::unix::fs::symlink(format!("../{other}"), dir.join("x").join(folder).join(other))
                .unwrap();
        }
    }
    let refused = run(dir, ["create", "x", "--follow-symlinks"]);
    assert_eq!((refused.code, refused.stderr.lines().count()), (Some(1), 1), "{refused:?}");
    assert!(refused.stderr.contains("is a link to a folder that it lies in; exclude it"), "{refused:?}");
}

#[test]
fn links_are_kept_followed_or_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir.join("x/file"), "data");
    write(dir.join("elsewhere"), "other");
    std::os::unix::fs::symlink("file", dir.join("x/link")).unwrap();
    std::os::unix::fs::symlink("../elsewhere", dir.join("x/out")).unwrap();
    let kept = run_ok(dir, ["create", "x"]);
    assert!(kept.stderr.contains("x/out is a link that leads out of the folder; it is left out"), "{kept:?}");
    let files = |meta: &str| show(dir, meta)["files"].clone();
    assert_eq!(files("x.meta").as_array().unwrap().len(), 2);
    run_ok(dir, ["create", "x", "--follow-symlinks", "-o", "all.meta"]);
    let lengths: Vec<u64> =
        files("all.meta").as_array().unwrap().iter().map(|file| file["length"].as_u64().unwrap()).collect();
    assert_eq!(lengths, [4, 4, 5]);
}

#[test]
fn what_cannot_be_created_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("empty")).unwrap();
    write(dir.join("x"), "data");
    for (args, code, line) in [
        (&["create", "empty"][..], 1, "swarm: empty: holds no files to put into a torrent\n"),
        (&["create", "nowhere"], 1, "swarm: nowhere: cannot open: No such file or directory (os error 2)\n"),
        (
            &["create", "x", "-l", "12345"],
            2,
            "swarm: --piece-length: 12345 is not a power of two; the next one below is 8 KiB\n",
        ),
        (&["create", "x", "-o", "no/such/x.meta"], 1, "swarm: no/such/x.meta: cannot write: "),
        (&["create", "x", "-a", "tracker"], 2, "swarm: --announce: tracker is not a URL: "),
    ] {
        let refused = run(dir, args);
        assert_eq!(refused.code, Some(code), "{refused:?}");
        assert!(refused.stderr.starts_with(line), "{refused:?}");
        assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
    }
}

#[test]
fn verify_names_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (name, len) in
        [("corrupt", 40_000), ("long", 32_768), ("missing", 32_768), ("ok", 32_768), ("short", 32_768)]
    {
        write(dir.join("x").join(name), bytes(1, len + (16_384 - len % 16_384) % 16_384));
    }
    run_ok(dir, ["create", "x", "-l", "16KiB"]);
    let mut corrupt = bytes(1, 49_152);
    corrupt[20_000] ^= 1;
    write(dir.join("x/corrupt"), corrupt);
    write(dir.join("x/long"), [bytes(1, 32_768), vec![0]].concat());
    write(dir.join("x/short"), bytes(1, 20_000));
    fs::remove_file(dir.join("x/missing")).unwrap();
    let bad = run(dir, ["verify", "x.meta", ".", "--json"]);
    assert_eq!(bad.code, Some(4));
    let report = bad.json();
    let states: Vec<_> = report["files"].as_array().unwrap().iter().map(|file| &file["state"]).collect();
    assert_eq!(states, ["corrupt", "long", "missing", "ok", "short"]);
    assert_eq!(report["pieces"], 11);
    assert_eq!(report["files"][0]["path"], "x/corrupt");
    let wrong: Vec<u64> =
        report["bad_pieces"].as_array().unwrap().iter().map(|piece| piece.as_u64().unwrap()).collect();
    assert!(wrong.starts_with(&[1]) && !wrong.contains(&0) && wrong.contains(&5) && !wrong.contains(&8));
    assert_eq!(report["pieces_ok"].as_u64().unwrap() as usize, 11 - wrong.len());

    let told = run(dir, ["verify", "x.meta", "."]);
    assert_eq!(told.stdout.lines().collect::<Vec<_>>()[..2], ["corrupt  x/corrupt", "long     x/long"]);
    assert!(
        told.stderr.starts_with("swarm: ./x: ")
            && told.stderr.contains("4 files are not as the metainfo says")
    );

    let elsewhere = run(dir, ["verify", "x.meta", "/nonexistent", "--json"]);
    assert_eq!((elsewhere.code, &elsewhere.json()["files"][3]["state"]), (Some(4), &"missing".into()));
}

#[test]
fn what_is_no_metainfo_is_status_3_on_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir.join("empty.meta"), "");
    write(dir.join("text.meta"), "hello\n");
    write(dir.join("list.meta"), "le");
    write(dir.join("no-info.meta"), "d8:announce3:urle");
    for meta in ["empty.meta", "text.meta", "list.meta", "no-info.meta"] {
        for args in [&["show", meta][..], &["verify", meta, "."], &["seed", meta, "."], &["get", meta]] {
            let refused = run(dir, args);
            assert_eq!((refused.code, refused.stdout.as_str()), (Some(3), ""), "{refused:?}");
            assert!(refused.stderr.starts_with(&format!("swarm: {meta}: ")), "{refused:?}");
            assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
        }
    }
    let failed = run(dir, ["get", "text.meta", "--json"]);
    let last: Value = serde_json::from_str(failed.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["event"], &last["kind"]), (&"failed".into(), &"metainfo".into()));
}

#[test]
fn names_cannot_drive_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir.join("x"), "data");
    run_ok(dir, ["create", "x", "--comment", "\u{1b}[2Jgone\nsecond line"]);
    let table = run_ok(dir, ["show", "x.meta"]).stdout;
    assert!(table.contains(r"\u{1b}[2Jgone\nsecond line") && !table.contains('\u{1b}'), "{table}");
}

/// What bash offers after this command line, whose last word is not finished.
fn bash_offers(dir: &Path, line: &[&str]) -> Vec<String> {
    let script = "source <(\"$0\" completions bash)
        COMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1))
        compopt() { :; }
        _swarm swarm \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"
        printf '%s\\n' \"${COMPREPLY[@]}\"";
    let mut bash = std::process::Command::new("bash");
    bash.current_dir(dir).args(["--norc", "-c", script, env!("CARGO_BIN_EXE_swarm"), "swarm"]).args(line);
    let offers = bash.output().unwrap();
    assert!(offers.stderr.is_empty(), "{offers:?}");
    let offers = String::from_utf8(offers.stdout).unwrap();
    offers.lines().map(str::to_owned).filter(|offer| !offer.is_empty()).collect()
}

#[test]
fn bash_completes_paths_commands_and_visible_options() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir.join("release.meta"), "");
    write(dir.join("folder/file"), "");
    // With nothing to offer, bash itself completes names of files.
    for line in [&["get", ""][..], &["verify", "release.meta", ""], &["create", "re"], &["get", "-o", ""]] {
        assert_eq!(bash_offers(dir, line), [""; 0], "{line:?}");
    }
    assert_eq!(bash_offers(dir, &["lab", "--report", "rel"]), ["release.meta"]);
    assert_eq!(bash_offers(dir, &["get", "--max-up", "1"]), ["1"]);
    assert_eq!(bash_offers(dir, &["get", "--color", "al"]), ["always"]);
    assert_eq!(bash_offers(dir, &["see"]), ["seed"]);
    assert_eq!(bash_offers(dir, &["dht", "get-"]), ["get-peers"]);
    assert_eq!(bash_offers(dir, &["get", "--no-pe"]), ["--no-pex"]);
    assert_eq!(bash_offers(dir, &["get", "--inj"]), [""; 0]);
    assert_eq!(bash_offers(dir, &["completions", "ba"]), ["bash"]);
}

#[test]
fn a_reader_that_stops_early_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for n in 0..3_000 {
        write(dir.join(format!("x/{n:0100}")), "");
    }
    run_ok(dir, ["create", "x"]);
    let mut child =
        swarm(dir).args(["show", "x.meta"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // More than a pipe holds is still to be written.
    drop(child.stdout.take());
    let end = child.wait_with_output().unwrap();
    assert_eq!((end.status.code(), end.stderr.as_slice()), (Some(0), &b""[..]));
}

/// An HTTP server that answers one request with this status line and body.
fn serve_once(status: &'static str, body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut request = BufReader::new(&stream);
        let mut line = String::new();
        while request.read_line(&mut line).unwrap() > 2 {
            line.clear();
        }
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        // The client may leave before it has read everything.
        let _ = (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(&body));
    });
    format!("http://{address}/x.meta")
}

#[test]
fn a_source_can_be_a_url() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir.join("x"), "data");
    run_ok(dir, ["create", "x"]);
    let url = serve_once("200 OK", fs::read(dir.join("x.meta")).unwrap());
    assert_eq!(show(dir, &url), show(dir, "x.meta"));

    let url = serve_once("404 Not Found", Vec::new());
    let missing = run(dir, ["show", &url]);
    assert_eq!(missing.code, Some(1));
    assert_eq!(missing.stderr, format!("swarm: {url}: the server answered 404 Not Found\n"));

    let url = serve_once("200 OK", b"<html>".to_vec());
    assert_eq!(run(dir, ["show", &url]).code, Some(3));
}

#[test]
fn what_an_option_names_and_cannot_be_used_is_told_with_the_option_and_the_cause_last() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir.join("x"), "data");
    write(dir.join("short"), "beef");
    run_ok(dir, ["create", "x"]);
    const MISSING: &str = "No such file or directory (os error 2)";
    const NOT_OURS: &str = "Cannot assign requested address (os error 99)";
    let get = ["get", "x.meta", "-o", "out", "--no-dht", "--listen"];
    for (args, line, cause) in [
        (&["lab", "--size", "1M", "--report", "no/x.xml"][..], "--report: no/x.xml: cannot write: ", MISSING),
        (
            &["lab", "--size", "1M", "--keep", "short/x"],
            "--keep: short/x: cannot create a folder: ",
            "Not a directory (os error 20)",
        ),
        (&["create", "x", "-o", "no/x.meta"], "no/x.meta: cannot write: ", MISSING),
        (
            &["dht", "put", "x", "--key", "no/k", "--listen", "127.0.0.1:0"],
            "--key: no/k: cannot write: ",
            MISSING,
        ),
        (&["dht", "put", "x", "--key", "short"], "--key: short: is not a key of 64 hexadecimal digits", ""),
        (
            &["dht", "sample", "--listen", "192.0.2.1:1"],
            "--listen: cannot open a socket for the DHT: ",
            NOT_OURS,
        ),
        (&[&get[..], &["192.0.2.1:1"]].concat(), "--listen: cannot listen on 192.0.2.1:1: ", NOT_OURS),
        (
            &[&get[..], &["127.0.0.1:0", "--bind-device", "none"]].concat(),
            "--bind-device: none: cannot listen on 127.0.0.1:0: ",
            "No such device (os error 19)",
        ),
        (&[&get[..], &["127.0.0.1:0", "--ip-filter", "none"]].concat(), "--ip-filter: none: ", MISSING),
    ] {
        let refused = run(dir, args);
        let last = refused.stderr.lines().last().unwrap();
        assert_eq!(last, format!("swarm: {line}{cause}"), "{refused:?}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let refused = run(dir, [&get[..], &[&addr]].concat());
    let why = "another program listens there; choose another port";
    assert!(
        refused.stderr.ends_with(&format!("swarm: --listen: cannot listen on {addr}: {why}\n")),
        "{refused:?}"
    );
    assert_eq!(refused.code, Some(1));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{nobody}/x.meta");
    let refused = run(dir, ["show", &url]).stderr;
    assert_eq!(refused, format!("swarm: {url}: cannot connect: Connection refused (os error 111)\n"));
}

#[test]
fn a_url_is_not_read_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let url = serve_once("200 OK", vec![b'x'; swarm_core::metainfo::METAINFO_LEN_MAX + 1]);
    let refused = run(dir.path(), ["show", &url]);
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("longer than"), "{refused:?}");
}
