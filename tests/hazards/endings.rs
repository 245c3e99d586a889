//! What becomes of held bytes in a real Envoy when the server goes away.

use crate::{envoy, hold};
use firstword_testing::packets::*;
use firstword_testing::peer::{Ending, Peer, Server};

/// A client and a server behind Envoy where all but the last four bytes of an answer have come, and the client has what is not
/// held of it; and what is held.
fn held(server: &Server, envoy: &firstword_testing::envoy::Envoy) -> (Peer, Peer, Vec<u8>) {
    let mut client = Peer::connect(envoy.listener_addr("mysql"));
    let mut server = server.accept();
    let response = packet(1, &handshake_response(CLIENT_CAPABILITIES));
    let prepare = command(COM_STMT_PREPARE, b"select a from orders");
    let definition = column_def("a");
    let answer = answer([prepare_ok(1, 0), definition.clone(), eof(AUTOCOMMIT)]);
    let pass = |sends: &mut Peer, receives: &mut Peer, bytes: &[u8]| {
        sends.send(bytes);
        receives.expect(bytes);
    };
    pass(&mut server, &mut client, &greeting());
    pass(&mut client, &mut server, &response);
    pass(&mut server, &mut client, &packet(2, &ok()));
    pass(&mut client, &mut server, &prepare);
    let (now, late) = answer.split_at(answer.len() - 9 - packet(2, &definition).len());
    let late = &late[..late.len() - 4];
    server.send(&[now, late].concat());
    client.expect(now);
    (client, server, late.to_vec())
}

#[test]
fn the_end_of_the_servers_stream_brings_what_is_held() {
    let server = Server::start();
    let envoy = envoy(server.address(), &hold("always"));
    for with in [b"".as_slice(), b"\0\0"] {
        let (mut client, mut peer, late) = held(&server, &envoy);
        peer.send_and_finish(with);
        assert_eq!(client.rest(), ([&late, with].concat(), Ending::Finished));
        client.finish();
        peer.assert_finished();
    }
    envoy.wait_metric("firstword_prepare_eof_held_total", &[], 2.0);
    envoy.wait_metric("firstword_connections_active", &[], 0.0);
    assert_eq!(envoy.metric("firstword_prepare_eof_lost_total", &[]), Some(0.0));
}

#[test]
fn a_reset_takes_it_away_and_is_counted() {
    let server = Server::start();
    let envoy = envoy(server.address(), &hold("always"));
    let (mut client, peer, _) = held(&server, &envoy);
    peer.reset();
    assert_eq!(client.rest().0, b"");
    envoy.wait_metric("firstword_prepare_eof_lost_total", &[], 1.0);
    assert_eq!(envoy.metric("firstword_prepare_eof_held_total", &[]), Some(1.0));
    // A client that goes away misses nothing.
    let (client, mut peer, _) = held(&server, &envoy);
    client.reset();
    peer.rest();
    envoy.wait_metric("firstword_prepare_eof_held_total", &[], 2.0);
    envoy.wait_metric("firstword_connections_active", &[], 0.0);
    assert_eq!(envoy.metric("firstword_prepare_eof_lost_total", &[]), Some(1.0));
}
