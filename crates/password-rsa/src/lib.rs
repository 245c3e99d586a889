//! The RSA key by which clients without TLS encrypt their passwords. It is created once for each process, and never written.
//! The keys of servers without TLS, by which the module encrypts passwords.
//!
//! A crate of its own, because a profile of Cargo decides for each package: this one is optimised for its size.

use std::sync::OnceLock;

use firstword::password_key::{PasswordKey, PasswordKeyRef};
use rsa::pkcs8::{DecodePublicKey, EncodePublicKey, LineEnding};
use rsa::rand_core::OsRng;
use rsa::{Oaep, RsaPrivateKey, RsaPublicKey};
use sha1::Sha1;

/// Length of the keys that MySQL creates for itself.
const BITS: usize = 2048;

struct RsaKey {
    private: RsaPrivateKey,
    public_pem: String,
}

impl RsaKey {
    fn new() -> rsa::Result<Self> {
        let private = RsaPrivateKey::new(&mut OsRng, BITS)?;
        let public_pem =
            private.to_public_key().to_public_key_pem(LineEnding::LF).map_err(rsa::pkcs8::Error::from)?;
        Ok(Self { private, public_pem })
    }
}

impl PasswordKey for RsaKey {
    fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// Blinds the decryption, so that its time tells less about the key (RUSTSEC-2023-0071).
    fn decrypt(&self, block: &[u8]) -> Option<Vec<u8>> {
        self.private.decrypt_blinded(&mut OsRng, Oaep::new::<Sha1>(), block).ok()
    }

    fn encrypt_for(&self, server_pem: &[u8], password: &[u8]) -> Option<Vec<u8>> {
        let pem = std::str::from_utf8(server_pem).ok()?;
        let key = RsaPublicKey::from_public_key_pem(pem.trim_end()).ok()?;
        key.encrypt(&mut OsRng, Oaep::new::<Sha1>(), password).ok()
    }
}

/// Returns the key of this process. The first call creates it, which takes some tenths of a second.
#[must_use]
pub fn password_key() -> Option<PasswordKeyRef> {
    static KEY: OnceLock<Option<RsaKey>> = OnceLock::new();
    let key = KEY.get_or_init(|| RsaKey::new().ok());
    key.as_ref().map(|key| PasswordKeyRef(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_encrypts_is_decrypted() {
        let key = password_key().expect("a key").0;
        let block = key.encrypt_for(key.public_pem().as_bytes(), b"secret\0").expect("a block");
        assert_eq!(block.len(), BITS / 8);
        assert_eq!(key.decrypt(&block).as_deref(), Some(b"secret\0".as_slice()));
        assert_eq!(key.decrypt(&[7; BITS / 8]), None);
        assert_eq!(key.decrypt(b"short"), None);
        assert_eq!(key.encrypt_for(b"no key", b"secret\0"), None);
        assert_eq!(key.encrypt_for(key.public_pem().as_bytes(), &[b'a'; BITS / 8]), None, "too long");
    }
}
