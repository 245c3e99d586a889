use super::*;

const LONG: usize = 65_551;
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn endpoints(source: &str, destination: &str) -> Endpoints {
    Endpoints { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

/// Header of version 2.
fn v2(version_and_command: u8, family_and_transport: u8, block: &[u8]) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend([version_and_command, family_and_transport]);
    header.extend((block.len() as u16).to_be_bytes());
    header.extend(block);
    header
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend((value.len() as u16).to_be_bytes());
    bytes.extend(value);
    bytes
}

const INET: [u8; 12] = [10, 0, 0, 1, 10, 0, 0, 2, 0xdc, 0x04, 0x0c, 0xea];

/// Header for TCP over IPv4 with these vectors.
fn with_tlvs(tlvs: &[u8]) -> Vec<u8> {
    v2(0x21, 0x11, &[&INET, tlvs].concat())
}

fn defect(bytes: &[u8]) -> String {
    match probe(bytes, LONG) {
        Probe::Malformed(error) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

fn complete(bytes: &[u8]) -> (Header<'_>, usize) {
    match probe(bytes, LONG) {
        Probe::Complete { header, len } => (header, len),
        other => panic!("{other:?}"),
    }
}

#[test]
fn bytes_without_a_signature_are_not_a_header() {
    for bytes in [
        b"G".as_slice(),
        b"PRAXY TCP4",
        b"PROX TCP4",
        b"proxy TCP4 1.2.3.4",
        b" PROXY ",
        b"\r\n\r\r",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\n",
        // Handshake responses of 0x50 and 0x0d bytes.
        b"\x50\0\0\x01\x85\xa6\xff\x01",
        b"\x0d\0\0\x01\x85\xa6\xff\x01",
        // Packets of 0x4f5250 and 0x0d0a0d bytes.
        b"PRO\x01",
        b"\r\n\r\x01",
    ] {
        assert_eq!(probe(bytes, LONG), Probe::NoHeader, "{bytes:?}");
    }
}

#[test]
fn up_to_5_and_11_bytes_are_the_start_of_a_signature() {
    for (signature, format, hold) in [(b"PROXY ".as_slice(), Format::V1, 5), (SIGNATURE, Format::V2, 11)] {
        for len in 0..=signature.len() {
            let format = (len > hold).then_some(format);
            assert_eq!(probe(&signature[..len], LONG), Probe::Incomplete { format, needs: len + 1 });
        }
    }
}

#[test]
fn valid_lines_are_parsed_and_their_cuts_are_incomplete() {
    let full = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let tcp6 = format!("PROXY TCP6 {full} {full} 65535 65535\r\n");
    let unknown = format!("PROXY UNKNOWN {full} {full} 65535 65535\r\n");
    assert_eq!((tcp6.len(), unknown.len()), (104, 107));
    let full = format!("[{full}]:65535");
    for (line, expected) in [
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            Some(endpoints("255.255.255.255:65535", "255.255.255.255:65535")),
        ),
        ("PROXY TCP4 0.0.0.0 1.2.3.4 0 1\r\n", Some(endpoints("0.0.0.0:0", "1.2.3.4:1"))),
        (&tcp6, Some(endpoints(&full, &full))),
        ("PROXY TCP6 ::1 FD00::A 1 2\r\n", Some(endpoints("[::1]:1", "[fd00::a]:2"))),
        ("PROXY TCP6 0001:0:00::1 :: 1 2\r\n", Some(endpoints("[1::1]:1", "[::]:2"))),
        ("PROXY TCP6 ::ffff:1.2.3.4 ::2 1 2\r\n", Some(endpoints("[::ffff:1.2.3.4]:1", "[::2]:2"))),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN \r\n", None),
        ("PROXY UNKNOWN  \0\x7f? anything\r\n", None),
        (&unknown, None),
    ] {
        let bytes = [line.as_bytes(), b"\r\nafter"].concat();
        let (header, len) = complete(&bytes);
        assert_eq!((header.endpoints(), len), (expected, line.len()), "{line:?}");
        assert_eq!((header.format, header.local), (Format::V1, false));
        assert_eq!(header.tlvs().count(), 0);
        for cut in 1..line.len() {
            let Probe::Incomplete { needs, .. } = probe(&line.as_bytes()[..cut], LONG) else {
                panic!("{line:?} cut at {cut}");
            };
            assert_eq!(needs, cut + 1, "{line:?} cut at {cut}");
        }
    }
}

#[test]
fn every_defect_of_a_line_is_reported_with_its_offset() {
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
    let longer = format!("PROXY TCP6 {}", "f".repeat(100));
    for (line, expected) in [
        ("PROXYTCP4 1.2.3.4 5.6.7.8 1 2\n", "byte 5: expected one space, found 0x54"),
        ("PROXY\tTCP4 1.2.3.4 5.6.7.8 1 2\r\n", "byte 5: expected one space, found 0x09"),
        ("PROXY\r\n", "byte 5: expected one space, found 0x0d"),
        ("PROXY  TCP4", "byte 6: expected TCP4, TCP6 or UNKNOWN, found 0x20"),
        ("PROXY tcp4", "byte 6: expected TCP4, TCP6 or UNKNOWN, found 0x74"),
        ("PROXY TCP5", "byte 6: expected TCP4, TCP6 or UNKNOWN, found 0x54"),
        ("PROXY UDP4", "byte 6: expected TCP4, TCP6 or UNKNOWN, found 0x55"),
        ("PROXY \r\n", "byte 6: expected TCP4, TCP6 or UNKNOWN, found 0x0d"),
        ("PROXY UNKNOWNS\r\n", "byte 13: expected one space, found 0x53"),
        ("PROXY UNKNOWN\n", "byte 13: expected one space, found 0x0a"),
        ("PROXY UNKNOWN a\nb\r\n", "byte 15: expected CRLF, found 0x0a"),
        ("PROXY UNKNOWN a\rb\r\n", "byte 16: expected CRLF, found 0x62"),
        ("PROXY TCP4\r\n", "byte 10: expected one space, found 0x0d"),
        ("PROXY TCP44", "byte 10: expected one space, found 0x34"),
        ("PROXY TCP4 \r\n", "byte 11: expected the source address, found 0x0d"),
        ("PROXY TCP4  1.2.3.4", "byte 11: expected the source address, found 0x20"),
        ("PROXY TCP4 1.2.3 ", "byte 11: expected the source address, found a field of 5 bytes"),
        ("PROXY TCP4 1.2.3.4.5 ", "byte 11: expected the source address, found a field of 9 bytes"),
        ("PROXY TCP4 1.2.3.256 ", "byte 11: expected the source address, found a field of 9 bytes"),
        ("PROXY TCP4 1.2.3.04 ", "byte 11: expected the source address, found a field of 8 bytes"),
        ("PROXY TCP4 1.2.3.4\t", "byte 18: expected the source address, found 0x09"),
        ("PROXY TCP4 +1.2.3.4", "byte 11: expected the source address, found 0x2b"),
        ("PROXY TCP4 ::1 ", "byte 11: expected the source address, found a field of 3 bytes"),
        ("PROXY TCP4 1.2.3.4\r\n", "byte 18: expected one space, found 0x0d"),
        ("PROXY TCP6 1.2.3.4 ", "byte 11: expected the source address, found a field of 7 bytes"),
        ("PROXY TCP6 1::2::3 ", "byte 11: expected the source address, found a field of 7 bytes"),
        ("PROXY TCP6 12345::1 ", "byte 11: expected the source address, found a field of 8 bytes"),
        ("PROXY TCP6 1:2:3:4:5:6:7 ", "byte 11: expected the source address, found a field of 13 bytes"),
        ("PROXY TCP6 ::1%eth0 ", "byte 14: expected the source address, found 0x25"),
        ("PROXY TCP6 [::1] ", "byte 11: expected the source address, found 0x5b"),
        (&longer, "byte 11: expected the source address, found a field of 40 bytes"),
        ("PROXY TCP4 1.2.3.4  ", "byte 19: expected the destination address, found 0x20"),
        ("PROXY TCP4 1.2.3.4 ::1 ", "byte 19: expected the destination address, found a field of 3 bytes"),
        ("PROXY TCP4 1.2.3.4 5.6.7.8  ", "byte 27: expected the source port, found 0x20"),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 01 ", "byte 27: expected the source port, found a field of 2 bytes"),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 00 ", "byte 27: expected the source port, found a field of 2 bytes"),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 65536 ", "byte 27: expected the source port, found a field of 5 bytes"),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 000001", "byte 27: expected the source port, found a field of 6 bytes"),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 -1 ", "byte 27: expected the source port, found 0x2d"),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", "byte 28: expected one space, found 0x0d"),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1 \r\n", "byte 29: expected the destination port, found 0x0d"),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2x", "byte 30: expected the destination port, found 0x78"),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n", "byte 30: expected CRLF, found 0x20"),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", "byte 30: expected CRLF, found 0x0a"),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\rx", "byte 31: expected CRLF, found 0x78"),
        (&long, "byte 107: expected CRLF within 107 bytes, found a field of 107 bytes"),
    ] {
        assert_eq!(defect(line.as_bytes()), format!("v1 header, {expected}"), "{line:?}");
    }
}

