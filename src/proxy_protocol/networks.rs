//! Lists of networks: the trusted senders of headers, and the addresses that a rule matches.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// List of networks. The empty list (the default) contains no address.
///
/// An IPv4-mapped IPv6 address (`::ffff:10.0.0.1`) is equal to its IPv4 address, in the list and in queries. Apart from that,
/// the families are separate: `::/0` contains no IPv4 address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<RangeInclusive<IpAddr>>);

/// Error in the text of a network. Its `Display` text names the expected form, without the text itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkError {
    /// The text is neither an address nor `ADDRESS/PREFIX`, `localhost` or `*`.
    Syntax,
    /// The prefix is longer than an address of this family.
    Prefix {
        /// Maximum length of a prefix: 32 or 128 bits.
        max: u8,
    },
    /// Bits are set after the prefix, as in `10.1.2.3/8`.
    HostBits {
        /// First address of the network that was probably intended: `10.0.0.0`.
        network: IpAddr,
        /// Prefix of this network in bits: 8.
        prefix: u8,
    },
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax => {
                f.write_str(r#"an address, a network like "10.0.0.0/8" or "fd00::/8", "localhost" or "*""#)
            }
            Self::Prefix { max } => write!(f, "a prefix of at most {max} bits"),
            Self::HostBits { network, prefix } => {
                write!(f, "no bits set behind the prefix (did you mean \"{network}/{prefix}\"?)")
            }
        }
    }
}

impl std::error::Error for NetworkError {}

