//! Our parser and encoder beside those of the package `ppp`, on valid headers, damaged ones, and arbitrary bytes.
//!
//! Where the two differ the specification is quoted: everything else must be the same, lengths and addresses included.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use firstword::proxy_protocol::{Endpoints, Format, MAX_V2_LEN, Probe, encode, probe};
use ppp::{HeaderResult, PartialResult, v1, v2};
use proptest::prelude::*;

/// What a parser says of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Incomplete,
    /// No header, or a malformed one.
    Refused,
    Header {
        len: usize,
        endpoints: Option<Endpoints>,
    },
}

fn ours(bytes: &[u8]) -> Said {
    match probe(bytes, MAX_V2_LEN) {
        Probe::Incomplete { .. } => Said::Incomplete,
        Probe::NoHeader | Probe::Malformed(_) => Said::Refused,
        Probe::Complete { header, len } => Said::Header { len, endpoints: header.endpoints() },
    }
}

fn between(
    source: impl Into<IpAddr>,
    from: u16,
    destination: impl Into<IpAddr>,
    to: u16,
) -> Option<Endpoints> {
    let (source, destination) =
        (SocketAddr::new(source.into(), from), SocketAddr::new(destination.into(), to));
    Some(Endpoints { source, destination })
}

fn theirs(bytes: &[u8]) -> Said {
    let result = HeaderResult::parse(bytes);
    if result.is_incomplete() {
        return Said::Incomplete;
    }
    match result {
        HeaderResult::V1(Ok(header)) => {
            let endpoints = match header.addresses {
                v1::Addresses::Unknown => None,
                v1::Addresses::Tcp4(a) => {
                    between(a.source_address, a.source_port, a.destination_address, a.destination_port)
                }
                v1::Addresses::Tcp6(a) => {
                    between(a.source_address, a.source_port, a.destination_address, a.destination_port)
                }
            };
            Said::Header { len: header.header.len(), endpoints }
        }
        HeaderResult::V2(Ok(header)) => {
            let ignored =
                header.command == v2::Command::Local || header.protocol == v2::Protocol::Unspecified;
            let endpoints = match header.addresses {
                _ if ignored => None,
                v2::Addresses::IPv4(a) => {
                    between(a.source_address, a.source_port, a.destination_address, a.destination_port)
                }
                v2::Addresses::IPv6(a) => {
                    between(a.source_address, a.source_port, a.destination_address, a.destination_port)
                }
                v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
            };
            Said::Header { len: header.len(), endpoints }
        }
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => Said::Refused,
    }
}

/// Where and why we say something else.
fn explained(bytes: &[u8], ours: Said, theirs: Said) -> Option<&'static str> {
    let v2_byte =
        |index: usize| bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n").then(|| bytes.get(index)).flatten();
    match (ours, theirs) {
        (_, Said::Refused) if v2_byte(12) == Some(&0x20) => {
            Some("LOCAL: \"discard the protocol block including the family which is ignored\"")
        }
        (Said::Refused, Said::Incomplete) => {
            Some("no further byte can make it valid: \"abort the connection as soon as possible\"")
        }
        (Said::Refused, Said::Header { .. }) if v2_byte(12) == Some(&0x21) => {
            Some("vectors must end with the header, and a checksum must be verified: ppp looks at neither")
        }
        (Said::Incomplete, Said::Refused) if bytes.starts_with(b"PROXY ") => {
            Some("a field that the next chunk may complete: ppp reads lines without their end")
        }
        (Said::Refused, Said::Header { .. }) if bytes.starts_with(b"PROXY UNKNOWN") => {
            Some("\"must not tolerate a single CR or LF character\"")
        }
        (Said::Header { .. }, Said::Refused) if bytes.starts_with(b"PROXY UNKNOWN") => Some(
            "\"must ignore anything presented before the CRLF\", whatever its encoding or number of words",
        ),
        (Said::Refused, Said::Header { .. }) if bytes.starts_with(b"PROXY TCP") => {
            Some("\"decimal integer in the range [0..65535]\": ppp accepts a sign")
        }
        _ => None,
    }
}

fn compare(bytes: &[u8]) {
    let (ours, theirs) = (ours(bytes), theirs(bytes));
    if ours != theirs {
        assert!(
            explained(bytes, ours, theirs).is_some(),
            "{}: ours {ours:?}, theirs {theirs:?}",
            bytes.escape_ascii()
        );
    }
}

