//! The APIs of a daemon, spoken by somebody who tries what must not be.
#![allow(dead_code, reason = "each test binary uses its own part")]

use super::daemon::{Answer, Daemon};
use super::{bytes, run_ok, write};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tempfile::TempDir;

pub const FORM: &str = "content-type: application/x-www-form-urlencoded";
pub const JSON: &str = "content-type: application/json";

/// A folder with a torrent of a folder, `tree`, in `metas`.
pub fn with_tree() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("data/tree/a/one.mkv"), bytes(1, 100_000));
    write(dir.path().join("data/tree/two"), bytes(2, 50_000));
    fs::create_dir(dir.path().join("metas")).unwrap();
    run_ok(dir.path(), ["create", "data/tree", "-o", "metas/tree.meta", "-l", "16KiB"]);
    dir
}

pub fn metainfo(dir: &Path) -> Vec<u8> {
    fs::read(dir.join("metas/tree.meta")).unwrap()
}

/// The APIs, spoken by somebody who is let in.
pub struct Client<'a>(pub &'a Daemon);

impl Client<'_> {
    pub fn ask(&self, method: &str, path: &str, more: &[&str], body: &[u8]) -> Answer {
        let token = format!("authorization: Bearer {}", self.0.token);
        self.0.raw(method, path, &[&["host: localhost", &token], more].concat(), body)
    }

    /// The tree's torrent, which does not run.
    pub fn add_paused(&self, dir: &Path) {
        let kind = "content-type: application/x-bittorrent";
        let added = self.ask("POST", "/api/v1/torrents?paused=true", &[kind], &metainfo(dir));
        assert_eq!(added.status, 201);
    }

    pub fn own(&self, method: &str, path: &str, body: Value) -> Answer {
        self.0.request(method, &format!("/api/v1/{path}"), Some(body))
    }

    pub fn qbittorrent(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body: String = form(fields);
        self.ask("POST", &format!("/api/v2/{path}"), &[FORM], body.as_bytes())
    }

    /// A form of the page, as a browser sends it.
    pub fn page(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.ask(
            "POST",
            path,
            &[FORM, "origin: http://localhost", "hx-request: true"],
            form(fields).as_bytes(),
        )
    }

    /// The form that adds torrents, which may have files and so has parts.
    pub fn page_add(&self, fields: &[(&str, &str)]) -> Answer {
        let part = |(name, value): &(&str, &str)| {
            format!("--XX\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let body = fields.iter().map(part).collect::<String>() + "--XX--\r\n";
        let kind = "content-type: multipart/form-data; boundary=XX";
        self.ask("POST", "/add", &[kind, "origin: http://localhost", "hx-request: true"], body.as_bytes())
    }

    /// What is wrong with a call of the RPC; nothing if it is carried out.
    pub fn transmission(&self, method: &str, params: Value) -> Option<String> {
        let body = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).to_string();
        let hello = self.ask("POST", "/transmission/rpc", &[JSON], b"{}");
        let session = hello.head.lines().find(|line| line.starts_with("x-transmission-session-id")).unwrap();
        let answer = self.ask("POST", "/transmission/rpc", &[JSON, session], body.as_bytes());
        let error = answer.json()["error"].clone();
        (!error.is_null()).then(|| error.to_string())
    }
}

pub fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// A server on this machine that somebody trusts because he is on it, and how often it was asked.
pub fn service(content: Vec<u8>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            counter.fetch_add(1, SeqCst);
            let _ = stream.read(&mut [0; 4_096]);
            let len = content.len();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&content));
        }
    });
    (address, asked)
}
