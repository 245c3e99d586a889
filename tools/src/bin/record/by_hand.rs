//! Captures of packets that no server here sends, built from the protocol's documentation. Their comments have "made by hand".

use bytes::Bytes;
use firstword::event::Sender::{self, Client, Server};

use crate::write;
use firstword_testing::capture::Chunks;
use firstword_testing::client::{DEPRECATE_EOF, LOCAL_FILES};
use firstword_testing::packets::{
    AUTOCOMMIT, CLIENT_CAPABILITIES, COM_PING, COM_QUERY, COM_QUIT, COM_STMT_EXECUTE, COM_STMT_PREPARE,
    MORE_RESULTS, answer, column_def, command, eof, err, greeting, handshake_response, handshake_v10,
    local_infile, ok, ok_with, packet, packets, prepare_ok, result_set, ssl_request,
};

/// The name, the first comment, and the chunks.
type Capture = (&'static str, &'static str, Vec<(Sender, Vec<u8>)>);

pub(crate) fn record() {
    let captures = [
        tidb(),
        mycat(),
        mysql_8_0_41(),
        second_factor(),
        progress(),
        more_parameters_than_counted(),
        refused_while_uploading(),
        killed_by_name(),
        greeting_v9(),
        refused_without_state(),
        refused_with_state(),
        host_blocked(),
    ];
    for (name, what, chunks) in captures {
        let chunks: Chunks = chunks.into_iter().map(|(sender, bytes)| (sender, Bytes::from(bytes))).collect();
        let comments = [
            what.to_owned(),
            "made by hand: examples/record/by_hand.rs builds it from the protocol".to_owned(),
        ];
        write(&format!("by-hand-{name}"), &comments, &chunks);
    }
}

fn login(greeting: Vec<u8>, capabilities: u32) -> Vec<(Sender, Vec<u8>)> {
    let response = packet(1, &handshake_response(capabilities));
    vec![(Server, greeting), (Client, response), (Server, packet(2, &ok()))]
}

/// Commands and their responses, then COM_QUIT.
fn session(exchanges: &[(Vec<u8>, Vec<Vec<u8>>)]) -> Vec<(Sender, Vec<u8>)> {
    let exchanges = exchanges.iter().cloned();
    let chunks = exchanges.flat_map(|(command, response)| [(Client, command), (Server, answer(response))]);
    chunks.chain([(Client, command(COM_QUIT, &[]))]).collect()
}

fn query(statement: &str) -> Vec<u8> {
    command(COM_QUERY, statement.as_bytes())
}

/// The client requests DEPRECATE_EOF, which TiDB before 6.3 does not have.
fn tidb() -> Capture {
    let offered = 0x00bf_a28f;
    let greeting = packet(0, &handshake_v10("5.7.25-TiDB-v6.1.0", offered));
    let definitions = [prepare_ok(1, 1), column_def("?"), eof(AUTOCOMMIT), column_def("a"), eof(AUTOCOMMIT)];
    let binary_row = vec![0, 0, 1, b'x'];
    let binary = [vec![1], column_def("a"), eof(AUTOCOMMIT), binary_row, eof(AUTOCOMMIT)];
    let exchanges = [
        (query("SELECT a FROM t"), result_set(&["1", "2"])),
        (command(COM_STMT_PREPARE, b"SELECT ?"), definitions.to_vec()),
        (command(COM_STMT_EXECUTE, b"\x01\0\0\0\0\x01\0\0\0\0\x01\xfe\0\x01x"), binary.to_vec()),
        (query("SELECT FROM"), vec![err(1064)]),
    ];
    let chunks = [login(greeting, CLIENT_CAPABILITIES | DEPRECATE_EOF), session(&exchanges)].concat();
    ("tidb", "server: TiDB 6.1, which has no DEPRECATE_EOF; client: one that asks for it", chunks)
}

/// Mycat has zeros in the fields that later became the upper capabilities and the plugin's name.
fn mycat() -> Capture {
    let version = b"\x0a5.6.29-mycat-1.6.7.1-release-20190627191042\0";
    let capabilities = 0xb74f_u16.to_le_bytes();
    let front =
        [&version[..], &[9, 0, 0, 0], b"abcdefgh", &[0], &capabilities, &[33, 2, 0], &[0; 13]].concat();
    let greeting = packet(0, &[front.as_slice(), b"ijklmnopqrst\0"].concat());
    let exchanges = [
        (query("SELECT 1"), result_set(&["1"])),
        (query("SELECT * FROM nosuch"), vec![err(1064)]),
        (command(COM_PING, &[]), vec![ok()]),
    ];
    // Without PLUGIN_AUTH nothing follows the scramble.
    let response = [ssl_request(0x0000_a285).as_slice(), b"app\0\x14", &[0x5a; 20]].concat();
    let login = vec![(Server, greeting), (Client, packet(1, &response)), (Server, packet(2, &ok()))];
    ("mycat", "server: Mycat 1.6", [login, session(&exchanges)].concat())
}

/// The fields of a published greeting of a debug build.
fn mysql_8_0_41() -> Capture {
    let front = [&b"\x0a8.0.41-debug\0"[..], &[8, 0, 0, 0], b"C@o\x13\x14IeR\0", &[0xff, 0xff]].concat();
    let back =
        [&[0xff, 0x02, 0x00, 0xff, 0xdf, 21][..], &[0; 10], b"tB0.9HRb,Zj/\0", b"caching_sha2_password\0"];
    let payload = [front, back.concat()].concat();
    assert_eq!(payload.len(), 80, "as published");
    let chunks = vec![
        (Server, packet(0, &payload)),
        (Client, packet(1, &handshake_response(CLIENT_CAPABILITIES))),
        (Server, packet(2, &[1, 3])),
        (Server, packet(3, &ok())),
        (Client, command(COM_QUIT, &[])),
    ];
    ("mysql-8.0.41", "server: MySQL 8.0.41-debug", chunks)
}

