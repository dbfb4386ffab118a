//! Sending for a file that the user named.

use super::{AGENT, HttpError, Reply, Request, failed, root_cause, tls, tls_builder};
use reqwest::header::ACCEPT_ENCODING;
use reqwest::redirect::Policy;
use reqwest::{Body, Client, dns};
use rustls::RootCertStore;
use std::net::SocketAddr;
use std::time::Duration;
use swarm_core::proxy::Destination;
use url::Url;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks one of these addresses, whatever the host's name, and nobody else.
pub(super) async fn send(
    request: &Request<'_>,
    url: &Url,
    to: Vec<Destination>,
) -> Result<Reply<Body>, HttpError> {
    let addrs = to.iter().filter_map(Destination::addr).collect();
    let client = client(request, url, addrs).await?;
    let response = client.get(url.clone()).header(ACCEPT_ENCODING, "gzip").send().await;
    let response = response.map_err(|e| match e.is_connect() {
        true => failed(format!("cannot connect: {}", root_cause(&e))),
        // Whoever reports the error names the URL.
        false => root_cause(&e.without_url()),
    })?;
    let server = response.remote_addr().ok_or_else(|| failed("the server has no address"))?;
    Ok(Reply { response: response.into(), server, _connection: None })
}

async fn client(request: &Request<'_>, url: &Url, addrs: Vec<SocketAddr>) -> Result<Client, HttpError> {
    let tls = if url.scheme() == "https" {
        tls().await?
    } else {
        // The client wants one, and reading whom to trust takes a while.
        let nobody = tls_builder().map_err(failed)?.with_root_certificates(RootCertStore::empty());
        nobody.with_no_client_auth()
    };
    // With a source address of one family, the server's addresses of the other are left out.
    let from = addrs.iter().find_map(|addr| request.binding.source_ip(addr.ip()));
    let builder = Client::builder()
        .user_agent(AGENT)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(Policy::none())
        .pool_max_idle_per_host(0)
        // Decompressed by us, who bound what comes before it too.
        .no_gzip()
        .local_address(from)
        .dns_resolver(Known(addrs))
        .tls_backend_preconfigured(tls)
        .no_proxy();
    // Elsewhere a session with a device does not start.
    #[cfg(target_os = "linux")]
    let builder = match &request.binding.device {
        Some(device) => builder.interface(device),
        None => builder,
    };
    builder.build().map_err(|e| root_cause(&e))
}

/// Answers every question with the addresses that were looked up before.
struct Known(Vec<SocketAddr>);

impl dns::Resolve for Known {
    fn resolve(&self, _: dns::Name) -> dns::Resolving {
        let addrs: dns::Addrs = Box::new(self.0.clone().into_iter());
        Box::pin(std::future::ready(Ok(addrs)))
    }
}
