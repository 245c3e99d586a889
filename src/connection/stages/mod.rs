//! Stages: each changes, holds or drops bytes for one feature. A stage that is not needed is absent, and its absence costs
//! one comparison.

#[cfg(not(target_family = "wasm"))]
mod auth_data;
pub(super) mod block_local_infile;
pub(super) mod clear_capabilities;
pub(super) mod greeting_flags;
pub(super) mod hold_split_eof;
#[cfg(not(target_family = "wasm"))]
mod packet_headers;
#[cfg(not(target_family = "wasm"))]
pub(super) mod password_guard;
#[cfg(target_family = "wasm")]
#[path = "password_guard/absent.rs"]
pub(super) mod password_guard;
pub(super) mod proxy_header;
#[cfg(not(target_family = "wasm"))]
pub(super) mod tls_originate;
#[cfg(target_family = "wasm")]
#[path = "tls_originate/absent.rs"]
pub(super) mod tls_originate;
#[cfg(not(target_family = "wasm"))]
pub(super) mod tls_terminate;
#[cfg(target_family = "wasm")]
#[path = "tls_terminate/absent.rs"]
pub(super) mod tls_terminate;

use std::mem::size_of;

use crate::clock::Timestamp;
use crate::connection::chunk::{Chunk, TickVerdict};
use crate::connection::inspector::landmarks::{InspectionEnd, Landmarks};
use crate::connection::rewrite::{Flow, Rewrite};
use crate::connection::stages::proxy_header::Believed;
use crate::event::ClosedBy;
use crate::event::output::Output;
use crate::rules::Rules;

/// Facts about an inspected chunk, for stages after the inspector.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Landmarks in a chunk of the server.
    pub(super) marks: Landmarks,
    /// True if the connection is no longer inspected.
    pub(super) is_opaque: bool,
    /// True if the stream of the sender ends after the chunk.
    pub(super) end_stream: bool,
    /// PROXY header of the client. `None` if the client sent no header, or if it is not believed.
    pub(super) believed: Option<Believed>,
}

/// One feature that changes bytes. A stage implements the hooks that it needs.
///
/// Before the inspector a stage may only renumber packets in place and strip bytes before them, because the inspector must
/// see one consistent conversation. After the inspector it may make every change that [`Rewrite`] supports.
pub(super) trait Stage: Sized {
    /// True if the stage reads [`Seen::marks`].
    const USES_LANDMARKS: bool = false;

    /// Creates the stage of one connection. `None` if `rules` do not require it.
    fn new(rules: &Rules, opened: Timestamp) -> Option<Self>;

    /// Takes a chunk of the client before the inspector.
    fn client_before<C: Chunk>(&mut self, _: &mut Rewrite<C>, _end_stream: bool, _: &mut Output) -> Flow {
        Flow::Continue
    }

    /// Takes a chunk of the client after the inspector.
    fn client_after<C: Chunk>(&mut self, _: &mut Rewrite<C>, _: &Seen, _: &mut Output) -> Flow {
        Flow::Continue
    }

    /// Takes a chunk of the server before the inspector.
    fn server_before<C: Chunk>(&mut self, _: &mut Rewrite<C>, _: &mut Output) -> Flow {
        Flow::Continue
    }

    /// Takes a chunk of the server after the inspector.
    fn server_after<C: Chunk>(&mut self, _: &mut Rewrite<C>, _: &Seen, _: &mut Output) -> Flow {
        Flow::Continue
    }

    /// Takes the end of inspection, which the chunk caused.
    fn end_of_inspection<C: Chunk>(&mut self, _: &mut Rewrite<C>, _: &InspectionEnd, _: &mut Output) -> Flow {
        Flow::Continue
    }

    /// Takes the end of the connection. `withheld`: bytes of the server are still withheld.
    fn close(&self, _: ClosedBy, _withheld: bool, _: &mut Output) {}

    /// True if [`Stage::tick`] closes the connection.
    fn is_due(&self, _now: Timestamp) -> bool {
        self.is_final()
    }

    /// Takes the time.
    fn tick(&mut self, _now: Timestamp, _: &mut Output) -> TickVerdict {
        if self.is_final() { TickVerdict::Close } else { TickVerdict::Continue }
    }

    /// Number of the client's bytes that are held.
    fn held(&self) -> usize {
        0
    }

    /// True if the host must not connect to the server before a chunk of the client gets a verdict other than hold.
    fn holds_connection(&self) -> bool {
        false
    }

    /// True once the stage has finished.
    fn is_over(&self) -> bool {
        false
    }

    /// True once the connection is refused or blocked. The stage then stays, even when rules are turned off, because the
    /// connection must forward nothing until it is closed.
    fn is_final(&self) -> bool {
        false
    }

    /// True if the stage stays when rules are turned off, because the connection cannot continue without it.
    fn stays(&self) -> bool {
        self.is_final()
    }

    /// Heap memory in bytes, including this stage.
    fn memory(&self) -> usize {
        size_of::<Self>()
    }
}

