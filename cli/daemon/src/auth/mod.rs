//! Who may talk to the daemon over HTTP.
//!
//! On the Unix socket it is who the system says it is. Over TCP anybody on this machine can connect, and so can the pages that
//! somebody's browser shows. So three things are looked at, in this order: the name by which the client knows this host (a page of another
//! host whose name was made to lead here, DNS rebinding, sends its own), where the request comes from (no page of another origin may send
//! any), and who sends it: a session's cookie, the token, or a user with a password.
//!
//! [`Access::check`] is asked for each request and says who the [`Caller`] is; it is among the request's extensions from then on. Who
//! logs in by a form asks [`Access::login`] and answers with [`Cookie::set`].

mod attempts;
mod hosts;
pub mod password;
pub mod proxy;
mod sessions;
mod token;

pub use sessions::Key;
pub use token::Token;

use attempts::Attempts;
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hosts::{is_ours, is_same_origin, one};
use password::{Hash, Known, Stamp};
use sessions::Sessions;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Semaphore;

/// How many passwords are checked at a time: each takes 19 MiB and tens of milliseconds.
const HASHING_MAX: usize = 2;
/// How long a user's name may be, in bytes.
const USER_LEN_MAX: usize = 255;
/// How many cookies of ours are looked at in a request.
const COOKIES_MAX: usize = 8;

/// How a client has connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Over the Unix socket, as the daemon's own user or root.
    Unix,
    /// Over TCP.
    Tcp {
        /// The address of ours that it has connected to.
        local: SocketAddr,
        /// Its own.
        peer: SocketAddr,
    },
}

/// Who sends a request, and how they got in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// How it has connected.
    pub via: Via,
    /// What lets it in.
    pub by: By,
}

/// What lets somebody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The Unix socket.
    Socket,
    /// Everybody is let in (`no-auth`).
    Open,
    /// The token.
    Token,
    /// The user's name and password.
    Password,
    /// The cookie of a session.
    Session,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The host is none of our names.
    #[error("this host is not known by that name; the configuration names others (http-host)")]
    Host,
    /// A page of another origin sends it.
    #[error("pages of other sites may not do that")]
    Origin,
    /// There is no token, password or session, or a wrong one.
    #[error(
        "the token is missing or wrong: send `Authorization: Bearer TOKEN`; it is in the file `token` of the daemon's state folder. Or log \
in with the password that `swarm daemon password` has set"
    )]
    Token,
    /// Too many passwords were wrong.
    #[error("too many passwords were wrong; wait for {0} s")]
    TooMany(u64),
}

/// A cookie that a session is kept in. Browsers keep one jar for all ports of a host, so each dialect has a name of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cookie {
    /// The page's.
    Page,
    /// That of the qBittorrent WebAPI, whose clients look for it.
    Sid,
}

