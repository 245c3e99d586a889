//! Bytes of hostile clients and servers.

use firstword_testing::packets::*;
use firstword_testing::random::Random;

const COM_INIT_DB: u8 = 0x02;
const COM_STATISTICS: u8 = 0x09;
const COM_RESET_CONNECTION: u8 = 0x1f;
/// Maximum length of one chunk, in bytes.
const MAX_CHUNK: usize = 200_000;

/// Response that the server still has to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    Ok,
    /// `COM_STMT_PREPARE_OK`.
    Prepared,
    /// A COM_CHANGE_USER without content, to which MariaDB responds with a greeting.
    Greeting,
}

/// Random number below a random one of these bounds, so that both small and large numbers are frequent.
fn below_one_of(random: &mut Random, bounds: &[usize]) -> usize {
    let bound = bounds[random.below(bounds.len())];
    random.below(bound)
}

fn text(random: &mut Random, len: usize) -> Vec<u8> {
    // The second byte is escaped in every output.
    let byte = [b'a', 0xff][random.below(2)];
    vec![byte; random.below(len + 1)]
}

fn load(random: &mut Random) -> Vec<u8> {
    let mut statement = Vec::new();
    match random.below(3) {
        0 => {
            let name = vec![b'n'; random.below(15_000)];
            statement.extend([b"LOAD DATA LOCAL INFILE '", &name[..], b"' INTO TABLE t"].concat());
        }
        1 => {
            for _ in 0..random.below(600) {
                statement.extend(b"LOAD DATA LOCAL INFILE ''");
            }
        }
        _ => statement.extend(b"LOAD DATA LOCAL INFILE 'a' INTO TABLE t"),
    }
    statement
}

fn change_user(random: &mut Random) -> Vec<u8> {
    let (user, schema) = (text(random, 300), text(random, 300));
    [&user[..], b"\0\0", &schema, b"\0\x2d\0mysql_native_password\0"].concat()
}

fn long_statement(random: &mut Random) -> Vec<u8> {
    let mut statement = b"SELECT ".to_vec();
    while statement.len() < 1_500 {
        statement.extend(format!("c{}, ", random.below(1_000)).bytes());
    }
    statement
}

/// Number of kinds of [`batch`].
pub const KINDS: usize = 14;
/// Kind that prepares statements with columns.
pub const PREPARES: usize = 5;

/// Batch of commands of this kind, which a client sends at once. Appends the expected responses to `owed`.
pub fn batch(random: &mut Random, kind: usize, owed: &mut Vec<Owed>) -> Vec<u8> {
    let mut chunk = Vec::new();
    let count = 1 + below_one_of(random, &[1, 10, 100, 1_000, 40_000]);
    for _ in 0..count {
        if chunk.len() >= MAX_CHUNK {
            break;
        }
        let (bytes, response) = match kind {
            0 | 1 => (command(COM_PING, b""), Some(Owed::Ok)),
            2 => (command(COM_QUERY, &load(random)), Some(Owed::Ok)),
            3 => (command(COM_STMT_PREPARE, &load(random)), Some(Owed::Prepared)),
            4 => (command(COM_STMT_PREPARE, &long_statement(random)), Some(Owed::Prepared)),
            PREPARES => (command(COM_STMT_PREPARE, b"SELECT 1"), Some(Owed::Prepared)),
            6 => (command(COM_CHANGE_USER, &change_user(random)), Some(Owed::Ok)),
            7 => (command(COM_CHANGE_USER, b""), Some(Owed::Greeting)),
            8 => (command(COM_INIT_DB, &text(random, 300)), Some(Owed::Ok)),
            9 => (command(COM_QUERY, &long_statement(random)), Some(Owed::Ok)),
            10 => {
                let id = (random.below(20_000) as u32).to_le_bytes();
                (command(COM_STMT_EXECUTE, &[&id[..], &[0, 1, 0, 0, 0]].concat()), Some(Owed::Ok))
            }
            11 => (command(COM_STMT_CLOSE, &(random.below(20_000) as u32).to_le_bytes()), None),
            12 => (command(COM_RESET_CONNECTION, b""), Some(Owed::Ok)),
            _ => {
                let byte = [COM_STATISTICS, COM_BINLOG_DUMP, COM_QUIT, random.next() as u8][random.below(4)];
                (command(byte, &text(random, 40)), Some(Owed::Ok))
            }
        };
        chunk.extend(bytes);
        owed.extend(response);
    }
    // A statement that is cut. Its rest never arrives, or other bytes arrive in its place.
    if random.below(6) == 0 {
        chunk.extend(&command(COM_QUERY, &[b'x'; 20_000])[..random.below(18_000)]);
    }
    chunk
}

