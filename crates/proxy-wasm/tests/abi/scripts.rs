//! Scripts of connections, chunk by chunk.

use crate::host::{Call, Destination, Ending, Plugin, Stream};
use firstword_testing::packets::*;

/// One chunk.
#[derive(Clone, Debug)]
pub enum Turn {
    Client(Vec<u8>),
    Server(Vec<u8>),
}

use Turn::{Client, Server};

pub type Script = Vec<Turn>;

/// Passes the chunks of a script.
pub fn play(stream: &Stream, script: &[Turn]) -> Vec<Call> {
    let calls = script.iter().flat_map(|turn| match turn {
        Client(bytes) => stream.client(bytes),
        Server(bytes) => stream.server(bytes),
    });
    calls.collect()
}

/// Each chunk in pieces of at most one packet. Bytes that are not a packet stay whole.
pub fn in_packets(script: &[Turn]) -> Vec<Script> {
    // Number of missing bytes of a packet, by sender.
    let mut open = [0; 2];
    let mut cut = |mut bytes: &[u8], turn: fn(Vec<u8>) -> Turn, sender: usize| {
        let mut pieces = Script::new();
        while !bytes.is_empty() {
            let open: &mut usize = &mut open[sender];
            if *open == 0 {
                *open = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]) as usize + 4;
            }
            let (piece, rest) = bytes.split_at(bytes.len().min(*open));
            *open -= piece.len();
            pieces.push(turn(piece.to_vec()));
            bytes = rest;
        }
        pieces
    };
    let turns = script.iter().map(|turn| match turn {
        Client(bytes) => cut(bytes, Client, 0),
        Server(bytes) => cut(bytes, Server, 1),
    });
    turns.collect()
}

/// Plays a whole connection.
pub fn run(plugin: &Plugin, to: &Destination, script: &[Turn], ending: Ending) {
    let stream = plugin.connect(to);
    play(&stream, script);
    stream.close(ending);
}

/// Numbers of bytes of the client and of the server.
pub fn bytes(script: &[Turn]) -> (u64, u64) {
    script.iter().fold((0, 0), |(client, server), turn| match turn {
        Client(bytes) => (client + bytes.len() as u64, server),
        Server(bytes) => (client, server + bytes.len() as u64),
    })
}

/// Each chunk in pieces of at most `size` bytes.
pub fn in_pieces(script: &[Turn], size: usize) -> Script {
    let cut = |turn: &Turn| -> Script {
        match turn {
            Client(bytes) => bytes.chunks(size).map(|piece| Client(piece.to_vec())).collect(),
            Server(bytes) => bytes.chunks(size).map(|piece| Server(piece.to_vec())).collect(),
        }
    };
    script.iter().flat_map(cut).collect()
}

/// Each chunk in two pieces, the first of `at` bytes. A shorter chunk stays whole.
pub fn cut(script: &[Turn], at: usize) -> Script {
    let cut = |turn: &Turn| -> Script {
        let in_two = |bytes: &[u8], turn: fn(Vec<u8>) -> Turn| match bytes.split_at_checked(at) {
            Some((head, tail)) if !tail.is_empty() => vec![turn(head.to_vec()), turn(tail.to_vec())],
            _ => vec![turn(bytes.to_vec())],
        };
        match turn {
            Client(bytes) => in_two(bytes, Client),
            Server(bytes) => in_two(bytes, Server),
        }
    };
    script.iter().flat_map(cut).collect()
}

/// Greeting, handshake response and OK of a MariaDB server and a client with these capabilities.
pub fn login(capabilities: u32) -> Script {
    vec![Server(greeting()), Client(packet(1, &handshake_response(capabilities))), Server(packet(2, &ok()))]
}

/// A statement and its response.
pub fn query(sql: &str, payloads: impl IntoIterator<Item = Vec<u8>>) -> Script {
    vec![Client(command(COM_QUERY, sql.as_bytes())), Server(answer(payloads))]
}

pub fn quit() -> Script {
    vec![Client(command(COM_QUIT, b""))]
}

