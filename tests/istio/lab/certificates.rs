//! Certificates of a mesh: one authority and one workload.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

/// Writes `root-cert.pem`, `cert-chain.pem` and `key.pem`, readable by all users, because they are useless outside the test.
pub fn write(directory: &Path) {
    let root_key = KeyPair::generate().expect("a key");
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.distinguished_name.push(DnType::OrganizationName, "cluster.local");
    let root_certificate = root.self_signed(&root_key).expect("a certificate");
    let issuer = Issuer::new(root, root_key);

    let key = KeyPair::generate().expect("a key");
    let mut workload = CertificateParams::default();
    let identity = "spiffe://cluster.local/ns/default/sa/default".try_into().expect("a URI");
    workload.subject_alt_names.push(SanType::URI(identity));
    let certificate = workload.signed_by(&key, &issuer).expect("a certificate");
    for (name, text) in [
        ("root-cert.pem", root_certificate.pem()),
        ("cert-chain.pem", certificate.pem()),
        ("key.pem", key.serialize_pem()),
    ] {
        std::fs::write(directory.join(name), text).expect("a certificate's file");
    }
}
