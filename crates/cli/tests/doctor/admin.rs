//! Servers in place of Envoy's admin interface.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

/// The address of a server that sends `respond` of the request to each client.
pub fn serve(respond: impl Fn(&str) -> String + Send + 'static) -> String {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap_or_default();
            let response = respond(&String::from_utf8_lossy(&request[..length]));
            let _ = stream.write_all(response.as_bytes());
        }
    });
    address
}
