//! Changes of several stages in one edit.

use super::*;

/// Chunk that the host does not provide.
#[derive(Debug)]
struct Unreadable(usize);

impl Chunk for Unreadable {
    fn len(&self) -> usize {
        self.0
    }

    fn read(&self, _: usize, _: usize) -> Option<Bytes> {
        None
    }
}

fn chunk() -> Bytes {
    Bytes::from_static(b"0123456789")
}

/// Returns the bytes that are forwarded of `chunk()` after these changes.
fn forward(change: impl FnOnce(&mut Rewrite<Bytes>), withheld: &mut Withheld) -> Vec<u8> {
    let chunk = chunk();
    let mut rewrite = Rewrite::of_server(&chunk, withheld, usize::MAX);
    change(&mut rewrite);
    match rewrite.server_verdict(Flow::Continue, withheld) {
        ServerVerdict::Pass => chunk.to_vec(),
        ServerVerdict::Edit(Edit { drain, prepend }) => [&prepend, &chunk[drain..]].concat(),
        other => panic!("no stage asks for {other:?}"),
    }
}

#[test]
fn an_untouched_chunk_is_not_read() {
    let chunk = Unreadable(10);
    let mut withheld = Withheld::default();
    let rewrite = Rewrite::of_server(&chunk, &withheld, usize::MAX);
    assert_eq!(rewrite.rest().len(), 10);
    assert_eq!(rewrite.server_verdict(Flow::Continue, &mut withheld), ServerVerdict::Pass);
    for flow in [Flow::Continue, Flow::Hold, Flow::Drop, Flow::Close] {
        Rewrite::of_client(&chunk).client_verdict(flow);
    }
}

#[test]
fn changes_are_combined_in_the_order_of_their_offsets() {
    let all = |rewrite: &mut Rewrite<Bytes>| {
        rewrite.set(7, b'x');
        rewrite.set(4, b'y');
        rewrite.prepend(b"<".to_vec());
        rewrite.prepend(b"<<".to_vec());
    };
    assert_eq!(forward(all, &mut Withheld::default()), b"<<<0123y56x89");
    let strip = |rewrite: &mut Rewrite<Bytes>| {
        rewrite.bytes();
        rewrite.strip(3);
        assert_eq!(rewrite.rest().read(0, 99).unwrap(), b"3456789".as_slice());
        rewrite.prepend(b"<".to_vec());
        rewrite.set(9, b'!');
        assert_eq!(rewrite.rest().read(0, 99).unwrap(), b"<345678!".as_slice());
    };
    assert_eq!(forward(strip, &mut Withheld::default()), b"<345678!");
}

#[test]
fn withheld_bytes_are_forwarded_before_the_next_bytes_with_their_changes() {
    let mut withheld = Withheld::default();
    let hold = |rewrite: &mut Rewrite<Bytes>| {
        rewrite.set(1, b'a');
        rewrite.set(8, b'b');
        assert!(rewrite.withhold_from(8) && rewrite.withhold_from(7) && rewrite.withhold_from(9));
    };
    assert_eq!(forward(hold, &mut withheld), b"0a23456");
    assert_eq!(forward(|rewrite| assert!(rewrite.withhold_from(0)), &mut withheld), b"");
    assert_eq!(withheld.0, b"7b90123456789");
    assert_eq!(forward(|_| {}, &mut withheld), b"7b901234567890123456789");
    assert!(withheld.is_empty());
}

#[test]
fn a_replacement_also_replaces_the_withheld_bytes_of_its_packet() {
    let mut withheld = Withheld(b"old".to_vec());
    let middle = |rewrite: &mut Rewrite<Bytes>| {
        rewrite.set(9, b'x');
        rewrite.withhold_from(2);
        rewrite.replace_from(4, b"error");
    };
    assert_eq!(forward(middle, &mut withheld), b"old0123error");
    let mut withheld = Withheld(b"old".to_vec());
    assert_eq!(forward(|rewrite| rewrite.replace_from(0, b"error"), &mut withheld), b"error");
    assert_eq!(forward(|rewrite| rewrite.replace_from(10, b"error"), &mut withheld), b"0123456789error");
    withheld.0 = b"old".to_vec();
    assert_eq!(forward(|rewrite| rewrite.drop_all(), &mut withheld), b"");
    assert!(withheld.is_empty());
}

#[test]
fn only_a_packet_with_a_password_is_overwritten() {
    let mut change = Change { at: 0, removed: 1, inserted: b"secret".to_vec(), has_password: false };
    change.wipe_password();
    assert_eq!(change.inserted, b"secret");
    change.has_password = true;
    change.wipe_password();
    assert_eq!(change.inserted, [0; 6]);
    let chunk = chunk();
    let mut rewrite = Rewrite::of_client(&chunk);
    rewrite.set(1, b'a');
    assert!(!rewrite.changes[0].has_password);
    rewrite.replace_with_password(b"secret".to_vec());
    assert!(rewrite.changes[0].has_password);
    let edit = Edit { drain: 10, prepend: b"secret".to_vec() };
    assert_eq!(rewrite.client_verdict(Flow::Continue), ClientVerdict::Edit(edit));
}

#[test]
fn bytes_are_withheld_only_within_the_room_and_the_maximum() {
    let chunk = chunk();
    let withheld = Withheld(vec![0; MAX_WITHHELD - 10]);
    let rewrite = |room| Rewrite::of_server(&chunk, &withheld, room);
    assert!(rewrite(10).withhold_from(0));
    let mut poor = rewrite(9);
    assert!(!poor.withhold_from(0) && poor.lacks_memory());
    assert!(!rewrite(10).withhold_from(10), "no bytes");
    let more = Withheld(vec![0; MAX_WITHHELD - 9]);
    let mut long = Rewrite::of_server(&chunk, &more, usize::MAX);
    assert!(!long.withhold_from(0) && !long.lacks_memory());
    assert!(!Rewrite::of_server(&Unreadable(10), &withheld, usize::MAX).withhold_from(5));
}

#[test]
#[should_panic(expected = "two stages change the same byte")]
fn stages_must_not_change_the_same_byte() {
    let both = |rewrite: &mut Rewrite<Bytes>| {
        rewrite.set(4, b'a');
        rewrite.set(4, b'b');
    };
    forward(both, &mut Withheld::default());
}
