//! `--dest`: what the client connects to.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::fix::is_name;

/// An address, or a name that DNS resolves, with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Address(SocketAddr),
    Host(String, u16),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        match text.trim_matches(['[', ']']).parse() {
            Ok(IpAddr::V4(ip)) => return Err(format!("add the port, as in {ip}:3306")),
            Ok(IpAddr::V6(ip)) => return Err(format!("add the port, as in [{ip}]:3306")),
            Err(_) => {}
        }
        if text.contains('/') {
            return Err("expected HOST:PORT or ADDRESS:PORT, without a scheme or path".to_owned());
        }
        let is_host = |host: &str| is_name(host) && !host.starts_with(['.', '-']);
        match text.rsplit_once(':') {
            Some((host, port)) if is_host(host) => match port.parse() {
                Ok(port @ 1..) => Ok(Self::Host(host.trim_end_matches('.').to_ascii_lowercase(), port)),
                _ => Err(format!("expected a port from 1 to 65535 behind {host}:")),
            },
            None if is_host(text) => Err(format!("add the port, as in {text}:3306")),
            _ => Err("expected HOST:PORT or ADDRESS:PORT".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_host_or_an_address_with_a_port() {
        let host = |name: &str, port| Ok(Target::Host(name.to_owned(), port));
        assert_eq!("10.0.0.1:3306".parse(), Ok(Target::Address(([10, 0, 0, 1], 3306).into())));
        assert_eq!("Orders.Example.com.:3306".parse(), host("orders.example.com", 3306));
        assert_eq!("mysql:1".parse(), host("mysql", 1));
        for (text, problem) in [
            ("10.0.0.1", "add the port, as in 10.0.0.1:3306"),
            ("fd00::1", "add the port, as in [fd00::1]:3306"),
            ("[fd00::1]", "add the port, as in [fd00::1]:3306"),
            ("mysql.db", "add the port, as in mysql.db:3306"),
            ("mysql:0", "expected a port from 1 to 65535 behind mysql:"),
            ("mysql:x", "expected a port from 1 to 65535 behind mysql:"),
            ("mysql://a:3306", "expected HOST:PORT or ADDRESS:PORT, without a scheme or path"),
            ("my\u{1b}sql:3306", "expected HOST:PORT or ADDRESS:PORT"),
            ("", "expected HOST:PORT or ADDRESS:PORT"),
        ] {
            assert_eq!(text.parse::<Target>(), Err(problem.to_owned()), "{text}");
        }
    }
}
