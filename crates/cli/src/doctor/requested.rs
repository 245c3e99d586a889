//! The destinations that the user names by `--dest` and `--side`.

use super::destination::{self, Destination, Reason, Side};
use super::envoy::dump::Dump;
use super::names;
use super::target::Target;

/// `--side`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum SideName {
    Inbound,
    Outbound,
}

/// The destinations that the user named, as this proxy knows them.
pub(super) fn requested(
    dump: &Dump,
    dest: &[Target],
    side: Option<SideName>,
) -> Result<Vec<Destination>, String> {
    let side = |ip| match side {
        Some(SideName::Inbound) => Side::Inbound,
        Some(SideName::Outbound) => Side::Outbound,
        None => destination::side(dump, ip),
    };
    let mut all = Vec::new();
    for target in dest {
        let (port, host, found) = match target {
            Target::Address(to) => (to.port(), None, names::of_address(to.ip())),
            Target::Host(host, port) => (*port, Some(host), names::resolve(dump, host, *port)?),
        };
        all.extend(found.addresses.into_iter().map(|ip| Destination {
            ip: Some(ip),
            port,
            host: host.cloned(),
            from_dns: found.from_dns,
            side: side(ip),
            reason: Reason::Requested,
        }));
    }
    Ok(all)
}
