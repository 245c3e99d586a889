//! RSA of a proxy that takes a password for a server. The shell provides it, because it needs a library of its own.

use std::fmt;
use std::hint::black_box;

use bytes::Bytes;

/// Key by which a client without TLS encrypts its password: OAEP with SHA-1 (MySQL manual, "Caching SHA-2 Pluggable
/// Authentication"). Only the process knows its private half.
pub trait PasswordKey: Sync {
    /// The public half as `SubjectPublicKeyInfo` in PEM.
    fn public_pem(&self) -> &str;

    /// Decrypts a block. `None` if the key has not encrypted it.
    fn decrypt(&self, block: &[u8]) -> Option<Vec<u8>>;

    /// Encrypts a password by the public key of a server, in PEM. `None` if the key is invalid or too short for it.
    fn encrypt_for(&self, server_pem: &[u8], password: &[u8]) -> Option<Vec<u8>>;
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

/// Bytes that are overwritten once nothing uses them any more.
#[cfg(not(target_family = "wasm"))]
struct Wiped<B: AsMut<[u8]>>(B);

#[cfg(not(target_family = "wasm"))]
impl AsRef<[u8]> for Wiped<Vec<u8>> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(not(target_family = "wasm"))]
impl<B: AsMut<[u8]>> Drop for Wiped<B> {
    fn drop(&mut self) {
        wipe(self.0.as_mut());
    }
}

/// Returns a copy of traffic that is overwritten once nothing uses it any more, because it can contain a password.
#[cfg(not(target_family = "wasm"))]
#[must_use]
pub fn wiped(bytes: Vec<u8>) -> Bytes {
    Bytes::from_owner(Wiped(bytes))
}

/// In WebAssembly no TLS ends, so copies contain no password that the network has not seen.
#[cfg(target_family = "wasm")]
#[must_use]
pub fn wiped(bytes: Vec<u8>) -> Bytes {
    bytes.into()
}

/// Overwrites bytes that can contain a password.
pub fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    // Without this the compiler may omit the writes, because nothing reads the bytes again.
    black_box(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_overwritten_when_its_last_user_drops_it() {
        let mut memory = *b"secret";
        drop(Wiped(memory.as_mut_slice()));
        assert_eq!(memory, [0; 6]);
        let bytes = wiped(b"secret".to_vec());
        assert_eq!(bytes.slice(2..), b"cret".as_slice());
    }
}
