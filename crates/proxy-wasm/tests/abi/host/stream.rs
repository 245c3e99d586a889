//! Connections: their callbacks, in Envoy's order.

use std::cell::RefCell;

use super::{
    Call, DOWNSTREAM_DATA, UPSTREAM_DATA, callback, count, delete_context, host, new_context, proxy_on_done,
    proxy_on_downstream_connection_close, proxy_on_downstream_data, proxy_on_log, proxy_on_new_connection,
    proxy_on_upstream_connection_close, proxy_on_upstream_data, set_property,
};

/// `proxy_action_t`.
const CONTINUE: u32 = 0;
const PAUSE: u32 = 1;

/// `proxy_peer_type_t`.
const PEER_UNKNOWN: u32 = 0;
const PEER_LOCAL: u32 = 1;
const PEER_REMOTE: u32 = 2;

/// Bit of `response.flags`: Envoy could not connect to the upstream.
const UPSTREAM_CONNECTION_FAILURE: u64 = 1 << 5;
/// Bit of `response.flags`: the upstream reset the connection.
const UPSTREAM_REMOTE_RESET: u64 = 1 << 4;

/// Destination of a connection.
#[derive(Clone, Debug)]
pub struct Destination {
    /// `xds.listener_direction`: 0 unspecified, 1 inbound, 2 outbound.
    pub direction: Option<u64>,
    /// `destination.address`.
    pub address: &'static str,
    /// `xds.cluster_name`. `None` if Envoy chooses no cluster.
    pub cluster: Option<&'static str>,
}

/// Destination of an outbound connection to the cluster `orders`.
pub const ORDERS: Destination =
    Destination { direction: Some(2), address: "10.0.0.5:3306", cluster: Some("orders") };

/// Way in which a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    ClientFin,
    ClientReset,
    ServerFin,
    ServerReset,
    /// Envoy cannot connect to the upstream.
    Refused,
    /// Envoy closes the connection.
    Drain,
    /// Envoy deletes the filter without a close callback.
    TornDown,
}

impl Ending {
    pub const ALL: [Self; 7] = [
        Self::ClientFin,
        Self::ClientReset,
        Self::ServerFin,
        Self::ServerReset,
        Self::Refused,
        Self::Drain,
        Self::TornDown,
    ];
}

/// Connection. Every callback must return Continue and must not exceed its budget of host calls.
pub struct Stream {
    id: u32,
    /// Held bytes of the client, in Envoy's buffer.
    held: RefCell<Vec<u8>>,
}

/// Outcome of a callback about the client's bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// These bytes are forwarded to the server.
    Forwarded(Vec<u8>),
    /// The bytes are held.
    Held,
    /// The connection is closed.
    Closed,
}

impl Stream {
    /// Opens a connection of the plugin with this root context.
    pub(super) fn open(root: u32, source: Option<&str>, to: &Destination) -> (Self, bool, Vec<Call>) {
        let id = new_context(root);
        set_property(id, "source.address", source.map(Into::into));
        set_property(id, "xds.listener_direction", to.direction.map(|code| code.to_le_bytes().to_vec()));
        set_property(id, "destination.address", Some(to.address.into()));
        let (action, calls) = callback(id, || proxy_on_new_connection(id));
        assert!([CONTINUE, PAUSE].contains(&action), "on_new_connection: {action}");
        let clock = count(&calls, "get_current_time_nanoseconds");
        assert!(clock <= 1 + count(&calls, "log"), "{calls:?}");
        assert_eq!(count(&calls, "get_buffer_bytes"), 0, "{calls:?}");
        assert_no_metric_calls(&calls);
        set_property(id, "xds.cluster_name", to.cluster.map(Into::into));
        (Self { id, held: RefCell::default() }, action == CONTINUE, calls)
    }

    /// Passes bytes of the client in one callback, which must forward them unchanged.
    pub fn client(&self, bytes: &[u8]) -> Vec<Call> {
        self.data(DOWNSTREAM_DATA, bytes, false)
    }

    /// Passes bytes of the client in one callback, together with the bytes that were held before. Returns the outcome and the
    /// host calls.
    pub fn pass_client(&self, bytes: &[u8], end_of_stream: bool) -> (Outcome, Vec<Call>) {
        let mut held = self.held.borrow_mut();
        held.extend(bytes);
        host(|host| host.buffer = Some((DOWNSTREAM_DATA, held.clone())));
        let ((action, left), calls) = callback(self.id, || {
            let action = proxy_on_downstream_data(self.id, held.len(), end_of_stream);
            (action, host(|host| host.buffer.take()).expect("a buffer").1)
        });
        assert_no_metric_calls(&calls);
        let outcome = match action {
            CONTINUE => {
                held.clear();
                Outcome::Forwarded(left)
            }
            PAUSE if count(&calls, "close_stream") == 1 => Outcome::Closed,
            PAUSE => Outcome::Held,
            other => panic!("action {other}"),
        };
        (outcome, calls)
    }

