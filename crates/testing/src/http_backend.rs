//! An HTTP server that a test can tell from a proxy by its `server` header.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

/// Responds to one request on each connection, with another `server` header than Envoy's.
pub fn serve(listener: &TcpListener) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        thread::spawn(move || {
            let mut request: Vec<u8> = Vec::new();
            let mut buffer = [0; 1024];
            while !String::from_utf8_lossy(&request).contains("\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(size @ 1..) => request.extend(&buffer[..size]),
                    _ => return,
                }
            }
            let response =
                "HTTP/1.1 200 OK\r\nserver: backend\r\ncontent-length: 3\r\nconnection: close\r\n\r\nok\n";
            // Ignore an error, because the client may have closed.
            let _ = stream.write_all(response.as_bytes());
        });
    }
}
