//! One fetch from a web seed: a run of blocks, by a request for each file that it touches.
//!
//! The bytes come into pooled blocks like those from peers, and wait like them for memory and for the rate limits. A fetch that gets nowhere
//! is ended from outside, by the state machine's clock.

use super::torrent::TorrentDriver;
use super::traffic::LIMITED_READ_LEN;
use super::webseed::{Body, WebSource};
use crate::buffer::{BLOCK_BYTES, Block};
use crate::hash::Lane;
use crate::http::HttpError;
use hyper::StatusCode;
use hyper::header::{CONTENT_ENCODING, CONTENT_RANGE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::Response;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use swarm_core::geometry::Geometry;
use swarm_core::id::{BlockRef, FileIndex};
use swarm_core::metainfo::URL_LEN_MAX;
use swarm_core::torrent::Pressure;
use swarm_core::webseed::{Fault, FetchId};
use url::Url;

/// How many redirects are followed for one file.
const REDIRECTS_MAX: usize = 5;
/// How many blocks are read at a time from other files on this machine.
const BLOCKS_READ_MAX: usize = 64;
/// The longest wait for a rate limit before it is looked at again.
const LIMIT_LOOK: Duration = Duration::from_millis(500);

/// Why a fetch ends early, and at which file, if the URL itself is not to blame.
type Stop = (Fault, Option<FileIndex>);

/// Turns bytes that follow each other into the blocks that were asked for.
struct Assembler {
    torrent: Rc<TorrentDriver>,
    id: FetchId,
    blocks: VecDeque<BlockRef>,
    current: Option<Block>,
    filled: usize,
}

impl Assembler {
    async fn put(&mut self, mut bytes: &[u8]) {
        while let (false, Some(&block)) = (bytes.is_empty(), self.blocks.front()) {
            if self.current.is_none() {
                self.current = Some(self.torrent.memory().await);
            }
            let Some(data) = &mut self.current else { return };
            let len = bytes.len().min(block.len as usize - self.filled);
            data[self.filled..self.filled + len].copy_from_slice(&bytes[..len]);
            self.filled += len;
            bytes = &bytes[len..];
            if self.filled == block.len as usize {
                self.filled = 0;
                self.blocks.pop_front();
                self.current
                    .take()
                    .into_iter()
                    .for_each(|data| self.torrent.on_fetched(self.id, block, data));
            }
        }
    }

    async fn put_zeros(&mut self, mut len: u64) {
        while len > 0 {
            let now = len.min(BLOCK_BYTES as u64);
            self.put(&[0; BLOCK_BYTES][..now as usize]).await;
            len -= now;
        }
    }
}

/// The bytes of the torrent that these blocks are, in stretches without a gap.
fn stretches(geometry: &Geometry, blocks: &[BlockRef]) -> Vec<Range<u64>> {
    let mut all: Vec<Range<u64>> = Vec::new();
    for block in blocks {
        let start = geometry.offset_of(block.piece) + u64::from(block.begin);
        let end = start + u64::from(block.len);
        match all.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => all.push(start..end),
        }
    }
    all
}

impl TorrentDriver {
    /// Fetches blocks, and reports how that ends.
    pub(super) async fn fetch(
        self: Rc<Self>,
        id: FetchId,
        source: Rc<WebSource>,
        names: Rc<BTreeMap<FileIndex, Vec<Vec<u8>>>>,
        blocks: Vec<BlockRef>,
    ) {
        let result = match source.is_local {
            true => self.fetch_elsewhere(id, &source, blocks).await,
            false => self.fetch_blocks(id, &source, &names, blocks).await,
        };
        self.fetch_ended(id, result);
    }

