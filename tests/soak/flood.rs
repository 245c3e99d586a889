//! Hostile peers: malformed greetings, responses, PROXY headers and packets, and bytes of other protocols.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use firstword_testing::hostile::{Numbers, Style};
use firstword_testing::loopback;
use firstword_testing::packets::{self, COM_QUERY, packet};
use firstword_testing::random::Random;

/// Threads of the hostile server.
const THREADS: u64 = 4;
/// Time that a hostile peer waits for the other side.
const WAIT: Duration = Duration::from_millis(50);
/// The header of a packet with the maximum length, which never arrives whole.
const ENDLESS: [u8; 5] = [0xff, 0xff, 0xff, 0, 0x0a];

/// Starts a hostile server. It ends with the process.
pub fn server() -> SocketAddr {
    let listener = TcpListener::bind(loopback(0)).expect("an address to listen on");
    let address = listener.local_addr().expect("a bound address");
    for seed in 0..THREADS {
        let listener = listener.try_clone().expect("the same listener");
        thread::spawn(move || {
            let mut random = Random::from_seed(seed);
            // The other side can close at any time.
            listener.incoming().flatten().for_each(|stream| drop(serve(stream, &mut random)));
        });
    }
    address
}

fn serve(mut stream: TcpStream, random: &mut Random) -> std::io::Result<()> {
    stream.set_read_timeout(Some(WAIT))?;
    let greeting = packets::greeting();
    match random.below(6) {
        0 => stream.write_all(&garbage(random))?,
        1 => {
            let mut greeting = greeting;
            let at = random.below(greeting.len());
            greeting[at] = random.next() as u8;
            stream.write_all(&greeting)?;
        }
        2 => stream.write_all(&ENDLESS)?,
        3 => stream.write_all(&greeting[..random.below(greeting.len())])?,
        _ => {
            stream.write_all(&greeting)?;
            let _response = stream.read(&mut [0; 4096])?;
            stream.write_all(&packet(2, &packets::ok()))?;
            let style = Style {
                deprecate_eof: false,
                optional_metadata: false,
                file: "/etc/passwd".into(),
                has_long: false,
            };
            let mut numbers = Numbers { next: 1 };
            for piece in style.response(COM_QUERY, random) {
                stream.write_all(&numbers.bytes(&piece))?;
            }
        }
    }
    while stream.read(&mut [0; 4096])? > 0 {}
    Ok(())
}

/// Opens one connection to a listener, and sends what no honest client sends.
pub fn attack(address: SocketAddr, random: &mut Random) {
    let mut stream = TcpStream::connect(address).expect("a listener that accepts");
    stream.set_read_timeout(Some(WAIT)).expect("an option");
    let bytes = match random.below(7) {
        0 => garbage(random),
        1 => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        2 => b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(),
        3 => proxy_header(random),
        4 => ENDLESS.to_vec(),
        5 => [
            packet(1, &packets::handshake_response(packets::CLIENT_CAPABILITIES)),
            packet(random.next() as u8, &garbage(random)),
            packet(0, &garbage(random)),
        ]
        .concat(),
        _ => Vec::new(),
    };
    // The proxy can close at any time.
    let _ = stream.write_all(&bytes).and_then(|()| stream.read(&mut [0; 4096]));
    if random.below(2) == 0 {
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("an option");
    }
}

fn garbage(random: &mut Random) -> Vec<u8> {
    (0..1 + random.below(300)).map(|_| random.next() as u8).collect()
}

/// A PROXY header of version 1 or 2 with one wrong byte, or cut.
fn proxy_header(random: &mut Random) -> Vec<u8> {
    const V1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 3306\r\n";
    const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x9c\x40\x0c\xea";
    let mut header = if random.below(2) == 0 { V1.to_vec() } else { V2.to_vec() };
    let at = random.below(header.len());
    if random.below(3) == 0 {
        header.truncate(at);
    } else {
        header[at] = random.next() as u8;
    }
    header
}
