//! Ten thousand connections with headers that are cut at random bytes.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;

use serde_json::json;

use crate::bootstrap::MYSQL;
use crate::headers::{V1, V2, assert_counted, metric, off, options, response, trusted_networks};
use firstword_testing::envoy::Envoy;
use firstword_testing::packets::greeting;
use firstword_testing::peer::{Peer, Server};
use firstword_testing::random::Random;

const CONNECTIONS: u32 = 10_000;
const CLIENTS: u32 = 8;

/// A long header of version 2, with TLVs and a checksum.
fn long_header() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\0".to_vec();
    header.extend([0x20; 36]);
    header.extend(b"\x02\0\x0adb.example");
    header.extend([&[4, 0, 200][..], &[0; 200], b"\x03\0\x04\0\0\0\0"].concat());
    let len = u16::try_from(header.len() - 16).unwrap().to_be_bytes();
    header[14..16].copy_from_slice(&len);
    let checksum = firstword::proxy_protocol::crc32c(&header).to_be_bytes();
    let at = header.len() - 4;
    header[at..].copy_from_slice(&checksum);
    header
}

/// The OK that ends the login.
const OK: &[u8] = b"\x07\0\0\x02\0\0\0\x02\0\0\0";

/// Logs in with a header in up to four pieces, before or after the greeting.
fn connect(address: SocketAddr, header: &[u8], response: &[u8], random: &mut Random) {
    let bytes = [header, response].concat();
    let mut client = Peer::connect(address);
    let early = random.below(2) == 0;
    if !early {
        client.expect(&greeting());
    }
    let mut cuts: Vec<_> = (0..3).map(|_| random.below(header.len() + 2)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    // Send only the header before the greeting, because the handshake response comes after it.
    for range in cuts.windows(2) {
        if early && range[1] > header.len() {
            break;
        }
        client.send(&bytes[range[0]..range[1]]);
    }
    if early {
        let sent = cuts.iter().copied().filter(|cut| *cut <= header.len()).max().unwrap_or(0);
        client.send(&bytes[sent..header.len()]);
        client.expect(&greeting());
        client.send(response);
    }
    client.expect(OK);
    client.finish();
    client.assert_finished();
}

#[test]
fn a_header_cut_at_any_byte_is_stripped() {
    let server = Server::start();
    let address = server.address();
    let server = Mutex::new(server);
    let receive = json!({"mode": "required", "trusted_networks": trusted_networks(), "timeout": "60s"});
    let options = options(address, &receive, &off()).concurrency(2);
    let envoy = Envoy::start(options);
    let address = envoy.listener_addr(MYSQL);
    let response = response();
    let counts = [AtomicU32::new(0), AtomicU32::new(0)];
    let headers = [(V1.to_vec(), 0), (V2.to_vec(), 1), (long_header(), 1)];
    let mut seed = Random::from_environment();
    let left = AtomicU32::new(CONNECTIONS);
    thread::scope(|scope| {
        // Each server sends a greeting, and expects exactly the handshake response.
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                    let mut peer = server.lock().unwrap().accept();
                    peer.send(&greeting());
                    peer.expect(&response);
                    peer.send(OK);
                    peer.assert_finished();
                }
            });
        }
        for _ in 0..CLIENTS {
            let (headers, counts, response) = (&headers, &counts, &response);
            let mut random = seed.another();
            scope.spawn(move || {
                for _ in 0..CONNECTIONS / CLIENTS {
                    let (header, format) = &headers[random.below(headers.len())];
                    counts[*format].fetch_add(1, Relaxed);
                    connect(address, header, response, &mut random);
                }
            });
        }
    });
    let [v1, v2] = counts.map(AtomicU32::into_inner);
    assert_counted(&envoy, &[&format!("received v1 stripped {v1}"), &format!("received v2 stripped {v2}")]);
    let bytes = f64::from(CONNECTIONS) * response.len() as f64;
    assert_eq!(metric(&envoy, "bytes_total", &[("sender", "client")]), bytes, "without the headers");
    assert_eq!(metric(&envoy, "handshakes_total", &[("result", "ok")]), f64::from(CONNECTIONS));
    assert_eq!(metric(&envoy, "opaque_total", &[]), 0.0);
}