/// Declares the stages of a connection. Each direction runs them from top to bottom, until one does not continue.
macro_rules! stages {
    ($($name:ident: $stage:ty,)*) => {
        /// Stages of one connection.
        #[derive(Debug)]
        struct Stages {
            $($name: Option<Box<$stage>>,)*
            /// Heap memory in bytes. It is stored because every callback needs it, and it changes only when a stage is removed.
            memory: usize,
        }

        impl Stages {
            /// Creates the stages that `rules` require.
            fn new(rules: &Rules, opened: Timestamp) -> Self {
                let mut stages =
                    Self { $($name: <$stage>::new(rules, opened).map(Box::new),)* memory: 0 };
                stages.count_memory();
                stages
            }

            fn client_before<C: Chunk>(
                &mut self,
                rewrite: &mut Rewrite<C>,
                end_stream: bool,
                out: &mut Output,
            ) -> Flow {
                stages!(@run self, $($name)*, |stage| stage.client_before(rewrite, end_stream, out))
            }

            fn client_after<C: Chunk>(&mut self, rewrite: &mut Rewrite<C>, seen: &Seen, out: &mut Output) -> Flow {
                stages!(@run self, $($name)*, |stage| stage.client_after(rewrite, seen, out))
            }

            fn server_before<C: Chunk>(&mut self, rewrite: &mut Rewrite<C>, out: &mut Output) -> Flow {
                stages!(@run self, $($name)*, |stage| stage.server_before(rewrite, out))
            }

            fn server_after<C: Chunk>(&mut self, rewrite: &mut Rewrite<C>, seen: &Seen, out: &mut Output) -> Flow {
                stages!(@run self, $($name)*, |stage| stage.server_after(rewrite, seen, out))
            }

            fn end_of_inspection<C: Chunk>(
                &mut self,
                rewrite: &mut Rewrite<C>,
                end: &InspectionEnd,
                out: &mut Output,
            ) -> Flow {
                stages!(@run self, $($name)*, |stage| stage.end_of_inspection(rewrite, end, out))
            }

            fn close(&self, by: ClosedBy, withheld: bool, out: &mut Output) {
                $(if let Some(stage) = &self.$name { stage.close(by, withheld, out); })*
            }

            /// True if there is no stage, so that only the inspector takes the bytes.
            fn are_absent(&self) -> bool {
                true $(&& self.$name.is_none())*
            }

            fn uses_landmarks(&self) -> bool {
                false $(|| <$stage>::USES_LANDMARKS && self.$name.is_some())*
            }

            fn is_due(&self, now: Timestamp) -> bool {
                false $(|| self.$name.as_ref().is_some_and(|stage| stage.is_due(now)))*
            }

            fn tick(&mut self, now: Timestamp, out: &mut Output) -> TickVerdict {
                $(if self.$name.as_mut().is_some_and(|stage| stage.tick(now, out) == TickVerdict::Close) {
                    return TickVerdict::Close;
                })*
                TickVerdict::Continue
            }

            fn holds_connection(&self) -> bool {
                false $(|| self.$name.as_ref().is_some_and(|stage| stage.holds_connection()))*
            }

            fn is_blocked(&self) -> bool {
                false $(|| self.$name.as_ref().is_some_and(|stage| stage.is_final()))*
            }

            /// Frees the stages that have finished.
            fn drop_finished(&mut self) {
                let is_any_over = false $(|| self.$name.as_ref().is_some_and(|stage| stage.is_over()))*;
                if is_any_over {
                    $(self.$name.take_if(|stage| stage.is_over());)*
                    self.count_memory();
                }
            }

            /// Removes every stage that does not stay. Returns the number of held bytes of the client. `None` if neither bytes
            /// nor the connection to the server were held.
            fn disable(&mut self) -> Option<usize> {
                let (mut held, mut held_connection) = (0_usize, false);
                $(if let Some(stage) = self.$name.take_if(|stage| !stage.stays()) {
                    held = held.max(stage.held());
                    held_connection |= stage.holds_connection();
                })*
                self.count_memory();
                (held > 0 || held_connection).then_some(held)
            }

            fn count_memory(&mut self) {
                self.memory = 0_usize
                    $(.saturating_add(self.$name.as_ref().map_or(0, |stage| stage.memory())))*;
            }
        }
    };
    (@run $self:ident, $($name:ident)*, |$stage:ident| $call:expr) => {{
        $(if let Some($stage) = &mut $self.$name {
            let flow = $call;
            if flow != Flow::Continue {
                return flow;
            }
        })*
        Flow::Continue
    }};
}

pub(super) use stages;

#[cfg(test)]
mod tests {
    #![allow(dead_code, reason = "the test uses a part of the table")]

    use super::*;

    /// Stage of zero bytes.
    #[derive(Debug)]
    struct Fieldless;

    impl Stage for Fieldless {
        fn new(_: &Rules, _: Timestamp) -> Option<Self> {
            Some(Self)
        }
    }

    stages! {
        fieldless: Fieldless,
    }

    #[test]
    fn a_stage_without_fields_is_not_absent() {
        let stages = Stages::new(&Rules::observe_only(), Timestamp::default());
        assert!(!stages.are_absent());
        assert_eq!(stages.memory, 0);
    }
}
