//! The sides under comparison: proxies with one worker before one MariaDB, and the server itself.

use std::net::SocketAddr;

use firstword_testing::envoy::Envoy;
use firstword_testing::mariadb::MariaDb;
use firstword_testing::proxies::Proxy;
use firstword_testing::shell::native;
use firstword_testing::wasm;
use serde_json::json;

use crate::measure::{QUIET, floor, options};

/// Names of the sides, in the order of the tables.
pub(crate) const NAMES: [&str; 9] = [
    "direct",
    "plain tcp_proxy",
    "wasm floor",
    "Firstword wasm",
    "Firstword wasm, requests",
    "Firstword wasm, handshake",
    "Firstword native",
    "HAProxy TCP",
    "MySQL Router",
];
pub(crate) const PLAIN: usize = 1;
pub(crate) const FLOOR: usize = 2;
pub(crate) const WASM: usize = 3;
pub(crate) const REQUESTS: usize = 4;
pub(crate) const LOGIN_ONLY: usize = 5;
pub(crate) const NATIVE: usize = 6;
pub(crate) const HAPROXY: usize = 7;
pub(crate) const ROUTER: usize = 8;

/// Program of a side. It ends when the value is dropped.
enum Program {
    /// The server, which all sides share.
    Direct,
    Envoy(Envoy),
    Other {
        _proxy: Proxy,
    },
}

/// One side.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    program: Program,
    pid: u32,
}

impl Side {
    /// Process id of the proxy. `None` if there is no proxy.
    pub(crate) fn proxy(&self) -> Option<u32> {
        (!matches!(self.program, Program::Direct)).then_some(self.pid)
    }

    /// Asserts that the filter has inspected at least these commands, because a filter that stops inspection is cheap.
    pub(crate) fn assert_inspected(&self, command: &str, count: u64) {
        let Program::Envoy(envoy) = &self.program else { panic!("{} has no filter", self.name) };
        let counted =
            envoy.stable(QUIET).get("firstword_commands_total", &[("command", command)]).unwrap_or(0.0);
        assert!(
            counted >= count as f64,
            "{} counted {counted} of {count} {command}\n{}",
            self.name,
            envoy.log()
        );
    }

    /// Asserts that the filter has stopped the inspection of at least this number of connections after the login.
    pub(crate) fn assert_login_only(&self, count: u64) {
        let Program::Envoy(envoy) = &self.program else { panic!("{} has no filter", self.name) };
        let metrics = envoy.stable(QUIET);
        let ended = metrics.get("firstword_opaque_total", &[("reason", "configured")]).unwrap_or(0.0);
        assert!(ended >= count as f64, "{}: {ended} of {count} connections\n{}", self.name, envoy.log());
    }
}

/// Starts all sides.
pub(crate) fn start(database: &MariaDb) -> Vec<Side> {
    NAMES.into_iter().map(|name| side(database, name)).collect()
}

fn side(database: &MariaDb, name: &'static str) -> Side {
    let inspect = |how: &str| {
        let configuration = json!({"defaults": {"protocol": "mysql", "mysql": {"inspect": how}}});
        options(database, Some(&wasm()), 1).configuration(configuration)
    };
    let options = match name {
        "direct" => {
            let (address, pid) = (database.addr(), database.process_id());
            return Side { name, address, program: Program::Direct, pid };
        }
        "HAProxy TCP" => {
            let address = database.addr();
            return other(
                name,
                Proxy::haproxy(&format!(
                    "global\n  nbthread 1\n\
                 listen front\n  bind 127.0.0.1:<front>\n  server mariadb {address}\n"
                )),
            );
        }
        "MySQL Router" => return other(name, Proxy::mysql_router(database.addr())),
        "plain tcp_proxy" => options(database, None, 1),
        "wasm floor" => options(database, Some(&floor()), 1),
        "Firstword native" => options(database, Some(&native()), 1),
        "Firstword wasm, requests" => inspect("requests"),
        "Firstword wasm, handshake" => inspect("handshake"),
        _ => options(database, Some(&wasm()), 1),
    };
    let mut envoy = Envoy::start(options);
    let (address, pid) = (envoy.listener_addr("mysql"), envoy.process().id());
    Side { name, address, program: Program::Envoy(envoy), pid }
}

fn other(name: &'static str, proxy: Proxy) -> Side {
    let (address, pid) = (proxy.addr("front"), proxy.id());
    Side { name, address, program: Program::Other { _proxy: proxy }, pid }
}