/// AuthNextFactor (0x02) after the first factor, twice.
fn second_factor() -> Capture {
    let next = |plugin: &[u8]| [b"\x02", plugin, b"\0", &[0x42; 20], b"\0"].concat();
    let chunks = vec![
        (Server, packet(0, &handshake_v10("8.4.3", 0xdfff_ffff))),
        (Client, packet(1, &handshake_response(CLIENT_CAPABILITIES | 1 << 28))),
        (Server, packet(2, &[1, 3])),
        (Server, packet(3, &next(b"authentication_ldap_sasl_client"))),
        (Client, packet(4, b"n,a=app,n=app,r=nonce")),
        (Server, packet(5, b"\x01r=nonce,s=salt,i=4096")),
        (Client, packet(6, b"c=biws,r=nonce,p=proof")),
        (Server, packet(7, &next(b"mysql_clear_password"))),
        (Client, packet(8, b"app\0")),
        (Server, packet(9, &ok())),
    ];
    let session = session(&[(query("SELECT 1"), result_set(&["1"]))]);
    ("second-factor", "server: MySQL 8.4 with multi-factor authentication", [chunks, session].concat())
}

/// Several progress reports, also before a second result.
fn progress() -> Capture {
    let report =
        |stage: u8| [&[0xff, 0xff, 0xff, 1, stage, 2, 0, 0, 0][..], b"\x12copy to tmp table!"].concat();
    // LONG_PASSWORD left out; extended: PROGRESS.
    let mut response = handshake_response(CLIENT_CAPABILITIES & !1);
    response[28] = 1;
    let chunks = vec![(Server, greeting()), (Client, packet(1, &response)), (Server, packet(2, &ok()))];
    let more = ok_with(3, AUTOCOMMIT | MORE_RESULTS);
    let exchanges = [
        (query("ALTER TABLE t FORCE"), vec![report(1), report(1), report(2), ok()]),
        (query("ALTER TABLE t FORCE; ALTER TABLE nosuch FORCE"), vec![report(1), more, report(1), err(1146)]),
    ];
    ("progress", "server: MariaDB with progress reports", [chunks, session(&exchanges)].concat())
}

/// A server that lets the 16 bits of the counts overflow: 65,536 parameters are 0, of which three are shown here.
fn more_parameters_than_counted() -> Capture {
    let three = [column_def("?"), column_def("?"), column_def("?"), eof(AUTOCOMMIT)];
    let overflown = [vec![prepare_ok(0, 1)], three.to_vec()].concat();
    let columns = [vec![prepare_ok(1, 0)], three.to_vec()].concat();
    let exchanges = [
        (command(COM_STMT_PREPARE, b"SELECT 1 FROM t WHERE a IN (?, ?, ?)"), overflown),
        (command(COM_STMT_PREPARE, b"SELECT * FROM wide"), columns),
        (query("SELECT 1"), result_set(&["1"])),
    ];
    (
        "overflown-counts",
        "server: one whose counts overflow at 65,536",
        [login(greeting(), CLIENT_CAPABILITIES), session(&exchanges)].concat(),
    )
}

/// The response arrives before the end of the file.
fn refused_while_uploading() -> Capture {
    let chunks = vec![
        (Client, query("LOAD DATA LOCAL INFILE 'f' INTO TABLE t")),
        (Server, packet(1, &local_infile("f"))),
        (Client, packet(2, b"1,one\n")),
        (Server, packet(3, &err(1146))),
        (Client, packets(3, [b"2,two\n".to_vec(), Vec::new()])),
    ];
    let rest = session(&[(query("SELECT 1"), result_set(&["1"]))]);
    let login = login(greeting(), CLIENT_CAPABILITIES | LOCAL_FILES);
    (
        "early-refusal",
        "server: one that refuses a file before all of it has come",
        [login, chunks, rest].concat(),
    )
}

/// MariaDB sends an unsolicited error with the sequence id 1.
fn killed_by_name() -> Capture {
    let exchange = [(Client, query("SELECT 1")), (Server, answer(result_set(&["1"])))];
    let notice = [(Server, packet(1, &err(1927)))];
    (
        "notice",
        "server: MariaDB that says why it ends an idle connection",
        [login(greeting(), CLIENT_CAPABILITIES), exchange.to_vec(), notice.to_vec()].concat(),
    )
}

fn greeting_v9() -> Capture {
    let greeting = packet(0, b"\x093.21.33\0\x07\0\0\0abcdefgh\0");
    let response = packet(1, b"\x05\x00\xff\xff\xffapp\0ABCDEFGH\0");
    (
        "greeting-v9",
        "server: MySQL 3.21",
        vec![(Server, greeting), (Client, response), (Server, packet(2, &[0, 0, 0]))],
    )
}

fn refused(message: &[u8]) -> Vec<(Sender, Vec<u8>)> {
    vec![(Server, packet(0, message))]
}

fn refused_without_state() -> Capture {
    ("refused-without-state", "server: any that is full", refused(b"\xff\x10\x04Too many connections"))
}

fn refused_with_state() -> Capture {
    ("refused-with-state", "server: a proxy that is full", refused(b"\xff\x10\x04#08004Too many connections"))
}

/// MySQL trusts all of 127.0.0.0/8, so that this error cannot be recorded here.
fn host_blocked() -> Capture {
    let message = b"\xff\x69\x04Host '10.0.0.7' is blocked because of many connection errors";
    ("host-blocked", "server: MySQL", refused(message))
}
