//! Certificates for the tests of TLS.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use serde_json::{Value, json};
use tempfile::TempDir;

use firstword_testing::temp_dir;

/// The name that the files in `envoy/` expect of the server.
pub const NAME: &str = "db.example";

/// Files of an authority, `ca.pem`, and of a certificate that it has signed, `cert.pem` and `key.pem`.
pub struct Certificates(TempDir);

impl Certificates {
    pub fn new(name: &str, last_year: i32) -> Self {
        let directory = temp_dir();
        let authority_key = KeyPair::generate().expect("a key");
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "authority");
        let certificate = authority.self_signed(&authority_key).expect("a certificate");
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate().expect("a key");
        let mut own = CertificateParams::new([name.to_owned()]).expect("a name");
        own.distinguished_name.push(DnType::CommonName, name);
        own.not_before = date_time_ymd(2020, 1, 1);
        own.not_after = date_time_ymd(last_year, 1, 1);
        let signed = own.signed_by(&key, &issuer).expect("a certificate");
        for (file, text) in [("ca", certificate.pem()), ("cert", signed.pem()), ("key", key.serialize_pem())]
        {
            std::fs::write(directory.path().join(file).with_extension("pem"), text).expect("a file");
        }
        Self(directory)
    }

    pub fn valid() -> Self {
        Self::new(NAME, 2090)
    }

    pub fn directory(&self) -> &Path {
        self.0.path()
    }

    /// One of the files, as Envoy's configuration names it.
    pub fn file(&self, name: &str) -> Value {
        json!({"filename": self.directory().join(name)})
    }

    /// The certificate and its key, as Envoy's configuration names them.
    pub fn pair(&self) -> Value {
        json!({"certificate_chain": self.file("cert.pem"), "private_key": self.file("key.pem")})
    }

    /// Options of a server that requires TLS.
    pub fn options(&self) -> [String; 3] {
        let file =
            |option: &str, file: &str| format!("--ssl-{option}={}", self.directory().join(file).display());
        [file("cert", "cert.pem"), file("key", "key.pem"), "--require-secure-transport=ON".to_owned()]
    }
}
