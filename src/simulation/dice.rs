use std::time::Duration;

/// The numbers of one actor of a simulation (SplitMix64): each has its own, so that they do not depend on the order in
/// which the actors ask.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64, actor: u64) -> Dice {
        let mut dice = Dice(seed ^ actor.wrapping_mul(0xd6e8_feb8_6659_fd93));
        dice.roll();
        dice
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(super) fn below(&mut self, sides: u64) -> u64 {
        self.roll() % sides.max(1)
    }

    /// Whether something happens that happens this often in a thousand times.
    pub(super) fn chance(&mut self, per_thousand: u64) -> bool {
        self.below(1000) < per_thousand
    }

    /// A time in milliseconds from `least` up to, and without, `most`.
    pub(super) fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most - least))
    }

    pub(super) fn pick<'a, T>(&mut self, among: &'a [T]) -> Option<&'a T> {
        let place = self.below(among.len() as u64) as usize;
        among.get(place)
    }
}
