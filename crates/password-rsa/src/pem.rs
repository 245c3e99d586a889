//! Public keys of RSA in PEM: SubjectPublicKeyInfo (RFC 5280) of RSAPublicKey (RFC 8017), in base64 (RFC 7468).
//!
//! The packages for it would take 20 KiB of the module, which has to fit into a ConfigMap.

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";
const LINE_LEN: usize = 64;
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;
/// AlgorithmIdentifier: rsaEncryption, without parameters.
const ALGORITHM: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// Modulus and exponent, the highest byte first.
pub(crate) struct PublicKey {
    pub(crate) modulus: Vec<u8>,
    pub(crate) exponent: Vec<u8>,
}

impl PublicKey {
    pub(crate) fn encode(&self) -> String {
        let key = sequence(&[integer(&self.modulus), integer(&self.exponent)].concat());
        let bits = element(BIT_STRING, &[&[0], key.as_slice()].concat());
        let text = to_base64(&sequence(&[ALGORITHM.as_slice(), &bits].concat()));
        let lines = text.as_bytes().chunks(LINE_LEN).map(String::from_utf8_lossy);
        let lines: Vec<_> = lines.collect();
        format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))
    }

    /// `None` if this is not exactly one public key of RSA.
    pub(crate) fn decode(pem: &str) -> Option<Self> {
        let text = pem.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
        let bytes = from_base64(text)?;
        let mut rest = contents(SEQUENCE, &mut bytes.as_slice())?;
        rest = rest.strip_prefix(&ALGORITHM)?;
        let mut key = contents(BIT_STRING, &mut rest)?.strip_prefix(&[0])?;
        let mut numbers = contents(SEQUENCE, &mut key)?;
        let modulus = contents(INTEGER, &mut numbers)?.to_vec();
        let exponent = contents(INTEGER, &mut numbers)?.to_vec();
        let is_whole = rest.is_empty() && key.is_empty() && numbers.is_empty();
        is_whole.then_some(Self { modulus, exponent })
    }
}

fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let [.., high, low] = contents.len().to_be_bytes();
    let header = match (high, low) {
        (0, 0..0x80) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [&header, contents].concat()
}

fn sequence(contents: &[u8]) -> Vec<u8> {
    element(SEQUENCE, contents)
}

fn integer(bytes: &[u8]) -> Vec<u8> {
    // Without the zero it would be negative.
    let sign: &[u8] = if bytes.first().is_some_and(|first| first & 0x80 != 0) { &[0] } else { &[] };
    element(INTEGER, &[sign, bytes].concat())
}

/// Removes the next element from `rest`. Returns its contents.
fn contents<'a>(tag: u8, rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, after) = match *rest {
        [found, len @ 0..=0x7f, after @ ..] if *found == tag => (usize::from(*len), after),
        [found, 0x81, len, after @ ..] if *found == tag => (usize::from(*len), after),
        [found, 0x82, high, low, after @ ..] if *found == tag => {
            (usize::from(u16::from_be_bytes([*high, *low])), after)
        }
        _ => return None,
    };
    let (contents, after) = after.split_at_checked(len)?;
    *rest = after;
    Some(contents)
}

fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (at, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let digit = DIGITS.get((bits >> shift & 63) as usize).copied().unwrap_or(b'=');
            text.push(if at > group.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let mut bytes = Vec::new();
    let mut rest = digits.as_slice();
    while let Some((group, after)) = rest.split_first_chunk::<4>() {
        let padding =
            if after.is_empty() { group.iter().rev().take_while(|digit| **digit == b'=').count() } else { 0 };
        let mut bits = 0_u32;
        for (at, digit) in group.iter().enumerate() {
            let value = DIGITS.iter().position(|known| known == digit);
            let is_padding = at >= 4_usize.saturating_sub(padding);
            bits = bits << 6 | if is_padding { 0 } else { u32::try_from(value?).ok()? };
        }
        let [_, decoded @ ..] = bits.to_be_bytes();
        bytes.extend_from_slice(decoded.get(..3_usize.checked_sub(padding)?)?);
        rest = after;
    }
    rest.is_empty().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rsa::pkcs8::{DecodePublicKey, EncodePublicKey, LineEnding};
    use rsa::traits::PublicKeyParts;
    use rsa::{BigUint, RsaPublicKey};

    /// Keys of several lengths, so that base64 ends with each padding, and lengths have each form.
    fn keys() -> impl Iterator<Item = RsaPublicKey> {
        [63_usize, 64, 65, 126, 127, 128, 255, 511].into_iter().map(|rest| {
            let modulus = BigUint::from_bytes_be(&[&[0xa5], vec![7; rest].as_slice()].concat());
            RsaPublicKey::new(modulus, BigUint::from(65537_u32)).expect("a key")
        })
    }

    #[test]
    fn the_text_is_that_of_another_implementation() {
        for key in keys() {
            let (modulus, exponent) = (key.n().to_bytes_be(), key.e().to_bytes_be());
            let text = PublicKey { modulus, exponent }.encode();
            assert_eq!(text, key.to_public_key_pem(LineEnding::LF).expect("a text"));
            assert_eq!(RsaPublicKey::from_public_key_pem(&text).expect("a key"), key);
            for text in [text.clone(), text.replace('\n', "\r\n"), format!("\n{text}\n")] {
                let decoded = PublicKey::decode(&text).expect("a key");
                assert_eq!(BigUint::from_bytes_be(&decoded.modulus), *key.n());
                assert_eq!(BigUint::from_bytes_be(&decoded.exponent), *key.e());
            }
        }
    }

    #[test]
    fn a_damaged_text_is_no_key() {
        let key = keys().next().expect("a key");
        let text = PublicKey { modulus: key.n().to_bytes_be(), exponent: key.e().to_bytes_be() }.encode();
        let without_newline = text.trim_end().len();
        for at in 0..text.len() {
            let cut = PublicKey::decode(text.get(..at).expect("a text"));
            assert_eq!(cut.is_some(), at == without_newline, "{at}");
            for byte in [b'=', b'!', b'A', b'/'] {
                let mut damaged = text.clone().into_bytes();
                damaged[at] = byte;
                // It must not panic. The text of a number can be another number.
                let _ = PublicKey::decode(&String::from_utf8(damaged).expect("a text"));
            }
        }
        for other in
            ["", "-----BEGIN PUBLIC KEY-----", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----"]
        {
            assert!(PublicKey::decode(other).is_none(), "{other}");
        }
        assert!(PublicKey::decode(&text.replace("PUBLIC", "RSA PUBLIC")).is_none());
    }
}
