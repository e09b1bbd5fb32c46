//! Buffers of this thread that nobody uses now.
//!
//! A connection takes one when bytes arrive or are written, and gives it back before it waits: a connection that is
//! idle has no buffer, and a busy one does not ask the allocator for each message.

use std::cell::RefCell;

use bytes::BytesMut;

/// The size of a buffer; most heads fit.
pub(super) const SIZE: usize = 8 * 1024;
/// Buffers that are kept: half a mebibyte for each worker.
const MOST_KEPT: usize = 64;

thread_local! {
    static FREE: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer with room for at least [`SIZE`] bytes.
pub(super) fn take() -> BytesMut {
    FREE.with_borrow_mut(Vec::pop).unwrap_or_else(|| BytesMut::with_capacity(SIZE))
}

/// Gives a buffer back; what is in it is forgotten. One that has grown is freed.
pub(super) fn give(mut buffer: BytesMut) {
    buffer.clear();
    // What was read from the front counts as room again.
    if buffer.capacity() == 0 || !buffer.try_reclaim(SIZE) || buffer.capacity() > 2 * SIZE {
        return;
    }
    FREE.with_borrow_mut(|free| {
        if free.len() < MOST_KEPT {
            free.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Buf as _;

    #[test]
    fn a_buffer_comes_back_whole_and_empty() {
        let mut first = take();
        first.extend_from_slice(&[1; 5000]);
        first.advance(4999);
        let place = first.as_ptr() as usize - 4999;
        give(first);
        let again = take();
        assert_eq!((again.as_ptr() as usize, again.len()), (place, 0));
        assert!(again.capacity() >= SIZE);
    }

    #[test]
    fn what_has_grown_is_not_kept() {
        give(BytesMut::with_capacity(100 * 1024));
        give(BytesMut::new());
        assert!(FREE.with_borrow(Vec::is_empty));
        (0..2 * MOST_KEPT).for_each(|_| give(BytesMut::with_capacity(SIZE)));
        assert_eq!(FREE.with_borrow(Vec::len), MOST_KEPT);
    }
}
