//! Keys and certificates of the control plane and of the registry, and the kubeconfig of the administrator.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use serde_json::json;

use super::names::DATABASE_HOST;
use super::world::{DATABASE, NODE, REGISTRY};

/// Port of the API server.
pub const API_PORT: u16 = 6443;
/// The first address of the Services, which the API server gives to its own.
const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// Password of the administrator. It is useless outside the test.
const TOKEN: &str = "administrator";

/// The directory of the credentials.
pub struct Credentials(PathBuf);

impl Credentials {
    /// Writes all files: `ca.pem`, `api.pem` and its key, `registry.pem` and its key, `orders.pem`
    /// (of the database outside) and its key, `sidecar-ca.pem`, `sidecar.pem` (of a sidecar that ends TLS)
    /// and its key, `accounts.pem` (public) and its key, `tokens.csv`, `kubeconfig`.
    pub fn write(directory: PathBuf) -> Self {
        let credentials = Self(directory);
        let issuer = credentials.authority("ca.pem");
        let api = ["kubernetes.default.svc", "localhost"];
        credentials.issue("api", &issuer, &api, &[NODE, API_SERVICE, Ipv4Addr::LOCALHOST]);
        credentials.issue("registry", &issuer, &["registry.example.com"], &[REGISTRY]);
        credentials.issue("orders", &issuer, &[DATABASE_HOST], &[DATABASE]);
        credentials.issue("sidecar", &credentials.authority("sidecar-ca.pem"), &[DATABASE_HOST], &[DATABASE]);
        let accounts = KeyPair::generate().expect("a key");
        credentials.put("accounts.pem", &accounts.public_key_pem());
        credentials.put("accounts-key.pem", &accounts.serialize_pem());
        credentials.put("tokens.csv", &format!("{TOKEN},administrator,administrator,system:masters\n"));
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": {
                "server": format!("https://{NODE}:{API_PORT}"), "certificate-authority": credentials.path("ca.pem"),
            }}],
            "users": [{"name": "administrator", "user": {"token": TOKEN}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "administrator"}}],
        });
        credentials.put("kubeconfig", &kubeconfig.to_string());
        credentials
    }

    fn authority(&self, file: &str) -> Issuer<'static, KeyPair> {
        let key = KeyPair::generate().expect("a key");
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "lab");
        self.put(file, &authority.self_signed(&key).expect("a certificate").pem());
        Issuer::new(authority, key)
    }

    fn issue(&self, name: &str, by: &Issuer<'_, KeyPair>, hosts: &[&str], addresses: &[Ipv4Addr]) {
        let key = KeyPair::generate().expect("a key");
        let mut server = CertificateParams::default();
        server.distinguished_name.push(DnType::CommonName, name);
        let hosts = hosts.iter().map(|host| SanType::DnsName((*host).try_into().expect("a name")));
        server.subject_alt_names = hosts.collect();
        server
            .subject_alt_names
            .extend(addresses.iter().map(|address| SanType::IpAddress((*address).into())));
        let certificate = server.signed_by(&key, by).expect("a certificate");
        self.put(&format!("{name}.pem"), &certificate.pem());
        self.put(&format!("{name}-key.pem"), &key.serialize_pem());
    }

    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a credential's file");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// `--option=PATH` for a program.
    pub fn option(&self, option: &str, name: &str) -> String {
        format!("--{option}={}", self.path(name).display())
    }
}
