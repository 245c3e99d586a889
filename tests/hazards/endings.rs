//! Held bytes in a real Envoy when the server closes or resets.

use crate::{envoy, hold};
use firstword_testing::packets::*;
use firstword_testing::peer::{Ending, Peer, Server};

/// Plays a response without its last four bytes. Returns the peers, and the held bytes of the response.
fn play_until_held(server: &Server, envoy: &firstword_testing::envoy::Envoy) -> (Peer, Peer, Vec<u8>) {
    let mut client = Peer::connect(envoy.listener_addr("mysql"));
    let mut server = server.accept();
    let login = packet(1, &handshake_response(CLIENT_CAPABILITIES));
    let prepare = command(COM_STMT_PREPARE, b"select a from orders");
    let definition = column_def("a");
    let response = answer([prepare_ok(1, 0), definition.clone(), eof(AUTOCOMMIT)]);
    let forward = |sends: &mut Peer, receives: &mut Peer, bytes: &[u8]| {
        sends.send(bytes);
        receives.expect(bytes);
    };
    forward(&mut server, &mut client, &greeting());
    forward(&mut client, &mut server, &login);
    forward(&mut server, &mut client, &packet(2, &ok()));
    forward(&mut client, &mut server, &prepare);
    let (now, late) = response.split_at(response.len() - 9 - packet(2, &definition).len());
    let late = &late[..late.len() - 4];
    server.send(&[now, late].concat());
    client.expect(now);
    (client, server, late.to_vec())
}

#[test]
fn held_bytes_are_forwarded_when_the_server_closes() {
    let server = Server::start();
    let envoy = envoy(server.address(), &hold("always"));
    for last in [b"".as_slice(), b"\0\0"] {
        let (mut client, mut peer, late) = play_until_held(&server, &envoy);
        peer.send_and_finish(last);
        assert_eq!(client.rest(), ([&late, last].concat(), Ending::Finished));
        client.finish();
        peer.assert_finished();
    }
    envoy.wait_metric("firstword_prepare_eof_held_total", &[], 2.0);
    envoy.wait_metric("firstword_connections_active", &[], 0.0);
    assert_eq!(envoy.metric("firstword_prepare_eof_lost_total", &[]), Some(0.0));
}

#[test]
fn held_bytes_lost_by_a_reset_are_counted() {
    let server = Server::start();
    let envoy = envoy(server.address(), &hold("always"));
    let (mut client, peer, _) = play_until_held(&server, &envoy);
    peer.reset();
    assert_eq!(client.rest().0, b"");
    envoy.wait_metric("firstword_prepare_eof_lost_total", &[], 1.0);
    assert_eq!(envoy.metric("firstword_prepare_eof_held_total", &[]), Some(1.0));
    // A client that resets loses nothing.
    let (client, mut peer, _) = play_until_held(&server, &envoy);
    client.reset();
    peer.rest();
    envoy.wait_metric("firstword_prepare_eof_held_total", &[], 2.0);
    envoy.wait_metric("firstword_connections_active", &[], 0.0);
    assert_eq!(envoy.metric("firstword_prepare_eof_lost_total", &[]), Some(1.0));
}