    /// Passes bytes of the server in one callback, which must forward them unchanged.
    pub fn server(&self, bytes: &[u8]) -> Vec<Call> {
        self.data(UPSTREAM_DATA, bytes, false)
    }

    /// Passes bytes of the server in one callback. Returns the forwarded bytes and the host calls.
    pub fn pass_server(&self, bytes: &[u8], end_of_stream: bool) -> (Vec<u8>, Vec<Call>) {
        host(|host| host.buffer = Some((UPSTREAM_DATA, bytes.to_vec())));
        let ((action, left), calls) = callback(self.id, || {
            let action = proxy_on_upstream_data(self.id, bytes.len(), end_of_stream);
            (action, host(|host| host.buffer.take()).expect("a buffer").1)
        });
        assert_eq!(action, CONTINUE, "the server's bytes cannot be paused");
        assert_no_metric_calls(&calls);
        (left, calls)
    }

    /// Passes bytes of the server with the end of its stream.
    pub fn server_end(&self, bytes: &[u8]) {
        self.data(UPSTREAM_DATA, bytes, true);
        callback(self.id, || proxy_on_upstream_connection_close(self.id, PEER_UNKNOWN));
    }

    /// Passes the end of the client's stream.
    pub fn client_end(&self) {
        self.data(DOWNSTREAM_DATA, b"", true);
    }

    fn data(&self, buffer: u32, bytes: &[u8], end_of_stream: bool) -> Vec<Call> {
        host(|host| host.buffer = Some((buffer, bytes.to_vec())));
        let (action, calls) = callback(self.id, || match buffer {
            DOWNSTREAM_DATA => proxy_on_downstream_data(self.id, bytes.len(), end_of_stream),
            _ => proxy_on_upstream_data(self.id, bytes.len(), end_of_stream),
        });
        assert_eq!(action, CONTINUE, "data callback");
        assert_no_metric_calls(&calls);
        let reads = 1 + bytes.len().saturating_sub(16 << 10).div_ceil(64 << 10);
        assert!(count(&calls, "get_buffer_bytes") <= reads, "{} bytes: {calls:?}", bytes.len());
        let clock = count(&calls, "get_current_time_nanoseconds");
        assert!(clock <= 1 + count(&calls, "log"), "{calls:?}");
        calls
    }

    /// The filter state `wasm.firstword.KEY`.
    pub fn state(&self, key: &str) -> Option<String> {
        let key = (self.id, format!("firstword.{key}"));
        host(|host| host.state.get(&key).cloned())
    }

    /// Records that the connection to the server is established.
    pub fn established(&self) {
        set_property(self.id, "upstream.address", Some("10.0.0.5:3306".into()));
    }

    /// Calls the callbacks of an ending, in Envoy's order. Returns the host calls of the close itself.
    pub fn close(self, ending: Ending) -> Vec<Call> {
        let flags = match ending {
            Ending::Refused => UPSTREAM_CONNECTION_FAILURE,
            Ending::ServerReset => UPSTREAM_REMOTE_RESET,
            _ => 0,
        };
        set_property(self.id, "response.flags", Some(flags.to_le_bytes().to_vec()));
        let peer = match ending {
            Ending::ClientFin => {
                self.client_end();
                self.server_end(b"");
                PEER_LOCAL
            }
            Ending::ServerFin => {
                self.server_end(b"");
                self.client_end();
                PEER_REMOTE
            }
            Ending::ClientReset => PEER_REMOTE,
            Ending::ServerReset | Ending::Refused | Ending::Drain | Ending::TornDown => PEER_LOCAL,
        };
        let mut calls = Vec::new();
        if ending != Ending::TornDown {
            calls = callback(self.id, || proxy_on_downstream_connection_close(self.id, peer)).1;
        }
        let (done, more) = callback(self.id, || proxy_on_done(self.id));
        assert!(done, "on_done");
        callback(self.id, || proxy_on_log(self.id));
        delete_context(self.id);
        calls.extend(more);
        calls
    }
}

fn assert_no_metric_calls(calls: &[Call]) {
    let metric = calls.iter().find(|call| call.name.ends_with("_metric"));
    assert_eq!(metric, None, "a metric call on the data path");
}
