//! The RSA key of a proxy that takes a password for a server. The shell provides it, because it needs a library of its own.

use std::fmt;
use std::hint::black_box;

/// Key by which a client without TLS encrypts its password: OAEP with SHA-1 (MySQL manual, "Caching SHA-2 Pluggable
/// Authentication"). Only the process knows its private half.
pub trait PasswordKey: Sync {
    /// The public half as `SubjectPublicKeyInfo` in PEM.
    fn public_pem(&self) -> &str;

    /// Decrypts a block. `None` if the key has not encrypted it.
    fn decrypt(&self, block: &[u8]) -> Option<Vec<u8>>;
}

/// Reference to the key of the process.
#[derive(Clone, Copy)]
pub struct PasswordKeyRef(pub &'static dyn PasswordKey);

impl fmt::Debug for PasswordKeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordKeyRef")
    }
}

impl PartialEq for PasswordKeyRef {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::addr_eq(self.0, other.0)
    }
}

impl Eq for PasswordKeyRef {}

/// Overwrites bytes that can contain a password.
pub fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    // Without this the compiler may omit the writes, because nothing reads the bytes again.
    black_box(bytes);
}
