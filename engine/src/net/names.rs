//! Looking up hosts' names: the one place that does. With a proxy only its own name is: it looks up the others.

use super::socket::Binding;
use std::io;
use std::net::SocketAddr;
use swarm_core::proxy::Destination;

/// The addresses of a host.
pub(crate) async fn look_up(host: &str, port: u16, binding: &Binding) -> io::Result<Vec<SocketAddr>> {
    if binding.proxy.is_some() {
        return Err(io::Error::other("names are looked up by the proxy only"));
    }
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

/// The addresses of the proxy's own host, if `name` is that.
pub(crate) async fn look_up_proxy_by(name: &str, binding: &Binding) -> io::Result<Vec<SocketAddr>> {
    match binding.proxy.as_ref().map(|host| host.proxy.place()) {
        Some(Destination::Name(host, port)) if host == name => look_up_proxy(&host, port).await,
        _ => Err(io::Error::other("names are looked up by the proxy only")),
    }
}

/// The addresses of the proxy's own host.
pub(super) async fn look_up_proxy(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}
