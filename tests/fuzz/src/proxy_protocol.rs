//! Fuzz target: random bytes as a PROXY header. The result equals that of another author's parser, and does not depend on the
//! cuts.

#![no_main]

#[path = "../../proxy_protocol/against_ppp.rs"]
mod against_ppp;
mod seeds;

use std::net::SocketAddr;

use against_ppp::{Outcome, assert_equal, in_one_family, ours};
use firstword::proxy_protocol::{Endpoints, Format, MAX_V1_LEN, MAX_V2_LEN, Probe, encode, probe};
use libfuzzer_sys::fuzz_target;
use ppp::v2;

/// Asserts that the result for a prefix agrees with the result for all bytes.
fn assert_prefixes_agree(bytes: &[u8]) {
    let whole = probe(bytes, MAX_V2_LEN);
    let mut needed = 0;
    for cut in 0..bytes.len() {
        let known = probe(&bytes[..cut], MAX_V2_LEN);
        let Probe::Incomplete { format, needs } = known else {
            assert_eq!(known, whole, "cut at {cut}");
            return;
        };
        assert!(cut < needs && needed <= needs, "cut at {cut}: needs {needs}, the cut before {needed}");
        needed = needs;
        let other_format = match whole {
            Probe::NoHeader => format,
            Probe::Complete { header, len } => {
                assert!(needs <= len);
                format.filter(|format| *format != header.format)
            }
            Probe::Malformed(error) => format.filter(|format| *format != error.format),
            Probe::Incomplete { format: later, .. } => format.filter(|_| later != format),
        };
        assert_eq!(other_format, None, "cut at {cut}");
    }
}

/// Asserts that a limit refuses longer headers, and has no other effect.
fn assert_limited(bytes: &[u8]) {
    let whole = probe(bytes, MAX_V2_LEN);
    for max in [MAX_V1_LEN, 536] {
        match (whole, probe(bytes, max)) {
            (Probe::Complete { len, .. }, Probe::Malformed(_)) => assert!(len > max),
            (Probe::Incomplete { needs, .. }, Probe::Malformed(_)) => assert!(needs > max),
            // The length comes before the field that is malformed.
            (Probe::Malformed(_), Probe::Malformed(_)) => {}
            (_, limited) => assert_eq!(limited, whole),
        }
    }
}

/// Asserts that the endpoints of a header are the same after they are encoded and parsed again.
fn assert_round_trip(bytes: &[u8]) {
    let Probe::Complete { header, .. } = probe(bytes, MAX_V2_LEN) else { return };
    assert!(header.tlvs().all(|tlv| tlv.is_ok()), "vectors of an accepted header are whole");
    let Some(endpoints) = header.endpoints() else { return };
    for format in [Format::V1, Format::V2] {
        let written = encode(format, Some(endpoints));
        let endpoints = Some(in_one_family(endpoints));
        assert_eq!(ours(&written), Outcome::Header { len: written.len(), endpoints });
    }
}

fn examples() -> Vec<Vec<u8>> {
    let between = |source: &str, destination: &str| {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        Endpoints { source: address(source), destination: address(destination) }
    };
    let v4 = between("192.0.2.1:56324", "198.51.100.7:3306");
    let v6 = between("[2001:db8::1]:56324", "[2001:db8::7]:3306");
    let written = [Some(v4), Some(v6), None]
        .into_iter()
        .flat_map(|endpoints| [Format::V1, Format::V2].map(|format| encode(format, endpoints)));
    let with_vectors = [0x11, 0x12].into_iter().map(|family| {
        let addresses: v2::Addresses = (v4.source, v4.destination).into();
        let builder = v2::Builder::new(0x21, family).write_payload(addresses);
        let builder = builder.and_then(|builder| builder.write_tlv(2_u8, b"db.example".as_slice()));
        let builder = builder.and_then(|builder| builder.write_tlv(4_u8, [0_u8; 7].as_slice()));
        builder.and_then(v2::Builder::build).expect("a header")
    });
    written.chain(with_vectors).collect()
}

fuzz_target!(init: seeds::write(examples()), |bytes: &[u8]| {
    assert_equal(bytes);
    assert_prefixes_agree(bytes);
    assert_limited(bytes);
    assert_round_trip(bytes);
});
