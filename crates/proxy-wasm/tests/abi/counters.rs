//! Counters whose increments a server chooses. They never decrease.

use crate::host::{Ending, ORDERS, Vm};
use crate::scripts::{login, play};
use crate::sum;
use firstword_testing::packets::*;

/// Maximum that one response adds to `affected_rows_total`.
const PER_RESPONSE: u64 = 1 << 48;
/// Maximum of any counter of one configuration in one VM.
const PER_COUNTER: u64 = 1 << 56;

/// `OK_Packet` with 2^64-1 affected rows.
fn ok_with_all_rows(status: u16) -> Vec<u8> {
    let [s0, s1] = status.to_le_bytes();
    [&[0x00, 0xfe][..], &[0xff; 8], &[0, s0, s1, 0, 0]].concat()
}

#[test]
fn affected_rows_never_decrease() {
    let vm = Vm::start();
    let plugin = vm.plugin("");
    let stream = plugin.connect(&ORDERS);
    play(&stream, &login(CLIENT_CAPABILITIES));
    let affected = || sum(&vm, "affected_rows_total", &[]);
    let mut last = 0;
    for responses in 1..=300 {
        stream.client(&command(COM_QUERY, b"update t set a = a"));
        stream.server(&answer([ok_with_all_rows(AUTOCOMMIT)]));
        let calls = [plugin.tick(), plugin.tick()].concat();
        for call in calls.iter().filter(|call| call.name == "increment_metric") {
            let delta: i64 = call.what.split_once(' ').unwrap().1.parse().unwrap();
            // Only gauges may decrease, and this test changes no gauge.
            assert!((1..=1 << 48).contains(&delta), "{}", call.what);
        }
        assert_eq!(affected(), (responses * PER_RESPONSE).min(PER_COUNTER), "{responses}");
        assert!(affected() >= last);
        last = affected();
    }
    // Counters whose increments the server does not choose are not affected.
    assert_eq!(sum(&vm, "commands_total", &["command=.=query"]), 300);
    stream.close(Ending::ClientFin);
    plugin.flush();
    assert_eq!(affected(), PER_COUNTER);
    assert_eq!(vm.log(), []);
}

#[test]
fn several_results_count_as_one_response() {
    const MORE_RESULTS: u16 = 8;
    let vm = Vm::start();
    let plugin = vm.plugin("");
    let stream = plugin.connect(&ORDERS);
    play(&stream, &login(CLIENT_CAPABILITIES));
    stream.client(&command(COM_QUERY, b"call p()"));
    let more = || ok_with_all_rows(AUTOCOMMIT | MORE_RESULTS);
    stream.server(&answer([more(), more(), ok_with_all_rows(AUTOCOMMIT)]));
    stream.client(&command(COM_QUERY, b"update t set a = a"));
    stream.server(&answer([ok_with(7, AUTOCOMMIT)]));
    plugin.flush();
    assert_eq!(sum(&vm, "affected_rows_total", &[]), PER_RESPONSE + 7);
}

/// Nothing is exported between the responses, so that the sum in the filter could overflow before the exported counter.
#[test]
fn a_flush_after_many_responses_is_limited_too() {
    let vm = Vm::start();
    let plugin = vm.plugin("");
    let stream = plugin.connect(&ORDERS);
    play(&stream, &login(CLIENT_CAPABILITIES));
    for _ in 0..300 {
        stream.client(&command(COM_QUERY, b"update t set a = a"));
        stream.server(&answer([ok_with_all_rows(AUTOCOMMIT)]));
    }
    plugin.flush();
    assert_eq!(sum(&vm, "affected_rows_total", &[]), PER_COUNTER);
}