/// All usual commands of a client without `CLIENT_DEPRECATE_EOF`.
pub fn classic() -> Script {
    let mut two_results = vec![column_count(1), column_def("a"), eof(AUTOCOMMIT), row(&["1"])];
    two_results.extend([eof(AUTOCOMMIT | MORE_RESULTS), ok_with(2, AUTOCOMMIT)]);
    [
        vec![
            Server(greeting()),
            Client(packet(1, &handshake_response(CLIENT_CAPABILITIES))),
            Server(packet(2, &auth_switch("mysql_native_password"))),
            Client(packet(3, &[0x5a; 20])),
            Server(packet(4, &ok())),
        ],
        query("select a from orders", result_set(&["1", "22", "333"])),
        query("update orders set a = 1", [ok_with(5, AUTOCOMMIT)]),
        query("select a from nowhere", [err(1146)]),
        query("select 1; delete from orders", two_results),
        prepare_execute_close([
            prepare_ok(1, 1),
            column_def("?"),
            eof(AUTOCOMMIT),
            column_def("a"),
            eof(AUTOCOMMIT),
        ]),
        vec![
            Client(command(COM_STMT_EXECUTE, &[1, 0, 0, 0, 0, 1, 0, 0, 0])),
            Server(answer([
                column_count(1),
                column_def("a"),
                eof(AUTOCOMMIT),
                binary_row("one"),
                binary_row("two"),
                eof(AUTOCOMMIT),
            ])),
            // One segment, because COM_STMT_CLOSE has no response.
            Client([command(COM_STMT_CLOSE, &[1, 0, 0, 0]), command(COM_PING, b"")].concat()),
            Server(answer([ok()])),
            Client(command(COM_CHANGE_USER, b"other\0\0\0")),
            Server(answer([auth_switch("mysql_native_password")])),
            Client(packet(2, &[0x5a; 20])),
            Server(packet(3, &ok())),
        ],
        quit(),
    ]
    .concat()
}

/// The same with `CLIENT_DEPRECATE_EOF`.
pub fn modern() -> Script {
    let mut two_results = vec![column_count(1), column_def("a"), row(&["1"])];
    two_results.extend([ok_as_eof(AUTOCOMMIT | MORE_RESULTS), ok_with(2, AUTOCOMMIT)]);
    [
        login(CLIENT_CAPABILITIES | CLIENT_DEPRECATE_EOF),
        query("select a from orders", result_set_without_eof(&["1", "22", "333"])),
        query("update orders set a = 1", [ok_with(5, AUTOCOMMIT)]),
        query("select a from nowhere", [err(1146)]),
        query("select 1; delete from orders", two_results),
        prepare_execute_close([prepare_ok(1, 1), column_def("?"), column_def("a")]),
        vec![
            Client(command(COM_STMT_EXECUTE, &[1, 0, 0, 0, 0, 1, 0, 0, 0])),
            Server(answer([
                column_count(1),
                column_def("a"),
                binary_row("one"),
                binary_row("two"),
                ok_as_eof(AUTOCOMMIT),
            ])),
            Client([command(COM_STMT_CLOSE, &[1, 0, 0, 0]), command(COM_PING, b"")].concat()),
            Server(answer([ok()])),
        ],
        quit(),
    ]
    .concat()
}

fn prepare_execute_close(prepared: impl IntoIterator<Item = Vec<u8>>) -> Script {
    vec![Client(command(COM_STMT_PREPARE, b"select a from orders where b = ?")), Server(answer(prepared))]
}

/// Pipelined commands with their responses in one chunk, long errors among them. Then pieces of a long parameter within a
/// result set, and a file.
pub fn pipelined() -> Script {
    let piece = command(COM_STMT_SEND_LONG_DATA, &[b'x'; 300]);
    let rows = answer(result_set(&["1", "2"]));
    let (front, back) = rows.split_at(rows.len() / 2);
    let long = vec![b'y'; 200];
    [
        login(CLIENT_CAPABILITIES),
        vec![
            Client([command(COM_QUERY, b"bad"), command(COM_QUERY, &long), command(COM_PING, b"")].concat()),
            Server([answer([err(1064)]), answer([err(1146)]), answer([ok()])].concat()),
            Client([command(COM_QUERY, b"select a"), piece.clone()].concat()),
            Server(front.to_vec()),
            Client(piece),
            Server(back.to_vec()),
            Client(command(COM_QUERY, b"load data local infile 'f' into table t")),
            Server(answer([local_infile("f")])),
            Client(packets(2, [vec![b'z'; 400], vec![]])),
            Server(packet(4, &ok_with(7, AUTOCOMMIT))),
        ],
        quit(),
    ]
    .concat()
}

/// A client that pipelines COM_STMT_PREPARE and COM_STMT_EXECUTE in a transaction, and then waits for rows.
pub fn unfinished() -> Script {
    let last_prepared = [0xff, 0xff, 0xff, 0xff, 0, 1, 0, 0, 0];
    let insert = command(COM_STMT_PREPARE, b"insert into orders values (?)");
    let mut scan = result_set(&["1"]);
    scan[4] = with_warnings(eof(IN_TRANS | NO_INDEX_USED | QUERY_WAS_SLOW), 2);
    let mut rest = query("select a from orders", result_set(&["1"]));
    rest.pop();
    rest.push(Server(answer([column_count(1), column_def("a"), eof(IN_TRANS), row(&["1"])])));
    [
        login(CLIENT_CAPABILITIES),
        query("begin", [ok_with(0, IN_TRANS)]),
        vec![
            Client([insert, command(COM_STMT_EXECUTE, &last_prepared)].concat()),
            Server(
                [
                    answer([prepare_ok(0, 1), column_def("?"), eof(IN_TRANS)]),
                    answer([with_warnings(ok_with(1, IN_TRANS), 3)]),
                ]
                .concat(),
            ),
        ],
        query("select a from orders where b like '%a'", scan),
        rest,
    ]
    .concat()
}