    async fn fetch_blocks(
        self: &Rc<Self>,
        id: FetchId,
        source: &WebSource,
        names: &BTreeMap<FileIndex, Vec<Vec<u8>>>,
        blocks: Vec<BlockRef>,
    ) -> Result<(), Stop> {
        let info = &self.content().metainfo.info;
        let stretches = stretches(&info.geometry, &blocks);
        let mut assembler =
            Assembler { torrent: Rc::clone(self), id, blocks: blocks.into(), current: None, filled: 0 };
        for Range { start, end } in stretches {
            for segment in info.segments_of(start, end - start) {
                if info.files[segment.file.idx()].attr.pad {
                    assembler.put_zeros(segment.len).await;
                    continue;
                }
                let url = source.locate(info, segment.file, names.get(&segment.file).map(Vec::as_slice));
                let Some(url) = url else {
                    let fault = Fault::Redirect("its name cannot be written in a URL".to_owned());
                    return Err((fault, Some(segment.file)));
                };
                let mut range = segment.offset..segment.offset + segment.len;
                while !range.is_empty() {
                    range.start += self.request(source, segment.file, &url, &range, &mut assembler).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes blocks from other files on this machine.
    async fn fetch_elsewhere(
        self: &Rc<Self>,
        id: FetchId,
        source: &WebSource,
        blocks: Vec<BlockRef>,
    ) -> Result<(), Stop> {
        let queue = blocks.clone().into();
        let mut assembler =
            Assembler { torrent: Rc::clone(self), id, blocks: queue, current: None, filled: 0 };
        let mut left = &blocks[..];
        while let Some(first) = left.first() {
            // What was found last is the likeliest to be there still.
            let found = source.elsewhere.borrow().iter().rev().find(|found| found.has(first.piece)).cloned();
            let Some(found) = found else {
                self.with(|inner| self.set_elsewhere(inner, source));
                return Ok(());
            };
            let of_it = left.iter().take(BLOCKS_READ_MAX).take_while(|block| found.has(block.piece)).count();
            let (now_read, later) = left.split_at(of_it);
            left = later;
            let now_read = now_read.to_vec();
            let reading = Arc::clone(&found);
            let read = self.context.on_worker(Lane::Transfer, move || reading.read(&now_read)).await;
            match read {
                Ok(Ok(bytes)) => {
                    let now = self.context.now();
                    self.with(|inner| inner.core.handle_fetch_answered(now, id));
                    assembler.put(&bytes).await;
                }
                Ok(Err(error)) => {
                    tracing::debug!(%error, "what another torrent had is not there");
                    self.with(|inner| self.set_elsewhere(inner, source));
                    return Ok(());
                }
                Err(error) => return Err((Fault::Network(error.to_string()), None)),
            }
        }
        Ok(())
    }

    /// Asks for a part of a file. How many of its first bytes have come, at least one.
    async fn request(
        &self,
        source: &WebSource,
        file: FileIndex,
        url: &Url,
        range: &Range<u64>,
        assembler: &mut Assembler,
    ) -> Result<u64, Stop> {
        let len = self.content().metainfo.info.files[file.idx()].length;
        let (mut body, end) = match source.take_whole(file, range) {
            Some(body) => (body, len),
            None => self.answer(source, file, url, range).await?,
        };
        if (body.at() < range.start || end > range.end) && !source.in_order.replace(true) {
            // The state machine is to choose what suits that, and may go on with this body.
            source.whole.replace(Some((file, body)));
            return Err((Fault::NoRanges, Some(file)));
        }
        let skip = range.start - body.at();
        if skip > 0 && source.skipped.get() + skip > self.content().metainfo.info.payload_len() {
            return Err((Fault::NoRanges, Some(file)));
        }
        let now = self.context.now();
        assembler.torrent.with(|inner| inner.core.handle_fetch_answered(now, assembler.id));
        let until = range.end.min(end);
        while body.at() < until {
            self.wait_for_limits().await;
            let is_skipped = body.at() < range.start;
            let to = if is_skipped { range.start } else { until };
            let chunk = body.next(to - body.at()).await.map_err(|error| (broken(error), None))?;
            let Some(chunk) = chunk else { return Err((Fault::TooLittle, None)) };
            let now = self.context.now();
            self.count_download(now, chunk.len());
            if is_skipped {
                let len = chunk.len() as u64;
                source.skipped.set(source.skipped.get() + len);
                assembler.torrent.with(|inner| inner.core.handle_fetch_skipped(now, assembler.id, len));
            } else {
                assembler.put(&chunk).await;
            }
        }
        if end > until {
            source.whole.replace(Some((file, body)));
        } else if let Ok(Some(_)) = body.next(1).await {
            // At the end of the body the connection is free for the next request.
            return Err((Fault::WrongRange, Some(file)));
        }
        Ok(until - range.start)
    }

    /// Asks for a part of a file: what comes, and where in the file it ends.
    async fn answer(
        &self,
        source: &WebSource,
        file: FileIndex,
        url: &Url,
        range: &Range<u64>,
    ) -> Result<(Body, u64), Stop> {
        let response = self.ask(source, file, url, range).await?;
        if !source.has_answered.replace(true) {
            let (addr, over) = (response.remote_addr().map(tracing::field::display), response.version());
            tracing::info!(addr, ?over, url = source.text, "a web seed answers");
        }
        let len = self.content().metainfo.info.files[file.idx()].length;
        let part = check(&response, len, range).map_err(|fault| match fault {
            Fault::Busy { .. } => (fault, None),
            fault => (fault, Some(file)),
        })?;
        Ok((Body::new(response, part.start), part.end))
    }

    /// Sends a request, and follows redirects: each file's is kept for the file.
    async fn ask(
        &self,
        source: &WebSource,
        file: FileIndex,
        url: &Url,
        range: &Range<u64>,
    ) -> Result<Response, Stop> {
        let kept = source.redirect(file);
        let is_kept = kept.is_some();
        let (mut at, mut from) = kept.unwrap_or_else(|| (url.clone(), None));
        for redirects in 0..=REDIRECTS_MAX {
            let clients = &self.context.web_seed_clients;
            let response = clients.get(&at, source.origin, from, range.clone()).await;
            let response = response.map_err(|error| match error {
                HttpError::Forbidden(why) if from.is_some() => (Fault::Redirect(why.to_string()), Some(file)),
                HttpError::Forbidden(why) => (Fault::Forbidden(why.to_string()), None),
                error => (Fault::Network(error.to_string()), None),
            });
            let is_refused = match &response {
                Ok(response) => response.status().is_client_error() || response.status().is_server_error(),
                Err(_) => true,
            };
            if is_kept && redirects == 0 && is_refused {
                // It may lead elsewhere by now.
                source.keep_redirect(file, None);
                (at, from) = (url.clone(), None);
                continue;
            }
            let response = response?;
            let Some(next) = redirect(&at, &response).map_err(|fault| (fault, Some(file)))? else {
                if at != *url {
                    source.keep_redirect(file, Some((at, from)));
                }
                return Ok(response);
            };
            let server = clients.server_of(&at, &response);
            (at, from) = (next, server);
        }
        Err((Fault::Redirect(format!("more than {REDIRECTS_MAX} redirects")), Some(file)))
    }

    async fn wait_for_limits(&self) {
        while let Err(at) = self.download_allowance(self.context.now(), LIMITED_READ_LEN) {
            let look = self.context.now() + LIMIT_LOOK;
            tokio::time::sleep_until(self.context.instant(at.min(look))).await;
        }
    }

    /// A block of memory, once there is one. While it is short, nothing is read.
    async fn memory(&self) -> Block {
        loop {
            if self.context.pressure.get() != Pressure::Full
                && let Some(block) = self.context.pool.take()
            {
                return block;
            }
            let freed = self.context.memory_freed.notified();
            self.context.update_pressure();
            self.spill_if_full();
            let look = self.context.now() + LIMIT_LOOK;
            let _ = tokio::time::timeout_at(self.context.instant(look), freed).await;
        }
    }

    fn on_fetched(self: &Rc<Self>, id: FetchId, block: BlockRef, data: Block) {
        let now = self.context.now();
        self.with(|inner| {
            if inner.core.handle_fetch_block(now, id, block) {
                inner.keep_block(now, block, data);
            }
        });
        self.context.update_pressure();
        self.spill_if_full();
    }
}

/// Whether an answer is to what was asked, of a file of `len` bytes: which part of it comes, the one that was asked for, the beginning of that, or
/// the whole file.
fn check(response: &Response, len: u64, range: &Range<u64>) -> Result<Range<u64>, Fault> {
    check_head(response.status(), response.headers(), response.content_length(), len, range)
}

/// Which part comes with an answer of these headers (Content-Range, Content-Encoding, Retry-After); for fuzz targets.
#[cfg(feature = "__hooks")]
pub fn check_answer(
    status: u16,
    headers: [Option<&[u8]>; 3],
    body_len: Option<u64>,
    len: u64,
    range: Range<u64>,
) -> Option<Range<u64>> {
    let values = headers.map(|value| value.and_then(|value| value.try_into().ok()));
    let names = [CONTENT_RANGE, CONTENT_ENCODING, RETRY_AFTER];
    let headers = names.into_iter().zip(values).filter_map(|(name, value)| Some((name, value?))).collect();
    check_head(StatusCode::from_u16(status).ok()?, &headers, body_len, len, &range).ok()
}

fn check_head(
    status: StatusCode,
    headers: &HeaderMap,
    body_len: Option<u64>,
    len: u64,
    range: &Range<u64>,
) -> Result<Range<u64>, Fault> {
    let encoding = headers.get(CONTENT_ENCODING).map(|encoding| String::from_utf8_lossy(encoding.as_bytes()));
    match encoding {
        Some(encoding) if status.is_success() && !matches!(&*encoding, "" | "identity") => {
            return Err(Fault::Encoded(encoding.chars().filter(|c| !c.is_control()).take(40).collect()));
        }
        _ => {}
    }
    match status {
        StatusCode::OK => match body_len {
            Some(found) if found != len => Err(Fault::WrongLength { found, expected: len }),
            _ => Ok(0..len),
        },
        StatusCode::PARTIAL_CONTENT => {
            let (first, last, found) = content_range(headers).ok_or(Fault::WrongRange)?;
            match found {
                Some(found) if found != len => return Err(Fault::WrongLength { found, expected: len }),
                _ if first != range.start || last < first || last >= range.end => {
                    return Err(Fault::WrongRange);
                }
                _ => {}
            }
            let take = last - first + 1;
            match body_len {
                Some(body_len) if body_len != take => Err(Fault::WrongRange),
                _ => Ok(first..last + 1),
            }
        }
        StatusCode::RANGE_NOT_SATISFIABLE => match content_range_len(headers) {
            Some(found) if found != len => Err(Fault::WrongLength { found, expected: len }),
            _ => Err(Fault::Status { status: status.as_u16() }),
        },
        _ => Err(refusal(status, headers)),
    }
}

fn refusal(status: StatusCode, headers: &HeaderMap) -> Fault {
    let code = status.as_u16();
    if !status.is_server_error() && !matches!(code, 408 | 425 | 429) {
        return Fault::Status { status: code };
    }
    let text = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::trim);
    let at = |text: &str| httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok();
    let retry_after = text.and_then(|text| text.parse().map(Duration::from_secs).ok().or_else(|| at(text)));
    Fault::Busy { status: code, retry_after }
}

/// First byte, last byte, and the length of the file if the server tells it.
fn content_range(headers: &HeaderMap) -> Option<(u64, u64, Option<u64>)> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?.trim();
    let (range, len) = text.strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, last) = range.trim().split_once('-')?;
    let len = len.trim();
    let len = if len == "*" { None } else { Some(len.parse().ok()?) };
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?, len))
}

