//! TLS between the processes of a job: each shows a certificate of the job's authority, and checks the other's.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};

use crate::error::{Error, Result};

/// Mutual TLS between the processes of a job.
#[derive(Clone)]
pub struct ClusterTls {
    dials: Arc<ClientConfig>,
    accepts: Arc<ServerConfig>,
}

impl fmt::Debug for ClusterTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterTls")
    }
}

impl ClusterTls {
    /// From this process's certificate (and those between it and the authority), its private key, and the
    /// authority's certificate, all in PEM. The certificate must name the process's host in `--hosts`, and be good for
    /// servers and clients.
    ///
    /// # Errors
    /// If one of them is no PEM, or they do not fit.
    pub fn from_pem(certificate: &[u8], key: &[u8], authority: &[u8]) -> Result<Self> {
        let wrong = |what: &str, error: &dyn fmt::Display| Error::config(format!("{what}: {error}"));
        let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| wrong("the certificate of this process", &error))?;
        let key = PrivateKeyDer::from_pem_slice(key);
        let key = key.map_err(|error| wrong("the key of this process", &error))?;
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(authority) {
            let root = root.map_err(|error| wrong("the authority's certificate", &error))?;
            roots.add(root).map_err(|error| wrong("the authority's certificate", &error))?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let fit = |error: rustls::Error| wrong("the certificate and key of this process", &error);
        let dials = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(fit)?
            .with_root_certificates(roots.clone())
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(fit)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build();
        let verifier = verifier.map_err(|error| wrong("the authority's certificate", &error))?;
        let mut accepts = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(fit)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(fit)?;
        // Nobody comes back with one.
        accepts.send_tls13_tickets = 0;
        Ok(ClusterTls { dials: Arc::new(dials), accepts: Arc::new(accepts) })
    }

    /// A connection to `host`, an address with a port.
    pub(super) fn dial(&self, host: &str) -> Result<Connection> {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name)
            .map_err(|error| Error::config(format!("{host} in --hosts has no name for TLS: {error}")))?;
        let connection = ClientConnection::new(self.dials.clone(), name);
        connection.map(Connection::Client).map_err(|error| Error::config(format!("TLS to {host}: {error}")))
    }

    pub(super) fn accept(&self) -> Result<Connection> {
        let connection = ServerConnection::new(self.accepts.clone());
        connection.map(Connection::Server).map_err(|error| Error::config(format!("TLS: {error}")))
    }
}
