//! Details of commands that are recorded on request: slow and failed commands, and identities that the server accepted.

use std::time::Duration;

use super::{CommandPhase, Queued};
use crate::clock::Timestamp;
use crate::event::Tally;
use crate::event::details::Details;
use crate::event::details::SlowCommand;
use crate::mysql::wire::command::Command;
use crate::rules::Field;
use crate::session::pending::RequestedIdentity;

impl CommandPhase {
    /// Records the account and the schema of a command after the server's decision.
    pub(super) fn apply_identity(
        &mut self,
        command: Command,
        identity: RequestedIdentity,
        errno: Option<u16>,
        details: &mut Details,
    ) {
        if errno.is_none() {
            if let Some(schema) = identity.schema {
                details.record(self.options.interests, Field::Schema, || schema);
            }
            if command == Command::CHANGE_USER {
                self.user = identity.user;
            }
        } else if command == Command::CHANGE_USER
            && self.queue.iter().all(|(queued, _)| queued.command != Command::CHANGE_USER)
        {
            details.record(self.options.interests, Field::User, || self.user.clone().unwrap_or_default());
        }
    }

    /// Records a command if it was slow or failed. `tally`: `None` if the response did not arrive. `commands`: number of
    /// equal commands that the record stands for.
    pub(super) fn record_slow(
        &self,
        queued: &Queued,
        duration: Duration,
        commands: usize,
        tally: Option<&Tally>,
        details: &mut Details,
    ) {
        let errno = tally.and_then(|tally| tally.errno);
        if !self.options.interests.slow_after.is_some_and(|slow| duration >= slow || errno.is_some()) {
            return;
        }
        let Queued { command, verb, pending, .. } = queued;
        let (digest, traceparent) = pending
            .as_ref()
            .map(|pending| pending.statement(self.capabilities, self.escapes))
            .unwrap_or_default();
        let (command, verb, answered) = (*command, *verb, tally.is_some());
        details.slow.push(SlowCommand {
            command,
            verb,
            commands,
            duration,
            errno,
            answered,
            digest,
            traceparent,
        });
    }

    /// Records the commands without a response as slow ones, because the connection ends.
    pub(in super::super) fn record_unanswered(&self, now: Timestamp, details: &mut Details) {
        for (queued, count) in self.queue.iter() {
            self.record_slow(queued, now.since(queued.started), count, None, details);
        }
    }
}
