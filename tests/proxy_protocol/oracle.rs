//! Our parser and encoder against those of the package `ppp`, with valid headers, damaged headers, and arbitrary bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use firstword::proxy_protocol::{Endpoints, Format, encode};
use ppp::v2;
use proptest::prelude::*;

use super::against_ppp::{Outcome, assert_equal, in_one_family, ours, theirs};

fn endpoints() -> impl Strategy<Value = Endpoints> {
    let v4 = || any::<Ipv4Addr>().prop_map(IpAddr::V4);
    // Addresses with many zeros, and IPv4-mapped addresses.
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

fn format() -> impl Strategy<Value = Format> {
    prop_oneof![Just(Format::V1), Just(Format::V2)]
}

/// A header of version 2 with TLVs, of any family, built by `ppp`.
fn ppp_header() -> impl Strategy<Value = Vec<u8>> {
    let vectors =
        proptest::collection::vec((6..=0x1f_u8, proptest::collection::vec(any::<u8>(), 0..40)), 0..4);
    (endpoints(), 0..=1_u8, 0..=2_u8, vectors).prop_map(|(endpoints, command, transport, vectors)| {
        let Endpoints { source, destination } = in_one_family(endpoints);
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
    fn both_parse_our_headers(endpoints in endpoints(), format in format(), after: Vec<u8>) {
        let header = encode(format, Some(endpoints));
        let max = if format == Format::V1 { 104 } else { 52 };
        prop_assert!(header.len() <= max);
        let expected = Outcome::Header { len: header.len(), endpoints: Some(in_one_family(endpoints)) };
        for cut in 1..header.len() {
            prop_assert_eq!(ours(&header[..cut]), Outcome::Incomplete, "cut at {}", cut);
        }
        let bytes = [header, after].concat();
        prop_assert_eq!(ours(&bytes), expected);
        prop_assert_eq!(theirs(&bytes), expected);
    }

    #[test]
    fn both_parse_the_headers_of_ppp(header in ppp_header(), after: Vec<u8>) {
        let bytes = [header, after].concat();
        let outcome = ours(&bytes);
        let is_header = matches!(outcome, Outcome::Header { .. });
        prop_assert!(is_header);
        prop_assert_eq!(outcome, theirs(&bytes));
    }

    #[test]
    fn damaged_headers_have_equal_results(
        header in prop_oneof![ppp_header(), (endpoints(), format()).prop_map(|(ends, format)| encode(format, Some(ends)))],
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
        assert_equal(&bytes);
    }

    #[test]
    fn arbitrary_bytes_have_equal_results(
        start in prop::sample::select(vec![
            b"".as_slice(), b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ::", b"PROXY UNKNOWN",
            b"\r\n\r\n\0\r\nQUIT\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0",
        ]),
        rest in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..120),
            proptest::collection::vec(prop::sample::select(b" \r\n0123456789:.afF".to_vec()), 0..120),
        ],
    ) {
        assert_equal(&[start, &rest].concat());
    }
}