#[test]
fn every_version_command_family_and_length_is_classified() {
    for version_and_command in 0..=255_u8 {
        for fam in 0..=255_u8 {
            for length in [0, 1, 11, 12, 13, 35, 36, 37, 215, 216, 217] {
                let bytes = v2(version_and_command, fam, &vec![0; length]);
                let outcome = probe(&bytes, LONG);
                let needs = [0, 12, 36, 216].get(usize::from(fam >> 4)).copied();
                let vectors = length.saturating_sub(needs.unwrap_or(0));
                // Vectors of zeroes, of 3 bytes each.
                let expected = match (version_and_command, needs, fam & 0xf) {
                    (0x20, ..) => None,
                    (0x21, Some(needs), 0..=2) if length < needs => {
                        Some(Defect::AddressLength { needs: needs as u16 })
                    }
                    (0x21, Some(_), 0..=2) => (vectors % 3 != 0).then_some(Defect::Tlv),
                    (0x21, Some(_), _) => Some(Defect::Transport),
                    (0x21, None, _) => Some(Defect::Family),
                    (0x22..=0x2f, ..) => Some(Defect::Command),
                    _ => Some(Defect::Version),
                };
                match (outcome, expected) {
                    (Probe::Complete { header, len }, None) => {
                        assert_eq!(len, 16 + length);
                        assert_eq!(header.local, version_and_command == 0x20);
                        let believed = matches!(fam, 0x11 | 0x12 | 0x21 | 0x22) && !header.local;
                        assert_eq!(header.endpoints().is_some(), believed, "{fam:#x}");
                        let unix = matches!(header.addresses, Addresses::Unix { .. });
                        assert_eq!(unix, fam >> 4 == 3 && !header.local);
                    }
                    (Probe::Malformed(error), Some(defect)) => assert_eq!(error.defect, defect),
                    (outcome, expected) => {
                        panic!("{version_and_command:#x} {fam:#x} {length}: {outcome:?}, {expected:?}")
                    }
                }
            }
        }
    }
}

