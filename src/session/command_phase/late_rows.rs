//! Rows that follow a response which looked complete.
//!
//! The response to a COM_STMT_EXECUTE that requests a cursor can end at the EOF after the column definitions. It does if the
//! EOF has `SERVER_STATUS_CURSOR_EXISTS`: the rows wait for COM_STMT_FETCH. MariaDB also sets that flag while a stored
//! routine has an open cursor, and then the rows follow at once. Only the next packet shows which case it is.

use super::CommandPhase;
use crate::event::output::{Outcome, Output};
use crate::event::violation::Rule;
use crate::event::{Event, Tally};
use crate::mysql::wire::packet::Packet;
use crate::session::response::{ResponseState, Step};

/// A response that looked complete, and the part of it that was counted then.
#[derive(Debug)]
pub(super) struct LateRows {
    response: ResponseState,
    counted: Tally,
}

impl LateRows {
    /// `None` if no row can follow.
    pub(super) fn of(response: &ResponseState) -> Option<Box<Self>> {
        let (response, counted) = (*response, response.tally());
        response.rows_may_follow().then(|| Box::new(Self { response, counted }))
    }
}

impl CommandPhase {
    /// Takes the server's next packet, which continues the response.
    pub(super) fn late_row(&mut self, packet: &Packet, out: &mut Output) -> Outcome {
        let Some(late) = &mut self.late_rows else { return Ok(()) };
        match late.response.packet(packet, self.capabilities) {
            Step::More => {}
            // The definitions of a further result set, which looks complete again.
            Step::Done if late.response.rows_may_follow() => {}
            Step::Done => self.end_late_rows(out.events),
            Step::Unexpected => return Err(out.desync(Rule::Response)),
            Step::Malformed(error) => return Err(out.malformed(Rule::Response, error)),
        }
        Ok(())
    }

    /// Emits the uncounted part of the response, because no more of its rows follow.
    pub(super) fn end_late_rows(&mut self, events: &mut Vec<Event>) {
        let Some(late) = self.late_rows.take() else { return };
        let tally = late.response.tally().since(&late.counted);
        if tally != Tally::default() {
            events.push(Event::ResponseContinued(tally));
        }
    }
}
