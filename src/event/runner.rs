//! Runs the callbacks of the core.
//!
//! This is the only code that collects the output of a callback: the filter, `inspect`, the replay tests and the fuzz
//! targets all use it.

use crate::clock::{Clock, Timestamp};
use crate::event::Event;
use crate::event::details::Details;
use crate::event::output::Output;

/// Maximum number of events, and of details, whose memory is kept between callbacks.
const MAX_KEPT: usize = 1024;

/// The lists of one callback, reused so that callbacks do not allocate.
#[derive(Debug, Default)]
pub struct Runner {
    events: Vec<Event>,
    details: Details,
}

impl Runner {
    /// Runs one callback: `call` writes to an [`Output`], and `receive` gets what was written, in order. `receive` gets it in
    /// parts if there is much of it, and at least once.
    ///
    /// `now` is called at most once. `room` is the maximum number of bytes that the connection may withhold from now on.
    pub fn run<T>(
        &mut self,
        now: &dyn Fn() -> Timestamp,
        room: usize,
        receive: &mut dyn FnMut(&[Event], &mut Details),
        call: impl FnOnce(&mut Output) -> T,
    ) -> T {
        let Self { events, details } = self;
        let mut clock = Clock::new(now);
        let mut drain = |events: &mut Vec<Event>, details: &mut Details| {
            receive(events, details);
            events.clear();
            details.clear();
        };
        let mut out = Output::new(events, &mut clock, details).with_drain(&mut drain).with_room(room);
        let result = call(&mut out);
        drain(events, details);
        // Release the memory that one large callback needed.
        if events.capacity() > MAX_KEPT || details.capacity() > MAX_KEPT {
            events.shrink_to(MAX_KEPT);
            details.shrink_to(MAX_KEPT);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{OpaqueReason, Sender};

    #[test]
    fn output_is_received_in_order_and_in_parts() {
        let mut runner = Runner::default();
        let source = ([192, 0, 2, 1], 1).into();
        let mut received = Vec::new();
        let result = runner.run(
            &Timestamp::default,
            7,
            &mut |events, details| received.push((events.len(), details.source.take())),
            |out| {
                for _ in 0..1500 {
                    out.events.push(Event::Bytes { sender: Sender::Client, count: 1 });
                    out.between_reads();
                }
                out.details.source = Some(source);
                out.events.push(Event::Opaque(OpaqueReason::Desync));
                out.room
            },
        );
        assert_eq!(result, 7);
        assert_eq!(received, [(1024, None), (477, Some(source))]);
        runner.run(&Timestamp::default, 0, &mut |events, _| assert!(events.is_empty()), |_| ());
    }
}
