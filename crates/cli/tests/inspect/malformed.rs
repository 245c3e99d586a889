//! Invalid and incomplete captures: the command ends in time with a message that names the problem and its position.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use firstword::event::Sender;

use crate::links::recorded_as;
use crate::run;
use crate::wire::{Talk, pcap, pcapng};

fn assert_refused(input: &[u8], problem: &str) {
    let printed = run(&["-"], input);
    assert_eq!(printed.problem, format!("standard input: {problem}\n"));
    assert_eq!(printed.code, 2, "{problem}");
}

/// Asserts that only the problem is printed, as text and as JSON.
fn assert_not_read(input: &[u8], problem: &str) {
    assert_refused(input, problem);
    for arguments in [&["-"][..], &["-o", "json", "-"]] {
        assert_eq!(run(arguments, input).output, "", "{problem}");
    }
}

#[test]
fn a_file_that_is_not_a_capture_is_refused() {
    let foreign = |found: &str| format!("byte 0: expected a pcap or pcapng file, found {found}");
    assert_not_read(b"", &foreign("an empty one"));
    assert_not_read(b"hello, world", &foreign("one that begins with the bytes 68 65 6c 6c 6f 2c 20 77"));
    assert_not_read(
        b"\x1f\x8b\x08\0",
        &foreign("one compressed by gzip: try gzip -dc FILE | firstword inspect -"),
    );
    assert_not_read(
        b"\x28\xb5\x2f\xfd\0",
        &foreign("one compressed by Zstandard: try zstd -dc FILE | firstword inspect -"),
    );
    let frames = Talk::whole(&recorded_as("mariadb-auth-native")).frames;
    for file in [pcap(&frames), pcapng(&frames)] {
        assert_not_read(
            &file[..20],
            &foreign(&{
                let bytes: Vec<_> = file[..8].iter().map(|byte| format!("{byte:02x}")).collect();
                format!("one that begins with the bytes {}", bytes.join(" "))
            }),
        );
    }
    let printed = run(&["no/such/file"], b"");
    assert_eq!(printed.code, 2);
    assert_eq!(printed.problem, "no/such/file: cannot read it: No such file or directory (os error 2)\n");
    let printed = run(&["src"], b"");
    assert_eq!(
        (printed.code, printed.problem.as_str()),
        (2, "src: cannot read it: Is a directory (os error 21)\n")
    );
}

#[test]
fn an_incomplete_capture_is_reported_up_to_its_end() {
    let frames = Talk::whole(&recorded_as("mariadb-auth-native")).frames;
    let file = pcap(&frames);
    let printed = run(&["-"], &file[..file.len() - 3]);
    let last = 16 + crate::wire::bytes(&frames[0], crate::wire::Link::Ethernet, false).len();
    let at = file.len() - last;
    let packets = frames.len() - 1;
    assert_eq!(
        printed.problem,
        format!(
            "standard input: byte {at}, behind packet {packets}: expected a whole record, found {} bytes and the end of \
             the file\n",
            last - 3
        )
    );
    assert_eq!(printed.code, 2);
    assert!(
        printed.output.contains(&format!("standard input: {packets} packets, 1 connection\n")),
        "{}",
        printed.output
    );
    // The same in JSON.
    let printed = run(&["-o", "json", "-"], &file[..file.len() - 3]);
    assert!(printed.json()["problem"].as_str().unwrap().starts_with(&format!("byte {at}, behind packet")));
    let ng = pcapng(&frames);
    let mut wild = ng.clone();
    // The second packet names an interface without a description.
    let packet = ng.windows(4).position(|bytes| bytes == 6_u32.to_le_bytes()).unwrap();
    wild[packet + 8] = 9;
    let printed = run(&["-"], &wild);
    assert_eq!(
        printed.problem,
        format!(
            "standard input: byte {packet}, behind packet 0: expected a packet of one of 2 interfaces, found one of number \
             9\n"
        )
    );
}

#[test]
fn a_record_longer_than_the_limit_is_refused() {
    let frames = Talk::whole(&recorded_as("mariadb-auth-native")).frames;
    let mut file = pcap(&frames[..1]);
    let at = file.len();
    for number in [0_u32, 0, u32::MAX, u32::MAX] {
        file.extend(number.to_le_bytes());
    }
    file.resize(40 << 20, 0);
    let problem = "expected a record of at most 16 MiB, found a longer one";
    assert_refused(&file, &format!("byte {at}, behind packet 1: {problem}"));
}

/// Asserts that the command ends with one of its exit statuses and at most one line about a problem.
fn assert_ends(input: &[u8]) -> Result<(), TestCaseError> {
    for arguments in [&["-"][..], &["-o", "json", "--port", "3306", "--limit", "1", "-"]] {
        let printed = run(arguments, input);
        prop_assert!((0..=3).contains(&printed.code), "{}: {}", printed.code, printed.problem);
        prop_assert_eq!(
            printed.problem.lines().count(),
            usize::from(printed.code == 2),
            "{}",
            printed.problem
        );
        // Of a file that is no capture only the problem is printed.
        let nothing_read = printed.code == 2 && printed.output.is_empty();
        if arguments.len() > 1 && !nothing_read {
            printed.json();
        }
    }
    Ok(())
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..Default::default() })
}

#[test]
fn inspect_ends_in_time_on_random_bytes() {
    let starts = prop::sample::select(vec![
        Vec::new(),
        pcap(&[]),
        pcapng(&[]),
        0x0a0d_0d0a_u32.to_le_bytes().to_vec(),
        0xa1b2_cd34_u32.to_le_bytes().to_vec(),
    ]);
    let bytes = prop::collection::vec(any::<u8>(), 0..600);
    runner(50).run(&(starts, bytes), |(start, bytes)| assert_ends(&[start, bytes].concat())).unwrap();
}

#[test]
fn inspect_ends_in_time_on_a_changed_capture() {
    let frames = Talk::whole(&recorded_as("mariadb-auth-native")).frames;
    let files = prop::sample::select(vec![pcap(&frames), pcapng(&frames)]);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20);
    let strategy = (files, changes, any::<prop::sample::Index>(), any::<bool>());
    runner(50)
        .run(&strategy, |(mut file, changes, end, cut)| {
            for (place, byte) in changes {
                let at = place.index(file.len());
                file[at] = byte;
            }
            if cut {
                file.truncate(end.index(file.len()));
            }
            assert_ends(&file)
        })
        .unwrap();
}

/// The first byte of data of each connection is missing, and far more bytes follow than may be held: 150 MB within 160 MB.
#[test]
fn memory_for_missing_packets_is_limited() {
    let mut frames = Vec::new();
    for port in 0..500 {
        let mut talk = Talk::new([10_000 + port, 3306], u64::from(port));
        talk.push(Sender::Server, b"\x4a");
        talk.frames.pop();
        for _ in 0..5 {
            talk.push(Sender::Server, &[0; 60_000]).ack = None;
        }
        frames.append(&mut talk.frames);
    }
    let file = pcap(&frames);
    drop(frames);
    let program = assert_cmd::cargo::cargo_bin("firstword");
    let mut limited = assert_cmd::Command::new("sh");
    limited.args(["-c", "ulimit -v 160000; exec \"$0\" inspect -o json -"]).arg(program).write_stdin(file);
    let output = limited.timeout(crate::MAX_TIME).output().unwrap();
    let problem = String::from_utf8_lossy(&output.stderr);
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {problem}"));
    assert_eq!(report["totals"]["connections"], 500);
    assert_eq!(report["totals"]["counts"]["lost_bytes"]["server"], 500);
}
