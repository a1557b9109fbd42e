//! A queue in which nobody waits behind another's crowd.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// A bounded queue whose keys take turns; what has one key keeps its order. When it is full, the
/// key with the most in it loses its last.
#[derive(Debug)]
pub struct FairQueue<K, T> {
    waiting: HashMap<K, VecDeque<T>>,
    /// The keys with something in the queue, the next one first.
    turns: VecDeque<K>,
    len: usize,
    capacity: usize,
}

impl<K: Clone + Eq + Hash, T> FairQueue<K, T> {
    /// An empty queue that holds this many at most.
    pub fn new(capacity: usize) -> Self {
        Self {
            waiting: HashMap::new(),
            turns: VecDeque::new(),
            len: 0,
            capacity,
        }
    }

    /// Checks whether something with this key would find a place.
    pub fn admits(&self, key: &K) -> bool {
        self.len < self.capacity || self.length(key) + 1 < self.longest()
    }

    /// Puts something at the end of its key's; returns what has to go for want of room.
    pub fn push(&mut self, key: K, item: T) -> Option<T> {
        let mut gone = None;
        if self.len >= self.capacity {
            if !self.admits(&key) {
                return Some(item);
            }
            gone = self.shorten();
        }
        let waiting = self.waiting.entry(key.clone()).or_default();
        if waiting.is_empty() {
            self.turns.push_back(key);
        }
        waiting.push_back(item);
        self.len += 1;
        gone
    }

    /// Takes out the first of the key whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let key = self.turns.pop_front()?;
        let waiting = self.waiting.get_mut(&key)?;
        let item = waiting.pop_front();
        match waiting.is_empty() {
            true => drop(self.waiting.remove(&key)),
            false => self.turns.push_back(key),
        }
        self.len -= 1;
        item
    }

    fn length(&self, key: &K) -> usize {
        self.waiting.get(key).map_or(0, VecDeque::len)
    }

    fn longest(&self) -> usize {
        self.waiting.values().map(VecDeque::len).max().unwrap_or(0)
    }

    /// Takes out the last of the longest, which has at least two.
    fn shorten(&mut self) -> Option<T> {
        let longest = self
            .waiting
            .values_mut()
            .max_by_key(|waiting| waiting.len());
        let gone = longest?.pop_back();
        self.len -= 1;
        gone
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_take_turns() {
        let mut queue = FairQueue::new(10);
        for (key, item) in [('a', 1), ('a', 2), ('a', 3), ('b', 4), ('c', 5), ('b', 6)] {
            assert_eq!(queue.push(key, item), None);
        }
        let order: Vec<i32> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [1, 4, 5, 2, 6, 3]);
    }

    #[test]
    fn a_crowd_gives_way_to_others_and_others_to_nobody() {
        let mut queue = FairQueue::new(4);
        for item in 0..4 {
            assert_eq!(queue.push('a', item), None);
        }
        assert!(!queue.admits(&'a') && queue.admits(&'b'));
        assert_eq!(queue.push('a', 4), Some(4));
        assert_eq!(queue.push('b', 5), Some(3));
        assert_eq!(queue.push('c', 6), Some(2));
        assert_eq!(queue.push('b', 7), Some(7), "one more would be a crowd");
        assert_eq!(queue.push('d', 8), Some(1));
        assert_eq!(queue.push('e', 9), Some(9), "all have one");
        let order: Vec<i32> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [0, 5, 6, 8]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_doubled_and_each_keys_order_is_kept(
            steps in prop::collection::vec(prop::option::of(0..4u8), 1..200),
            capacity in 1..12usize,
        ) {
            let mut queue = FairQueue::new(capacity);
            let (mut came, mut went) = (0, Vec::new());
            for (number, step) in steps.iter().enumerate() {
                match step {
                    Some(key) => {
                        came += 1;
                        went.extend(queue.push(*key, (*key, number)).map(|_| None));
                    }
                    None => went.extend(queue.pop().map(Some)),
                }
                prop_assert!(came - went.len() <= capacity);
            }
            went.extend(std::iter::from_fn(|| queue.pop()).map(Some));
            prop_assert_eq!(came, went.len());
            for key in 0..4 {
                let of_key = went.iter().flatten().filter(|(of, _)| *of == key);
                let order: Vec<usize> = of_key.map(|(_, number)| *number).collect();
                prop_assert!(order.is_sorted());
            }
        }
    }
}
