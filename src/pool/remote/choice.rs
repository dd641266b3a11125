//! Which of many nodes is next: a tree of matches, whose winner is known and in which a change costs one match for each level.

/// No node: it has no room.
const NONE: u64 = u64::MAX;

/// ```text
///   matches[1]                 the winner of all
///   matches[i]                 the winner of matches[2 i] and matches[2 i + 1]
///   width + node               a node's own place, which is not stored
/// ```
#[derive(Debug)]
pub(super) struct Choice {
    /// Each node's number; there are as many as a power of two.
    keys: Vec<u64>,
    matches: Vec<u32>,
}

impl Choice {
    /// So many nodes, none of which has room.
    pub(super) fn new(nodes: usize) -> Choice {
        let width = nodes.next_power_of_two();
        let mut choice = Choice { keys: vec![NONE; width], matches: vec![0; width] };
        (1..width).rev().for_each(|place| choice.play(place));
        choice
    }

    /// A node's number from now on; `None` where it has no room.
    pub(super) fn set(&mut self, node: usize, key: Option<u64>) {
        self.keys[node] = key.map_or(NONE, |key| key.min(NONE - 1));
        let mut place = (self.keys.len() + node) / 2;
        while place > 0 {
            self.play(place);
            place /= 2;
        }
    }

    /// The node with the smallest number, and of several the first; `None` where none has room.
    pub(super) fn least(&self) -> Option<usize> {
        let node = self.winner(1);
        (self.keys[node] != NONE).then_some(node)
    }

    fn winner(&self, place: usize) -> usize {
        place.checked_sub(self.keys.len()).unwrap_or_else(|| self.matches[place] as usize)
    }

    fn play(&mut self, place: usize) {
        let (left, right) = (self.winner(2 * place), self.winner(2 * place + 1));
        self.matches[place] = if self.keys[right] < self.keys[left] { right } else { left } as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_winner_is_the_one_that_a_look_at_all_finds() {
        for nodes in [1, 2, 3, 7, 64, 1_000] {
            let (mut choice, mut keys) = (Choice::new(nodes), vec![None; nodes]);
            assert_eq!(choice.least(), None);
            let mut random = fastrand::Rng::with_seed(nodes as u64);
            for _ in 0..4_000 {
                let node = random.usize(..nodes);
                let key = [None, Some(random.u64(..5)), Some(random.u64(..))][random.usize(..3)];
                keys[node] = key;
                choice.set(node, key);
                let all = keys.iter().enumerate().filter_map(|(node, key)| Some((key.as_ref()?, node)));
                assert_eq!(choice.least(), all.min().map(|(_, node)| node));
            }
        }
    }

    #[test]
    fn tasks_go_round_a_thousand_nodes() {
        let mut choice = Choice::new(1_000);
        (0..1_000).for_each(|node| choice.set(node, Some(0)));
        for task in 0..5_000 {
            let node = choice.least().unwrap();
            assert_eq!(node, task % 1_000);
            choice.set(node, Some(task as u64 / 1_000 + 1));
        }
    }
}
