//! Good clients. They compare each result with what it must be.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use firstword_testing::client::{CLASSIC, Client, DEPRECATE_EOF, Login, Response, SESSION_TRACK};
use firstword_testing::database::Database;
use firstword_testing::packets::{COM_PING, COM_STMT_CLOSE};
use firstword_testing::random::Random;

use crate::tally::Tally;

/// Number of rows in the table of texts.
const TEXTS: usize = 1000;
/// Number of rows in the table of bodies, and the length of each in bytes.
const BODIES: usize = 16;
const BODY: usize = 100 << 10;
/// Repetitions of all bodies that fill Envoy's buffer of 1 MiB and the sockets beside it, and the time in which they do.
const FILL: usize = 3;
const FILL_TIME: Duration = Duration::from_millis(10);
/// COM_RESET_CONNECTION.
const COM_RESET_CONNECTION: u8 = 0x1f;
/// The error for an unknown column.
const ER_BAD_FIELD_ERROR: u16 = 1054;

/// Makes the tables.
pub fn prepare(database: &Database) {
    database.sql("CREATE TABLE demo.texts (id INT PRIMARY KEY, text VARCHAR(200))");
    database.sql("CREATE TABLE demo.bodies (id INT PRIMARY KEY, body LONGTEXT)");
    let texts: Vec<_> = (0..TEXTS).map(|id| format!("({id}, '{}')", text(id))).collect();
    database.sql(&format!("INSERT INTO demo.texts VALUES {}", texts.join(",")));
    for id in 0..BODIES {
        database.sql(&format!("INSERT INTO demo.bodies VALUES ({id}, '{}')", body(id)));
    }
}

fn text(id: usize) -> String {
    letters(id as u64, 20 + id % 150)
}

fn body(id: usize) -> String {
    letters((TEXTS + id) as u64, BODY)
}

/// Letters that no other seed has, so that exchanged bytes are seen.
fn letters(seed: u64, length: usize) -> String {
    let mut random = Random::from_seed(seed);
    let words = std::iter::from_fn(|| Some(random.next().to_le_bytes())).flatten();
    words.take(length).map(|byte| char::from(b'a' + byte % 26)).collect()
}

/// The bodies, which are not made again for each comparison.
pub fn bodies() -> Vec<String> {
    (0..BODIES).map(body).collect()
}

/// A connection of a good client.
pub struct Session {
    client: Client,
}

impl Session {
    /// Logs in. Every second client has results that end with an OK packet.
    pub fn open(address: SocketAddr, tally: &mut Tally) -> Self {
        tally.connections += 1;
        let classic = tally.connections % 2 == 0;
        let capabilities = if classic { CLASSIC } else { CLASSIC | DEPRECATE_EOF | SESSION_TRACK };
        Self { client: Client::login(address, &Login::new(capabilities)) }
    }

    /// Reads a response late that is larger than what Envoy buffers for a connection. Envoy keeps room for the longest queue that a
    /// connection has had, so no later response makes it take more.
    pub fn fill(&mut self, bodies: &[String], tally: &mut Tally) {
        let statements = ["SELECT body FROM bodies ORDER BY id"; FILL].join("; ");
        self.client.command(&self.client.query_payload(&statements));
        // Meanwhile the queue grows.
        sleep(FILL_TIME);
        tally.command("query");
        let response = self.client.results().expect("all bodies");
        let expected: Vec<_> = bodies.iter().map(String::as_str).collect();
        assert_rows(&response, &expected.repeat(FILL), tally);
    }

    /// Does one thing of the mixed load.
    pub fn work(&mut self, bodies: &[String], random: &mut Random, tally: &mut Tally) {
        match random.below(20) {
            0..8 => self.point_select(random, tally),
            8..12 => self.prepared(random, tally),
            12 => self.download(bodies, random, tally),
            13 => self.upload(bodies, random, tally),
            14 => self.results(tally),
            15 => self.transaction(random, tally),
            16 => self.error(tally),
            17 => self.single(COM_RESET_CONNECTION, "reset_connection", tally),
            _ => self.single(COM_PING, "ping", tally),
        }
    }

