//! The listener for other gateways, and the address by which they reach it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::{TcpListener, UdpSocket, lookup_host},
    time,
};
use url::Url;

use super::{
    StartError,
    settings::{self, Configured},
};
use crate::{
    api::{Door, DoorKey},
    config::HostPort,
};

/// How long the name of a NATS server may take to be looked up.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
/// NATS's port, where its URL names none.
const NATS_PORT: u16 = 4222;

/// A socket that is bound, and what other gateways are told of it.
pub(super) struct Internal {
    pub(super) listener: TcpListener,
    pub(super) door: Door,
}

impl Internal {
    /// `None` where there are no other gateways, or nothing that they would forward.
    pub(super) async fn bind(by: &Configured) -> Result<Option<Self>, StartError> {
        let config = &by.config;
        if config.nats.url.is_empty() || !settings::serves_socketio(by) {
            return Ok(None);
        }
        let advertised = config.http.internal_advertise.as_ref().map(|text| &text.value);
        let address = match config.http.internal_listen {
            Some(address) => address,
            None => SocketAddr::new(own_address(&config.nats.url).await?, 0),
        };
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|error| StartError::Listen(address, error))?;
        let bound = listener.local_addr();
        let bound = bound.map_err(|error| StartError::Listen(address, error))?;
        let address = match advertised.map(HostPort::as_str) {
            Some(advertised) => advertised.to_owned(),
            None if bound.ip().is_unspecified() => {
                SocketAddr::new(own_address(&config.nats.url).await?, bound.port()).to_string()
            }
            None => bound.to_string(),
        };
        tracing::info!(%bound, advertised = address, "listening for other gateways");
        Ok(Some(Self { listener, door: Door { address, key: DoorKey::random() } }))
    }
}

/// By which this host reaches one of the NATS servers: where they are, there other gateways are.
async fn own_address(servers: &[String]) -> Result<IpAddr, StartError> {
    let mut last = "there is no NATS server".to_owned();
    for server in servers {
        match towards(server).await {
            Ok(address) => return Ok(address),
            Err(error) => last = error.to_string(),
        }
    }
    Err(StartError::Other(format!(
        "this host's address is not known ({last}): set http.internal_listen and \
         http.internal_advertise"
    )))
}

async fn towards(server: &str) -> io::Result<IpAddr> {
    let server =
        if server.contains("://") { server.to_owned() } else { format!("nats://{server}") };
    let url = Url::parse(&server).map_err(io::Error::other)?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let target = (host, url.port().unwrap_or(NATS_PORT));
    let mut last = io::Error::other("its name has no address");
    for address in time::timeout(LOOKUP_TIMEOUT, lookup_host(target)).await?? {
        let any = match address {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        match source(any, address).await {
            Ok(source) => return Ok(source),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Of a datagram socket, to connect says only which way its packets would go.
async fn source(any: IpAddr, target: SocketAddr) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(target).await?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_own_address_is_the_one_that_leads_to_the_servers() {
        for (servers, own) in [
            (&["nats://127.0.0.1:4222"][..], IpAddr::from(Ipv4Addr::LOCALHOST)),
            (&["127.0.0.1"], IpAddr::from(Ipv4Addr::LOCALHOST)),
            (&["nats://host.invalid", "tls://127.0.0.1"], IpAddr::from(Ipv4Addr::LOCALHOST)),
        ] {
            let servers: Vec<String> = servers.iter().map(|&server| server.to_owned()).collect();
            assert_eq!(own_address(&servers).await.unwrap(), own);
        }
        assert!(own_address(&["nats://host.invalid".to_owned()]).await.is_err());
    }
}