impl Networks {
    /// Adds the networks that one text names: an address, `ADDRESS/PREFIX`, `localhost` (127.0.0.0/8 and `::1`) or `*` (all
    /// addresses of both families).
    ///
    /// # Errors
    /// [`NetworkError`]. The list is then unchanged.
    pub fn add(&mut self, text: &str) -> Result<(), NetworkError> {
        let v4 = |first, last| IpAddr::V4(first)..=IpAddr::V4(last);
        let v6 = |first, last| IpAddr::V6(first)..=IpAddr::V6(last);
        match text {
            "*" => self.0.extend([
                v4(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST),
                v6(Ipv6Addr::UNSPECIFIED, Ipv6Addr::from(u128::MAX)),
            ]),
            "localhost" => self.0.extend([
                v4(Ipv4Addr::new(127, 0, 0, 0), Ipv4Addr::new(127, 255, 255, 255)),
                v6(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
            ]),
            _ => self.0.push(network(text)?),
        }
        Ok(())
    }

    /// True if one of the networks contains the address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Networks in the order in which they were added, each as its first and last address.
    pub fn ranges(&self) -> impl Iterator<Item = &RangeInclusive<IpAddr>> {
        self.0.iter()
    }
}

/// Parses `ADDRESS` or `ADDRESS/PREFIX`. Returns the first and the last address.
fn network(text: &str) -> Result<RangeInclusive<IpAddr>, NetworkError> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| NetworkError::Syntax)?;
    let max: u8 = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        Some(digits) if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            return Err(NetworkError::Syntax);
        }
        Some(digits) => {
            digits.parse().ok().filter(|bits| *bits <= max).ok_or(NetworkError::Prefix { max })?
        }
        None => max,
    };
    let host_bits = u32::from(max.abs_diff(prefix));
    let (first, last) = match address {
        IpAddr::V4(address) => {
            let host = u32::MAX.checked_shr(32_u32.abs_diff(host_bits)).unwrap_or(0);
            let bits = address.to_bits();
            (Ipv4Addr::from_bits(bits & !host).into(), Ipv4Addr::from_bits(bits | host).into())
        }
        IpAddr::V6(address) => {
            let host = u128::MAX.checked_shr(128_u32.abs_diff(host_bits)).unwrap_or(0);
            let bits = address.to_bits();
            (IpAddr::V6(Ipv6Addr::from_bits(bits & !host)), IpAddr::V6(Ipv6Addr::from_bits(bits | host)))
        }
    };
    if first != address {
        return Err(NetworkError::HostBits { network: first, prefix });
    }
    // A network within ::ffff:0:0/96 is an IPv4 network. A larger network keeps its family.
    Ok(match (first.to_canonical(), last.to_canonical()) {
        (first @ IpAddr::V4(_), last @ IpAddr::V4(_)) => first..=last,
        _ => first..=last,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        let mut networks = Networks::default();
        for text in texts {
            networks.add(text).unwrap();
        }
        networks
    }

    fn contains(list: &[&str], address: &str) -> bool {
        networks(list).contains(address.parse().unwrap())
    }

    #[test]
    fn a_network_contains_its_first_and_last_address_and_no_others() {
        for (list, inside, outside) in [
            ("10.0.0.0/8", ["10.0.0.0", "10.255.255.255"], ["9.255.255.255", "11.0.0.0"]),
            ("10.1.2.3", ["10.1.2.3", "::ffff:10.1.2.3"], ["10.1.2.2", "10.1.2.4"]),
            ("10.1.2.2/31", ["10.1.2.2", "10.1.2.3"], ["10.1.2.1", "10.1.2.4"]),
            ("0.0.0.0/0", ["0.0.0.0", "255.255.255.255"], ["::", "::1"]),
            ("fd00::/8", ["fd00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], ["fc00::", "fe00::"]),
            ("::1", ["::1", "::1"], ["::", "::2"]),
            ("::/0", ["::", "ffff::"], ["0.0.0.0", "::ffff:10.0.0.1"]),
            ("::ffff:10.0.0.0/104", ["10.0.0.1", "::ffff:10.0.0.1"], ["11.0.0.1", "::10.0.0.1"]),
            ("::ffff:0:0/96", ["0.0.0.0", "255.255.255.255"], ["::", "::1:0:0:0"]),
            ("localhost", ["127.0.0.0", "127.255.255.255"], ["126.255.255.255", "128.0.0.0"]),
            ("localhost", ["::1", "::ffff:127.0.0.1"], ["::2", "::"]),
        ] {
            for address in inside {
                assert!(contains(&[list], address), "{list} must contain {address}");
            }
            for address in outside {
                assert!(!contains(&[list], address), "{list} must not contain {address}");
            }
        }
        for address in ["0.0.0.0", "10.1.2.3", "::", "ffff::1", "::ffff:1.2.3.4"] {
            assert!(contains(&["*"], address));
            assert!(!contains(&[], address));
        }
        assert!(contains(&["10.0.0.0/8", "192.168.0.0/16"], "192.168.1.1"));
    }

    #[test]
    fn invalid_networks_are_refused_with_the_expected_form() {
        for (text, error) in [
            ("", "an address, a network like \"10.0.0.0/8\" or \"fd00::/8\", \"localhost\" or \"*\""),
            ("10.0.0.0/33", "a prefix of at most 32 bits"),
            ("10.0.0.0/256", "a prefix of at most 32 bits"),
            ("fd00::/129", "a prefix of at most 128 bits"),
            ("10.1.2.3/8", "no bits set behind the prefix (did you mean \"10.0.0.0/8\"?)"),
            ("10.1.2.3/0", "no bits set behind the prefix (did you mean \"0.0.0.0/0\"?)"),
            ("fd00::1/64", "no bits set behind the prefix (did you mean \"fd00::/64\"?)"),
            ("::ffff:10.1.2.3/104", "no bits set behind the prefix (did you mean \"::ffff:10.0.0.0/104\"?)"),
        ] {
            assert_eq!(Networks::default().add(text).unwrap_err().to_string(), error, "{text}");
        }
        for text in [
            "10.0.0",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "10.0.0.0/-1",
            " 10.0.0.1",
            "db.local",
            "**",
        ] {
            assert_eq!(Networks::default().add(text), Err(NetworkError::Syntax), "{text}");
        }
    }
}
