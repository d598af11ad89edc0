// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A fuzzer for where there is none: pseudo-random inputs, from seeds by the plainest of changes. It knows
//! nothing of coverage; a test runs some thousand of them.

use crate::targets::Target;

/// A small generator of numbers (xorshift64*), so that a trial is the same everywhere.
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    /// Numbers from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Not 0, and seeds that are alike must not begin alike.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    #[must_use]
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `n`; 0 if `n` is 0.
    #[must_use]
    pub fn below(&mut self, n: usize) -> usize {
        ((self.number() >> 32) as usize).checked_rem(n).unwrap_or(0)
    }
}

/// Inputs for a target: each seed as it is, then changed ones without end.
#[derive(Debug)]
pub struct Inputs {
    seeds: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
    max_len: usize,
    random: Random,
    done: usize,
}

impl Inputs {
    /// Inputs for a target from a seed.
    #[must_use]
    pub fn of(target: &Target, seed: u64) -> Self {
        Self::new(
            target.all_seeds(),
            (target.dictionary)(),
            target.max_len,
            seed,
        )
    }

    /// Inputs of at most `max_len` bytes from these seeds and words.
    #[must_use]
    pub fn new(seeds: Vec<Vec<u8>>, words: Vec<Vec<u8>>, max_len: usize, seed: u64) -> Self {
        Self {
            seeds,
            words,
            max_len,
            random: Random::new(seed),
            done: 0,
        }
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let r = &mut self.random;
        let at = r.below(input.len() + 1);
        match r.below(8) {
            0 | 1 => {
                if let Some(b) = input.get_mut(at) {
                    *b = r.number() as u8;
                }
            }
            2 => {
                if let Some(b) = input.get_mut(at) {
                    *b ^= 1 << r.below(8);
                }
            }
            3 => input.truncate(at),
            4 => {
                let n = r.below(16);
                let bytes: Vec<u8> = (0..n).map(|_| r.number() as u8).collect();
                input.splice(at..at, bytes);
            }
            5 => {
                let word = r.below(self.words.len());
                if let Some(word) = self.words.get(word) {
                    let end = (at + word.len()).min(input.len());
                    input.splice(at..end, word.iter().copied());
                }
            }
            6 => {
                // Two seeds end to end.
                let other = r.below(self.seeds.len());
                if let Some(other) = self.seeds.get(other) {
                    let from = r.below(other.len() + 1);
                    input.extend_from_slice(&other[from..]);
                }
            }
            _ => {
                let end = (at + r.below(8)).min(input.len());
                input.drain(at..end);
            }
        }
    }
}

impl Iterator for Inputs {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let n = self.done;
        self.done += 1;
        let mut input = match self.seeds.get(n) {
            Some(seed) => return Some(seed[..seed.len().min(self.max_len)].to_vec()),
            None => {
                let n = self.random.below(self.seeds.len());
                self.seeds.get(n).cloned().unwrap_or_default()
            }
        };
        for _ in 0..=self.random.below(6) {
            self.change(&mut input);
        }
        input.truncate(self.max_len);
        Some(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs_and_seeds_come_first() {
        let new = |seed| Inputs::new(vec![b"one".to_vec(), b"two".to_vec()], vec![], 8, seed);
        let some = |seed| new(seed).take(50).collect::<Vec<_>>();
        assert_eq!(some(1), some(1));
        assert_ne!(some(1), some(2));
        assert_eq!(some(1)[..2], [b"one".to_vec(), b"two".to_vec()]);
        assert!(some(1).iter().all(|i| i.len() <= 8));
    }
}