fn endpoints() -> impl Strategy<Value = Endpoints> {
    let v4 = || any::<Ipv4Addr>().prop_map(IpAddr::V4);
    // Many with zeroes, and IPv4-mapped ones.
    let v6 = || {
        let some = any::<(u128, u128)>().prop_map(|(bits, mask)| Ipv6Addr::from_bits(bits & mask));
        let mapped = any::<Ipv4Addr>().prop_map(|address| address.to_ipv6_mapped());
        prop_oneof![4 => some, 1 => mapped].prop_map(IpAddr::V6)
    };
    let pair = prop_oneof![(v4(), v4()), (v6(), v6()), (v4(), v6())];
    (pair, any::<(u16, u16)>()).prop_map(|((source, destination), (from, to))| Endpoints {
        source: SocketAddr::new(source, from),
        destination: SocketAddr::new(destination, to),
    })
}

/// The endpoints with both addresses of one family, as a header has them.
fn of_one_family(endpoints: Endpoints) -> Endpoints {
    let Endpoints { source, destination } = endpoints;
    let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
    let mapped = |address| match address {
        IpAddr::V4(address) if from.is_ipv4() != to.is_ipv4() => IpAddr::V6(address.to_ipv6_mapped()),
        address => address,
    };
    Endpoints {
        source: SocketAddr::new(mapped(from), source.port()),
        destination: SocketAddr::new(mapped(to), destination.port()),
    }
}

fn format() -> impl Strategy<Value = Format> {
    prop_oneof![Just(Format::V1), Just(Format::V2)]
}

/// A header of another author: version 2 with vectors, of any family.
fn built() -> impl Strategy<Value = Vec<u8>> {
    let vectors =
        proptest::collection::vec((6..=0x1f_u8, proptest::collection::vec(any::<u8>(), 0..40)), 0..4);
    (endpoints(), 0..=1_u8, 0..=2_u8, vectors).prop_map(|(endpoints, command, transport, vectors)| {
        let Endpoints { source, destination } = of_one_family(endpoints);
        let family = if source.is_ipv4() { 0x10 } else { 0x20 };
        let addresses: v2::Addresses = (source, destination).into();
        let mut builder =
            v2::Builder::new(0x20 | command, family | transport).write_payload(addresses).unwrap();
        for (kind, value) in &vectors {
            builder = builder.write_tlv(*kind, value.as_slice()).unwrap();
        }
        builder.build().unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_we_write_both_read(endpoints in endpoints(), format in format(), behind: Vec<u8>) {
        let header = encode(format, Some(endpoints));
        let max = if format == Format::V1 { 104 } else { 52 };
        prop_assert!(header.len() <= max);
        let expected = Said::Header { len: header.len(), endpoints: Some(of_one_family(endpoints)) };
        for cut in 1..header.len() {
            prop_assert_eq!(ours(&header[..cut]), Said::Incomplete, "cut at {}", cut);
        }
        let bytes = [header, behind].concat();
        prop_assert_eq!(ours(&bytes), expected);
        prop_assert_eq!(theirs(&bytes), expected);
    }

    #[test]
    fn what_they_write_both_read(header in built(), behind: Vec<u8>) {
        let bytes = [header, behind].concat();
        let said = ours(&bytes);
        let is_header = matches!(said, Said::Header { .. });
        prop_assert!(is_header);
        prop_assert_eq!(said, theirs(&bytes));
    }

    #[test]
    fn damaged_headers(
        header in prop_oneof![built(), (endpoints(), format()).prop_map(|(ends, format)| encode(format, Some(ends)))],
        at: prop::sample::Index,
        byte in prop_oneof![any::<u8>(), prop::sample::select(b" \r\n0:.PROXYTCP46UNK".to_vec())],
        kind in 0..3_u8,
    ) {
        let mut bytes = header;
        let at = at.index(bytes.len());
        match kind {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            _ => drop(bytes.remove(at)),
        }
        compare(&bytes);
    }

    #[test]
    fn arbitrary_bytes(
        start in prop::sample::select(vec![
            b"".as_slice(), b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ::", b"PROXY UNKNOWN",
            b"\r\n\r\n\0\r\nQUIT\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0",
        ]),
        rest in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..120),
            proptest::collection::vec(prop::sample::select(b" \r\n0123456789:.afF".to_vec()), 0..120),
        ],
    ) {
        compare(&[start, &rest].concat());
    }
}
