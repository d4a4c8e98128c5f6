//! TLS to a nats-server, as async-nats does it.

use std::{fmt::Display, io, sync::Arc};

use tokio::{net::TcpStream, task::spawn_blocking};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

use crate::options::TlsFiles;

/// Proves that the server is `host`; the files are read anew each time, so that new ones count.
pub(super) async fn handshake(
    files: &TlsFiles,
    host: &str,
    stream: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    let files = files.clone();
    let config = spawn_blocking(move || config(&files)).await??;
    let host = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(host, stream).await
}

fn config(files: &TlsFiles) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &files.ca {
        let authorities = CertificateDer::pem_file_iter(path).map_err(about("the CA file"))?;
        for authority in authorities {
            let authority = authority.map_err(about("the CA file"))?;
            roots.add(authority).map_err(about("the CA file"))?;
        }
    } else {
        let system = rustls_native_certs::load_native_certs();
        if let (true, Some(error)) = (system.certs.is_empty(), system.errors.first()) {
            return Err(about("the system's authorities")(error));
        }
        roots.add_parsable_certificates(system.certs);
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots);
    let (Some(certificate), Some(key)) = (&files.certificate, &files.key) else {
        return Ok(config.with_no_client_auth());
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate)
        .map_err(about("the client's certificate"))?
        .collect();
    let chain = chain.map_err(about("the client's certificate"))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(about("the client's key"))?;
    config.with_client_auth_cert(chain, key).map_err(about("the client's certificate"))
}

fn about<E: Display>(what: &'static str) -> impl Fn(E) -> io::Error {
    move |error| io::Error::other(format!("{what}: {error}"))
}