/// Random bytes that follow no protocol.
pub fn noise(random: &mut Random) -> Vec<u8> {
    let len = below_one_of(random, &[4, 40, 5_000, 70_000]);
    let mut bytes: Vec<u8> = (0..len.min(64)).map(|_| random.next() as u8).collect();
    bytes.resize(len, random.next() as u8);
    bytes
}

/// Responses to the next commands, as an honest server sends them. `id`: id of the last prepared statement. One in `pausing`
/// prepared statements has a column, and its response stops before its end.
pub fn responses(random: &mut Random, pausing: usize, owed: &mut Vec<Owed>, id: &mut u32) -> Vec<u8> {
    let count = owed.len().min(1 + below_one_of(random, &[1, 100, 5_000]));
    let mut chunk = Vec::new();
    let mut done = 0;
    for owed in owed.iter().take(count) {
        done += 1;
        match owed {
            Owed::Ok => chunk.extend(answer([if random.below(20) == 0 { err(1064) } else { ok() }])),
            Owed::Prepared => {
                let columns = if random.below(pausing) == 0 { 1 } else { 0 };
                let mut head = prepare_ok(columns, 0);
                *id += 1;
                head[1..5].copy_from_slice(&id.to_le_bytes());
                if columns == 0 {
                    chunk.extend(answer([head]));
                    continue;
                }
                // The end of the response is missing, and its last definition may be long.
                let mut definition = column_def("a");
                definition.resize(definition.len() + random.below(70_000), 0);
                let whole = answer([head, definition, eof(AUTOCOMMIT)]);
                let cut = random.below(whole.len() + 1);
                chunk.extend(&whole[..cut]);
                break;
            }
            Owed::Greeting => {
                chunk.extend(answer([handshake_v10("5.5.5-10.11.19-MariaDB", MARIADB_CAPABILITIES)]));
                break;
            }
        }
    }
    owed.drain(..done);
    chunk
}

/// Bytes of a rogue server.
pub fn rogue(random: &mut Random) -> Vec<u8> {
    match random.below(5) {
        0 => noise(random),
        1 => {
            let request = answer([local_infile(&"n".repeat(random.below(5_000)))]);
            request[..random.below(request.len() + 1)].to_vec()
        }
        2 => answer(result_set(&["1"; 30]))[..40].to_vec(),
        3 => packet(random.next() as u8, &ok()),
        _ => greeting(),
    }
}

/// First bytes of the server: a greeting, a part of one, or random bytes.
pub fn first(random: &mut Random) -> Vec<u8> {
    match random.below(8) {
        0 => packet(0, &[b"\x0a", &vec![b'v'; random.below(5_000)][..]].concat())[..].to_vec(),
        1 => greeting()[..random.below(80)].to_vec(),
        2 => noise(random),
        _ => greeting(),
    }
}

/// Login of a client: often complete, sometimes without its end or with very many attributes.
pub fn login(random: &mut Random) -> Vec<u8> {
    let capabilities = CLIENT_CAPABILITIES | [0, CLIENT_DEPRECATE_EOF, 1 << 23][random.below(3)];
    match random.below(8) {
        0 => {
            let mut attributes = handshake_response(capabilities | 1 << 20);
            attributes.extend([0xfc, 0xff, 0x7f]);
            attributes.resize(attributes.len() + random.below(6_000), b'a');
            packet(1, &attributes)[..].to_vec()
        }
        1 => packet(1, &handshake_response(capabilities))[..random.below(60)].to_vec(),
        2 => {
            let user = vec![b'u'; random.below(400)];
            let response = [&ssl_request(capabilities)[..], &user, b"\0\0mysql_native_password\0"].concat();
            packet(1, &response)
        }
        _ => packet(1, &handshake_response(capabilities)),
    }
}

/// First bytes of a client on a connection that receives PROXY headers.
pub fn proxy_header(random: &mut Random) -> Vec<u8> {
    match random.below(5) {
        0 => b"PROXY TCP4 10.1.2.3 10.0.0.5 1000 3306\r\n".to_vec(),
        1 => b"PROXY TCP4 10.1.2".to_vec(),
        2 => b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x01\xff".to_vec(),
        3 => b"PRO".to_vec(),
        _ => Vec::new(),
    }
}
