use proptest::prelude::*;

use super::*;

fn url_of(tracker: &str) -> Option<String> {
    let request = ScrapeRequest { info_hashes: vec![InfoHash([b'x'; 20]), InfoHash([0xff; 20])] };
    request.url(&Url::parse(tracker).unwrap()).map(|url| url.to_string())
}

#[test]
fn url_follows_from_the_announce_url() {
    let hashes = format!("info_hash={}&info_hash={}", "x".repeat(20), "%FF".repeat(20));
    assert_eq!(url_of("http://t.example/announce"), Some(format!("http://t.example/scrape?{hashes}")));
    assert_eq!(
        url_of("http://t.example/x/announce.php?key=1"),
        Some(format!("http://t.example/x/scrape.php?key=1&{hashes}"))
    );
    assert_eq!(url_of("http://t.example/announce/x"), None);
    assert_eq!(url_of("http://t.example/a"), None);
}

#[test]
fn bad_requests_are_named() {
    let parse = |query: &str| ScrapeRequest::parse_query(query.as_bytes());
    assert_eq!(parse(""), Err(RequestError::Missing("info_hash")));
    assert_eq!(parse("info_hash=x"), Err(RequestError::NotTwentyBytes("info_hash")));
    let hash = "&info_hash=aaaaaaaaaaaaaaaaaaaa";
    assert_eq!(parse(&hash.repeat(SCRAPE_HASHES_MAX)).unwrap().info_hashes.len(), SCRAPE_HASHES_MAX);
    assert_eq!(parse(&hash.repeat(SCRAPE_HASHES_MAX + 1)), Err(RequestError::TooManyHashes));
}

#[test]
fn odd_entries_are_left_out() {
    let body = b"d5:filesd3:abci1e20:aaaaaaaaaaaaaaaaaaaad8:completei-1e10:downloadedi9e4:namelee20:\
                 bbbbbbbbbbbbbbbbbbbbi1eee";
    let response = ScrapeResponse::parse(body).unwrap();
    let stats = ScrapeStats { complete: 0, incomplete: 0, downloaded: 9 };
    assert_eq!(response.files, BTreeMap::from([(InfoHash([b'a'; 20]), stats)]));
    assert!(matches!(ScrapeResponse::parse(b"d14:failure reason1:xe"), Err(ReplyError::Refused { .. })));
    assert_eq!(ScrapeResponse::parse(b"de").unwrap(), ScrapeResponse::default());
}

proptest! {
    #[test]
    fn both_ways(files in prop::collection::btree_map(any::<[u8; 20]>(), any::<[u32; 3]>(), 1..20)) {
        let request = ScrapeRequest { info_hashes: files.keys().map(|&hash| InfoHash(hash)).collect() };
        let url = request.url(&Url::parse("http://t.example/announce").unwrap()).unwrap();
        prop_assert_eq!(ScrapeRequest::parse_query(url.query().unwrap().as_bytes()), Ok(request));

        let stats = |[complete, incomplete, downloaded]: [u32; 3]| {
            ScrapeStats { complete, incomplete, downloaded }
        };
        let response = ScrapeResponse { files: files.into_iter().map(|(h, n)| (InfoHash(h), stats(n))).collect() };
        prop_assert_eq!(ScrapeResponse::parse(&response.encode()), Ok(response));
    }
}