#[test]
fn every_cut_of_a_binary_header_is_incomplete() {
    let header = with_tlvs(&[tlv(2, b"db.example"), tlv(4, &[0; 5])].concat());
    for cut in 1..header.len() {
        let format = (cut >= 12).then_some(Format::V2);
        let needs = if cut < 16 { cut + 1 } else { header.len() };
        assert_eq!(probe(&header[..cut], LONG), Probe::Incomplete { format, needs }, "cut at {cut}");
    }
    let bytes = [&header, b"after".as_slice()].concat();
    let (parsed, len) = complete(&bytes);
    assert_eq!(len, header.len());
    assert_eq!(parsed.endpoints(), Some(endpoints("10.0.0.1:56324", "10.0.0.2:3306")));
    let tlvs: Vec<_> = parsed.tlvs().map(Result::unwrap).collect();
    assert_eq!(tlvs, [Tlv { kind: 2, value: b"db.example" }, Tlv { kind: 4, value: &[0; 5] }]);
}

#[test]
fn a_header_is_refused_by_its_length_before_it_has_arrived() {
    let mut header = v2(0x20, 0, &[]);
    header[14..].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(probe(&header, LONG), Probe::Incomplete { format: Some(Format::V2), needs: LONG });
    for (max, refused) in [(536, true), (LONG - 1, true), (LONG, false)] {
        let malformed = matches!(probe(&header, max), Probe::Malformed(error)
            if error.defect == Defect::HeaderLength { max } && error.at == 14);
        assert_eq!(malformed, refused, "{max}");
    }
    header.extend(vec![1; 65_535]);
    assert_eq!(complete(&header).1, LONG);
}

