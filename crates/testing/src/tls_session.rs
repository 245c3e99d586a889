//! A scripted server's session with a client that starts TLS by an SSLRequest.

use std::io::{Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Length of an SSLRequest with its header.
const REQUEST_LEN: usize = 36;

pub struct TlsSession(StreamOwned<ServerConnection, TcpStream>);

impl TlsSession {
    /// Accepts a client, greets it, reads its SSLRequest, and ends its TLS with `cert.pem` and `key.pem` of this directory.
    pub fn accept(listener: &TcpListener, greeting: &[u8], directory: &Path) -> Self {
        let (mut stream, _) = listener.accept().expect("a client");
        stream.write_all(greeting).expect("a client that reads");
        stream.read_exact(&mut [0; REQUEST_LEN]).expect("an SSLRequest");
        let certificate = CertificateDer::from_pem_file(directory.join("cert.pem")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(directory.join("key.pem")).expect("a key");
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate], key).expect("a configuration");
        let connection = ServerConnection::new(Arc::new(config)).expect("a connection");
        Self(StreamOwned::new(connection, stream))
    }

    /// Payload of the client's next packet. An error if the client ends the connection.
    pub fn packet(&mut self) -> Result<Vec<u8>> {
        let mut header = [0; 4];
        self.0.read_exact(&mut header)?;
        let mut payload = vec![0; usize::from(u16::from_le_bytes([header[0], header[1]]))];
        self.0.read_exact(&mut payload)?;
        Ok(payload)
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("a client that reads");
    }
}
