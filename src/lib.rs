//! Firstword: a filter for connections on which the server speaks first, above all those of MySQL. This library has no host.
//! The shells in `crates/` connect it to a proxy.
//!
//! # Map
//!
//! A module uses only modules on lower levels. `tests/layout.rs` holds the same table and checks it. The last column has all
//! arrows of a module, so it shows everything that a change can affect.
//!
//! ```text
//! level  module            contents                                        uses
//! -----  ----------------  ----------------------------------------------  ----------------------------------------------
//!   9    filter            one configuration on one worker; Host is the    connection config metrics event ports rules
//!                          only word for the proxy                         mysql proxy_protocol clock escape
//!                                                                          password_key version
//!   8    connection        one connection: its table of stages             stages rewrite inspector chunk event rules clock
//!   7     - stages         change, hold or drop bytes                      inspector rewrite chunk event rules mysql
//!                                                                          proxy_protocol clock password_key
//!   6     - inspector      reads bytes, cannot change one                  chunk session event rules mysql
//!                                                                          proxy_protocol clock
//!   6     - rewrite        combines the changes of all stages              chunk
//!   5     - chunk          bytes of a callback, verdicts
//!   5    config            JSON -> settings                                metrics event rules proxy_protocol escape
//!   4    session           state machines of a MySQL session               event rules mysql clock
//!   4    metrics           catalogue, accumulation, encoding               event mysql proxy_protocol version
//!   3    event             observations, and the output of a callback      rules mysql proxy_protocol clock escape labels
//!   3    ports             built-in port table                             rules
//!   2    rules             settings of one connection                      proxy_protocol labels password_key
//!   1    mysql             packets, statements, versions of the peers      escape labels
//!   1    proxy_protocol    PROXY headers                                   labels
//!   0    clock             time, supplied by the host
//!   0    escape            text of peers, made safe for logs
//!   0    labels            enumerations of label values
//!   0    password_key      the shell's RSA key for passwords
//!   0    version           version and commit of this build
//! ```
//!
//! # The path of one byte
//!
//! 1. A shell gets bytes from its proxy and passes them as a [`connection::chunk::Chunk`] to [`filter::stream::Stream`]. The
//!    bytes stay with the proxy until they are read. The stream runs the callback with [`event::runner::Runner`].
//! 2. [`connection::Connection`] runs its table of stages, from top to bottom. Before the inspector, stages receive PROXY
//!    headers, refuse later ones, and drop the bytes of a blocked connection.
//! 3. The inspector counts the byte. Until it knows which peer speaks first, [`connection::inspector::detect`] reads the
//!    first bytes. It never holds a byte to see more.
//! 4. On a MySQL connection, [`mysql::wire::packet::Framer`] takes the byte as part of a packet header, of the prefix of a
//!    packet, or of the rest, which it does not even read.
//! 5. [`session::Session`] takes each prefix. It follows both directions and emits [`event::Event`]s. A packet that is not
//!    valid in the current state makes the connection opaque: its bytes are still forwarded and counted, but not inspected.
//! 6. The table runs again: after the inspector, stages change, hold or drop the byte. All changes of the chunk become one edit, and the
//!    verdict goes back to the shell.
//! 7. The stream records the events in [`metrics::Accumulator`], in access-log state and in the log. A tick exports the
//!    metrics.
//!
//! # Example
//!
//! A greeting goes in, an event comes out.
//!
//! ```
//! use bytes::Bytes;
//! use firstword::clock::Timestamp;
//! use firstword::connection::Connection;
//! use firstword::connection::chunk::ServerVerdict;
//! use firstword::event::runner::Runner;
//! use firstword::event::{Event, ServerFirst};
//! use firstword::rules::Rules;
//!
//! // A packet header, protocol version 10, the server version, the thread id, and so on.
//! let mut greeting = b"\0\0\0\0\x0a8.0.41\0\x07\0\0\0abcdefgh\0\xff\xf7\x21\x02\0\xff\xdf\x15".to_vec();
//! greeting.extend([0; 10]);
//! greeting.extend(b"ijklmnopqrst\0mysql_native_password\0");
//! greeting[0] = (greeting.len() - 4) as u8;
//!
//! let now = Timestamp::from_nanos(1);
//! let mut connection = Connection::new(&Rules::observe_only(), now);
//! let mut emitted = Vec::new();
//! let verdict = Runner::default().run(
//!     &|| now,                                                   // the host's clock
//!     usize::MAX,                                                // bytes that the connection may withhold
//!     &mut |events, _details| emitted.extend_from_slice(events), // receives the output
//!     |out| connection.server(&Bytes::from(greeting), false, out),
//! );
//! assert_eq!(verdict, ServerVerdict::Pass);
//! assert!(emitted.contains(&Event::ServerFirst(ServerFirst::Mysql)));
//! ```

#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

pub mod clock;
pub mod config;
pub mod connection;
pub mod escape;
pub mod event;
pub mod filter;
mod labels;
pub mod metrics;
pub mod mysql;
pub mod password_key;
pub mod ports;
pub mod proxy_protocol;
pub mod rules;
pub mod session;
mod version;

pub use version::{COMMIT, VERSION};