/// A semi-synchronous replica. After an event that the replica must acknowledge, the server counts from 1 again.
pub fn replica() -> Script {
    let (event, marked) = (b"\0event".to_vec(), b"\0\xef\x01event".to_vec());
    let acknowledgement = packet(0, b"\xef\0\0\0\0\0\0\0\0binlog.000001");
    [
        login(CLIENT_CAPABILITIES),
        vec![
            Client(command(COM_BINLOG_DUMP, b"\x04\0\0\0\0\0\x02\0\0\0binlog.000001")),
            Server(answer([event.clone(), event.clone(), marked.clone()])),
            Client(acknowledgement.clone()),
            Server(answer([event, marked])),
            Client(acknowledgement),
        ],
    ]
    .concat()
}

/// A client that must send its password for caching_sha2_password without TLS.
pub fn full_authentication() -> Script {
    let mut script = login(CLIENT_CAPABILITIES);
    script.pop();
    script.extend([
        Server(packet(2, &auth_switch("caching_sha2_password"))),
        Client(packet(3, &[0x5a; 32])),
        Server(packet(4, b"\x01\x04")),
        Client(packet(5, b"\x02")),
        Server(packet(6, b"\x01-----BEGIN PUBLIC KEY-----")),
        Client(packet(7, &[0x5a; 256])),
        Server(packet(8, &ok())),
    ]);
    script
}

/// A client that the server refuses after the greeting.
pub fn refused(errno: u16) -> Script {
    let mut script = login(CLIENT_CAPABILITIES);
    script.pop();
    script.push(Server(packet(2, &err(errno))));
    script
}

/// A session with TLS.
pub fn tls() -> Script {
    vec![
        Server(packet(0, &handshake_v10("8.0.41", u32::MAX))),
        Client(packet(1, &ssl_request(CLIENT_CAPABILITIES | CLIENT_SSL))),
        Client(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        Server(b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76".to_vec()),
    ]
}

/// A server that has too many connections.
pub fn too_many_connections() -> Script {
    vec![Server(packet(0, &[&[0xff, 0x10, 0x04][..], b"Too many connections"].concat()))]
}

/// A session that is compressed after the OK.
pub fn compressed() -> Script {
    let compressed = b"\x10\x00\x00\x00\x00\x00\x00\x0c\x00\x00\x00\x03select 1".to_vec();
    [login(CLIENT_CAPABILITIES | CLIENT_COMPRESS), vec![Client(compressed)]].concat()
}

/// A command with sequence id 7, which violates the protocol.
pub fn desync() -> Script {
    [login(CLIENT_CAPABILITIES), vec![Client(packet(7, b"\x03select 1"))]].concat()
}

/// The log line of [`desync`].
pub fn desync_line() -> String {
    let version = firstword::VERSION;
    let packets = "S:100:0:greeting C:79:1:handshake S:7:2:authentication C:9:7:command";
    format!(
        "event=opaque reason=desync version={version} peer=client rule=command_id expected=\"a packet whose sequence id is not \
         0 belongs to a file or an authentication that the server asked for\" server=5.5.5-10.11.19-MariaDB-0+deb12u1 \
         capabilities=0xfa280/0x0 packets=\"{packets}\" fix=\"report this line: it has no content of the session\""
    )
}

pub fn smtp() -> Script {
    vec![
        Server(b"220 mail.example ESMTP\r\n".to_vec()),
        Client(b"EHLO client.example\r\n".to_vec()),
        Server(b"250 mail.example\r\n".to_vec()),
    ]
}

pub fn http() -> Script {
    vec![
        Client(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        Server(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
    ]
}

/// All scripts, by name.
pub fn all() -> Vec<(&'static str, Script)> {
    vec![
        ("classic", classic()),
        ("modern", modern()),
        ("pipelined", pipelined()),
        ("unfinished", unfinished()),
        ("replica", replica()),
        ("full_authentication", full_authentication()),
        ("refused", refused(1045)),
        ("tls", tls()),
        ("too_many_connections", too_many_connections()),
        ("compressed", compressed()),
        ("desync", desync()),
        ("smtp", smtp()),
        ("http", http()),
    ]
}
