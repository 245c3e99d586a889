//! Servers, Envoys and clients for tests in which the native module starts TLS to the server, in two modes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::Value;

use crate::certificates::Certificates;
use crate::counts::{QUIET, address, sums_of};
use firstword_testing::client::{Client, Hello, Login, Tls};
use firstword_testing::database::Database;
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::mariadb::MariaDb;
use firstword_testing::mysqld::MySql;
use firstword_testing::root;

/// Length of an SSLRequest, which the server counts and the client does not send.
pub const REQUEST_LEN: u64 = 36;

/// Name in Envoy's certificate, which the clients expect.
pub const PROXY: &str = "proxy.example";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The client has no TLS: `envoy/tls-originate.yaml`.
    Originate,
    /// The client's TLS ends in Envoy: `envoy/tls-bridge.yaml`.
    Bridge,
}

impl Mode {
    pub const ALL: [Self; 2] = [Self::Originate, Self::Bridge];

    /// Index of the database's cluster in the shipped file.
    pub fn cluster(self) -> usize {
        match self {
            Self::Originate => 0,
            Self::Bridge => 1,
        }
    }
}

/// Certificates of the server and of Envoy, from two authorities.
pub struct Sides {
    pub server: Certificates,
    pub proxy: Certificates,
}

impl Sides {
    pub fn new() -> Self {
        Self { server: Certificates::valid(), proxy: Certificates::new(PROXY, 2090) }
    }

    /// A MariaDB that requires TLS.
    pub fn mariadb(&self, options: &[&str]) -> MariaDb {
        self.mariadb_by(firstword_testing::mariadbd(), options)
    }

    /// A MariaDB that requires TLS, and that this program becomes.
    pub fn mariadb_by(&self, program: PathBuf, options: &[&str]) -> MariaDb {
        let [cert, key, required] = self.server.options();
        MariaDb::start_by(program, &[&[cert.as_str(), &key, &required], options].concat())
    }

    /// A MySQL that requires TLS.
    pub fn mysql(&self, options: &[&str]) -> MySql {
        let [cert, key, required] = self.server.options();
        MySql::start(&[&[cert.as_str(), &key, &required], options].concat())
    }

    /// The shipped file of a mode with these certificates.
    pub fn options(&self, mode: Mode, database: &Database) -> EnvoyOptions {
        self.options_to(mode, database.addr())
    }

    /// As [`Sides::options`], for a server that is no [`Database`].
    pub fn options_to(&self, mode: Mode, server: SocketAddr) -> EnvoyOptions {
        let file = match mode {
            Mode::Originate => "envoy/tls-originate.yaml",
            Mode::Bridge => "envoy/tls-bridge.yaml",
        };
        let options = EnvoyOptions::new(file).upstream("mysql", server);
        options.edit(|bootstrap| {
            let resources = &mut bootstrap["static_resources"];
            tls_to_server(&mut resources["clusters"][mode.cluster()])["validation_context"]["trusted_ca"] =
                self.server.file("ca.pem");
            if mode == Mode::Bridge {
                let socket = &mut resources["listeners"][1]["filter_chains"][0]["transport_socket"];
                socket["typed_config"]["common_tls_context"]["tls_certificates"][0] = self.proxy.pair();
            }
        })
    }

    /// What the clients of the bridge expect of Envoy.
    pub fn client(&self) -> Tls {
        Tls::new(&self.proxy.directory().join("ca.pem"), PROXY)
    }

    /// Logs in as a client of this mode.
    pub fn log_in(&self, mode: Mode, envoy: &Envoy, login: &Login) -> Result<Client, u16> {
        let client = Client::connect(address(envoy));
        match mode {
            Mode::Originate => client.log_in(login),
            Mode::Bridge => client.log_in_with_tls(login, &self.client(), Hello::Together),
        }
    }

    /// Logs in, and asserts that the server uses TLS 1.3. Returns the error number of a refusal.
    pub fn use_tls(&self, mode: Mode, envoy: &Envoy, login: &Login) -> Option<u16> {
        let mut client = match self.log_in(mode, envoy, login) {
            Ok(client) => client,
            Err(errno) => return Some(errno),
        };
        assert_eq!(client.has_tls(), mode == Mode::Bridge);
        let response = client.query("SHOW STATUS LIKE 'Ssl_cipher'").0.concat();
        assert!(response.windows(4).any(|text| text == b"TLS_"), "{}", response.escape_ascii());
        client.quit();
        None
    }
}

/// The settings of TLS in a cluster with the transport socket `starttls`.
pub fn tls_to_server(cluster: &mut Value) -> &mut Value {
    &mut cluster["transport_socket"]["typed_config"]["tls_socket_config"]["common_tls_context"]
}

/// Results of TLS on one side, without zeros.
pub fn results(envoy: &Envoy, side: &str) -> BTreeMap<String, u64> {
    sums_of(&envoy.stable(QUIET), "tls_sessions_total", &[("side", side)], "result")
}

/// What [`results`] returns if all sessions have this result.
pub fn result(name: &str, count: u64) -> BTreeMap<String, u64> {
    [(name.to_owned(), count)].into()
}

/// The client of the newer MariaDB.
pub fn new_client() -> PathBuf {
    root().join("target/tools/new-mariadb")
}
