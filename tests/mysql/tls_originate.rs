//! Clients without TLS, and servers that require TLS: the native module starts TLS to the server.

use std::time::Duration;

use serde_json::Value;

use crate::certificates::{Certificates, NAME};
use crate::counts::address;
use crate::tls_modes::Mode::Originate;
use crate::tls_modes::{Sides, result, results};
use firstword_testing::client::{CLASSIC, Client, Login, SSL};
use firstword_testing::envoy::Envoy;
use firstword_testing::mariadb::MariaDb;

/// The two turns of the event loop between the SSLRequest and TLS suffice, also if the machine is busy.
#[test]
fn no_login_is_lost() {
    const LOGINS: usize = 250;
    const CLIENTS: usize = 8;
    let sides = Sides::new();
    let database = sides.mariadb(&[]);
    let envoy = Envoy::start(sides.options(Originate, &database).concurrency(2));
    let address = address(&envoy);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                (0..LOGINS).for_each(|_| Client::login(address, &Login::new(CLASSIC)).quit());
            });
        }
    });
    assert_eq!(
        results(&envoy, "upstream"),
        result("established", (LOGINS * CLIENTS) as u64),
        "{}",
        envoy.log()
    );
}

#[test]
fn a_certificate_that_is_not_valid_ends_the_connection() {
    let of = |server| Sides { server, ..Sides::new() };
    let (wrong_name, expired) = (Certificates::new("other.example", 2090), Certificates::new(NAME, 2021));
    for (sides, trusting) in [(Sides::new(), Some(Sides::new())), (of(wrong_name), None), (of(expired), None)]
    {
        let database = sides.mariadb(&[]);
        let envoy = Envoy::start(trusting.as_ref().unwrap_or(&sides).options(Originate, &database));
        let mut client = Client::connect(address(&envoy));
        let payload = client.response(&Login::new(CLASSIC)).expect("a greeting");
        client.write(&payload);
        assert_eq!(client.next_packet(), None, "no error can precede the end");
        assert_eq!(results(&envoy, "upstream"), result("failed", 1), "{}", envoy.log());
        envoy.wait_log("event=server_tls result=failed");
        database.wait_until_alone(Duration::from_secs(20));
    }
}

#[test]
fn nothing_is_sent_without_tls() {
    let sides = Sides::new();
    let database = MariaDb::start(&["--skip-ssl"]);
    let envoy = Envoy::start(sides.options(Originate, &database));
    let refused = Client::connect(address(&envoy)).log_in(&Login::new(CLASSIC)).err();
    assert_eq!(refused, Some(1043));
    assert_eq!(results(&envoy, "upstream"), result("not_offered", 1));
    envoy.wait_log("event=server_tls result=not_offered");

    let database = sides.mariadb(&[]);
    let envoy = Envoy::start(sides.options(Originate, &database));
    let mut client = Client::connect(address(&envoy));
    let mut payload = client.response(&Login::new(CLASSIC)).expect("a greeting");
    assert_eq!(
        u32::from_le_bytes([payload[0], payload[1], payload[2], payload[3]]) & SSL,
        0,
        "the offer is cleared"
    );
    payload[1] |= 0x08;
    client.write(&payload[..32]);
    let error = client.packet();
    assert!(error.starts_with(b"\xff\x13\x04#08S01Connect without TLS"), "{}", error.escape_ascii());
    assert_eq!(results(&envoy, "upstream"), result("client_tls", 1));
}

/// A cluster without the socket that can start TLS.
#[test]
fn without_the_transport_socket_the_connection_ends() {
    let sides = Sides::new();
    let database = sides.mariadb(&[]);
    let without = |bootstrap: &mut Value| {
        let cluster = &mut bootstrap["static_resources"]["clusters"][0];
        drop(cluster.as_object_mut().unwrap().remove("transport_socket"));
    };
    let envoy = Envoy::start(sides.options(Originate, &database).edit(without));
    let mut client = Client::connect(address(&envoy));
    let payload = client.response(&Login::new(CLASSIC)).expect("a greeting");
    client.write(&payload);
    assert_eq!(client.next_packet(), None, "no error can precede the end");
    envoy.wait_log("Envoy cannot start TLS to this server");
    assert_eq!(results(&envoy, "upstream"), result("failed", 1));
}