    pub fn point_select(&mut self, random: &mut Random, tally: &mut Tally) {
        let id = random.below(TEXTS);
        let response = self.query(&format!("SELECT text FROM texts WHERE id = {id}"), tally);
        assert_rows(&response, &[text(id).as_str()], tally);
    }

    fn prepared(&mut self, random: &mut Random, tally: &mut Tally) {
        let statement =
            self.client.prepare("SELECT text FROM texts WHERE id = ?").expect("a statement").statement_id();
        tally.command("stmt_prepare");
        for _ in 0..3 {
            let id = random.below(TEXTS);
            let response = self.client.execute(statement, 0, &[&id.to_string()]).expect("a row");
            tally.command("stmt_execute");
            // A binary row has a header, and a bitmap of NULLs.
            let row = [&[0, 0][..], &value(&text(id))].concat();
            assert!(response.0.contains(&row), "text {id}: {response:?}");
            tally.rows += 1;
            tally.checked += row.len() as u64;
        }
        self.client.command(&[&[COM_STMT_CLOSE][..], &statement.to_le_bytes()].concat());
        tally.command("stmt_close");
    }

    /// Rows of 100 KiB.
    fn download(&mut self, bodies: &[String], random: &mut Random, tally: &mut Tally) {
        let first = random.below(BODIES - 3);
        let last = first + 3;
        let response = self.query(
            &format!("SELECT body FROM bodies WHERE id BETWEEN {first} AND {last} ORDER BY id"),
            tally,
        );
        let expected: Vec<_> = bodies[first..=last].iter().map(String::as_str).collect();
        assert_rows(&response, &expected, tally);
    }

    /// A statement of 100 KiB. The server compares it.
    pub fn upload(&mut self, bodies: &[String], random: &mut Random, tally: &mut Tally) {
        let id = random.below(BODIES);
        let response = self.query(&format!("SELECT id FROM bodies WHERE body = '{}'", bodies[id]), tally);
        assert_rows(&response, &[id.to_string().as_str()], tally);
        tally.checked += BODY as u64;
    }

    /// Several results of one command.
    fn results(&mut self, tally: &mut Tally) {
        let response = self.query("SELECT 'one'; DO 0; SELECT 'two'; SELECT 'three'", tally);
        assert_rows(&response, &["one", "two", "three"], tally);
    }

    fn transaction(&mut self, random: &mut Random, tally: &mut Tally) {
        self.query("BEGIN", tally);
        self.point_select(random, tally);
        self.query("COMMIT", tally);
    }

    fn error(&mut self, tally: &mut Tally) {
        self.client.query("SELECT nosuch").expect_errno(ER_BAD_FIELD_ERROR);
        tally.command("query");
        tally.errors += 1;
    }

    fn single(&mut self, command: u8, label: &'static str, tally: &mut Tally) {
        self.client.command(&[command]);
        self.client.single().expect(label);
        tally.command(label);
    }

    fn query(&mut self, statement: &str, tally: &mut Tally) -> Response {
        tally.command("query");
        self.client.query(statement).expect("a result")
    }

    /// True if the connection ends, perhaps after a part of a response.
    pub fn closes(mut self) -> bool {
        self.client.closes()
    }

    pub fn quit(self, tally: &mut Tally) {
        self.client.quit();
        tally.command("quit");
    }
}

/// Asserts that these are the rows of all results. Each result has one column.
fn assert_rows(response: &Response, expected: &[&str], tally: &mut Tally) {
    let mut packets = response.0.iter();
    for text in expected {
        let row = value(text);
        assert!(packets.any(|packet| *packet == row), "no row {text:.60}");
        tally.checked += row.len() as u64;
    }
    tally.rows += expected.len() as u64;
}

/// A text with its length before it.
pub fn value(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("a short text").to_le_bytes();
    let prefix = match text.len() {
        0..251 => length[..1].to_vec(),
        251..65_536 => vec![0xfc, length[0], length[1]],
        _ => vec![0xfd, length[0], length[1], length[2]],
    };
    [&prefix, text.as_bytes()].concat()
}