/// The length that the server tells with a refusal: `bytes */LENGTH`.
fn content_range_len(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_RANGE)?.to_str().ok()?.rsplit_once('/')?.1.trim().parse().ok()
}

/// Where an answer sends us, if it does.
fn redirect(url: &Url, response: &Response) -> Result<Option<Url>, Fault> {
    let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let Some(location) = response.headers().get(LOCATION).filter(|_| is_redirect) else { return Ok(None) };
    let next = location.to_str().ok().and_then(|location| url.join(location).ok());
    let next = next.ok_or_else(|| Fault::Redirect("it redirects to what is not a URL".to_owned()))?;
    match next.scheme() {
        _ if next.as_str().len() > URL_LEN_MAX => {
            Err(Fault::Redirect(format!("it redirects to a URL of more than {URL_LEN_MAX} bytes")))
        }
        "http" | "https" => Ok(Some(next)),
        other => {
            Err(Fault::Redirect(format!("it redirects to a {other}: URL, which is not http: or https:")))
        }
    }
}

/// Why a body ends early.
fn broken(error: reqwest::Error) -> Fault {
    let error = error.without_url();
    let mut causes = Vec::new();
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(cause) = next {
        causes.push(cause);
        next = cause.source();
    }
    let is_short = causes.iter().any(|cause| {
        let of_body = cause.downcast_ref::<io::Error>();
        of_body.is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof)
            || cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message)
    });
    match causes.last() {
        Some(last) if !is_short => Fault::Network(last.to_string()),
        _ => Fault::TooLittle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.insert(
                hyper::header::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        headers
    }

    fn answer(
        status: u16,
        lines: &[(&str, &str)],
        body: Option<u64>,
        range: Range<u64>,
    ) -> Result<Range<u64>, Fault> {
        check_head(StatusCode::from_u16(status).unwrap(), &head(lines), body, 1_000_000, &range)
    }

    #[test]
    fn the_part_asked_for_is_taken_and_no_other() {
        let part = |range: &str| answer(206, &[("content-range", range)], None, 100..200);
        assert_eq!(part("bytes 100-199/1000000"), Ok(100..200));
        assert_eq!(part("bytes 100-199/*"), Ok(100..200));
        assert_eq!(part("bytes 100-149/1000000"), Ok(100..150));
        for wrong in [
            "bytes 0-99/1000000",
            "bytes 100-200/1000000",
            "bytes 150-100/*",
            "items 100-199/*",
            "bytes x-y/z",
            "bytes 100-99999999999999999999/*",
            "bytes 18446744073709551615-0/*",
        ] {
            assert_eq!(part(wrong), Err(Fault::WrongRange), "{wrong}");
        }
        assert_eq!(part("bytes 100-199/7"), Err(Fault::WrongLength { found: 7, expected: 1_000_000 }));
        assert_eq!(answer(206, &[], Some(100), 100..200), Err(Fault::WrongRange), "many parts, or none");
        assert_eq!(
            answer(206, &[("content-range", "bytes 100-199/*")], Some(99), 100..200),
            Err(Fault::WrongRange)
        );
    }

    #[test]
    fn a_whole_file_is_taken_if_it_is_the_right_one() {
        assert_eq!(answer(200, &[], Some(1_000_000), 900_000..900_001), Ok(0..1_000_000));
        assert_eq!(answer(200, &[], None, 5..1_000_000), Ok(0..1_000_000));
        let login = answer(200, &[("content-type", "text/html")], Some(300), 0..1_000_000);
        assert_eq!(login, Err(Fault::WrongLength { found: 300, expected: 1_000_000 }));
    }

    #[test]
    fn other_answers_are_told_by_name() {
        let encoded = answer(200, &[("content-encoding", "gzip")], Some(300), 0..5);
        assert_eq!(encoded, Err(Fault::Encoded("gzip".to_owned())));
        let busy = |value: &str| answer(503, &[("retry-after", value)], None, 0..5);
        assert_eq!(busy("17"), Err(Fault::Busy { status: 503, retry_after: Some(Duration::from_secs(17)) }));
        assert_eq!(busy("soon"), Err(Fault::Busy { status: 503, retry_after: None }));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        let Err(Fault::Busy { retry_after: Some(wait), .. }) = busy(&date) else { panic!() };
        assert!(wait > Duration::from_secs(90) && wait <= Duration::from_secs(100));
        assert_eq!(answer(404, &[], None, 0..5), Err(Fault::Status { status: 404 }));
        let gone = answer(416, &[("content-range", "bytes */3")], None, 0..5);
        assert_eq!(gone, Err(Fault::WrongLength { found: 3, expected: 1_000_000 }));
    }
}
