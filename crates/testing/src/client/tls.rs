//! TLS of the raw client, from its SSLRequest on.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::capability::SSL;
use super::connection::Client;
use super::login::Login;
use crate::packets::packet;

/// How a client verifies the server's certificate.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// Trusts the authority in this file, and expects this name.
    pub fn new(authority: &Path, name: &str) -> Self {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(authority).expect("a certificate");
        roots.add(authority).expect("an authority");
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        Self { config: Arc::new(config), name }
    }
}

/// How the client sends its SSLRequest and its ClientHello, which follows without a response of the server.
#[derive(Clone, Copy, Debug)]
pub enum Hello {
    /// In one segment.
    Together,
    /// In two segments, with this time between them.
    Apart(Duration),
    /// In two segments, of which the first has this number of bytes.
    Cut(usize),
}

impl Client {
    /// Starts TLS, and logs in. `Err` holds the number of the error with which the server refuses.
    pub fn log_in_with_tls(mut self, login: &Login, tls: &Tls, hello: Hello) -> Result<Self, u16> {
        let login = Login { capabilities: login.capabilities | SSL, ..login.clone() };
        let payload = self.response(&login)?;
        self.start_tls(&payload[..32], tls, hello);
        // In TLS some plugins send something else.
        let plugin = self.plugin.clone();
        let payload = self.handshake_response(&login, &plugin);
        self.respond(&payload, &login)
    }

    /// Sends an SSLRequest with this payload, and starts TLS.
    pub fn start_tls(&mut self, request: &[u8], tls: &Tls, hello: Hello) {
        let mut connection =
            ClientConnection::new(Arc::clone(&tls.config), tls.name.clone()).expect("a connection");
        let mut bytes = packet(self.sequence_id, request);
        self.sequence_id += 1;
        let request_len = bytes.len();
        connection.write_tls(&mut bytes).expect("a ClientHello");
        let (at, pause) = match hello {
            Hello::Together => (bytes.len(), Duration::ZERO),
            Hello::Apart(pause) => (request_len, pause),
            Hello::Cut(at) => (at.min(bytes.len()), Duration::from_millis(2)),
        };
        for part in [&bytes[..at], &bytes[at..]] {
            self.stream.write_all(part).expect("a server that reads");
            sleep(pause);
        }
        self.tls = Some(connection);
    }

    /// True if the client has established TLS.
    pub fn has_tls(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| !tls.is_handshaking())
    }
}