#[test]
fn malformed_vectors_are_refused() {
    let unique = |len| with_tlvs(&tlv(kind::UNIQUE_ID, &vec![b'a'; len]));
    complete(&unique(128));
    assert_eq!(
        defect(&unique(129)),
        "v2 header, byte 28: expected a unique id of at most 128 bytes, found a field of 129 bytes"
    );
    let ssl = |subs: &[u8]| with_tlvs(&tlv(kind::SSL, &[&[1, 0, 0, 0, 0], subs].concat()));
    complete(&ssl(&[]));
    complete(&ssl(&tlv(0x21, b"TLSv1.3")));
    for bad in [ssl(&[0x21, 0]), ssl(&[0x21, 0, 2, 0]), with_tlvs(&tlv(kind::SSL, &[0; 4]))] {
        assert!(defect(&bad).contains("byte 28: expected 5 bytes and whole vectors"), "{}", defect(&bad));
    }
    for (rest, len) in [(vec![1], 1), (vec![1, 0], 2), (vec![1, 0, 1], 3), (vec![1, 0, 4, 9, 9], 5)] {
        let bytes = with_tlvs(&[tlv(4, &[]), rest].concat());
        let expected = format!("expected a vector that ends within the header, found a field of {len} bytes");
        assert_eq!(defect(&bytes), format!("v2 header, byte 31: {expected}"));
    }
}

#[test]
fn a_checksum_is_verified() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283, "the check value of CRC-32C");
    let at = 28 + 6 + 3;
    let mut header = with_tlvs(&[tlv(1, b"abc"), tlv(kind::CRC32C, &[0; 4]), tlv(4, b"x")].concat());
    let crc = crc32c(&header).to_be_bytes();
    header[at..at + 4].copy_from_slice(&crc);
    assert_eq!(complete(&header).1, header.len());
    for index in 0..header.len() {
        for bit in 0..8 {
            let mut damaged = header.clone();
            damaged[index] ^= 1 << bit;
            // The header becomes LOCAL, and its vectors are not read, or it gets another length.
            let accepted = (index == 12 && bit == 0) || index == 14 || index == 15;
            let refused = matches!(probe(&damaged, LONG), Probe::Malformed(_) | Probe::NoHeader);
            // The type of the checksum's vector changes, or a length that hides the vector.
            let hidden = (34..=36).contains(&index) || (29..=30).contains(&index);
            assert!(refused || accepted || hidden, "byte {index} bit {bit}");
        }
    }
    header[at] ^= 1;
    assert!(defect(&header).starts_with("v2 header, byte 37: expected the checksum of the header, found "));
    for tlvs in [tlv(kind::CRC32C, &[0; 3]), tlv(kind::CRC32C, &[0; 5]), tlv(kind::CRC32C, &[])] {
        assert!(defect(&with_tlvs(&tlvs)).contains("byte 28: expected one checksum of 4 bytes"));
    }
    let twice = with_tlvs(&[tlv(kind::CRC32C, &[0; 4]), tlv(kind::CRC32C, &[0; 4])].concat());
    assert!(defect(&twice).contains("byte 35: expected one checksum of 4 bytes, found a field of 4 bytes"));
}

#[test]
fn encoded_headers_follow_the_specification() {
    let text = |source, destination| {
        String::from_utf8(encode(Format::V1, Some(endpoints(source, destination)))).unwrap()
    };
    assert_eq!(text("1.2.3.4:5", "6.7.8.9:10"), "PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\n");
    assert_eq!(text("[::ffff:1.2.3.4]:5", "6.7.8.9:10"), "PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\n");
    assert_eq!(text("[fd00::1]:5", "[::1]:10"), "PROXY TCP6 fd00::1 ::1 5 10\r\n");
    assert_eq!(text("1.2.3.4:5", "[fd00::1]:10"), "PROXY TCP6 ::ffff:102:304 fd00::1 5 10\r\n");
    assert_eq!(encode(Format::V1, None), b"PROXY UNKNOWN\r\n");
    assert_eq!(encode(Format::V2, None), v2(0x20, 0, &[]));
    let inet = Some(endpoints("10.0.0.1:56324", "10.0.0.2:3306"));
    assert_eq!(encode(Format::V2, inet), v2(0x21, 0x11, &INET));
    assert_eq!(encode(Format::V2, Some(endpoints("10.0.0.1:1", "[::1]:2"))).len(), 52);
}

#[test]
fn four_bytes_of_a_signature_look_like_a_header() {
    for (bytes, expected) in [
        (b"PROX", Some(Format::V1)),
        (b"\r\n\r\n", Some(Format::V2)),
        (b"PROY", None),
        (b"\r\n\r\r", None),
        (b"\x50\0\0\x01", None),
    ] {
        assert_eq!(looks_like_header(*bytes), expected);
    }
}
