//! What things take up on the heap, in bytes: as much as an allocator may need for them, or more.

use std::collections::BTreeMap;
use std::mem::size_of;

/// A block of this many bytes, with what the allocator adds.
pub(super) const fn block(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        // Sizes are multiples of 16.
        bytes => (bytes + 8).next_multiple_of(16) + 8,
    }
}

/// A place in a B-tree, whose nodes may be less than half full.
pub(super) const fn tree_place(bytes: usize) -> usize {
    bytes * 5 / 2 + 8
}

/// A place in a hash table, most of which may be empty.
pub(super) const fn table_place(bytes: usize) -> usize {
    (bytes + 1) * 5 / 2
}

/// A text that is counted by reference: its two counters come with it.
pub(super) const fn shared_text(text: &str) -> usize {
    block(16 + text.len())
}

/// The heap that texts take up.
pub(super) fn texts<const N: usize>(texts: [&str; N]) -> usize {
    texts.into_iter().map(|text| block(text.len())).sum()
}

/// The heap that a map of texts takes up.
pub(super) fn map_of_texts(map: &BTreeMap<String, String>) -> usize {
    // A node has room for eleven, and every one but the first has at least five.
    const NODE: usize = block(11 * 2 * size_of::<String>() + 128);
    let nodes = match map.len() {
        0 => 0,
        len => 1 + len / 5,
    };
    let pairs = map.iter().map(|(key, text)| texts([key, text]));
    nodes * NODE + pairs.sum::<usize>()
}
