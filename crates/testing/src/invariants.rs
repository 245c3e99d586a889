//! Properties of the events of one connection that hold for any traffic.

use firstword::event::{Event, Sender};

/// Asserts that some events occur once, and that each gauge returns to 0.
pub fn assert_balanced(events: &[Event]) {
    let count = |is: fn(&Event) -> bool| events.iter().filter(|event| is(event)).count();
    let sum = |of: fn(&Event) -> i64| events.iter().map(of).sum::<i64>();
    assert_eq!(count(|event| matches!(event, Event::Recognised { .. })), 1);
    assert_eq!(count(|event| matches!(event, Event::Closed { .. })), 1);
    assert!(count(|event| matches!(event, Event::Opaque(_))) <= 1);
    assert!(count(|event| matches!(event, Event::Handshake { .. })) <= 1);
    let in_flight = sum(|event| match event {
        Event::CommandStarted(_) => 1,
        Event::CommandEnded { .. } => -1,
        Event::CommandsAbandoned { count, .. } => -i64::try_from(*count).expect("a count"),
        _ => 0,
    });
    let stalled = sum(|event| if let Event::Stalled { change } = event { *change } else { 0 });
    let statements = sum(|event| if let Event::PreparedStatements { change } = event { *change } else { 0 });
    let transactions = sum(|event| match event {
        Event::Transaction { open } => i64::from(*open) * 2 - 1,
        _ => 0,
    });
    assert_eq!((in_flight, stalled, statements, transactions), (0, 0, 0, 0), "{events:?}");
    // The gauge of connections has a series for each protocol.
    let waiting = events.iter().filter_map(|event| match event {
        Event::Waiting(protocol) => Some(*protocol),
        _ => None,
    });
    let left = events.iter().filter_map(|event| match event {
        Event::Recognised { waited_as, .. } => *waited_as,
        _ => None,
    });
    assert!(waiting.eq(left), "{events:?}");
    let recognised = events.iter().find_map(|event| match event {
        Event::Recognised { protocol, .. } => Some(*protocol),
        _ => None,
    });
    let closed = events.iter().find_map(|event| match event {
        Event::Closed { protocol, .. } => Some(*protocol),
        _ => None,
    });
    assert_eq!(recognised, closed);
}

/// Number of bytes from `sender` that the events count.
pub fn byte_count(events: &[Event], sender: Sender) -> u64 {
    let counts = events.iter().map(|event| match event {
        Event::Bytes { sender: from, count } if *from == sender => *count,
        _ => 0,
    });
    counts.sum()
}
