use super::*;
use tempfile::TempDir;

const LOCAL: &str = "127.0.0.1:80";
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A guard with the password "correct horse" of the user "swarm".
struct Guard {
    access: Access,
    dir: TempDir,
}

fn guard() -> Guard {
    let dir = tempfile::tempdir().unwrap();
    password::set(&dir.path().join("password"), "correct horse").unwrap();
    let token = Some(Token::of(SECRET));
    Guard { access: Access::new(token, "swarm", &dir.path().join("password")).unwrap(), dir }
}

fn via(peer: &str) -> Via {
    Via::Tcp { local: LOCAL.parse().unwrap(), peer: peer.parse().unwrap() }
}

fn map(headers: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    map
}

impl Guard {
    async fn check(&self, headers: &[(&'static str, &str)], path: &str) -> Result<Option<By>, Denied> {
        let uri = path.parse().unwrap();
        let names = ["nas.example".to_owned()];
        let checked = self.access.check(via("127.0.0.1:9"), &Method::GET, &uri, &map(headers), &names).await;
        checked.map(|caller| caller.map(|caller| caller.by))
    }

    async fn with(&self, name: &'static str, value: &str) -> Result<Option<By>, Denied> {
        self.check(&[("host", "localhost"), (name, value)], "/").await
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{user}:{password}")))
}

#[tokio::test]
async fn only_hosts_that_mean_us_are_answered() {
    let guard = guard();
    let right = format!("Bearer {SECRET}");
    for host in [
        "127.0.0.1",
        "127.0.0.1:80",
        "127.9.9.9:1",
        "[::1]:80",
        "[::1]",
        "localhost:80",
        "LOCALHOST.",
        "nas.example",
        "NAS.example:443",
    ] {
        let checked = guard.check(&[("host", host), ("authorization", &right)], "/").await;
        assert_eq!(checked, Ok(Some(By::Token)), "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:80",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "[::1]x",
        "",
    ] {
        let checked = guard.check(&[("host", host), ("authorization", &right)], "/").await;
        assert_eq!(checked, Err(Denied::Host), "{host}");
    }
    assert_eq!(guard.check(&[("authorization", &right)], "/").await, Err(Denied::Host));
    let twice = [("host", "localhost"), ("host", "evil.example"), ("authorization", &right)];
    assert_eq!(guard.check(&twice, "/").await, Err(Denied::Host));
    for path in ["/health", "/api/v2/auth/login"] {
        assert_eq!(guard.check(&[("host", "evil.example")], path).await, Err(Denied::Host));
    }
}

#[tokio::test]
async fn pages_of_other_origins_send_nothing() {
    let guard = guard();
    let key = guard.access.login(via("127.0.0.1:9"), "swarm", "correct horse").await.unwrap();
    let cookie = format!("SID={}", key.to_text());
    let with = async |name: &'static str, value: &str| {
        guard.check(&[("host", "localhost:80"), ("cookie", &cookie), (name, value)], "/").await
    };
    assert_eq!(with("origin", "http://localhost:80").await, Ok(Some(By::Session)));
    assert_eq!(with("sec-fetch-site", "same-origin").await, Ok(Some(By::Session)));
    assert_eq!(with("sec-fetch-site", "none").await, Ok(Some(By::Session)));
    for origin in
        ["http://evil.example", "null", "http://localhost:81", "localhost:80", "http://localhost:80.evil"]
    {
        assert_eq!(with("origin", origin).await, Err(Denied::Origin), "{origin}");
    }
    assert_eq!(with("sec-fetch-site", "cross-site").await, Err(Denied::Origin));
    assert_eq!(with("sec-fetch-site", "same-site").await, Err(Denied::Origin));
}

#[tokio::test]
async fn a_token_is_asked_for_but_for_health_and_login() {
    let guard = guard();
    assert_eq!(guard.with("authorization", &format!("Bearer {SECRET}")).await, Ok(Some(By::Token)));
    assert_eq!(guard.with("authorization", &format!("bearer {SECRET}")).await, Ok(Some(By::Token)));
    for wrong in ["Bearer 01234", &format!("Bearer {SECRET}0"), "Bearer ", SECRET, "Basic secret", "Basic "] {
        assert_eq!(guard.with("authorization", wrong).await, Err(Denied::Token), "{wrong}");
    }
    let none = [("host", "localhost")];
    assert_eq!(guard.check(&none, "/").await, Err(Denied::Token));
    assert_eq!(guard.check(&none, "/health").await, Ok(None));
    assert_eq!(guard.check(&none, "/api/v2/auth/login").await, Ok(None));
    assert_eq!(guard.check(&none, "/stream/token/1").await, Ok(None), "streams have tokens of their own");
    for path in ["/stream", "/health/x", "/api/v2/auth/login/", "/api/v2/auth/logout", "/api/v2//auth/login"]
    {
        assert_eq!(guard.check(&none, path).await, Err(Denied::Token), "{path}");
    }
    let uri = "/".parse().unwrap();
    let unix = guard.access.check(Via::Unix, &Method::GET, &uri, &HeaderMap::new(), &[]).await;
    assert_eq!(unix, Ok(Some(Caller { via: Via::Unix, by: By::Socket })));
}

#[tokio::test]
async fn a_password_or_the_token_in_its_place_gets_in() {
    let guard = guard();
    assert_eq!(guard.with("authorization", &basic("swarm", "correct horse")).await, Ok(Some(By::Password)));
    assert_eq!(guard.with("authorization", &basic("any", SECRET)).await, Ok(Some(By::Token)));
    for (user, password) in [("swarm", "wrong horse"), ("other", "correct horse"), ("swarm", ""), ("", "")] {
        let checked = guard.with("authorization", &basic(user, password)).await;
        assert_eq!(checked, Err(Denied::Token), "{user} {password}");
    }
    // Without a password only the token is right.
    password::remove(&guard.dir.path().join("password")).unwrap();
    let checked = guard.with("authorization", &basic("swarm", "correct horse")).await;
    assert_eq!(checked, Err(Denied::Token));
    assert_eq!(guard.with("authorization", &basic("any", SECRET)).await, Ok(Some(By::Token)));
}

#[tokio::test]
async fn sessions_end_by_logout_and_by_a_new_password() {
    let guard = guard();
    let begun = async || guard.access.login(via("127.0.0.1:9"), "swarm", "correct horse").await.unwrap();
    let (one, other) = (begun().await, begun().await);
    let linked = guard.access.login_by_token(SECRET).unwrap();
    assert_eq!(guard.access.login_by_token("").unwrap_err(), Denied::Token);
    let cookie = |key: Key| format!("theme=dark; swarm-session={}", key.to_text());
    for key in [one, other, linked] {
        assert_eq!(guard.with("cookie", &cookie(key)).await, Ok(Some(By::Session)));
    }
    assert_eq!(guard.with("cookie", &format!("x={}", one.to_text())).await, Err(Denied::Token));
    guard.access.logout(&map(&[("cookie", &cookie(one))]));
    assert_eq!(guard.with("cookie", &cookie(one)).await, Err(Denied::Token));
    assert_eq!(guard.with("cookie", &cookie(other)).await, Ok(Some(By::Session)));
    password::set(&guard.dir.path().join("password"), "battery staple").unwrap();
    for key in [other, linked] {
        assert_eq!(guard.with("cookie", &cookie(key)).await, Err(Denied::Token));
    }
    assert_eq!(guard.with("authorization", &basic("swarm", "correct horse")).await, Err(Denied::Token));
    assert_eq!(guard.with("authorization", &basic("swarm", "battery staple")).await, Ok(Some(By::Password)));
}

#[tokio::test]
async fn passwords_cannot_be_tried_for_long() {
    let guard = guard();
    let attempt = async |from: &str, password: &str| guard.access.login(via(from), "swarm", password).await;
    // A program that has the wrong password and tries again and again locks out nobody.
    for _ in 0..50 {
        assert_eq!(attempt("10.0.0.1:1", "the same one").await, Err(Denied::Token));
    }
    let mut tried = 0;
    while attempt("10.0.0.1:1", &format!("guess {tried}")).await == Err(Denied::Token) {
        tried += 1;
        assert!(tried < 50, "it goes on");
    }
    assert!(matches!(attempt("10.0.0.1:2", "correct horse").await, Err(Denied::TooMany(_))));
    assert!(attempt("10.0.0.1:2", SECRET).await.is_ok(), "the token needs no guess");
    assert!(attempt("10.0.0.2:2", "correct horse").await.is_ok());
    assert!(attempt("10.0.0.1:2", "correct horse").await.is_ok(), "it is known now to be right");
}

#[tokio::test]
async fn the_right_password_many_times_at_once_is_one_attempt() {
    let guard = guard();
    let checks = (0..40).map(|_| guard.access.login(via("10.0.0.1:1"), "swarm", "correct horse"));
    let begun = futures_util::future::join_all(checks).await;
    assert!(begun.iter().all(Result::is_ok));
}

#[tokio::test]
async fn without_authentication_any_login_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let access = Access::new(None, "swarm", &dir.path().join("password")).unwrap();
    assert!(access.login(via("127.0.0.1:9"), "admin", "adminadmin").await.is_ok());
    let check = async |host: &str| {
        access
            .check(via("127.0.0.1:9"), &Method::GET, &"/".parse().unwrap(), &map(&[("host", host)]), &[])
            .await
    };
    assert_eq!(check("localhost").await.unwrap().unwrap().by, By::Open);
    assert_eq!(check("evil.example").await, Err(Denied::Host));
}
