//! Fetching parts of files from web seeds, through reqwest: connections are kept for the next part, and HTTP/2 is used where it is offered.
//!
//! A name is looked up, and its addresses are checked, whenever a connection is made: by the resolver that the client is given. An address in
//! a URL is checked before each request. With a proxy names go to it, and none but its own is looked
//! up: the IP filter sees the addresses in URLs only. Redirects are followed by the caller, each as a URL of its own.

use super::{AGENT, HttpError, UNSEEN, check_name, failed, root_cause, tls, tls_builder};
use crate::net::names;
use crate::net::socket::Binding;
use reqwest::header::{ACCEPT_ENCODING, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Client, Proxy, Response, dns};
use rustls::RootCertStore;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use swarm_core::ip_filter::IpFilter;
use swarm_core::proxy::Destination;
use swarm_core::tracker::access::{Forbidden, UrlOrigin, check_web_seed_address, is_local};
use swarm_core::webseed::FETCHES_MAX;
use url::{Host, Url};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection is kept that nothing is asked over.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// How much of one answer may be on its way over HTTP/2, in bytes.
const STREAM_WINDOW: u32 = 4 << 20;
/// Stands for any public address that redirects.
const PUBLIC: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// What decides where the connections of a client may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Kind {
    https: bool,
    is_typed: bool,
    has_query: bool,
    from_public: bool,
}

/// The clients of a session, each made when first needed.
pub(crate) struct WebSeedClients {
    binding: Binding,
    filter: RefCell<Arc<IpFilter>>,
    clients: RefCell<HashMap<Kind, Client>>,
}

impl WebSeedClients {
    pub(crate) fn new(binding: Binding) -> WebSeedClients {
        WebSeedClients { binding, filter: RefCell::default(), clients: RefCell::default() }
    }

    /// Connects to none of these addresses from now on. Connections that there are end with what is being fetched.
    pub(crate) fn set_filter(&self, filter: Arc<IpFilter>) {
        self.filter.replace(filter);
        self.clients.borrow_mut().clear();
    }

    /// Asks for a part of what is at a URL, or for all of it. `redirected_from`: who sent us there.
    pub(crate) async fn get(
        &self,
        url: &Url,
        origin: UrlOrigin,
        redirected_from: Option<IpAddr>,
        range: Range<u64>,
    ) -> Result<Response, HttpError> {
        if let Some(ip) = literal(url) {
            if self.filter.borrow().is_blocked(ip) {
                return Err(Forbidden::Blocked(ip).into());
            }
            check_web_seed_address(url, origin, ip, redirected_from)?;
        }
        if let Some(to) = Destination::of_url(url).filter(|_| self.binding.proxy.is_some()) {
            check_name(&to, origin, redirected_from)?;
        }
        let kind = Kind {
            https: url.scheme() == "https",
            is_typed: origin == UrlOrigin::Typed,
            has_query: url.query().is_some(),
            from_public: redirected_from.is_some_and(|from| !is_local(from.to_canonical())),
        };
        let client = self.client(kind).await?;
        let request = client
            .get(url.clone())
            .header(RANGE, format!("bytes={}-{}", range.start, range.end - 1))
            // What comes is to be the file's own bytes.
            .header(ACCEPT_ENCODING, "identity");
        request.send().await.map_err(|error| match forbidden(&error) {
            Some(forbidden) => forbidden.into(),
            None if error.is_connect() => failed(format!("cannot connect: {}", root_cause(&error))),
            None => root_cause(&error.without_url()),
        })
    }

    /// Who has answered; with a proxy, as far as the URL says.
    pub(crate) fn server_of(&self, url: &Url, response: &Response) -> Option<IpAddr> {
        match self.binding.proxy {
            Some(_) => Some(literal(url).unwrap_or(UNSEEN.ip())),
            None => response.remote_addr().map(|addr| addr.ip()),
        }
    }

    async fn client(&self, kind: Kind) -> Result<Client, HttpError> {
        if let Some(client) = self.clients.borrow().get(&kind) {
            return Ok(client.clone());
        }
        let client = self.new_client(kind).await?;
        Ok(self.clients.borrow_mut().entry(kind).or_insert(client).clone())
    }

    async fn new_client(&self, kind: Kind) -> Result<Client, HttpError> {
        let mut tls = if kind.https {
            tls().await?
        } else {
            let nobody = tls_builder().map_err(failed)?.with_root_certificates(RootCertStore::empty());
            nobody.with_no_client_auth()
        };
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // The one address that connections leave from, if one is chosen: the client knows no more.
        let from = self.binding.listen.iter().map(SocketAddr::ip).find(|ip| !ip.is_unspecified());
        let builder = Client::builder()
            .user_agent(AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(Policy::none())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(FETCHES_MAX)
            .tcp_nodelay(true)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(4 * STREAM_WINDOW)
            .no_gzip()
            .local_address(from)
            .tls_backend_preconfigured(tls)
            .no_proxy();
        let builder = match &self.binding.proxy {
            None => builder.dns_resolver(Checked(kind, Arc::clone(&self.filter.borrow()))),
            Some(host) => {
                let proxy = Proxy::all(host.secret_url()).map_err(|_| failed("the proxy's URL is none"))?;
                builder.dns_resolver(OfProxy(self.binding.clone())).proxy(proxy)
            }
        };
        #[cfg(target_os = "linux")]
        let builder = match &self.binding.device {
            Some(device) => builder.interface(device),
            None => builder,
        };
        builder.build().map_err(|e| root_cause(&e))
    }
}

/// The address that a URL has in place of a name.
fn literal(url: &Url) -> Option<IpAddr> {
    match url.host() {
        Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
        _ => None,
    }
}

/// Knows the proxy's own name and no other.
struct OfProxy(Binding);

impl dns::Resolve for OfProxy {
    fn resolve(&self, name: dns::Name) -> dns::Resolving {
        let binding = self.0.clone();
        Box::pin(async move {
            let found = names::look_up_proxy_by(name.as_str(), &binding).await?;
            Ok(Box::new(found.into_iter()) as dns::Addrs)
        })
    }
}

/// Why the addresses of a name were refused, if they were.
fn forbidden(error: &(dyn std::error::Error + 'static)) -> Option<Forbidden> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref::<Forbidden>());
        error.downcast_ref::<Forbidden>().or(inner).copied()
    })
}

/// Names only addresses that may be connected to.
struct Checked(Kind, Arc<IpFilter>);

impl dns::Resolve for Checked {
    fn resolve(&self, name: dns::Name) -> dns::Resolving {
        let Kind { is_typed, has_query, from_public, .. } = self.0;
        let filter = Arc::clone(&self.1);
        Box::pin(async move {
            let found = names::look_up(name.as_str(), 0, &Binding::default()).await?;
            let origin = if is_typed { UrlOrigin::Typed } else { UrlOrigin::Metainfo };
            let url = Url::parse(if has_query { "http://host/?" } else { "http://host/" })?;
            let mut refused = None;
            let allowed = found.into_iter().filter(|addr| {
                let verdict = match filter.is_blocked(addr.ip()) {
                    true => Err(Forbidden::Blocked(addr.ip())),
                    false => check_web_seed_address(&url, origin, addr.ip(), from_public.then_some(PUBLIC)),
                };
                verdict.map_err(|reason| refused = Some(reason)).is_ok()
            });
            let allowed: Vec<SocketAddr> = allowed.collect();
            match refused {
                Some(reason) if allowed.is_empty() => Err(reason.into()),
                _ => Ok(Box::new(allowed.into_iter()) as dns::Addrs),
            }
        })
    }
}
