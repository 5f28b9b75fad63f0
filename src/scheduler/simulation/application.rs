//! Models of applications: what their requests do, and how clients ask for them.

use super::super::request_class::RequestClass;

/// `SplitMix64` (Steele, Lea and Flood, 2014): small, seeded, good enough for dice.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xD134_2543_DE82_EF95) + 1)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Both ends included.
    pub(super) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    pub(super) fn per_cent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }

    pub(super) fn of(&mut self, choices: &[u64]) -> u64 {
        choices[usize::try_from(self.next() % choices.len() as u64).unwrap()]
    }
}

/// What a request does: it computes, waits outside of the interpreter, and so on; in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program {
    pub(super) class: RequestClass,
    pub(super) compute_us: u64,
    /// Zero for none.
    pub(super) block_us: u64,
    pub(super) rounds: u64,
}

/// The end of a request that has waited: what it heard is rendered.
pub(super) const RENDER_US: u64 = 20;
/// As good as never.
const FOR_EVER: u64 = 1 << 40;

impl Program {
    fn new(class: u64, compute_us: u64, block_us: u64, rounds: u64) -> Self {
        Self { class: RequestClass::numbered(class), compute_us, block_us, rounds }
    }

    /// How long it takes if nobody is in its way.
    pub(super) fn duration_us(&self) -> u64 {
        (self.compute_us + self.block_us).saturating_mul(self.rounds).saturating_add(RENDER_US)
    }

    pub(super) fn is_endless(&self) -> bool {
        self.duration_us() >= FOR_EVER
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Model {
    /// Nothing but Python, some tens of microseconds to a few milliseconds.
    Computing,
    /// Little Python and much waiting, for a database or another service.
    Blocking,
    /// Long views that make a system call more often than the interpreter changes hands, beside short ones.
    Convoy,
    /// Four views that compute for seconds between system calls, some of which take long, beside short ones.
    Reports,
    /// Short requests beside some that compute or wait for long.
    Mixed,
    /// Everybody asks at once, and then nobody does.
    Bursts,
    /// One request never ends, in Python or in a system call.
    Stuck,
    /// From computing to waiting and back.
    Changing,
    /// Twice as much waiting as Python: three threads keep the interpreter busy, four do so for certain.
    Balanced,
    /// Computing without the interpreter's lock.
    Parallel,
}

impl Model {
    /// How long it is watched, in microseconds.
    pub(super) fn span_us(self) -> u64 {
        match self {
            Self::Stuck => 600_000,
            Self::Convoy | Self::Mixed => 300_000,
            Self::Reports => 1_200_000,
            _ => 150_000,
        }
    }

    /// When the load changes, and changes back.
    pub(super) fn changes_us(self) -> [u64; 2] {
        if self == Self::Changing { [50_000, 100_000] } else { [u64::MAX, u64::MAX] }
    }

    /// From one answer to the client's next request.
    pub(super) fn think_us(self, dice: &mut Dice, now_us: u64) -> u64 {
        match self {
            // At the next full thirty milliseconds.
            Self::Bursts => 30_000 - now_us % 30_000 + dice.between(0, 100),
            Self::Changing | Self::Balanced | Self::Parallel => dice.between(10, 100),
            Self::Reports => dice.between(5_000, 10_000),
            _ => dice.between(10, 1_000),
        }
    }

    /// What the request does that is the `number`th of all, if it is taken now.
    pub(super) fn program(self, dice: &mut Dice, number: usize, now_us: u64) -> Program {
        match self {
            Self::Computing => Program::new(dice.between(1, 3), dice.of(&[50, 200, 1_000, 3_000]), 0, 1),
            Self::Blocking => blocking(dice),
            Self::Convoy if dice.per_cent(10) => {
                Program::new(1, dice.of(&[100, 300, 900]), 5, dice.between(20, 50))
            }
            Self::Reports if number < 4 => {
                Program::new(1, dice.of(&[300, 2_000]), dice.of(&[5, 5, 5, 20_000]), 100_000)
            }
            Self::Reports => Program::new(10, dice.between(10, 50), 0, 1),
            Self::Mixed if dice.per_cent(15) => Program::new(1, dice.between(5_000, 20_000), 0, 1),
            Self::Mixed if dice.per_cent(10) => Program::new(2, 100, dice.between(5_000, 20_000), 1),
            Self::Bursts if dice.per_cent(30) => blocking(dice),
            Self::Stuck if number == 3 => match dice.between(0, 2) {
                0 => Program::new(1, FOR_EVER, 0, 1),
                1 => Program::new(1, 100, FOR_EVER, 1),
                _ => Program::new(1, 500, 5, FOR_EVER),
            },
            // Of the same class as what is stuck, for which they are held back.
            Self::Stuck if dice.per_cent(20) => Program::new(1, dice.between(3_000, 8_000), 0, 1),
            Self::Changing => {
                // What the application stands on has become slow.
                let [there, back] = self.changes_us();
                let is_slow = (there..back).contains(&now_us);
                if is_slow {
                    Program::new(1, 50, 4_000, 1)
                } else {
                    Program::new(1, dice.between(100, 1_000), 0, 1)
                }
            }
            Self::Balanced => Program::new(1, dice.between(100, 300), dice.between(300, 600), 1),
            Self::Parallel if number.is_multiple_of(2) => Program::new(13, dice.between(200, 600), 3_000, 1),
            Self::Parallel => short(dice, 1_500),
            Self::Convoy | Self::Mixed | Self::Bursts | Self::Stuck => short(dice, 300),
        }
    }
}

fn short(dice: &mut Dice, most_us: u64) -> Program {
    Program::new(dice.between(10, 12), dice.between(100, most_us), 0, 1)
}

fn blocking(dice: &mut Dice) -> Program {
    Program::new(5, dice.between(50, 150), dice.between(2_000, 10_000), 1)
}
