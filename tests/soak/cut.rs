//! Clients that reset or half close their connections in each phase.

use std::net::SocketAddr;

use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::packets::{COM_STMT_PREPARE, packet};
use firstword_testing::random::Random;

/// A result of some MiB, which is on its way when the client resets.
const LARGE: &str = "SELECT body FROM bodies";

/// Opens a connection and cuts it.
pub fn cut(address: SocketAddr, random: &mut Random) {
    let login = Login::new(CLASSIC);
    let mut client = Client::connect(address);
    let phase = random.below(9);
    if phase == 0 {
        return client.reset();
    }
    if phase == 1 {
        client.packet();
        return client.reset();
    }
    if phase == 2 {
        let response = client.response(&login).expect("a greeting");
        client.write(&response);
        return client.reset();
    }
    let mut client = client.log_in(&login).expect("a login");
    match phase {
        3 => {}
        4 => client.send(&packet(0, &[3; 100])[..30]),
        5 | 6 => {
            let query = client.query_payload(LARGE);
            client.command(&query);
            // Column count, definition, EOF and the first row.
            (0..4).for_each(|_| drop(client.packet()));
        }
        7 => client.command(&[&[COM_STMT_PREPARE], LARGE.as_bytes()].concat()),
        _ => {
            let query = client.query_payload(LARGE);
            client.command(&query);
            client.finish();
            client.results().expect("the whole result after the end of the requests");
            assert_eq!(client.next_packet(), None, "the server closes");
        }
    }
    client.reset();
}
