//! What clients did: the counts that the filter must have.

use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub connections: u64,
    /// Number of commands by the filter's label.
    pub commands: BTreeMap<&'static str, u64>,
    pub rows: u64,
    /// Number of commands that ended with an error.
    pub errors: u64,
    /// Number of bytes of contents that were compared, in both directions.
    pub checked: u64,
}

impl Tally {
    pub fn command(&mut self, label: &'static str) {
        *self.commands.entry(label).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        for (label, count) in &other.commands {
            *self.commands.entry(label).or_default() += count;
        }
        self.rows += other.rows;
        self.errors += other.errors;
        self.checked += other.checked;
    }

    pub fn all_commands(&self) -> u64 {
        self.commands.values().sum()
    }
}

/// Number of hostile connections to the listeners `flood` and `proxied`.
pub type Attacks = [u64; 2];

/// What the clients did through the filter.
#[derive(Default)]
pub struct Counts {
    pub good: Tally,
    /// Number of connections that were cut.
    pub cut: u64,
    pub attacks: Attacks,
}

impl Counts {
    pub fn add_attacks(&mut self, attacks: Attacks) {
        self.attacks.iter_mut().zip(attacks).for_each(|(all, more)| *all += more);
    }
}
