//! Differences of any bytes, and the work that an object may cost.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn any_difference_is_applied_or_refused(
        base in proptest::collection::vec(any::<u8>(), 0..300),
        difference in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        if let Ok(made) = applied(&base, &difference) {
            prop_assert!(made.len() as u64 <= MAX_BYTES);
        }
    }
}

#[test]
fn bytes_that_are_read_count_as_work_even_if_they_unpack_to_nothing() {
    // The head of a zlib stream, stored blocks of no bytes, the last one of these, and the checksum.
    let blocks = [0, 0, 0, 0xff, 0xff].repeat(20);
    let stream = [&[0x78, 0x01], blocks.as_slice(), &[1, 0, 0, 0xff, 0xff], &[0, 0, 0, 1]].concat();
    let store = |left: u64| Store {
        stores: Vec::new(),
        indexes: OnceCell::new(),
        last_index: Cell::new(0),
        work: Cell::new(MAX_WORK - left),
    };
    let length = stream.len() as u64;
    assert_eq!(store(length).inflated(stream.as_slice()).unwrap(), b"");
    let error = store(length - 1).inflated(stream.as_slice()).unwrap_err();
    assert_eq!(error.to_string(), "it takes too much work");
}