impl Cookie {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Cookie::Page => "swarm-session",
            Cookie::Sid => "SID",
        }
    }

    /// `Set-Cookie` for a session that has begun. `secure`: the client has come over HTTPS.
    pub fn set(self, key: Key, secure: bool) -> HeaderValue {
        let secure = if secure { "; Secure" } else { "" };
        let text = format!("{}={}; Path=/; HttpOnly; SameSite=Strict{secure}", self.name(), key.to_text());
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// `Set-Cookie` for one that has ended.
    pub fn clear(self) -> HeaderValue {
        let text = format!("{}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict", self.name());
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// Who gets in.
#[derive(Debug)]
pub struct Access {
    /// What clients over TCP have to know; `None`: nothing.
    token: Option<Token>,
    user: String,
    password_file: PathBuf,
    hashing: Semaphore,
    seen: Mutex<Seen>,
}

/// What changes as clients come.
#[derive(Debug)]
struct Seen {
    /// The file of the password as it was read last, and what was in it.
    stamp: Option<Stamp>,
    hash: Option<Hash>,
    /// Counts up with each new password.
    generation: u64,
    sessions: Sessions,
    attempts: Attempts,
    known: Known,
}

impl Access {
    /// Clients have to know `token`, or `user`'s password, whose hash is in a file if there is one. Without a token everybody gets in.
    ///
    /// # Errors
    /// If the password's file cannot be used, or the system has no random bytes.
    pub fn new(token: Option<Token>, user: &str, password_file: &Path) -> std::io::Result<Access> {
        let seen = Seen {
            stamp: password::stamp(password_file),
            hash: if token.is_some() { password::load(password_file)? } else { None },
            generation: 0,
            sessions: Sessions::default(),
            attempts: Attempts::default(),
            known: Known::new()?,
        };
        Ok(Access {
            token,
            user: user.to_owned(),
            password_file: password_file.to_owned(),
            hashing: Semaphore::new(HASHING_MAX),
            seen: Mutex::new(seen),
        })
    }

    /// Whether everybody gets in.
    pub fn is_open(&self) -> bool {
        self.token.is_none()
    }

    /// Who sends a request. `hosts` are names that this host is known by beside loopback's and its addresses. `None` only where everybody
    /// may go, such as to where one logs in.
    ///
    /// # Errors
    /// Why it may not be answered.
    pub async fn check(
        &self,
        via: Via,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        hosts: &[String],
    ) -> Result<Option<Caller>, Denied> {
        let by = |by| Ok(Some(Caller { via, by }));
        check_place(via, uri, headers, hosts)?;
        if via == Via::Unix {
            return by(By::Socket);
        }
        let Some(token) = &self.token else { return by(By::Open) };
        // A session comes first: what a proxy before us has let somebody in by may be among the headers too.
        if self.has_session(headers) {
            return by(By::Session);
        }
        if is_for_all(method, uri.path()) {
            return Ok(None);
        }
        let given = one(headers, header::AUTHORIZATION).ok_or(Denied::Token)?;
        let (scheme, given) = given.split_once(' ').ok_or(Denied::Token)?;
        if scheme.eq_ignore_ascii_case("bearer") && token.is(given.trim()) {
            return by(By::Token);
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(Denied::Token);
        }
        let given = BASE64.decode(given.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let given = given.ok_or(Denied::Token)?;
        let (user, password) = given.split_once(':').ok_or(Denied::Token)?;
        let (found, _) = self.verify(via, user, password).await?;
        by(found)
    }

    /// Begins a session for who knows the user's password, or the token in its place. Without authentication that is everybody.
    ///
    /// # Errors
    /// Why not.
    pub async fn login(&self, via: Via, user: &str, password: &str) -> Result<Key, Denied> {
        let (_, generation) = self.verify(via, user, password).await?;
        self.begin(generation)
    }

    /// Begins a session for who comes by the link with the token in it.
    ///
    /// # Errors
    /// If it is another token.
    pub fn login_by_token(&self, given: &str) -> Result<Key, Denied> {
        if self.token.as_ref().is_some_and(|token| !token.is(given)) {
            return Err(Denied::Token);
        }
        let generation = self.refreshed().generation;
        self.begin(generation)
    }

    /// Ends the session of a request, if it has one.
    pub fn logout(&self, headers: &HeaderMap) {
        let mut seen = self.seen();
        keys_of(headers).for_each(|key| seen.sessions.end(key));
    }

    fn begin(&self, generation: u64) -> Result<Key, Denied> {
        let key = Key::random().map_err(|_| Denied::Token)?;
        let mut seen = self.refreshed();
        // Meanwhile there may be another password.
        if seen.generation != generation {
            return Err(Denied::Token);
        }
        seen.sessions.begin(key, Instant::now());
        Ok(key)
    }

    /// What a user and a password give the right to, and of which generation of passwords.
    async fn verify(&self, via: Via, user: &str, password: &str) -> Result<(By, u64), Denied> {
        let Via::Tcp { peer, .. } = via else { return Ok((By::Socket, self.refreshed().generation)) };
        let Some(token) = &self.token else { return Ok((By::Open, self.refreshed().generation)) };
        // Who pastes it may have a space with it.
        if token.is(password.trim()) {
            return Ok((By::Token, self.refreshed().generation));
        }
        if password.len() > password::LEN_MAX || user.len() > USER_LEN_MAX {
            return Err(Denied::Token);
        }
        if let Some(answer) = self.known(user, password) {
            return answer;
        }
        // Who comes with the same password meanwhile waits here, and finds the answer.
        let _place = self.hashing.acquire().await.map_err(|_| Denied::Token)?;
        if let Some(answer) = self.known(user, password) {
            return answer;
        }
        let hash = {
            let mut seen = self.seen();
            let hash = seen.hash.clone().ok_or(Denied::Token)?;
            let begun = seen.attempts.begin(peer.ip(), Instant::now());
            begun.map_err(|wait| Denied::TooMany(wait.as_secs() + 1))?;
            hash
        };
        let (hash_of, given) = (hash.clone(), password.to_owned());
        let is_right = tokio::task::spawn_blocking(move || hash_of.is_of(&given)).await.unwrap_or(false);
        let is_right = is_right && user == self.user;
        let mut seen = self.seen();
        if is_right {
            seen.attempts.was_right(peer.ip());
        } else {
            tracing::warn!(address = %peer.ip(), "somebody gave a wrong user or password");
        }
        if seen.hash.as_ref() == Some(&hash) {
            let given = seen.known.given(user, password);
            seen.known.put(given, is_right, Instant::now());
        }
        if is_right { Ok((By::Password, seen.generation)) } else { Err(Denied::Token) }
    }

    /// The answer for them, as far as it is known without a hash.
    fn known(&self, user: &str, password: &str) -> Option<Result<(By, u64), Denied>> {
        let seen = self.refreshed();
        if seen.hash.is_none() {
            return Some(Err(Denied::Token));
        }
        let is_right = seen.known.get(&seen.known.given(user, password), Instant::now())?;
        Some(if is_right { Ok((By::Password, seen.generation)) } else { Err(Denied::Token) })
    }

    fn has_session(&self, headers: &HeaderMap) -> bool {
        let mut keys = keys_of(headers).peekable();
        if keys.peek().is_none() {
            return false;
        }
        let mut seen = self.refreshed();
        keys.any(|key| seen.sessions.uses(key, Instant::now()))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was seen, with the password as it is now.
    fn refreshed(&self) -> MutexGuard<'_, Seen> {
        let mut seen = self.seen();
        let stamp = password::stamp(&self.password_file);
        if self.token.is_some() && seen.stamp != stamp {
            seen.stamp = stamp;
            seen.hash = password::load(&self.password_file).unwrap_or_else(|error| {
                tracing::error!(path = %self.password_file.display(), %error, "the password cannot be used");
                None
            });
            seen.generation += 1;
            seen.known.clear();
            seen.sessions.end_all();
        }
        seen
    }
}

/// Whether a request names one of our hosts, and no page of another origin sends it.
///
/// # Errors
/// What is wrong.
pub fn check_place(via: Via, uri: &Uri, headers: &HeaderMap, hosts: &[String]) -> Result<(), Denied> {
    let Via::Tcp { local, .. } = via else { return Ok(()) };
    let host = one(headers, header::HOST).or_else(|| uri.authority().map(ToString::to_string));
    let host = host.filter(|host| is_ours(host, local, hosts)).ok_or(Denied::Host)?;
    if is_same_origin(headers, &host) { Ok(()) } else { Err(Denied::Origin) }
}

/// Where everybody may go: what tells nothing, for those who watch whether the daemon is alive, where one logs in, and streams, which have
/// tokens of their own that players can give.
fn is_for_all(method: &Method, path: &str) -> bool {
    match path {
        "/health" => method == Method::GET || method == Method::HEAD,
        "/api/v2/auth/login" | "/login" => true,
        path => path.starts_with("/stream/") || crate::page::is_asset(path),
    }
}

/// The sessions that a request's cookies name.
fn keys_of(headers: &HeaderMap) -> impl Iterator<Item = Key> + '_ {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let is_ours = |name: &str| [Cookie::Page, Cookie::Sid].iter().any(|cookie| cookie.name() == name);
    let ours = pairs.filter(move |(name, _)| is_ours(name)).take(COOKIES_MAX);
    ours.filter_map(|(_, value)| Key::of_text(value))
}

#[cfg(test)]
mod tests;
